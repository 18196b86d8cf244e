//! Opening: what a user reads when it cannot be, who may, and what is ours in a server.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::time::Duration;

use futures::StreamExt as _;
use kvjob::kv::{
    Atomic as _, Change, Error, ErrorKind, Event, Object, Scan, Store, Watch, Watcher,
};
use kvjob_redis::{Options, Redis};
use kvjob_servers::redis::{cluster, redis, redis_tls, redis_with, say, url, valkey};
use kvjob_servers::tls::Certificates;
use kvjob_servers::{Server, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn refused(url: &str) -> Error {
    refused_with(&Options::new(), url).await
}

async fn refused_with(options: &Options, url: &str) -> Error {
    // At once: well before a call gives up.
    let opened = tokio::time::timeout(Duration::from_secs(9), options.open(url)).await;
    let error = opened.unwrap().unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret"), "a password is told: {text}");
    error
}

fn login(server: &Server, who: &str) -> String {
    url(server).replace("redis://", &format!("redis://{who}@"))
}

async fn watch(store: &Redis) -> Watcher {
    Watch::watch(store, &"".into()).await.unwrap()
}

async fn opened(server: &Server) -> Redis {
    kvjob_redis::open(&url(server)).await.unwrap()
}

#[tokio::test]
async fn what_is_no_url_is_refused_with_those_that_are() {
    let error = refused("localhost:6379").await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("redis://"), "{error}");
}

