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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kvjob::kv::{Atomic, Change, ErrorKind, Event, Key, Object, Scan, Store, StoreExt as _};
use kvjob::kv::{Watch, Watcher};
use kvjob_etcd::{Etcd, Options};
use kvjob_servers::etcd;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::timeout;

/// The longest that anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writers of a load, half of them on a store of their own.
const WRITERS: usize = 16;
const COUNTERS: usize = 3;

async fn open(url: &str, timeout: Duration) -> Arc<Etcd> {
    Arc::new(Options::new().timeout(timeout).open(url).await.unwrap())
}

/// What became of the changes of many writers.
#[derive(Default)]
struct Tally {
    kept: Mutex<BTreeSet<Key>>,
    refused: Mutex<BTreeSet<Key>>,
    counted: Mutex<(u64, u64)>,
    acknowledged: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    enough: AtomicBool,
}

impl Tally {
    /// Waits until so many more were acknowledged.
    async fn goes_on(&self, more: usize) {
        happens(&self.acknowledged, more, "acknowledged").await;
    }

    /// Waits until one more failed.
    async fn fails(&self) {
        happens(&self.failed, 1, "failed").await;
    }

    /// Creates keys and counts until it is enough.
    async fn write(self: Arc<Self>, store: Arc<Etcd>, writer: usize) {
        for n in 0.. {
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
            let key = Key::from(format!("k/{writer}/{n}").as_str());
            let change = Change::create(key.clone(), writer.to_string());
            match store.commit(vec![change]).await {
                Ok(()) => {
                    self.kept.lock().unwrap().insert(key.clone());
                    self.acknowledged.send_modify(|count| *count += 1);
                    match store.get(&key).await {
                        Ok(found) => assert!(found.is_some(), "{key} was acknowledged"),
                        Err(error) => assert_eq!(error.kind(), &ErrorKind::Transient, "{error}"),
                    }
                }
                Err(error) => {
                    self.failed.send_modify(|count| *count += 1);
                    match error.kind() {
                        ErrorKind::Unknown => {}
                        ErrorKind::Transient => {
                            self.refused.lock().unwrap().insert(key);
                        }
                        kind => panic!("{kind:?}: {error}"),
                    }
                }
            }
            self.count(&store, n % COUNTERS).await;
        }
    }

    /// Adds one to a counter, if nobody else does.
    async fn count(&self, store: &Etcd, which: usize) {
        let key = format!("c/{which}");
        let Ok(found) = store.get(&key.as_str().into()).await else {
            return;
        };
        let before = found.unwrap().value;
        let next = std::str::from_utf8(&before)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            + 1;
        let change = Change::replace(key.as_str(), before, Some(next.to_string().into()));
        let outcome = store.commit(vec![change]).await;
        let mut counted = self.counted.lock().unwrap();
        match outcome.map_err(|error| error.kind().clone()) {
            Ok(()) => counted.0 += 1,
            Err(ErrorKind::Unknown) => counted.1 += 1,
            Err(ErrorKind::ConditionFailed { indices }) => assert_eq!(indices, [0]),
            Err(ErrorKind::Transient) => {}
            Err(kind) => panic!("{kind:?}"),
        }
    }

    /// Whether what is there is what was told.
    async fn holds(&self, store: &Etcd) {
        let objects = store.scan_prefix("k/").map(|object| object.unwrap().key);
        let there: BTreeSet<Key> = objects.collect().await;
        let counters = store.scan(Scan::prefix("c/")).await.unwrap().objects;
        let kept = self.kept.lock().unwrap();
        let lost: Vec<_> = kept.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let refused = self.refused.lock().unwrap();
        let applied: Vec<_> = refused.intersection(&there).collect();
        assert!(applied.is_empty(), "refused and applied: {applied:?}");
        let value = |object: &Object| std::str::from_utf8(&object.value).unwrap().parse::<u64>();
        let sum: u64 = counters.iter().map(|object| value(object).unwrap()).sum();
        let (counted, in_doubt) = *self.counted.lock().unwrap();
        assert!(
            (counted..=counted + in_doubt).contains(&sum),
            "{sum} is not {counted} and some of {in_doubt}"
        );
        println!(
            "{} acknowledged, {} refused, {} in doubt of {} failed; counted {counted}, {in_doubt} in doubt",
            kept.len(),
            refused.len(),
            *self.failed.borrow() - refused.len(),
            *self.failed.borrow(),
        );
    }
}

async fn happens(count: &watch::Sender<usize>, more: usize, what: &str) {
    let enough = *count.borrow() + more;
    let mut count = count.subscribe();
    let happened = timeout(PATIENCE, count.wait_for(|count| *count >= enough)).await;
    assert!(happened.is_ok(), "nothing more {what} for {PATIENCE:?}");
}

/// Lets many write while `outages` happen, as often as there is time for, and looks at what is
/// there afterwards.
async fn under_load(url: &str, mut outages: impl AsyncFnMut(&Tally)) {
    let patience = Duration::from_secs(3);
    let stores = [open(url, patience).await, open(url, patience).await];
    for counter in 0..COUNTERS {
        let key = format!("c/{counter}");
        stores[0].set(Object::new(key.as_str(), "0")).await.unwrap();
    }
    let tally = Arc::new(Tally::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&stores[writer % 2]);
            tokio::spawn(Arc::clone(&tally).write(store, writer))
        })
        .collect();
    let longer = std::env::var("KVJOB_OUTAGES").unwrap_or_default();
    let longer = Duration::from_secs(longer.parse().unwrap_or(0));
    let began = Instant::now();
    loop {
        tally.goes_on(200).await;
        outages(&tally).await;
        if began.elapsed() >= longer {
            break;
        }
    }
    tally.goes_on(200).await;
    tally.enough.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    for store in stores {
        tally.holds(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_etcd_that_is_killed_under_load_loses_nothing() {
    let mut server = etcd::etcd();
    let url = etcd::url(&server);
    under_load(&url, async |tally| {
        block_in_place(|| server.kill());
        for _ in 0..8 {
            tally.fails().await;
        }
        block_in_place(|| server.start());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_are_killed_one_at_a_time_lose_nothing() {
    let mut cluster = etcd::cluster();
    let url = cluster.url();
    under_load(&url, async |tally| {
        for n in 0..cluster.members.len() {
            block_in_place(|| cluster.members[n].kill());
            // Two are enough.
            tally.goes_on(200).await;
            block_in_place(|| cluster.members[n].start());
            tally.goes_on(200).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_majority_that_is_killed_stops_everybody_until_it_is_back() {
    let mut cluster = etcd::cluster();
    let url = cluster.url();
    let mut first = 0;
    under_load(&url, async |tally| {
        let majority = [first % 3, (first + 1) % 3];
        first += 1;
        block_in_place(|| {
            for n in majority {
                cluster.members[n].kill();
            }
        });
        tally.fails().await;
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
    let heard = timeout(PATIENCE, watcher.next()).await;
    heard.expect("something is heard").expect("it goes on")
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
    assert!(timeout(PATIENCE, watcher.next()).await.unwrap().is_none());
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
    assert!(timeout(PATIENCE, watcher.next()).await.unwrap().is_none());
}
