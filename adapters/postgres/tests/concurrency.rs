//! Many who commit at once, over two stores, as two processes would: no condition passes that does
//! not hold, nothing is lost, and nobody waits for ever.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Key, Object, Scan, Store as _};
use kvjob_postgres::{Options, Postgres};
use kvjob_servers::{Server, postgres};
use tokio::task::JoinSet;

const TASKS: usize = 16;

async fn two() -> (Server, [Arc<Postgres>; 2]) {
    let server = postgres::with(&[
        "fsync=off",
        "deadlock_timeout=50ms",
        "log_error_verbosity=terse",
        "log_min_error_statement=panic",
    ]);
    let url = postgres::url(&server);
    let open = async || Arc::new(Options::new().open(&url).await.unwrap());
    let stores = [open().await, open().await];
    (server, stores)
}

/// That nobody waited for whom he kept waiting.
fn no_deadlock(server: &Server) {
    let output = server.output();
    assert!(!output.contains("deadlock"), "{output}");
}

fn key(n: usize) -> Key {
    Key::from(format!("k/{n}").as_str())
}

/// A small generator of numbers, so that a task does the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// So many of the keys.
    fn keys(&mut self, count: usize, of: usize) -> Vec<Key> {
        let mut numbers: Vec<usize> = (0..of).collect();
        let chosen = (0..count).map(|_| numbers.swap_remove(self.roll(numbers.len())));
        chosen.collect::<Vec<_>>().into_iter().map(key).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_of_many_lose_no_increment() {
    let (server, stores) = two().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&stores[task % 2]);
        tasks.spawn(async move {
            let mut dice = Dice(u64::try_from(task).unwrap());
            let mut done = BTreeMap::new();
            for _ in 0..60 {
                let keys = dice.keys(3, 5);
                let found = store.get_many(&keys).await.unwrap();
                let increment = |(key, found): (&Key, Option<Object>)| match found {
                    None => Change::create(key.clone(), "1"),
                    Some(object) => {
                        let next: u64 = str::from_utf8(&object.value).unwrap().parse().unwrap();
                        let next = Bytes::from((next + 1).to_string());
                        Change::replace(key.clone(), object.value, next)
                    }
                };
                let changes: Vec<Change> = keys.iter().zip(found).map(increment).collect();
                match store.commit(changes).await {
                    Ok(()) => keys.into_iter().for_each(|key| *done.entry(key).or_insert(0) += 1),
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::ConditionFailed { indices } if !indices.is_empty()),
                        "{error:?}"
                    ),
                }
            }
            done
        });
    }
    let mut expected = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        for (key, times) in done.unwrap() {
            *expected.entry(key).or_insert(0) += times;
        }
    }
    let objects = stores[0].scan(Scan::prefix("k/")).await.unwrap().objects;
    let found: BTreeMap<Key, u64> = objects
        .into_iter()
        .map(|it| (it.key, str::from_utf8(&it.value).unwrap().parse().unwrap()))
        .collect();
    assert_eq!(found, expected);
    no_deadlock(&server);
}

/// A key that is removed and put again while another commit waits for its lock is what a stale
/// snapshot would get wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_come_and_go_are_created_and_removed_by_one_each_time() {
    let (server, stores) = two().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&stores[task % 2]);
        tasks.spawn(async move {
            let mut dice = Dice(u64::try_from(task).unwrap());
            // How often each key was created by this task, less how often it was removed.
            let mut balance = BTreeMap::new();
            for n in 0..60 {
                let (create, remove) = (dice.roll(2) == 0, dice.roll(2) == 0);
                let keys = dice.keys(2, 3);
                let change = |key: &Key, create| {
                    if create {
                        Change::create(key.clone(), "x")
                    } else {
                        Change::replace(key.clone(), "x", None)
                    }
                };
                let entry = Key::from(format!("log/{task}/{n}").as_str());
                let changes = vec![
                    change(&keys[0], create),
                    change(&keys[1], !remove),
                    Change::create(entry, "x"),
                ];
                match store.commit(changes).await {
                    Ok(()) => {
                        *balance.entry(keys[0].clone()).or_insert(0) += if create { 1 } else { -1 };
                        *balance.entry(keys[1].clone()).or_insert(0) += if remove { -1 } else { 1 };
                        *balance.entry("log".into()).or_insert(0) += 1;
                    }
                    // So many are after so few keys that one may never get its turn.
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::ConditionFailed { .. } | ErrorKind::Conflict
                        ),
                        "{error:?}"
                    ),
                }
            }
            balance
        });
    }
    let mut balance: BTreeMap<Key, i64> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        for (key, times) in done.unwrap() {
            *balance.entry(key).or_insert(0) += times;
        }
    }
    let entries = stores[1].scan(Scan::prefix("log/").limit(usize::MAX)).await;
    let entries = i64::try_from(entries.unwrap().objects.len()).unwrap();
    assert_eq!(balance.remove(&Key::from("log")), Some(entries));
    assert!(entries > 0);
    for (key, balance) in balance {
        let found = stores[0].get(&key).await.unwrap();
        assert_eq!(i64::from(found.is_some()), balance, "{key}");
    }
    no_deadlock(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_without_conditions_never_block_each_other_for_ever_and_stay_whole() {
    let (server, stores) = two().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&stores[task % 2]);
        tasks.spawn(async move {
            let mut dice = Dice(u64::try_from(task).unwrap());
            for n in 0..40 {
                // In any order: the adapter brings them into its own.
                let value = format!("{task}/{n}");
                let keys = dice.keys(6, 6);
                let puts = keys.into_iter().map(|key| Change::put(key, value.clone()));
                store.commit(puts.collect()).await.unwrap();
                let page = store.scan(Scan::prefix("k/")).await.unwrap();
                let first = &page.objects[0].value;
                assert!(page.objects.iter().all(|it| it.value == first), "{page:?}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    no_deadlock(&server);
}