#[tokio::test]
async fn a_namespace_that_would_not_stay_on_one_node_is_refused() {
    for namespace in ["", "a{b", "a}b", &"n".repeat(129)] {
        let options = Options::new().namespace(namespace);
        let error = refused_with(&options, "redis://localhost").await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().contains("namespace"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_at_once_with_its_address() {
    let port = free_port();
    let error = refused(&format!("redis://:secret@127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), &ErrorKind::Transient);
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("is it running"), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = Options::new().timeout(Duration::from_millis(90));
    let error = refused_with(&options, &format!("redis://127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), &ErrorKind::Transient);
    assert!(
        error.to_string().contains("no answer within 30ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_and_none_are_told() {
    let server = redis_with(&["--requirepass", "secret"]);
    for url in [
        url(&server),
        login(&server, ":wrong"),
        login(&server, "ada:secret"),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
    let store = kvjob_redis::open(&login(&server, ":secret")).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(!format!("{store:?}").contains("secret"));
}

/// What the documentation says a user needs.
const RULES: &str = "+@connection +@read +@write +@scripting +ssubscribe +spublish +info \
                     +cluster|nodes +cluster|info +config|get ~{kvjob}:* &{kvjob}:*";

#[tokio::test]
async fn a_user_who_may_what_is_documented_may_everything() {
    for server in [redis(), valkey()] {
        let rules = format!("ACL SETUSER ada on >secret resetchannels {RULES}");
        assert_eq!(say(&server, &rules), "+OK");
        let store = kvjob_redis::open(&login(&server, "ada:secret"))
            .await
            .unwrap();
        let mut watcher = watch(&store).await;
        store.commit(vec![Change::create("a", "1")]).await.unwrap();
        assert_eq!(watcher.next().await, Some(Event::Changed("a".into())));
        store.scan(Scan::prefix("")).await.unwrap();
        store.delete(&"".into()).await.unwrap();
        store.health().await.unwrap();
        let options = Options::new().namespace("other");
        let error = refused_with(&options, &login(&server, "ada:secret")).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_everything_is_told_before_anything_is_written() {
    let server = redis();
    let may = |rules: &str| {
        let rules = format!("ACL SETUSER ada on >secret resetchannels {RULES} {rules}");
        assert_eq!(say(&server, &rules), "+OK");
    };
    for less in ["-zadd", "-zrem", "-hset", "-hdel", "-spublish", "-evalsha"] {
        may(less);
        let error = refused(&login(&server, "ada:secret")).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("NOPERM"), "{error}");
        may(&less.replace('-', "+"));
    }
    // Also one who may less while the store is open.
    let store = kvjob_redis::open(&login(&server, "ada:secret"))
        .await
        .unwrap();
    may("-zadd");
    let error = store.commit(vec![Change::create("a", "1")]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
    may("+zadd");
    assert!(store.get(&"a".into()).await.unwrap().is_none());
    store.commit(vec![Change::create("a", "1")]).await.unwrap();
}

#[tokio::test]
async fn something_else_under_our_keys_is_refused_and_left_as_it_is() {
    let server = redis();
    for (put, look, left) in [
        ("SET {kvjob}:index x", "GET {kvjob}:index", "x"),
        ("LPUSH {kvjob}:values x", "LLEN {kvjob}:values", ":1"),
        ("ZADD {kvjob}:index 1 x", "ZCARD {kvjob}:index", ":1"),
    ] {
        say(&server, put);
        let error = refused(&url(&server)).await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("another namespace"), "{error}");
        assert_eq!(say(&server, look), left);
        say(&server, "FLUSHALL");
    }
}

#[tokio::test]
async fn half_a_store_is_corrupt() {
    let server = redis();
    let store = opened(&server).await;
    store.set(Object::new("a", "1")).await.unwrap();
    say(&server, "HDEL {kvjob}:values a");
    let error = store.scan(Scan::prefix("")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("the key a"), "{error}");
    let warnings = store.health().await.unwrap().warnings;
    assert!(
        warnings.iter().any(|it| it.contains("1 keys")),
        "{warnings:?}"
    );
    let error = refused(&url(&server)).await;
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    // Another type, put there while the store is open: nothing of a commit is applied.
    say(&server, "DEL {kvjob}:index {kvjob}:values");
    say(&server, "SET {kvjob}:index x");
    let error = store.commit(vec![Change::put("a", "1")]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert_eq!(say(&server, "EXISTS {kvjob}:values"), ":0");
}

#[tokio::test]
async fn namespaces_and_databases_do_not_see_each_other() {
    let server = redis();
    let first = opened(&server).await;
    let options = Options::new().namespace("other");
    let second = options.open(&url(&server)).await.unwrap();
    let third = kvjob_redis::open(&format!("{}/7", url(&server)))
        .await
        .unwrap();
    say(&server, "SET orders 7");
    let stores = [first, second, third];
    for store in &stores {
        let created = store.commit(vec![Change::create("a", "1")]).await;
        created.unwrap();
    }
    stores[0].delete(&"".into()).await.unwrap();
    assert!(stores[1].get(&"a".into()).await.unwrap().is_some());
    assert!(stores[2].get(&"a".into()).await.unwrap().is_some());
    assert_eq!(say(&server, "GET orders"), "7");
    let error = refused(&format!("{}/4711", url(&server))).await;
    assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        // The greeting: HELLO and the name of the client, twice.
        let answers: [&[u8]; 2] = [
            b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n+OK\r\n+OK\r\n",
            b"$4\r\nid=7\r\n$20\r\nredis_version:6.2.14\r\n",
        ];
        for answer in answers {
            let _ = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
        }
    });
    let error = refused(&format!("redis://127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("it is Redis 6.2.14"), "{error}");
}

#[tokio::test]
async fn a_replica_is_refused_and_its_primary_found() {
    let primary = redis();
    let port = primary.port().to_string();
    let replica = redis_with(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let error = refused(&url(&replica)).await;
    assert!(error.to_string().contains("it is a replica"), "{error}");
    let both = format!("{},127.0.0.1:{port}", url(&replica));
    let store = kvjob_redis::open(&both).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert_eq!(say(&primary, "EXISTS {kvjob}:index"), ":1");
}

#[tokio::test]
async fn a_cluster_is_found_by_any_node_of_it() {
    let nodes = cluster();
    let urls: Vec<String> = nodes.iter().map(url).collect();
    for (n, url) in urls.iter().enumerate() {
        let store = kvjob_redis::open(url).await.unwrap();
        let key = format!("k{n}");
        let mut watcher = watch(&store).await;
        store.set(Object::new(key.as_str(), "1")).await.unwrap();
        assert_eq!(
            watcher.next().await,
            Some(Event::Changed(key.as_str().into()))
        );
        let found = store.scan(Scan::prefix("")).await.unwrap();
        assert_eq!(found.objects.len(), n + 1);
        assert_eq!(store.health().await.unwrap().warnings, Vec::<String>::new());
    }
    // A node that is away does not matter, where another one is named, too.
    let away = format!(
        "redis://127.0.0.1:{},127.0.0.1:{}",
        free_port(),
        nodes[0].port()
    );
    kvjob_redis::open(&away).await.unwrap();
}

#[tokio::test]
async fn a_server_with_tls_is_used_where_each_trusts_the_other() {
    let certificates = Certificates::new();
    let server = redis_tls(&certificates);
    let plain = url(&server);
    let url = plain.replace("redis://", "rediss://");
    let trusting = Options::new().ca_file(&certificates.ca);
    let options = trusting
        .clone()
        .client_certificate(&certificates.client, &certificates.client_key);
    let store = options.open(&url).await.unwrap();
    let mut watcher = watch(&store).await;
    store
        .set(Object::new("a", vec![b'x'; 1 << 20]))
        .await
        .unwrap();
    assert_eq!(watcher.next().await, Some(Event::Changed("a".into())));
    let found = store.get(&"a".into()).await.unwrap().unwrap();
    assert_eq!(found.value.len(), 1 << 20);

    // Without a certificate; trusting others; without TLS.
    let others = Certificates::new();
    let wrong = options.clone().ca_file(&others.ca);
    for (options, url) in [(&trusting, &url), (&wrong, &url), (&options, &plain)] {
        let error = refused_with(options, url).await;
        assert_eq!(error.kind(), &ErrorKind::Transient, "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    }
    let missing = Options::new().ca_file("/nowhere/ca.pem");
    let error = refused_with(&missing, &url).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn a_socket_of_this_machine_is_a_server_too() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock");
    let _server = redis_with(&["--unixsocket", socket.to_str().unwrap()]);
    let url = format!("redis+unix://{}", socket.display());
    let store = kvjob_redis::open(&url).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_without_memory_takes_nothing_new_and_lets_go_of_what_is_there() {
    for server in [redis(), valkey()] {
        let store = opened(&server).await;
        for n in 0..100 {
            let object = Object::new(format!("k{n}").as_str(), vec![b'x'; 10_000]);
            store.set(object).await.unwrap();
        }
        assert_eq!(say(&server, "CONFIG SET maxmemory 1000000"), "+OK");
        // The removal comes first in it, and is not done either.
        let changes = vec![Change::remove("k0"), Change::put("new", "1")];
        let error = store.commit(changes).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::TooLarge { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("more memory"), "{error}");
        let found = store.get_many(&["k0".into(), "new".into()]).await.unwrap();
        assert!(found[0].is_some() && found[1].is_none());
        let warnings = store.health().await.unwrap().warnings;
        assert!(
            warnings.iter().any(|it| it.contains("maxmemory")),
            "{warnings:?}"
        );
        store.commit(vec![Change::remove("k0")]).await.unwrap();
        store.delete(&"k".into()).await.unwrap();
        let left = store.scan(Scan::prefix("")).await.unwrap();
        assert!(left.objects.is_empty());
    }
}

#[tokio::test]
async fn health_says_what_would_surprise() {
    for server in [redis(), valkey()] {
        let store = opened(&server).await;
        let warnings = async || store.health().await.unwrap().warnings;
        assert_eq!(warnings().await, Vec::<String>::new());
        for (set, what) in [
            ("appendfsync everysec", "appendfsync everysec"),
            ("appendonly no", "appendonly yes"),
            ("maxmemory-policy allkeys-lru", "noeviction"),
        ] {
            assert_eq!(say(&server, "CONFIG SET maxmemory 1000000000"), "+OK");
            assert_eq!(say(&server, &format!("CONFIG SET {set}")), "+OK");
            let warnings = warnings().await;
            assert!(warnings.iter().any(|it| it.contains(what)), "{warnings:?}");
        }
    }
}

#[tokio::test]
async fn scripts_that_were_thrown_away_are_given_again() {
    let server = redis();
    let store = opened(&server).await;
    for n in 0..3 {
        assert_eq!(say(&server, "SCRIPT FLUSH"), "+OK");
        let key = format!("k{n}");
        let create = |key: &str| vec![Change::create(key, "1")];
        store.commit(create(&key)).await.unwrap();
        assert_eq!(say(&server, "SCRIPT FLUSH"), "+OK");
        let commits = vec![create(&key), create(&format!("{key}/more"))];
        let outcomes = store.commit_all(commits).await;
        assert!(outcomes[0].is_err() && outcomes[1].is_ok(), "{outcomes:?}");
        assert_eq!(say(&server, "SCRIPT FLUSH"), "+OK");
        let found = store.scan(Scan::prefix(key.as_str())).await.unwrap();
        assert_eq!(found.objects.len(), 2);
    }
}
