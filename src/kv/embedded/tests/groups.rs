//! Which commits share a group, and what each of them is told.

use futures::future::join_all;

use super::engine::{Fault, LIMITS, store};
use super::{create, kind, put, send};
use crate::kv::{Atomic, Change, Durability, ErrorKind, Event, Key, Object, Store, Watch};
use futures::StreamExt as _;

#[tokio::test]
async fn commits_that_wait_share_one_transaction() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let rest = send([
        store.commit(put("b", "1")),
        store.commit(put("c", "1")),
        store.commit(put("d", "1")),
    ]);
    drop(gate);
    for outcome in join_all(first.into_iter().chain(rest)).await {
        outcome.unwrap();
    }
    assert_eq!(control.applied(), [(1, true), (3, true)]);
}

#[tokio::test]
async fn a_commit_that_fails_its_conditions_fails_alone_with_all_positions() {
    let (store, control) = store(Durability::Immediate);
    store.commit(put("there", "1")).await.unwrap();
    let wrong = vec![
        Change::create("there", "2"),
        Change::put("free", "1"),
        Change::replace("missing", "x", None),
    ];
    let outcomes = store
        .commit_all(vec![create("a", "1"), wrong, create("b", "1")])
        .await;
    let [first, wrong, last] = outcomes.try_into().unwrap();
    first.unwrap();
    last.unwrap();
    let indices = vec![0, 2];
    assert_eq!(kind(wrong), ErrorKind::ConditionFailed { indices });
    assert!(!control.objects().contains_key(&Key::from("free")));
}

#[tokio::test]
async fn of_two_that_create_the_same_key_in_one_group_one_wins() {
    let (store, control) = store(Durability::Immediate);
    let outcomes = store
        .commit_all(vec![create("a", "first"), create("a", "second")])
        .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(control.objects().get(&Key::from("a")).unwrap(), "first");
}

#[tokio::test]
async fn a_group_is_bounded_by_commits_and_by_bytes() {
    let (store, control) = store(Durability::Immediate);
    let many = (0..600u32).map(|n| vec![Change::put(n.to_be_bytes().as_slice(), "")]);
    let mut gate = control.hold_applies();
    let _blocks = send([store.commit(put("first", ""))]);
    gate.arrival().await;
    let many: Vec<_> = many.map(|changes| store.commit(changes)).collect();
    let many = send(many);
    let large = vec![0u8; 700 << 10];
    let large = send([
        store.commit(vec![Change::put("l1", large.clone())]),
        store.commit(vec![Change::put("l2", large)]),
    ]);
    drop(gate);
    for outcome in join_all(many.into_iter().chain(large)).await {
        outcome.unwrap();
    }
    let sizes: Vec<usize> = control
        .applied()
        .iter()
        .map(|(writes, _)| *writes)
        .collect();
    assert_eq!(sizes, [1, 256, 256, 89, 1]);
}

#[tokio::test]
async fn more_commits_than_may_wait_all_come_through_in_order() {
    let (store, control) = store(Durability::Memory);
    let commits = (0..5000u32).map(|n| {
        let before = n.checked_sub(1).map(|before| before.to_string());
        vec![match before {
            None => Change::create("n", "0"),
            Some(before) => Change::replace("n", before, Some(n.to_string().into())),
        }]
    });
    for outcome in store.commit_all(commits.collect()).await {
        outcome.unwrap();
    }
    assert_eq!(control.objects().get(&Key::from("n")).unwrap(), "4999");
}

#[tokio::test]
async fn a_group_that_fails_is_tried_commit_by_commit() {
    let (store, control) = store(Durability::Immediate);
    let too_large = ErrorKind::TooLarge {
        what: "map",
        limit: 1,
    };
    control.poisonous("bad", too_large.clone());
    // The third would be refused because of the second, which in the end is not there.
    let commits = vec![
        create("a", "1"),
        create("b", "bad"),
        create("b", "good"),
        create("c", "1"),
    ];
    let outcomes = store.commit_all(commits).await;
    let [a, bad, good, c] = outcomes.try_into().unwrap();
    a.unwrap();
    assert_eq!(kind(bad), too_large);
    good.unwrap();
    c.unwrap();
    assert_eq!(control.objects().get(&Key::from("b")).unwrap(), "good");
    store.commit(create("d", "1")).await.unwrap();
}

