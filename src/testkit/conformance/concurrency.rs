//! Many callers at once: each case rules out one anomaly (see the table in
//! [`conformance`](super)). Each is its own little proof: it may miss an anomaly by luck, but
//! never reports one that did not happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::Barrier;

use super::subject::{Subject, number, numbered};
use crate::kv::{Atomic, Change, Error, ErrorKind, Object, Scan, Store};
use crate::testkit::Factory;

/// Whether a commit was applied: false where its conditions failed, or the backend gave up.
fn applied<S: Store>(store: &Subject<S>, what: &str, outcome: Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) if error.is_retryable() => false,
        Err(error) if matches!(error.kind(), ErrorKind::ConditionFailed { .. }) => false,
        Err(error) => panic!("{}: {what} failed: {error:?}", store.name()),
    }
}

/// Commits until the backend orders it: true if it was applied, false if a condition failed.
async fn decided<S: Store>(store: &Subject<S>, atomic: &dyn Atomic, changes: Vec<Change>) -> bool {
    loop {
        match atomic.commit(changes.clone()).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            outcome => return applied(store, "a commit", outcome),
        }
    }
}

/// Adds one to the counter under `key`, with compare and swap.
async fn increment<S: Store>(store: &Subject<S>, key: &'static str) {
    let atomic = store.atomic().unwrap();
    loop {
        let before = store.value(key).await.unwrap();
        let after = Bytes::from((number(&before) + 1).to_string());
        let outcome = atomic
            .commit(vec![Change::replace(key, before, after)])
            .await;
        if applied(store, "an increment", outcome) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Runs tasks on the runtime's workers and hands on their panics.
async fn all<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let done = join_all(tasks).await;
    done.into_iter()
        .map(|task| task.expect("a task of the case"))
        .collect()
}

/// Eight tasks that count with compare and swap lose no increment. Rules out: lost update.
pub async fn counters_lose_no_increment<F: Factory>(factory: &F) {
    const TASKS: u64 = 8;
    const EACH: u64 = 200;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    store.put("count", "0").await;
    all((0..TASKS).map(|_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..EACH {
                increment(&store, "count").await;
            }
        }
    }))
    .await;
    let count = number(&store.value("count").await.unwrap());
    assert_eq!(
        count,
        TASKS * EACH,
        "{}: increments were lost",
        store.name()
    );
}

/// Two commits, each of which checks the key that the other writes, are never both applied.
/// Rules out: write skew.
pub async fn crossed_checks_never_both_pass<F: Factory>(factory: &F) {
    const ROUNDS: usize = 100;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    for round in 0..ROUNDS {
        let keys = ["x", "y"].map(|side| numbered(side, round));
        store.put(keys[0].clone(), "on").await;
        store.put(keys[1].clone(), "on").await;
        let together = Arc::new(Barrier::new(2));
        let sides = [(0, 1), (1, 0)].map(|(mine, other)| {
            let (store, together) = (Arc::clone(&store), Arc::clone(&together));
            let changes = vec![
                Change::check(keys[other].clone(), "on"),
                Change::replace(keys[mine].clone(), "on", Bytes::from("off")),
            ];
            async move {
                together.wait().await;
                let atomic = store.atomic().unwrap();
                decided(&store, atomic, changes).await
            }
        });
        let won = all(sides).await;
        assert!(
            won[0] != won[1],
            "{}: round {round}: of two commits that check each other's key {} were applied",
            store.name(),
            if won[0] { "both" } else { "none" },
        );
        for (mine, won) in won.into_iter().enumerate() {
            let expected = if won { "off" } else { "on" };
            assert_eq!(store.value(keys[mine].clone()).await.unwrap(), expected);
        }
    }
}

