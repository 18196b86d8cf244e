//! A store whose files other processes have open, too.

use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::future::join_all;

use super::engine::{Fault, shared_store};
use super::{create, kind, put, send};
use crate::kv::{
    Atomic, Change, Durability, ErrorKind, Event, Key, Object, Ownership, Store, Watch,
};

#[tokio::test]
async fn it_says_that_it_is_shared() {
    let (store, _control) = shared_store(Durability::Immediate);
    assert_eq!(store.ownership(), Ownership::Shared);
}

#[tokio::test]
async fn commits_that_wait_share_one_transaction_and_each_has_its_own_outcome() {
    let (store, control) = shared_store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let rest = send([
        store.commit(create("b", "1")),
        store.commit(create("b", "2")),
        store.commit(vec![Change::replace("b", "1", Some("3".into()))]),
    ]);
    drop(gate);
    for outcome in join_all(first).await {
        outcome.unwrap();
    }
    let [created, twice, replaced] = join_all(rest).await.try_into().unwrap();
    created.unwrap();
    let indices = vec![0];
    assert_eq!(kind(twice), ErrorKind::ConditionFailed { indices });
    replaced.unwrap();
    assert_eq!(control.objects().get(&Key::from("b")).unwrap(), "3");
    assert_eq!(control.applied(), [(0, true), (0, true)]);
}

#[tokio::test]
async fn conditions_are_checked_inside_the_transaction() {
    let (store, control) = shared_store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let commit = send([store.commit(create("a", "ours"))]);
    gate.arrival().await;
    // Somebody else's transaction was before ours.
    control.objects().insert("a".into(), "theirs".into());
    drop(gate);
    let [outcome] = join_all(commit).await.try_into().unwrap();
    let indices = vec![0];
    assert_eq!(kind(outcome), ErrorKind::ConditionFailed { indices });
    assert_eq!(control.objects().get(&Key::from("a")).unwrap(), "theirs");
}

#[tokio::test]
async fn a_conflict_is_the_whole_groups_and_nobody_waits_for_it_again() {
    let (store, control) = shared_store(Durability::Immediate);
    control.next_applies([Some(Fault::Fail(ErrorKind::Conflict))]);
    let outcomes = store.commit_all(vec![put("a", "1"), put("b", "1"), put("c", "1")]);
    for outcome in outcomes.await {
        assert_eq!(kind(outcome), ErrorKind::Conflict);
    }
    assert_eq!(control.transactions.load(Ordering::Relaxed), 1);
    store.commit(put("a", "1")).await.unwrap();
}

#[tokio::test]
async fn it_syncs_as_often_as_its_durability_says() {
    let (store, control) = shared_store(Durability::Memory);
    store.commit(put("a", "1")).await.unwrap();
    store.with_transaction(|_| Ok(())).await.unwrap();
    assert_eq!(control.applied(), [(0, false), (0, true)]);
}

#[tokio::test]
async fn whoever_watches_hears_that_others_wrote_and_nobody_else_is_looked_for() {
    let (store, control) = shared_store(Durability::Memory);
    control.others_wrote.store(true, Ordering::Relaxed);
    store.set(Object::new("a", "1")).await.unwrap();
    assert_eq!(control.asked.load(Ordering::Relaxed), 0, "nobody watches");
    let mut heard = Watch::watch(&store, &Key::from("a")).await.unwrap();
    store.set(Object::new("a", "2")).await.unwrap();
    // What was written before is of no interest.
    assert_eq!(heard.next().await, Some(Event::Changed("a".into())));
    for _ in 0..2 {
        control.others_wrote.store(true, Ordering::Relaxed);
        assert_eq!(heard.next().await, Some(Event::Lagged));
    }
    drop(heard);
    let heard = Watch::watch(&store, &Key::from("b")).await.unwrap();
    control.others_wrote.store(true, Ordering::Relaxed);
    let heard: Vec<_> = heard.take(1).collect().await;
    assert_eq!(heard, [Event::Lagged]);
}
