//! Opening, beside the keys of others: and what a user reads when it cannot be, or when something
//! does not fit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use kvjob::kv::{Atomic, Change, Error, ErrorKind, Expect, Object, Scan, Store};
use kvjob_etcd::{Etcd, LIMITS, Options};
use kvjob_servers::tls::Certificates;
use kvjob_servers::{Server, etcd, free_port};
use tokio::net::{TcpListener, TcpStream};

async fn refused(options: Options, url: &str) -> Error {
    let error = options.open(url).await.unwrap_err();
    let shown = format!("{error:?} {options:?}");
    assert!(!shown.contains("secret"), "{shown}");
    error
}

async fn behind(server: &Server, prefix: &str) -> Etcd {
    let options = Options::new().prefix(prefix);
    options.open(&etcd::url(server)).await.unwrap()
}

async fn works(store: &Etcd) {
    store.set(Object::new("a", "1")).await.unwrap();
    let change = Change::replace("a", "1", Some("2".into()));
    store.commit(vec![change]).await.unwrap();
    assert_eq!(store.get(&"a".into()).await.unwrap().unwrap().value, "2");
}

#[tokio::test]
async fn an_etcd_that_is_away_is_told_at_once_with_its_address() {
    let (first, second) = (free_port(), free_port());
    let url = format!("etcd://127.0.0.1:{first},127.0.0.1:{second}");
    let began = Instant::now();
    let error = refused(Options::new(), &url).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{error}");
    assert_eq!(error.kind(), &ErrorKind::Transient);
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{second}")), "{text}");
    assert!(
        text.contains("refused") && text.contains("is it running"),
        "{text}"
    );
}

#[tokio::test]
async fn one_member_that_is_there_is_enough() {
    let server = etcd::etcd();
    let url = format!(
        "etcd://127.0.0.1:{},127.0.0.1:{}",
        free_port(),
        server.port()
    );
    works(&kvjob_etcd::open(&url).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_no_etcd_is_told() {
    // A server that hears and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("etcd://{}", silent.local_addr().unwrap());
    let options = Options::new().timeout(Duration::from_millis(200));
    let error = refused(options, &url).await;
    assert_eq!(error.kind(), &ErrorKind::Transient);
    assert!(error.to_string().contains("in time"), "{error}");
}

/// Something that says it is an etcd of this version, and answers nothing else. Where it serves.
async fn etcd_of(version: &'static str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say_version(stream, version));
        }
    });
    address.to_string()
}

async fn say_version(stream: TcpStream, version: &str) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let knows = request.uri().path() == "/etcdserverpb.Maintenance/Status";
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut body = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        let mut end = http::HeaderMap::new();
        if knows {
            // The version is field 2 of the message, before which stands how long it is.
            let field = [
                &[0x12, u8::try_from(version.len()).unwrap()],
                version.as_bytes(),
            ]
            .concat();
            let length = u32::try_from(field.len()).unwrap().to_be_bytes();
            let message = [&[0], &length[..], &field].concat();
            body.send_data(message.into(), false).unwrap();
            end.insert("grpc-status", http::HeaderValue::from_static("0"));
        } else {
            end.insert("grpc-status", http::HeaderValue::from_static("12"));
        }
        body.send_trailers(end).unwrap();
    }
}

#[tokio::test]
async fn an_etcd_that_is_too_old_is_told_with_what_is_needed() {
    for old in ["3.3.27", "2.3.8", "not decided"] {
        let address = etcd_of(old).await;
        let error = refused(Options::new(), &format!("etcd://{address}")).await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        let told = format!("etcd at {address} is of version {old}: kvjob needs 3.4 or newer");
        assert!(error.to_string().contains(&told), "{error}");
    }
    // Not for its age is this one refused.
    let address = etcd_of("3.4.0").await;
    let error = refused(Options::new(), &format!("etcd://{address}")).await;
    assert!(!error.to_string().contains("of version"), "{error}");
}

