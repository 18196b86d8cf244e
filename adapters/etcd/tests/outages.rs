//! Members that are killed, stand still and come back, one at a time and all together, while many
//! write: what was acknowledged is there afterwards, what was refused is not, and everybody goes
//! on by himself.
//!
//! `KVJOB_OUTAGES=SECONDS` makes it last longer: `make outage-test`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Event, Object, Store, Watch, Watcher};
use kvjob_etcd::{Etcd, Options};
use kvjob_servers::etcd;
use kvjob_trials::outages::{self, Doubt, Load, PATIENCE, patient};
use tokio::task::block_in_place;

async fn open(url: &str, timeout: Duration) -> Arc<Etcd> {
    Arc::new(Options::new().timeout(timeout).open(url).await.unwrap())
}

/// Lets many write, half of them on a store of their own, while there are outages.
async fn under_load(url: &str, outage: impl AsyncFnMut(&Load)) {
    let patience = Duration::from_secs(3);
    let stores: [Arc<dyn Store>; 2] = [open(url, patience).await, open(url, patience).await];
    outages::under_load(&stores, Doubt::MakeAgain, 1, outage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_etcd_that_is_killed_under_load_loses_nothing() {
    let mut server = etcd::etcd();
    let url = etcd::url(&server);
    under_load(&url, async |load| {
        block_in_place(|| server.kill());
        load.fails(8).await;
        block_in_place(|| server.start());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_are_killed_one_at_a_time_lose_nothing() {
    let mut cluster = etcd::cluster();
    let url = cluster.url();
    under_load(&url, async |load| {
        for n in 0..cluster.members.len() {
            block_in_place(|| cluster.members[n].kill());
            // Two are enough.
            load.goes_on(200).await;
            block_in_place(|| cluster.members[n].start());
            load.goes_on(200).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_majority_that_is_killed_stops_everybody_until_it_is_back() {
    let mut cluster = etcd::cluster();
    let url = cluster.url();
    let mut first = 0;
    under_load(&url, async |load| {
        let majority = [first % 3, (first + 1) % 3];
        first += 1;
        block_in_place(|| {
            for n in majority {
                cluster.members[n].kill();
            }
        });
        load.fails(1).await;
        block_in_place(|| {
            for n in majority {
                cluster.members[n].start();
            }
        });
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_and_not_made_later() {
    let mut server = etcd::etcd();
    let store = open(&etcd::url(&server), Duration::from_millis(300)).await;
    server.kill();
    // It finds out that the connection is gone.
    let read = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(read.kind(), &ErrorKind::Transient, "{read}");
    let write = store.set(Object::new("a", "1")).await.unwrap_err();
    assert_eq!(write.kind(), &ErrorKind::Transient, "{write}");
    let port = server.port().to_string();
    assert!(write.to_string().contains(&port), "{write}");
    server.start();
    assert!(store.get(&"a".into()).await.unwrap().is_none());
    store.set(Object::new("a", "1")).await.unwrap();
}

#[tokio::test]
async fn a_call_that_nobody_answers_ends_in_time() {
    let server = etcd::etcd();
    let store = open(&etcd::url(&server), Duration::from_millis(300)).await;
    store.set(Object::new("a", "1")).await.unwrap();
    server.pause();
    let began = Instant::now();
    let read = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(read.kind(), &ErrorKind::Transient, "{read}");
    let outcomes = store
        .commit_all(vec![
            vec![Change::create("b", "1")],
            vec![Change::create("c", "1")],
        ])
        .await;
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), &ErrorKind::Unknown);
    }
    assert!(began.elapsed() < PATIENCE / 4);
    server.resume();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_member_that_stands_still_is_left_for_another() {
    let cluster = etcd::cluster();
    let store = open(&cluster.url(), Duration::from_secs(3)).await;
    store.set(Object::new("a", "1")).await.unwrap();
    // The first one in the URL is the one that is asked.
    cluster.members[0].pause();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
    store.set(Object::new("a", "2")).await.unwrap();
    cluster.members[0].resume();
}

async fn next(watcher: &mut Watcher) -> Event {
    patient(watcher.next()).await.expect("it goes on")
}

#[tokio::test]
async fn a_watch_survives_an_outage_and_says_that_it_lost_something() {
    let mut server = etcd::etcd();
    let url = etcd::url(&server);
    let store = open(&url, PATIENCE).await;
    let listener = open(&url, PATIENCE).await;
    let mut watcher = Watch::watch(&*listener, &"k/".into()).await.unwrap();
    store.set(Object::new("k/1", "1")).await.unwrap();
    assert_eq!(next(&mut watcher).await, Event::Changed("k/1".into()));
    server.kill();
    // Whoever comes meanwhile is told, too.
    let mut late = Watch::watch(&*listener, &"k/".into()).await.unwrap();
    server.start();
    assert_eq!(next(&mut watcher).await, Event::Lagged);
    assert_eq!(next(&mut late).await, Event::Lagged);
    // A read finds out that the connection is gone.
    store.get(&"k/1".into()).await.unwrap();
    store.set(Object::new("k/2", "1")).await.unwrap();
    assert_eq!(next(&mut watcher).await, Event::Changed("k/2".into()));
    listener.stop().await.unwrap();
    assert!(patient(watcher.next()).await.is_none());
}

#[tokio::test]
async fn a_watch_goes_on_at_another_member() {
    let mut cluster = etcd::cluster();
    let (first, all) = (etcd::url(&cluster.members[2]), cluster.url());
    let store = open(&first, PATIENCE).await;
    let listener = open(&all, PATIENCE).await;
    let mut watcher = Watch::watch(&*listener, &"".into()).await.unwrap();
    cluster.members[0].kill();
    assert_eq!(next(&mut watcher).await, Event::Lagged);
    store.get(&"a".into()).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert_eq!(next(&mut watcher).await, Event::Changed("a".into()));
}

#[tokio::test]
async fn a_dropped_store_leaves_no_watcher_behind() {
    let server = etcd::etcd();
    let store = open(&etcd::url(&server), PATIENCE).await;
    let mut watcher = Watch::watch(&*store, &"".into()).await.unwrap();
    drop(store);
    assert!(patient(watcher.next()).await.is_none());
}
