//! What becomes of callers while the server is killed, stands still, or is cut off.
//!
//! `KVJOB_OUTAGES=seconds` kills servers for that long instead of a few times.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Event, Key, Object, Scan, Store, Watch, Watcher};
use kvjob_redis::{Options, Redis};
use kvjob_servers::Server;
use kvjob_servers::redis::{cluster, redis, say, url, valkey};
use kvjob_trials::outages::{self, Doubt, Load, Writer, patient};
use kvjob_trials::proxy::{Cut, Proxy};

fn count(value: &[u8]) -> usize {
    str::from_utf8(value).unwrap().parse().unwrap()
}

async fn through(proxy: &Proxy) -> Redis {
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    kvjob_redis::open(&url).await.unwrap()
}

/// Kills the server while many write, starts it again, and so on: what was acknowledged is there.
async fn killed_under_load(mut server: Server) {
    let store: Arc<dyn Store> = Arc::new(kvjob_redis::open(&url(&server)).await.unwrap());
    let stores = [store];
    let kill = async |_: &Load| {
        server.kill();
        server.start();
    };
    outages::under_load(&stores, Doubt::Read, 3, kill).await;
    let health = stores[0].health().await.unwrap();
    assert_eq!(health.warnings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_keeps_what_it_acknowledged_and_half_of_nothing() {
    killed_under_load(redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_killed_under_load_keeps_what_it_acknowledged_and_half_of_nothing() {
    killed_under_load(valkey()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_is_killed_comes_back() {
    let mut nodes = cluster();
    let store = kvjob_redis::open(&url(&nodes[0])).await.unwrap();
    let mut writer = Writer::new(Arc::new(store), Doubt::Read, 0);
    for node in &mut nodes {
        assert!(writer.step().await);
        node.kill();
        node.start();
        // It takes part again after a while.
        let again = async { while !writer.step().await {} };
        patient(again).await;
        writer.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_a_cluster_that_moves_is_followed() {
    let nodes = cluster();
    let store = Arc::new(kvjob_redis::open(&url(&nodes[0])).await.unwrap());
    let mut watcher = watcher(&store).await;
    let mut writer = Writer::new(store.clone(), Doubt::Read, 0);
    for _ in 0..10 {
        assert!(writer.step().await);
    }
    let slot = say(&nodes[0], "CLUSTER KEYSLOT {kvjob}:index");
    let slot = slot.strip_prefix(':').unwrap();
    let owns = |node: &Server| say(node, "EXISTS {kvjob}:index") == ":1";
    let from = nodes.iter().find(|node| owns(node)).unwrap();
    let to = nodes.iter().find(|node| !owns(node)).unwrap();
    let [from_id, to_id] = [from, to].map(|node| say(node, "CLUSTER MYID"));
    let said = |node: &Server, what: &str| {
        let answer = say(node, &format!("CLUSTER SETSLOT {slot} {what}"));
        assert_eq!(answer, "+OK");
    };
    said(to, &format!("IMPORTING {from_id}"));
    said(from, &format!("MIGRATING {to_id}"));
    // Between two nodes nothing is lost, and nobody waits for ever.
    let step = tokio::spawn(async move {
        while !writer.step().await {}
        writer
    });
    let port = to.port();
    let keys = "{kvjob}:index {kvjob}:values";
    let migrate = format!("MIGRATE 127.0.0.1 {port} \"\" 0 5000 KEYS {keys}");
    assert_eq!(say(from, &migrate), "+OK");
    // First who has it now, so that no other takes it back.
    let others = nodes.iter().filter(|node| node.port() != port);
    for node in [to].into_iter().chain(others) {
        said(node, &format!("NODE {to_id}"));
    }
    let mut writer = patient(step).await.unwrap();
    writer.check().await;
    assert!(owns(to));
    // Also who watches goes there, and is told of the gap.
    assert_eq!(heard(&mut watcher, &Event::Lagged).await, Event::Lagged);
    assert!(writer.step().await);
    let put = Event::Changed("a/00".into());
    assert_eq!(heard(&mut watcher, &put).await, put);
}

async fn watcher(store: &Redis) -> Watcher {
    patient(Watch::watch(store, &"".into())).await.unwrap()
}

/// Listens until this is heard.
async fn heard(watcher: &mut Watcher, awaited: &Event) -> Event {
    loop {
        let event = patient(watcher.next()).await.unwrap();
        if event == *awaited {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_outlives_the_server_and_is_told_of_the_gap() {
    for mut server in [redis(), valkey()] {
        let store = kvjob_redis::open(&url(&server)).await.unwrap();
        let mut watcher = watcher(&store).await;
        for key in ["a", "b"] {
            store.set(Object::new(key, "1")).await.unwrap();
            let put = Event::Changed(key.into());
            assert_eq!(patient(watcher.next()).await, Some(put));
            server.kill();
            server.start();
            assert_eq!(patient(watcher.next()).await, Some(Event::Lagged));
        }
        // Cut off by the server, too: such as a slow one is.
        assert_eq!(say(&server, "CLIENT KILL TYPE pubsub"), ":1");
        assert_eq!(patient(watcher.next()).await, Some(Event::Lagged));
        store.set(Object::new("c", "1")).await.unwrap();
        let put = Event::Changed("c".into());
        assert_eq!(patient(watcher.next()).await, Some(put));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_waited_for_and_no_longer_than_said() {
    let server = redis();
    let options = Options::new().timeout(Duration::from_millis(300));
    let store = options.open(&url(&server)).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    server.pause();
    // Sent on the connection that was there: it may be done.
    let error = patient(store.commit(vec![Change::create("b", "1")])).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unknown, "{error}");
    // There is none to send it on: it surely is not done.
    let error = patient(store.commit(vec![Change::create("c", "1")])).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Transient, "{error}");
    let error = patient(store.get(&"a".into())).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Transient, "{error}");
    let error = patient(store.health()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Transient, "{error}");
    server.resume();
    let found = async || loop {
        let keys = ["b".into(), "c".into()];
        match store.get_many(&keys).await {
            Ok(found) => break found,
            Err(error) => assert_eq!(error.kind(), &ErrorKind::Transient, "{error}"),
        }
    };
    // What is read first is how it stays.
    let first = patient(found()).await;
    assert!(first[1].is_none(), "it was told that nothing was applied");
    for _ in 0..20 {
        assert_eq!(found().await, first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_write_is_unknown_and_to_a_read_is_asked_for_again() {
    let server = redis();
    let proxy = Proxy::to(server.port()).await;
    let store = through(&proxy).await;
    for (cut, name, applied) in [
        (Cut::BeforeTheServer, "lost", false),
        (Cut::BeforeTheClient, "landed", true),
    ] {
        let key = Key::from(name);
        proxy.cut(cut, name);
        let error = store.commit(vec![Change::create(key.clone(), "1")]).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unknown, "{error}");
        let found = store.get(&key).await.unwrap();
        assert_eq!(found.is_some(), applied, "{cut:?}");

        proxy.cut(cut, "with/x");
        let outcomes = store.commit_all(vec![
            vec![Change::put("with/x", "1")],
            vec![Change::put("", "refused before")],
            vec![Change::put("with/y", "1")],
        ]);
        let outcomes = outcomes.await.into_iter().map(Result::unwrap_err);
        let kinds: Vec<_> = outcomes.map(|error| error.kind().clone()).collect();
        assert_eq!(
            kinds,
            [
                ErrorKind::Unknown,
                ErrorKind::InvalidKey,
                ErrorKind::Unknown
            ]
        );

        proxy.cut(cut, name);
        assert_eq!(store.get(&key).await.unwrap().is_some(), applied);
        assert!(!proxy.is_to_cut());
        proxy.cut(cut, name);
        let scans = vec![Scan::prefix(key.clone()), Scan::prefix("none")];
        let pages = store.scan_many(scans).await.unwrap();
        assert_eq!(!pages[0].objects.is_empty(), applied);
        assert!(!proxy.is_to_cut());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_late_is_not_done_once_its_fate_was_read() {
    for server in [redis(), valkey()] {
        let proxy = Proxy::to(server.port()).await;
        let store = through(&proxy).await;
        proxy.cut(Cut::BeforeTheServer, "late");
        let error = store.commit(vec![Change::create("late", "1")]).await;
        assert_eq!(error.unwrap_err().kind(), &ErrorKind::Unknown);
        assert!(store.get(&"late".into()).await.unwrap().is_none());
        proxy.deliver().await;
        assert!(store.get(&"late".into()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn each_call_is_one_round_trip() {
    let server = redis();
    let proxy = Proxy::to(server.port()).await;
    let store = through(&proxy).await;
    let create = |n: usize| vec![Change::create(format!("k{n}").as_str(), "1")];
    let before = proxy.trips();
    store
        .commit((0..64).flat_map(create).collect())
        .await
        .unwrap();
    for outcome in store.commit_all((64..128).map(create).collect()).await {
        outcome.unwrap();
    }
    let keys: Vec<Key> = (0..128)
        .map(|n| Key::from(format!("k{n}").as_str()))
        .collect();
    let found = store.get_many(&keys).await.unwrap();
    assert!(found.iter().all(Option::is_some));
    let scans = keys.into_iter().map(Scan::prefix).collect();
    store.scan_many(scans).await.unwrap();
    store.scan(Scan::prefix("")).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.delete(&"k".into()).await.unwrap();
    assert_eq!(proxy.trips() - before, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_by_two_stores_at_once_are_all_there() {
    const EACH: usize = 40;
    let server = redis();
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(kvjob_redis::open(&url(&server)).await.unwrap()));
    }
    let counters: [Key; 3] = ["x".into(), "y".into(), "z".into()];
    for counter in &counters {
        let zero = Object::new(counter.clone(), "0");
        stores[0].set(zero).await.unwrap();
    }
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = Arc::clone(&stores[task % 2]);
            let counter = counters[task % 3].clone();
            tokio::spawn(async move {
                let mut made = 0;
                while made < EACH {
                    let before = store.get(&counter).await.unwrap().unwrap().value;
                    let after = Bytes::from((count(&before) + 1).to_string());
                    let change = Change::replace(counter.clone(), before, after);
                    match store.commit(vec![change]).await {
                        Ok(()) => made += 1,
                        Err(error) => {
                            let indices = vec![0];
                            let failed = ErrorKind::ConditionFailed { indices };
                            assert_eq!(error.kind(), &failed, "{error}");
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let found = stores[1].get_many(&counters).await.unwrap();
    let sum: usize = found.iter().flatten().map(|it| count(&it.value)).sum();
    assert_eq!(sum, 16 * EACH);
}

#[tokio::test]
async fn a_stopped_store_lets_go_of_its_server() {
    let server = redis();
    let store = kvjob_redis::open(&url(&server)).await.unwrap();
    let mut watcher = watcher(&store).await;
    store.stop().await.unwrap();
    assert!(patient(watcher.next()).await.is_none());
    let error = Watch::watch(&store, &"".into()).await.err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    let error = store.health().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
}
