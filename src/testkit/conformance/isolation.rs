//! What readers see while others write: each case rules out one anomaly (see the table in
//! [`conformance`](super)). Writers among themselves are tried in
//! [`concurrency`](super::concurrency).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::concurrency::{all, applied, decided};
use super::subject::{Subject, number, numbered};
use crate::kv::{Change, Key, Object, Scan};
use crate::testkit::Place;

/// How often a writer writes and a reader reads, at least; the second for stores in a wrapper.
const TIMES: (usize, usize) = (200, 50);

/// Writes on a task of its own and reads beside it, so many times at least; and reads once more
/// when all is written. `write` gets the number of its call.
async fn beside<W>(
    times: usize,
    write: impl Fn(usize) -> W + Send + 'static,
    enough: usize,
    read: impl AsyncFn(),
) where
    W: Future<Output = ()> + Send,
{
    let reads = Arc::new(AtomicUsize::new(0));
    let read_so_far = Arc::clone(&reads);
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while written < times || read_so_far.load(Ordering::SeqCst) < enough {
            write(written).await;
            written += 1;
            // Where a reader failed this task must end with the runtime.
            tokio::task::yield_now().await;
        }
    });
    loop {
        let last = writer.is_finished();
        read().await;
        reads.fetch_add(1, Ordering::SeqCst);
        if last {
            return writer.await.expect("the writer");
        }
        tokio::task::yield_now().await;
    }
}

/// Keys that change in one commit are equal in every page that holds them, in either direction.
/// Rules out: torn read, read skew within a page.
pub async fn a_page_never_shows_half_a_commit(place: &Place) {
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    let width = store.limits().commit_changes.min(place.size(20, 6));
    if store.atomic().is_none() {
        return;
    }
    let keys: Vec<Key> = (0..width).map(|n| numbered("k/", n * 2)).collect();
    let zeros = keys.iter().map(|key| Object::new(key.clone(), "0"));
    store.fill(zeros.collect()).await;
    let write = {
        let store = Arc::clone(&store);
        move |n: usize| {
            let (before, after) = (n.to_string(), Bytes::from((n + 1).to_string()));
            let changes = keys
                .iter()
                .map(|key| Change::replace(key.clone(), before.clone(), after.clone()))
                .collect();
            let store = Arc::clone(&store);
            async move {
                let applied = decided(&store, store.atomic().unwrap(), changes).await;
                assert!(applied, "{}: nobody else writes", store.name());
            }
        }
    };
    let read = async || {
        for scan in [Scan::prefix("k/"), Scan::prefix("k/").reverse()] {
            let page = store.page(&scan).await;
            let first = &page.objects.first().expect("the keys are there").value;
            assert!(
                page.objects.len() == width && page.objects.iter().all(|o| o.value == first),
                "{}: a page shows half a commit: {page:?}",
                store.name()
            );
        }
    };
    beside(times, write, times, read).await;
}

/// A key that moves from one place to another in one commit is in exactly one place in every
/// page. Rules out: phantoms within a page.
pub async fn a_page_shows_a_moved_key_once(place: &Place) {
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    if store.atomic().is_none() {
        return;
    }
    store.put(numbered("k/", 0), "x").await;
    let write = {
        let store = Arc::clone(&store);
        move |n: usize| {
            let store = Arc::clone(&store);
            async move {
                let changes = vec![
                    Change::replace(numbered("k/", n % 7), "x", None),
                    Change::create(numbered("k/", (n + 1) % 7), "x"),
                ];
                let applied = decided(&store, store.atomic().unwrap(), changes).await;
                assert!(applied, "{}: nobody else writes", store.name());
            }
        }
    };
    let read = async || {
        let page = store.page(&Scan::prefix("k/")).await;
        let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
        let name = store.name();
        assert_eq!(
            keys.len(),
            1,
            "{name}: one key that moves stands at {keys:?}"
        );
    };
    beside(times, write, times, read).await;
}

