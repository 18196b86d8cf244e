//! What readers see while others write: each case rules out one anomaly (see the table in
//! [`conformance`](super)). Writers among themselves are tried in
//! [`concurrency`](super::concurrency).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::concurrency::{all, applied, decided};
use super::subject::{Subject, number, numbered};
use crate::kv::{Change, Key, Object, Scan, Store};
use crate::testkit::Factory;

/// Keeps reading until the writer is done, and at least once.
struct Reading(Arc<AtomicBool>);

impl Reading {
    fn begin() -> (Self, Arc<AtomicBool>) {
        let done = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&done)), done)
    }

    /// Runs `read` until the flag was up before it began.
    async fn on(self, read: impl AsyncFn()) {
        loop {
            let last = self.0.load(Ordering::SeqCst);
            read().await;
            if last {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Two keys that change in one commit are equal in every page that holds both, and so are the
/// answers of one page in both directions. Rules out: torn read, read skew within a page.
pub async fn a_page_never_shows_half_a_commit<F: Factory>(factory: &F) {
    const COMMITS: usize = 300;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    let between = (0..50).map(|n| Object::new(numbered("k/m", n), "x"));
    store.fill(between.collect()).await;
    store.put("k/a", "0").await;
    store.put("k/z", "0").await;
    let (reading, done) = Reading::begin();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let atomic = store.atomic().unwrap();
            for n in 0..COMMITS {
                let (before, after) = (n.to_string(), Bytes::from((n + 1).to_string()));
                let changes = ["k/a", "k/z"]
                    .map(|key| Change::replace(key, before.clone(), after.clone()))
                    .to_vec();
                assert!(decided(&store, atomic, changes).await, "nobody else writes");
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    reading
        .on(async || {
            for scan in [Scan::prefix("k/"), Scan::prefix("k/").reverse()] {
                let page = store.page(&scan).await;
                let (first, last) = (page.objects.first().unwrap(), page.objects.last().unwrap());
                assert_eq!(
                    (page.objects.len(), &first.value),
                    (52, &last.value),
                    "{}: a page shows {} and {} as of different commits",
                    store.name(),
                    first.key,
                    last.key
                );
            }
        })
        .await;
    writer.await.expect("the writer");
}

/// Keys that move from one place to another in one commit are in exactly one place in every
/// page. Rules out: phantoms within a page.
pub async fn a_page_shows_a_moved_key_once<F: Factory>(factory: &F) {
    const MOVES: usize = 300;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    store.put("k/0", "x").await;
    let (reading, done) = Reading::begin();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let atomic = store.atomic().unwrap();
            for n in 0..MOVES {
                let (from, to) = (format!("k/{}", n % 7), format!("k/{}", (n + 1) % 7));
                let changes = vec![
                    Change::replace(from.into_bytes(), "x", None),
                    Change::create(to.into_bytes(), "x"),
                ];
                assert!(decided(&store, atomic, changes).await, "nobody else writes");
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    reading
        .on(async || {
            let page = store.page(&Scan::prefix("k/")).await;
            let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
            assert_eq!(
                keys.len(),
                1,
                "{}: one key that moves stands at {keys:?}",
                store.name()
            );
        })
        .await;
    writer.await.expect("the writer");
}

/// While tasks move amounts between accounts, the sum is the same in every page. Rules out:
/// partial application.
pub async fn transfers_keep_the_sum<F: Factory>(factory: &F) {
    const ACCOUNTS: usize = 8;
    const TASKS: usize = 4;
    const EACH: usize = 50;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    let accounts = (0..ACCOUNTS).map(|n| Object::new(numbered("k/", n), "1000"));
    store.fill(accounts.collect()).await;
    let (reading, done) = Reading::begin();
    let tasks = (0..TASKS).map(|task| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..EACH {
                let from = numbered("k/", (task + n) % ACCOUNTS);
                let to = numbered("k/", (task + n * 3 + 1 + n % 2) % ACCOUNTS);
                if from != to {
                    transfer(&store, &from, &to).await;
                }
            }
        }
    });
    let tasks = tokio::spawn(all(tasks.collect::<Vec<_>>()));
    let ended = tokio::spawn(async move {
        let outcome = tasks.await;
        done.store(true, Ordering::SeqCst);
        outcome.expect("the transfers");
    });
    reading
        .on(async || {
            let page = store.page(&Scan::prefix("k/")).await;
            let sum: u64 = page
                .objects
                .iter()
                .map(|object| number(&object.value))
                .sum();
            assert_eq!(
                sum,
                8000,
                "{}: amounts appeared or vanished: {page:?}",
                store.name()
            );
        })
        .await;
    ended.await.expect("the transfers");
}

/// Moves 1 from one account to another, with compare and swap.
async fn transfer<S: Store>(store: &Subject<S>, from: &Key, to: &Key) {
    let atomic = store.atomic().unwrap();
    loop {
        let less = store.value(from.clone()).await.unwrap();
        let more = store.value(to.clone()).await.unwrap();
        let lesser = Bytes::from((number(&less) - 1).to_string());
        let greater = Bytes::from((number(&more) + 1).to_string());
        let changes = vec![
            Change::replace(from.clone(), less, lesser),
            Change::replace(to.clone(), more, greater),
        ];
        if applied(store, "a transfer", atomic.commit(changes).await) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// What a commit that fails would have written is never seen, not even for a moment. Rules out:
/// dirty read.
pub async fn a_failed_commit_is_never_seen<F: Factory>(factory: &F) {
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    let (reading, done) = Reading::begin();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let atomic = store.atomic().unwrap();
            for _ in 0..200 {
                let changes = vec![Change::put("a", "dirty"), Change::check("absent", "1")];
                assert!(
                    !decided(&store, atomic, changes).await,
                    "absent is not there"
                );
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    reading
        .on(async || {
            let seen = store.value("a").await;
            assert_eq!(
                seen,
                None,
                "{}: a commit that failed was seen",
                store.name()
            );
        })
        .await;
    writer.await.expect("the writer");
}

/// What was acknowledged to one task is seen by every read that another begins afterwards.
/// Rules out: stale read.
pub async fn an_acknowledged_write_is_seen_by_all<F: Factory>(factory: &F) {
    const WRITES: u64 = 200;
    let store = Subject::shared(factory).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let key = |n: u64| numbered("k/", usize::try_from(n).unwrap());
    let (reading, done) = Reading::begin();
    let writer = {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for n in 1..=WRITES {
                store.put(key(n), "x").await;
                acknowledged.store(n, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    reading
        .on(async || {
            let n = acknowledged.load(Ordering::SeqCst);
            if n > 0 {
                let seen = store.value(key(n)).await;
                assert!(
                    seen.is_some(),
                    "{}: {} was acknowledged",
                    store.name(),
                    key(n)
                );
                let page = store.page(&Scan::prefix("k/").reverse().limit(1)).await;
                assert!(
                    page.objects[0].key >= key(n),
                    "{}: {page:?}, {n}",
                    store.name()
                );
            }
        })
        .await;
    writer.await.expect("the writer");
}

/// A walk while others write sees every key that was there throughout, once, in order. Rules
/// out: skipped and repeated keys.
pub async fn a_walk_during_writes_misses_nothing<F: Factory>(factory: &F) {
    let store = Subject::shared(factory).await;
    let stay: Vec<Object> = (0..500)
        .map(|n| Object::new(numbered("k/", n * 2), "stay"))
        .collect();
    store.fill(stay.clone()).await;
    let (reading, done) = Reading::begin();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in (1..400).step_by(2) {
                store.put(numbered("k/", (n * 7) % 1000), "pass").await;
                store.discard(numbered("k/", (n * 7) % 1000), "pass").await;
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    reading
        .on(async || {
            let mut found = store.walk(Scan::prefix("k/").limit(9)).await;
            let sorted = found.is_sorted_by(|left, right| left < right);
            assert!(sorted, "{}: a walk came out of order", store.name());
            found.retain(|object| object.value != "pass");
            store.same(&found, &stay, "walked while others wrote");
        })
        .await;
    writer.await.expect("the writer");
}