#[tokio::test]
async fn keys_of_others_are_neither_seen_nor_touched() {
    let server = etcd::etcd();
    for key in ["kvjob", "kvjob/", "kvjob0", "kvjoa", "zzz"] {
        etcd::control(&server, &["put", key, "theirs"]);
    }
    let store = kvjob_etcd::open(&etcd::url(&server)).await.unwrap();
    let neighbour = behind(&server, "kvjob/").await;
    works(&store).await;
    assert_eq!(
        neighbour
            .scan(Scan::prefix(""))
            .await
            .unwrap()
            .objects
            .len(),
        1
    );
    store.delete(&"".into()).await.unwrap();
    let all = behind(&server, "k")
        .await
        .scan(Scan::prefix(""))
        .await
        .unwrap();
    let left: Vec<_> = all
        .objects
        .iter()
        .map(|object| object.key.to_string())
        .collect();
    assert_eq!(left, ["vjoa", "vjob", "vjob/", "vjob0"]);
}

#[tokio::test]
async fn a_prefix_of_nothing_or_of_much_is_refused() {
    for prefix in [String::new(), "x".repeat(129)] {
        let error = refused(Options::new().prefix(prefix), "etcd://127.0.0.1").await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().contains("1 to 128"), "{error}");
    }
}

#[tokio::test]
async fn names_and_permissions_are_asked_for_when_it_opens() {
    let mut server = etcd::etcd();
    let port = server.port();
    etcd::ask_for_names(&server, "ada", "secret/%", "kvjob/");
    let nobody = refused(Options::new(), &etcd::url(&server)).await;
    assert_eq!(nobody.kind(), &ErrorKind::Backend);
    assert!(nobody.to_string().contains("USER:PASSWORD@"), "{nobody}");
    let wrong = format!("etcd://ada:secret@127.0.0.1:{port}");
    let wrong = refused(Options::new(), &wrong).await;
    assert_eq!(wrong.kind(), &ErrorKind::Backend);
    assert!(
        wrong.to_string().contains("check user and password"),
        "{wrong}"
    );
    let right = format!("etcd://ada:secret%2F%25@127.0.0.1:{port}");
    let elsewhere = refused(Options::new().prefix("other/"), &right).await;
    assert_eq!(elsewhere.kind(), &ErrorKind::Backend);
    assert!(elsewhere.to_string().contains("readwrite"), "{elsewhere}");
    let store = Options::new().open(&right).await.unwrap();
    assert!(!format!("{store:?}").contains("secret"));
    works(&store).await;
    // What it knew of us goes with its process, and our connection, which a read finds out.
    server.kill();
    server.start();
    store.get(&"a".into()).await.unwrap();
    works(&store).await;
    assert_eq!(store.health().await.unwrap().warnings, [""; 0]);
}

#[tokio::test]
async fn a_name_is_no_hindrance_where_nobody_asks() {
    let server = etcd::etcd();
    let options = Options::new().login("ada", "secret");
    works(&options.open(&etcd::url(&server)).await.unwrap()).await;
}

#[tokio::test]
async fn tls_is_spoken_with_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let server = etcd::etcd_tls(&certificates);
    let port = server.port();
    let url = format!(
        "etcds://localhost:{port}?ca={}&certificate={}&key={}",
        certificates.ca.display(),
        certificates.client.display(),
        certificates.client_key.display(),
    );
    works(&kvjob_etcd::open(&url).await.unwrap()).await;
    let url = format!("etcds://127.0.0.1:{port}");
    let options = Options::new()
        .ca_file(&certificates.ca)
        .client_certificate(&certificates.client, &certificates.client_key);
    works(&options.open(&url).await.unwrap()).await;
    let stranger = refused(Options::new().ca_file(&Certificates::new().ca), &url).await;
    assert!(stranger.to_string().contains("certificate"), "{stranger}");
    let unknown = refused(Options::new().ca_file(&certificates.ca), &url).await;
    assert!(
        unknown.to_string().contains("etcd at 127.0.0.1"),
        "{unknown}"
    );
    let plain = refused(Options::new(), &format!("etcd://127.0.0.1:{port}")).await;
    assert!(plain.to_string().contains("etcds://"), "{plain}");
    let missing = refused(Options::new().ca_file("/nowhere/ca.pem"), &url).await;
    assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
}

/// Expects a large value under each of these keys, and puts a small one.
fn shrink(keys: usize, value: &[u8]) -> Vec<Change> {
    let change = |n: usize| {
        let value = value.to_vec();
        Change::replace(format!("k/{n}").as_str(), value, Some("small".into()))
    };
    (0..keys).map(change).collect()
}

