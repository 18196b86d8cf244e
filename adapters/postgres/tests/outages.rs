//! What becomes of callers while the server is killed, stands still, or is cut off; and how often
//! it is asked.
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

use futures::StreamExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Event, Key, Object, Scan, Store, Watch, Watcher};
use kvjob_postgres::{Options, Postgres};
use kvjob_servers::{Server, postgres};
use kvjob_trials::outages::{self, Doubt, Load, PATIENCE, patient};
use kvjob_trials::proxy::{Cut, Proxy};
use tokio::task::block_in_place;

async fn opened(server: &Server) -> Arc<Postgres> {
    Arc::new(kvjob_postgres::open(&postgres::url(server)).await.unwrap())
}

async fn watcher(store: &Postgres) -> Watcher {
    Watch::watch(store, &Key::EMPTY).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_keeps_what_it_acknowledged_and_half_of_nothing() {
    let mut server = postgres::postgres();
    let stores = [opened(&server).await as Arc<dyn Store>];
    let kill = async |_: &Load| {
        block_in_place(|| {
            server.kill();
            server.start();
        });
    };
    let unknown = outages::under_load(&stores, Doubt::MakeAgain, 3, kill).await;
    assert!(unknown > 0, "nobody was interrupted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_given_up_in_time_and_used_again() {
    let server = postgres::postgres();
    let options = Options::new().timeout(Duration::from_millis(300));
    let store = options.open(&postgres::url(&server)).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
    let key = Key::from("a");
    server.pause();
    let (read, written) = patient(async {
        tokio::join!(
            store.get(&key),
            store.commit(vec![Change::create("b", "1")])
        )
    })
    .await;
    assert_eq!(read.unwrap_err().kind(), &ErrorKind::Transient);
    assert_eq!(written.unwrap_err().kind(), &ErrorKind::Unknown);
    // Once there is no connection any more, what was never sent is no riddle.
    let mut tries = 0;
    let unsent = loop {
        tries += 1;
        let key = Key::from(format!("c/{tries}").as_str());
        let error = patient(store.commit(vec![Change::create(key.clone(), "1")])).await;
        match error.unwrap_err().kind() {
            ErrorKind::Transient => break key,
            kind => assert_eq!(kind, &ErrorKind::Unknown),
        }
        assert!(tries < 4, "it goes on to send");
    };
    server.resume();
    let again = async { while store.set(Object::new("d", "1")).await.is_err() {} };
    patient(again).await;
    assert!(store.get(&unsent).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_for_a_server_that_restarts() {
    let mut server = postgres::postgres();
    let options = Options::new().timeout(PATIENCE);
    let store = Arc::new(options.open(&postgres::url(&server)).await.unwrap());
    store.set(Object::new("a", "1")).await.unwrap();
    server.kill();
    let waiting = [0, 1].map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if n == 0 {
                store.get(&"a".into()).await.map(|found| found.is_some())
            } else {
                // Its connection is known to be lost, or it is of unknown fate.
                loop {
                    match store.set(Object::new("b", "1")).await {
                        Err(error) if error.maybe_applied() => {}
                        outcome => break outcome.map(|()| true),
                    }
                }
            }
        })
    });
    block_in_place(|| server.start());
    for answer in waiting {
        assert!(patient(answer).await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_cut_off_is_unknown_and_a_read_is_made_again() {
    let server = postgres::with(&["fsync=off"]);
    let proxy = Proxy::to(server.port()).await;
    let through = format!("postgres://kvjob@127.0.0.1:{}/kvjob", proxy.port());
    let store = kvjob_postgres::open(&through).await.unwrap();
    let beside = opened(&server).await;
    store.set(Object::new("read/a", "1")).await.unwrap();
    for (cut, key, is_there) in [
        (Cut::BeforeTheServer, "lost", false),
        (Cut::BeforeTheClient, "landed", true),
    ] {
        // What is told to others, on a connection of its own, names keys in another form.
        proxy.cut(cut, key);
        let outcome = patient(store.commit(vec![Change::create(key, "1")])).await;
        assert!(!proxy.is_to_cut());
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unknown, "{cut:?}: {error:?}");
        let found = patient(beside.get(&key.into())).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{cut:?}");

        proxy.cut(cut, "read/a");
        let found = patient(store.get(&"read/a".into())).await.unwrap();
        assert!(!proxy.is_to_cut() && found.is_some());
        let scans = vec![Scan::prefix("read/"), Scan::prefix("b")];
        proxy.cut(cut, "read/");
        let pages = patient(store.scan_many(scans)).await.unwrap();
        assert!(!proxy.is_to_cut());
        assert_eq!(pages[0].objects.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_a_restart_and_says_what_it_missed() {
    let mut server = postgres::postgres();
    let store = opened(&server).await;
    let mut hears = watcher(&store).await;
    block_in_place(|| {
        server.kill();
        server.start();
    });
    let first = patient(hears.next()).await;
    assert_eq!(first, Some(Event::Lagged));
    let other = opened(&server).await;
    other.set(Object::new("k", "1")).await.unwrap();
    loop {
        match patient(hears.next()).await {
            Some(Event::Changed(key)) if key == "k".into() => break,
            Some(_) => {}
            None => panic!("the watcher ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_puts_another_hears_in_its_order() {
    let server = postgres::with(&["fsync=off"]);
    let (store, other) = (opened(&server).await, opened(&server).await);
    let mut hears = watcher(&other).await;
    for n in 0..50 {
        let key = Key::from(format!("{n:02}").as_str());
        store.set(Object::new(key.clone(), "1")).await.unwrap();
        assert_eq!(patient(hears.next()).await, Some(Event::Changed(key)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_one_round_trip() {
    let server = postgres::with(&["fsync=off"]);
    let proxy = Proxy::to(server.port()).await;
    let through = format!("postgres://kvjob@127.0.0.1:{}/kvjob", proxy.port());
    let store = kvjob_postgres::open(&through).await.unwrap();
    let change = |n: usize| Change::put(format!("{n:03}").into_bytes(), "1");
    // Every connection is there, and each statement was used on it.
    for _ in 0..4 {
        store.commit((0..3).map(change).collect()).await.unwrap();
        store.scan(Scan::prefix("")).await.unwrap();
        store.get(&"000".into()).await.unwrap();
    }
    // What is told to others goes beside, and takes a trip of its own.
    let told = async |before: usize, trips: usize| {
        while proxy.trips() < before + trips + 1 {
            tokio::task::yield_now().await;
        }
        proxy.trips()
    };
    let beside = opened(&server).await;
    let mut hears = watcher(&beside).await;
    let last = Key::from("last");
    store.set(Object::new(last.clone(), "1")).await.unwrap();
    while patient(hears.next()).await != Some(Event::Changed(last.clone())) {}
    let before = proxy.trips();
    let create = |n: usize| Change::create(format!("new/{n:03}").into_bytes(), "1");
    let mut commit: Vec<Change> = (0..300).map(create).collect();
    commit.push(Change::check("000", "1"));
    commit.push(Change::remove("001"));
    commit.push(Change::replace("002", "1", Some("2".into())));
    store.commit(commit).await.unwrap();
    let before = {
        let after = patient(told(before, 1)).await;
        assert_eq!(after - before, 2, "a commit and its message");
        after
    };
    let refused = vec![Change::create("000", "1"), Change::check("absent", "1")];
    store.commit(refused).await.unwrap_err();
    assert_eq!(proxy.trips() - before, 1, "a commit that is refused");
    let before = proxy.trips();
    let keys: Vec<Key> = (0..300).map(|n| change(n).key).collect();
    store.get_many(&keys).await.unwrap();
    assert_eq!(proxy.trips() - before, 1, "many keys");
    let before = proxy.trips();
    let scans = (0..32).map(|n| Scan::prefix(format!("new/{n:02}").into_bytes()));
    store.scan_many(scans.collect()).await.unwrap();
    // None waits for the answer of another, but the first may be answered while the last is sent.
    assert!(proxy.trips() - before < 32, "many scans");
    let before = proxy.trips();
    let commits = (400..464).map(|n| vec![change(n)]).collect();
    for outcome in store.commit_all(commits).await {
        outcome.unwrap();
    }
    let after = patient(told(before, 1)).await;
    assert_eq!(after - before, 2, "many commits and their message");
}
