//! A store that fails on purpose fails as it was told, and as the contract allows.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use kvjob::kv::wrap::{Fault, Faulty, Odds};
use kvjob::kv::{Atomic as _, Change, ErrorKind, Key, Memory, Object, Result, Scan, Store};
use kvjob::testkit::Factory;

struct Under;

impl Factory for Under {
    type Store = Faulty<Memory>;

    async fn open(&self) -> Self::Store {
        Faulty::new(Memory::new(), 0)
    }
}

mod conformance {
    use super::*;
    kvjob::testkit::conformance!(Under);
}

const ODDS: Odds = Odds {
    late: 50,
    transient: 100,
    conflict: 100,
    broken: 100,
    lost_before: 100,
    lost_after: 100,
};

fn kind<T>(outcome: Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind().clone())
}

#[tokio::test]
async fn a_script_is_followed() {
    let store = Faulty::new(Memory::new(), 0);
    let told = [
        (Fault::Transient, Some(ErrorKind::Transient), false),
        (Fault::Conflict, Some(ErrorKind::Conflict), false),
        (Fault::Broken, Some(ErrorKind::Backend), false),
        (Fault::LostBefore, Some(ErrorKind::Unknown), false),
        (Fault::LostAfter, Some(ErrorKind::Unknown), true),
        (Fault::None, None, true),
    ];
    for (fault, expected, made) in told {
        store.delete(&Key::EMPTY).await.unwrap();
        store.next_writes([fault]);
        let commit = vec![Change::put("a", "1"), Change::put("b", "1")];
        assert_eq!(kind(store.commit(commit).await), expected, "{fault:?}");
        assert_eq!(
            store.get(&"b".into()).await.unwrap().is_some(),
            made,
            "{fault:?}"
        );
    }
    assert!(store.is_done());
    assert_eq!(store.commits(), [2; 6]);
    store.next_writes([Fault::ConditionFailed]);
    let failed = store
        .commit(vec![Change::put("a", "1"), Change::put("b", "1")])
        .await;
    let indices = vec![0, 1];
    assert_eq!(kind(failed), Some(ErrorKind::ConditionFailed { indices }));
    store.next_reads([Fault::Broken]);
    assert_eq!(kind(store.get(&"a".into()).await), Some(ErrorKind::Backend));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_has_the_same_faults() {
    async fn answers(seed: u64) -> (Vec<Option<ErrorKind>>, usize) {
        let store = Faulty::new(Memory::new(), seed)
            .on_reads(ODDS)
            .on_writes(ODDS);
        let (key, object) = (Key::from("a"), Object::new("a", "1"));
        let mut answers = Vec::new();
        for _ in 0..50 {
            answers.push(kind(store.set(object.clone()).await));
            answers.push(kind(store.get(&key).await));
            answers.push(kind(store.commit(vec![Change::put("b", "1")]).await));
            answers.push(kind(store.scan(Scan::prefix("")).await));
        }
        (answers, store.met())
    }
    assert_eq!(answers(7).await, answers(7).await);
    assert_ne!(answers(7).await, answers(8).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_by_chance_only_as_its_kind_may() {
    let store = Faulty::new(Memory::new(), 3).on_reads(ODDS).on_writes(ODDS);
    let (mut reads, mut writes, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let begun = tokio::time::Instant::now();
    for _ in 0..2_000 {
        reads.extend(kind(store.get(&"a".into()).await));
        writes.extend(kind(store.remove(&Object::new("a", "1")).await));
        commits.extend(kind(store.commit(vec![Change::put("a", "1")]).await));
    }
    let passing = [ErrorKind::Transient, ErrorKind::Backend];
    let lost = [ErrorKind::Unknown];
    let conflict = [ErrorKind::Conflict];
    for (told, allowed) in [
        (&reads, passing.to_vec()),
        (&writes, [&passing[..], &lost].concat()),
        (&commits, [&passing[..], &lost, &conflict].concat()),
    ] {
        assert!(told.iter().all(|kind| allowed.contains(kind)));
        // Of 2000 calls every kind has at least 100 in 1000, give or take.
        for kind in allowed {
            let count = told.iter().filter(|told| **told == kind).count();
            assert!((100..600).contains(&count), "{kind:?}: {count}");
        }
    }
    let late = begun.elapsed();
    assert!(
        late > Duration::from_millis(500) && late < Duration::from_secs(10),
        "{late:?}"
    );
}