#[tokio::test]
async fn what_a_commit_expects_may_be_larger_than_a_request() {
    const KEYS: usize = 5;
    let server = etcd::etcd();
    let store = behind(&server, "large/").await;
    let large = vec![b'v'; LIMITS.value_bytes];
    for n in 0..KEYS {
        let object = Object::new(format!("k/{n}").as_str(), large.clone());
        store.set(object).await.unwrap();
    }
    let mut wrong = shrink(KEYS, &large);
    wrong.push(Change::create("k/3", "1"));
    wrong.swap_remove(3);
    wrong[1].before = Expect::Value(vec![b'w'; LIMITS.value_bytes].into());
    let position = wrong.iter().position(|change| change.key == "k/3".into());
    let error = store.commit(wrong).await.unwrap_err();
    let indices = vec![1, position.unwrap()];
    assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
    let outcomes = store
        .commit_all(vec![
            vec![Change::create("other", "1")],
            shrink(KEYS, &large),
            shrink(1, b"small"),
            shrink(KEYS, &large),
        ])
        .await;
    assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
    let indices = (0..KEYS).collect();
    let last = outcomes[3].as_ref().unwrap_err();
    assert_eq!(last.kind(), &ErrorKind::ConditionFailed { indices });
    let page = store.scan(Scan::prefix("k/")).await.unwrap();
    assert!(page.objects.iter().all(|object| object.value == "small"));
}

#[tokio::test]
async fn an_etcd_that_takes_less_than_the_default_says_so() {
    let server = etcd::etcd_with(&["--max-request-bytes=100000", "--max-txn-ops=4"]);
    let store = kvjob_etcd::open(&etcd::url(&server)).await.unwrap();
    let error = store
        .set(Object::new("a", vec![0; 200_000]))
        .await
        .unwrap_err();
    let many = (0..5u8).map(|n| Change::put([n].as_slice(), "1"));
    let many = store.commit(many.collect()).await.unwrap_err();
    for (error, flag) in [(error, "--max-request-bytes"), (many, "--max-txn-ops")] {
        assert!(
            matches!(error.kind(), ErrorKind::TooLarge { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(flag), "{error}");
    }
    assert_eq!(store.scan(Scan::prefix("")).await.unwrap().objects, []);
}

#[tokio::test]
async fn a_full_database_says_so_and_can_be_read() {
    let server = etcd::etcd_with(&["--quota-backend-bytes=2000000"]);
    let store = kvjob_etcd::open(&etcd::url(&server)).await.unwrap();
    let mut stored = 0;
    let error = loop {
        let object = Object::new(format!("k/{stored}").as_str(), vec![0; 100_000]);
        match store.set(object).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    // It may have been the change with which the quota was found to be exceeded.
    assert_eq!(error.kind(), &ErrorKind::Unknown);
    assert!(error.to_string().contains("make room"), "{error}");
    let change = Change::put("more", "1");
    let error = store.commit(vec![change]).await.unwrap_err();
    assert!(error.to_string().contains("make room"), "{error}");
    let page = store.scan(Scan::prefix("k/").keys_only()).await.unwrap();
    assert!(page.objects.len() >= stored);
    // Also one that opens now can read, and remove.
    let store = kvjob_etcd::open(&etcd::url(&server)).await.unwrap();
    let warnings = store.health().await.unwrap().warnings.join("\n");
    assert!(warnings.contains("NOSPACE"), "{warnings}");
    store.delete(&"".into()).await.unwrap();
    assert_eq!(store.scan(Scan::prefix("")).await.unwrap().objects, []);
}

#[tokio::test]
async fn history_is_compacted_where_it_is_asked_for() {
    let server = etcd::etcd();
    let options = Options::new().compact_every(Duration::from_millis(50));
    let store = options.open(&etcd::url(&server)).await.unwrap();
    works(&store).await;
    let server = tokio::task::spawn_blocking(move || {
        server.wait_for("finished scheduled compaction");
        server
    });
    let _server = server.await.unwrap();
    works(&store).await;
}

#[tokio::test]
async fn a_member_that_is_away_is_told_by_health() {
    let mut cluster = etcd::cluster();
    let store = kvjob_etcd::open(&cluster.url()).await.unwrap();
    assert_eq!(store.health().await.unwrap().warnings, [""; 0]);
    cluster.members[1].kill();
    let warnings = store.health().await.unwrap().warnings;
    let address = format!("127.0.0.1:{}", cluster.members[1].port());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&address), "{warnings:?}");
}