/// Of many concurrent creations of one key exactly one is applied, and it is the one that is
/// read. Rules out: duplicate creation.
pub async fn one_creation_of_a_key_wins<F: Factory>(factory: &F) {
    const ROUNDS: usize = 50;
    const TASKS: usize = 8;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    for round in 0..ROUNDS {
        let key = numbered("k/", round);
        let together = Arc::new(Barrier::new(TASKS));
        let won = all((0..TASKS).map(|task| {
            let (store, together) = (Arc::clone(&store), Arc::clone(&together));
            let changes = vec![Change::create(key.clone(), task.to_string())];
            async move {
                together.wait().await;
                decided(&store, store.atomic().unwrap(), changes).await
            }
        }))
        .await;
        let winners: Vec<usize> = (0..TASKS).filter(|task| won[*task]).collect();
        assert_eq!(
            winners.len(),
            1,
            "{}: {winners:?} all created {key}",
            store.name()
        );
        assert_eq!(store.value(key).await.unwrap(), winners[0].to_string());
    }
}

/// Takes one object of many: each is taken by exactly one of the tasks that want it. Rules out:
/// double delivery.
pub async fn an_object_is_taken_once<F: Factory>(factory: &F) {
    const OBJECTS: usize = 200;
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    let objects = (0..OBJECTS).map(|n| Object::new(numbered("k/", n), "free"));
    store.fill(objects.collect()).await;
    let taken = all((0..4).map(|_| {
        let store = Arc::clone(&store);
        async move {
            let (atomic, mut taken) = (store.atomic().unwrap(), Vec::new());
            loop {
                let page = store.page(&Scan::prefix("k/").limit(3)).await;
                if page.objects.is_empty() {
                    return taken;
                }
                for object in page.objects {
                    let take = Change::replace(object.key.clone(), object.value, None);
                    if applied(&store, "a taking", atomic.commit(vec![take]).await) {
                        taken.push(object.key);
                    }
                }
            }
        }
    }))
    .await;
    let mut taken = taken.concat();
    taken.sort();
    let expected: Vec<_> = (0..OBJECTS).map(|n| numbered("k/", n)).collect();
    assert_eq!(taken, expected, "{}: taken twice or never", store.name());
}

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
async fn transfer<S: Store>(store: &Subject<S>, from: &crate::kv::Key, to: &crate::kv::Key) {
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

/// Concurrent sets of different keys all stay. Rules out: lost write.
pub async fn concurrent_sets_all_stay<F: Factory>(factory: &F) {
    let store = Subject::shared(factory).await;
    all((0..8).map(|task| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..50 {
                store
                    .put(numbered("k/", task * 50 + n), task.to_string())
                    .await;
            }
        }
    }))
    .await;
    let expected: Vec<_> = (0..400)
        .map(|n| (numbered("k/", n), (n / 50).to_string()))
        .collect();
    store.holds(&expected, "after concurrent sets").await;
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

/// `commit_all` called by many at once answers each caller with its own outcomes. Rules out:
/// mixed-up answers.
pub async fn concurrent_commit_all_keeps_answers_apart<F: Factory>(factory: &F) {
    let store = Subject::shared(factory).await;
    if store.atomic().is_none() {
        return;
    }
    all((0..4).map(|task| {
        let store = Arc::clone(&store);
        async move {
            let atomic = store.atomic().unwrap();
            for round in 0..25 {
                let key = numbered(&format!("{task}/"), round);
                let create = vec![Change::create(key, "1")];
                let fails = vec![Change::check("absent", "1")];
                let commits = if (task + round) % 2 == 0 {
                    vec![create.clone(), fails, create]
                } else {
                    vec![fails, create.clone(), create]
                };
                let outcomes = atomic.commit_all(commits).await;
                let told: Vec<bool> = outcomes
                    .into_iter()
                    .map(|outcome| applied(&store, "one of commit_all", outcome))
                    .collect();
                let even = (task + round) % 2 == 0;
                assert_eq!(
                    told,
                    [even, !even, false],
                    "{}: {task}, {round}",
                    store.name()
                );
            }
        }
    }))
    .await;
}