#[tokio::test]
async fn a_passing_fault_of_a_group_costs_nobody_anything() {
    let (store, control) = store(Durability::Immediate);
    control.next_applies([Some(Fault::Fail(ErrorKind::Transient))]);
    for outcome in store.commit_all(vec![put("a", "1"), put("b", "1")]).await {
        outcome.unwrap();
    }
    assert_eq!(control.applied(), [(1, true), (1, true)]);
}

#[tokio::test]
async fn checks_and_failed_commits_do_not_touch_the_disk() {
    let (store, control) = store(Durability::Immediate);
    store.commit(put("a", "1")).await.unwrap();
    store.commit(vec![Change::check("a", "1")]).await.unwrap();
    store
        .commit(vec![Change::check("a", "2")])
        .await
        .unwrap_err();
    store.commit(Vec::new()).await.unwrap();
    assert_eq!(control.applied().len(), 1);
}

#[tokio::test]
async fn a_deletion_keeps_its_place_among_the_commits() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a/before", "1"))]);
    gate.arrival().await;
    let before = send([store.commit(put("a/also before", "1"))]);
    let prefix = Key::from("a/");
    let deletion = send([store.delete(&prefix)]);
    let after = send([store.commit(create("a/after", "1"))]);
    drop(gate);
    let all = first.into_iter().chain(before);
    for outcome in join_all(all).await {
        outcome.unwrap();
    }
    join_all(deletion).await.pop().unwrap().unwrap();
    join_all(after).await.pop().unwrap().unwrap();
    let left: Vec<Key> = control.objects().keys().cloned().collect();
    assert_eq!(left, [Key::from("a/after")]);
}

#[tokio::test]
async fn a_commit_whose_caller_went_away_is_carried_out() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let second = send([store.commit(put("b", "1"))]);
    drop((first, second, gate));
    store.stop().await.unwrap();
    assert_eq!(control.objects().len(), 2);
}

#[tokio::test]
async fn what_no_store_may_accept_reaches_no_group() {
    let (store, control) = store(Durability::Immediate);
    let twice = vec![Change::put("a", "1"), Change::remove("a")];
    let huge = vec![Change::put("a", vec![0; LIMITS.value_bytes + 1])];
    let outcomes = store.commit_all(vec![twice, put("b", "1"), huge]).await;
    let [twice, fine, huge] = outcomes.try_into().unwrap();
    assert_eq!(kind(twice), ErrorKind::InvalidKey);
    fine.unwrap();
    assert!(matches!(kind(huge), ErrorKind::TooLarge { .. }));
    assert_eq!(control.applied(), [(1, true)]);
}

#[tokio::test]
async fn watchers_hear_of_puts_under_their_prefix_and_of_nothing_that_failed() {
    let (store, _control) = store(Durability::Immediate);
    let mut heard = Watch::watch(&store, &Key::from("a/")).await.unwrap();
    store.commit(put("b/1", "1")).await.unwrap();
    store
        .commit(vec![Change::check("a/0", "no")])
        .await
        .unwrap_err();
    store.remove(&Object::new("a/1", "")).await.unwrap();
    store.set(Object::new("a/2", "1")).await.unwrap();
    store.commit(put("a/3", "1")).await.unwrap();
    store.stop().await.unwrap();
    let changed = |key: &str| Event::Changed(Key::from(key));
    assert_eq!(heard.next().await, Some(changed("a/2")));
    assert_eq!(heard.next().await, Some(changed("a/3")));
    assert_eq!(heard.next().await, None, "it ends when the store closes");
}
