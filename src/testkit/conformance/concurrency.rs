//! Many callers who write at once: each case rules out one anomaly (see the table in
//! [`conformance`](super)). A case may miss an anomaly by luck, but never reports one that did
//! not happen. What readers see meanwhile is tried in [`isolation`](super::isolation).

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::Barrier;

use super::subject::{Subject, number, numbered};
use crate::kv::{Atomic, Change, Error, ErrorKind, Object, Scan};
use crate::testkit::Place;

/// Whether a commit was applied: false where its conditions failed, or the backend gave up.
pub(super) fn applied(store: &Subject, what: &str, outcome: Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) if error.is_retryable() => false,
        Err(error) if matches!(error.kind(), ErrorKind::ConditionFailed { .. }) => false,
        Err(error) => panic!("{}: {what} failed: {error:?}", store.name()),
    }
}

/// Commits until the backend orders it: true if it was applied, false if a condition failed.
pub(super) async fn decided(store: &Subject, atomic: &dyn Atomic, changes: Vec<Change>) -> bool {
    loop {
        match atomic.commit(changes.clone()).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            outcome => return applied(store, "a commit", outcome),
        }
    }
}

/// Adds one to the counter under `key`, with compare and swap.
async fn increment(store: &Subject, key: &'static str) {
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
pub(super) async fn all<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let done = join_all(tasks).await;
    done.into_iter()
        .map(|task| task.expect("a task of the case"))
        .collect()
}

/// Eight tasks that count with compare and swap lose no increment. Rules out: lost update.
pub async fn counters_lose_no_increment(place: &Place) {
    const TASKS: usize = 8;
    let each = place.size(200, 50);
    let store = Subject::shared(place).await;
    if store.atomic().is_none() {
        return;
    }
    store.put("count", "0").await;
    all((0..TASKS).map(|_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..each {
                increment(&store, "count").await;
            }
        }
    }))
    .await;
    let count = store.value("count").await.unwrap();
    assert_eq!(
        count,
        (TASKS * each).to_string(),
        "{}: increments were lost",
        store.name()
    );
}

/// Two commits, each of which checks the key that the other writes, are never both applied.
/// Rules out: write skew.
pub async fn crossed_checks_never_both_pass(place: &Place) {
    let rounds = place.size(100, 25);
    let store = Subject::shared(place).await;
    if store.atomic().is_none() {
        return;
    }
    for round in 0..rounds {
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
pub async fn one_creation_of_a_key_wins(place: &Place) {
    const TASKS: usize = 8;
    let rounds = place.size(50, 15);
    let store = Subject::shared(place).await;
    if store.atomic().is_none() {
        return;
    }
    for round in 0..rounds {
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
pub async fn an_object_is_taken_once(place: &Place) {
    let count = place.size(200, 50);
    let store = Subject::shared(place).await;
    if store.atomic().is_none() {
        return;
    }
    let objects = (0..count).map(|n| Object::new(numbered("k/", n), "free"));
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
    let expected: Vec<_> = (0..count).map(|n| numbered("k/", n)).collect();
    assert_eq!(taken, expected, "{}: taken twice or never", store.name());
}

/// Concurrent sets of different keys all stay. Rules out: lost write.
pub async fn concurrent_sets_all_stay(place: &Place) {
    let store = Subject::shared(place).await;
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

/// Values that are set under one key at once all stay on a bag; where keys are unique one of
/// them does, whole. Rules out: lost write.
pub async fn concurrent_values_all_stay(place: &Place) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    let store = Subject::shared(place).await;
    all((0..TASKS).map(|task| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..EACH {
                let value = numbered("", task * EACH + n).into_bytes();
                store.put("k", value).await;
            }
        }
    }))
    .await;
    let found = store.walk(Scan::prefix("")).await;
    let set: Vec<Object> = (0..TASKS * EACH)
        .map(|n| Object::new("k", numbered("", n).into_bytes()))
        .collect();
    if store.unique_keys() {
        let name = store.name();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(set.contains(&found[0]), "{name}: {found:?}");
    } else {
        store.same(&found, &set, "after concurrent sets of one key");
    }
}

/// `commit_all` called by many at once answers each caller with its own outcomes. Rules out:
/// mixed-up answers.
pub async fn concurrent_commit_all_keeps_answers_apart(place: &Place) {
    let store = Subject::shared(place).await;
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