/// While tasks move amounts between accounts, the sum is the same in every page. Rules out:
/// partial application.
pub async fn transfers_keep_the_sum(place: &Place) {
    const ACCOUNTS: usize = 8;
    const TASKS: usize = 4;
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    if store.atomic().is_none() {
        return;
    }
    let accounts = (0..ACCOUNTS).map(|n| Object::new(numbered("k/", n), "100000"));
    store.fill(accounts.collect()).await;
    let write = {
        let store = Arc::clone(&store);
        move |n: usize| {
            let store = Arc::clone(&store);
            async move {
                let tasks = (0..TASKS).map(|task| {
                    let from = numbered("k/", (task + n) % ACCOUNTS);
                    let to = numbered("k/", (task + n + 1 + n % 3) % ACCOUNTS);
                    let store = Arc::clone(&store);
                    async move { transfer(&store, &from, &to).await }
                });
                all(tasks.collect::<Vec<_>>()).await;
            }
        }
    };
    let read = async || {
        let page = store.page(&Scan::prefix("k/")).await;
        let sum: u64 = page.objects.iter().map(|o| number(&o.value)).sum();
        let name = store.name();
        assert_eq!(
            sum, 800_000,
            "{name}: amounts appeared or vanished: {page:?}"
        );
    };
    beside(times, write, times, read).await;
}

/// Moves 1 from one account to another, with compare and swap.
async fn transfer(store: &Subject, from: &Key, to: &Key) {
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
pub async fn a_failed_commit_is_never_seen(place: &Place) {
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    if store.atomic().is_none() {
        return;
    }
    let write = {
        let store = Arc::clone(&store);
        move |_| {
            let store = Arc::clone(&store);
            async move {
                let changes = vec![Change::put("a", "dirty"), Change::check("absent", "1")];
                let applied = decided(&store, store.atomic().unwrap(), changes).await;
                assert!(!applied, "{}: what was checked is not there", store.name());
            }
        }
    };
    let read = async || {
        let seen = store.value("a").await;
        assert_eq!(
            seen,
            None,
            "{}: a commit that failed was seen",
            store.name()
        );
    };
    beside(times, write, times, read).await;
}

/// What was acknowledged to one task is seen by every read that another begins afterwards.
/// Rules out: stale read.
pub async fn an_acknowledged_write_is_seen_by_all(place: &Place) {
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let write = {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        move |n: usize| {
            let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
            async move {
                store.put(numbered("k/", n + 1), "x").await;
                acknowledged.store(n + 1, Ordering::SeqCst);
            }
        }
    };
    let read = async || {
        let n = acknowledged.load(Ordering::SeqCst);
        if n > 0 {
            let (name, key) = (store.name(), numbered("k/", n));
            let seen = store.value(key.clone()).await;
            assert!(
                seen.is_some(),
                "{name}: {key} was acknowledged, and get finds nothing"
            );
            let page = store.page(&Scan::prefix("k/").reverse().limit(1)).await;
            let last = page.objects.first().map(|object| &object.key);
            assert!(
                last >= Some(&key),
                "{name}: {key} was acknowledged, and the last is {last:?}"
            );
        }
    };
    beside(times, write, times, read).await;
}

/// A walk while others write sees every key that was there throughout, once, in order. Rules
/// out: skipped and repeated keys.
pub async fn a_walk_during_writes_misses_nothing(place: &Place) {
    let store = Subject::shared(place).await;
    let times = place.size(TIMES.0, TIMES.1);
    let stay: Vec<Object> = (0..500)
        .map(|n| Object::new(numbered("k/", n * 2), "stay"))
        .collect();
    store.fill(stay.clone()).await;
    let write = {
        let store = Arc::clone(&store);
        move |n: usize| {
            let store = Arc::clone(&store);
            async move {
                let odd = numbered("k/", (n * 14 + 1) % 1000);
                store.put(odd.clone(), "pass").await;
                store.discard(odd, "pass").await;
            }
        }
    };
    let read = async || {
        let mut found = store.walk(Scan::prefix("k/").limit(9)).await;
        found.retain(|object| object.value != "pass");
        store.same(&found, &stay, "walked while others wrote");
    };
    beside(times, write, times / 10, read).await;
}
