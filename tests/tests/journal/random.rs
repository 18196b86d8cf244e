//! Random commits, and a store that dies again and again: what is there is what the reference
//! store has.
//!
//! A failure prints the shortest sequence that was found and saves its seed under
//! `proptest-regressions/`; commit that file.

use bytes::Bytes;
use kvjob::kv::wrap::{Faulty, Journaled, Odds};
use kvjob::kv::{Atomic as _, Change, ErrorKind, Expect, Key, Object, Store as _};
use kvjob_tests::FiveMethods;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use super::below::{Fate, Plan};
use super::{RESERVED, after, content, journal, records};

const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/journal.txt"
);

/// One opening of the store: the commits, and the write at which it dies.
#[derive(Clone, Debug)]
struct Session {
    commits: Vec<Vec<Draft>>,
    plan: Plan,
}

/// A change; it may expect what is there.
#[derive(Clone, Debug)]
struct Draft {
    key: Key,
    before: Option<Expect>,
    after: Option<Bytes>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let value = || select(&["", "1", "2", "22"][..]).prop_map(Bytes::from);
    let before = prop_oneof![
        3 => Just(None),
        3 => Just(Some(Expect::Any)),
        1 => Just(Some(Expect::Absent)),
        1 => value().prop_map(|value| Some(Expect::Value(value))),
    ];
    let keys = &["a", "aa", "b", "\u{10ffff}"][..];
    (
        select(keys).prop_map(Key::from),
        before,
        prop::option::of(value()),
    )
        .prop_map(|(key, before, after)| Draft { key, before, after })
}

fn session() -> impl Strategy<Value = Session> {
    let fates = &[Fate::Fails, Fate::LostBefore, Fate::LostAfter, Fate::Panics][..];
    let plan = (0..40usize, select(fates), prop::bool::weighted(0.8))
        .prop_map(|(at, fate, dies)| Plan { at, fate, dies });
    (vec(vec(draft(), 0..5), 0..6), plan).prop_map(|(commits, plan)| Session { commits, plan })
}

/// The changes of a draft where this is stored.
fn fill_in(stored: &[Object], drafts: &[Draft]) -> Vec<Change> {
    let changes = drafts.iter().map(|draft| {
        let there = stored.iter().rfind(|object| object.key == draft.key);
        let current = || there.map_or(Expect::Any, |object| Expect::Value(object.value.clone()));
        Change {
            key: draft.key.clone(),
            before: draft.before.clone().unwrap_or_else(current),
            after: draft.after.clone(),
        }
    });
    changes.collect()
}

async fn run(data: FiveMethods, sessions: &[Session]) -> Result<(), TestCaseError> {
    let mut stored = Vec::new();
    for session in sessions {
        let (store, _) = journal(&data, Some(session.plan));
        for drafts in &session.commits {
            let commit = fill_in(&stored, drafts);
            let expected = after(data.unique_keys(), &stored, commit.clone()).await;
            match (store.commit(commit.clone()).await, expected) {
                (Ok(()), Ok(next)) => stored = next,
                (Ok(()), Err(error)) => {
                    prop_assert!(false, "{:?} went through instead of {}", commit, error);
                }
                (Err(error), expected) if error.maybe_applied() => {
                    // It may be finished when the store is opened again, and is whole then.
                    let (again, _) = journal(&data, None);
                    again.start().await.unwrap();
                    let found = content(&*again).await.unwrap();
                    let whole = found == stored || expected.is_ok_and(|next| next == found);
                    prop_assert!(whole, "{:?} left {:?}", commit, found);
                    stored = found;
                }
                (Err(error), Err(expected)) if error.kind() == expected.kind() => {}
                (Err(error), _) => {
                    let died = matches!(error.kind(), ErrorKind::Closed | ErrorKind::Backend);
                    prop_assert!(died, "{:?} failed with {:?}", commit, error);
                }
            }
        }
        drop(store);
        let (again, _) = journal(&data, None);
        again.start().await.unwrap();
        prop_assert_eq!(&content(&*again).await.unwrap(), &stored);
        prop_assert!(records(&data).await.is_empty());
    }
    Ok(())
}

fn fresh(unique_keys: bool) -> FiveMethods {
    if unique_keys {
        FiveMethods::unique()
    } else {
        FiveMethods::bag()
    }
}

/// Tries random values, under a clock that stands still unless all wait for it.
fn try_random<T: Strategy, F>(values: T, test: impl Fn(T::Value) -> F)
where
    F: Future<Output = Result<(), TestCaseError>>,
{
    let config = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let tried = TestRunner::new(config).run(&values, |value| runtime.block_on(test(value)));
    tried.unwrap();
}

#[test]
fn what_random_commits_leave_is_what_was_acknowledged() {
    let sequences = (any::<bool>(), vec(session(), 1..5));
    try_random(sequences, |(unique_keys, sessions)| async move {
        run(fresh(unique_keys), &sessions).await
    });
}

/// How often the store below fails by itself: so that every commit meets a fault or two, and none
/// meets too many.
const ODDS: Odds = Odds {
    late: 100,
    transient: 60,
    conflict: 0,
    broken: 60,
    lost_before: 60,
    lost_after: 60,
};

/// A journal over this data that has been started in spite of its faults.
async fn open_over_faults(
    data: &FiveMethods,
    seed: u64,
) -> Result<Journaled<Faulty<FiveMethods>>, TestCaseError> {
    let below = Faulty::new(data.clone(), seed);
    let store = Journaled::new(below.on_reads(ODDS).on_writes(ODDS));
    while let Err(error) = store.start().await {
        prop_assert_ne!(error.kind(), &ErrorKind::Closed, "{:?}", error);
    }
    Ok(store)
}

async fn run_over_faults(
    data: FiveMethods,
    mut seed: u64,
    commits: &[Vec<Draft>],
) -> Result<(), TestCaseError> {
    let mut store = open_over_faults(&data, seed).await?;
    let mut stored = Vec::new();
    for drafts in commits {
        let commit = fill_in(&stored, drafts);
        let expected = after(data.unique_keys(), &stored, commit.clone()).await;
        match (store.commit(commit.clone()).await, expected) {
            (Ok(()), Ok(next)) => stored = next,
            (Ok(()), Err(error)) => {
                prop_assert!(false, "{:?} went through instead of {}", commit, error);
            }
            (Err(error), expected) if error.maybe_applied() => {
                // It may have closed the store. Opened again, that is whole.
                let (again, _) = journal(&data, None);
                again.start().await.unwrap();
                let found = content(&*again).await.unwrap();
                let whole = found == stored || expected.is_ok_and(|next| next == found);
                prop_assert!(whole, "{:?} left {:?}", commit, found);
                stored = found;
                seed = seed.wrapping_add(1);
                store = open_over_faults(&data, seed).await?;
            }
            (Err(error), _) => {
                prop_assert_ne!(error.kind(), &ErrorKind::Closed, "{:?}", error);
            }
        }
        // Read from below, where nothing fails.
        let mut found = content(&data).await.unwrap();
        found.retain(|object| !object.key.as_bytes().starts_with(RESERVED));
        prop_assert_eq!(&found, &stored);
    }
    prop_assert!(records(&data).await.is_empty());
    Ok(())
}

#[test]
fn commits_over_a_store_that_fails_are_whole_or_absent() {
    let sequences = (any::<bool>(), any::<u64>(), vec(vec(draft(), 0..5), 0..20));
    try_random(sequences, |(unique_keys, seed, commits)| async move {
        run_over_faults(fresh(unique_keys), seed, &commits).await
    });
}
