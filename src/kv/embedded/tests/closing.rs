//! How a store ends: stopped, dropped, or by itself after a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;

use super::engine::{Fault, store};
use super::{kind, put, send};
use crate::kv::{
    Atomic, Durability, Embedded, ErrorKind, FileLock, Key, Object, Options, Scan, Store, Watch,
};

#[tokio::test]
async fn stop_finishes_what_was_sent_and_lets_go() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let second = send([store.commit(put("b", "1"))]);
    let stop = send([store.stop()]);
    assert_eq!(kind(store.commit(put("c", "1")).await), ErrorKind::Closed);
    drop(gate);
    for outcome in join_all(stop).await {
        outcome.unwrap();
    }
    for outcome in join_all(first.into_iter().chain(second)).await {
        outcome.unwrap();
    }
    assert_eq!(Arc::strong_count(&control), 1, "the engine was let go of");
    store.stop().await.unwrap();
}

#[tokio::test]
async fn after_stop_every_call_answers_closed() {
    let (store, _control) = store(Durability::Immediate);
    store.stop().await.unwrap();
    let object = Object::new("a", "1");
    let key = Key::from("a");
    let closed = |error: crate::kv::Error| {
        assert_eq!(error.kind(), &ErrorKind::Closed);
        assert!(error.to_string().contains("fake: the store was stopped"));
    };
    closed(store.set(object.clone()).await.unwrap_err());
    closed(store.get(&key).await.unwrap_err());
    closed(
        store
            .get_many(std::slice::from_ref(&key))
            .await
            .unwrap_err(),
    );
    closed(store.scan(Scan::prefix("")).await.unwrap_err());
    closed(store.scan(Scan::prefix("").limit(9999)).await.unwrap_err());
    closed(store.scan_many(vec![Scan::prefix("")]).await.unwrap_err());
    closed(store.remove(&object).await.unwrap_err());
    closed(store.delete(&key).await.unwrap_err());
    closed(store.commit(put("a", "1")).await.unwrap_err());
    for outcome in store.commit_all(vec![put("a", "1"), put("b", "1")]).await {
        closed(outcome.unwrap_err());
    }
    closed(Watch::watch(&store, &key).await.err().unwrap());
    closed(store.health().await.unwrap_err());
    closed(store.with_transaction(|_| Ok(())).await.unwrap_err());
}

#[tokio::test]
async fn stop_waits_for_a_long_scan_and_holds_no_thread_meanwhile() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_scans();
    let store = Arc::new(store);
    let scans = Arc::clone(&store);
    let scan = tokio::spawn(async move { scans.scan(Scan::prefix("").limit(9999)).await });
    gate.arrival().await;
    let stop = send([store.stop()]);
    drop(gate);
    scan.await.unwrap().unwrap();
    join_all(stop).await.pop().unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_what_was_sent_and_lets_go() {
    let (store, control) = store(Durability::Interval(std::time::Duration::MAX));
    let mut gate = control.hold_applies();
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let second = send([store.commit(put("b", "1"))]);
    drop((first, second, gate));
    drop(store);
    assert_eq!(Arc::strong_count(&control), 1, "the engine was let go of");
    assert_eq!(control.objects().len(), 2);
    assert_eq!(control.syncs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_file_lock_is_held_until_the_engine_is_let_go_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    let open = || {
        let control = Arc::default();
        let lock = FileLock::acquire(&path)?;
        let options = Options::default().lock(lock);
        Embedded::open(super::engine::Fake(control), options)
    };
    let store = open().unwrap();
    assert_eq!(open().unwrap_err().kind(), &ErrorKind::InUse);
    store.stop().await.unwrap();
    drop(open().unwrap());
    open().unwrap();
}

#[tokio::test]
async fn what_is_in_doubt_is_unknown_to_its_group_and_closes_the_store() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    control.next_applies([None, Some(Fault::Fail(ErrorKind::Unknown))]);
    let first = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let group = send([store.commit(put("b", "1")), store.commit(put("c", "1"))]);
    let prefix = Key::from("a");
    let later = send([store.delete(&prefix)]);
    drop(gate);
    join_all(first).await.pop().unwrap().unwrap();
    for outcome in join_all(group).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unknown);
        assert!(error.to_string().contains("told to fail"), "{error}");
    }
    let error = join_all(later).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    let text = error.to_string();
    assert!(
        text.contains("told to fail") && text.contains("open it again"),
        "{text}"
    );
    assert_eq!(store.get(&prefix).await.unwrap_err().to_string(), text);
    assert_eq!(kind(store.commit(put("d", "1")).await), ErrorKind::Closed);
    assert_eq!(kind(store.stop().await), ErrorKind::Closed);
    assert_eq!(Arc::strong_count(&control), 1, "the engine was let go of");
}

#[tokio::test]
async fn an_engine_that_says_it_is_closed_closes_the_store_without_doubt() {
    let (store, control) = store(Durability::Immediate);
    control.next_applies([Some(Fault::Fail(ErrorKind::Closed))]);
    let outcomes = store.commit_all(vec![put("a", "1"), put("b", "1")]).await;
    for outcome in outcomes {
        assert_eq!(kind(outcome), ErrorKind::Closed);
    }
    assert!(control.objects().is_empty());
    assert_eq!(kind(store.commit(put("c", "1")).await), ErrorKind::Closed);
}

#[tokio::test]
async fn a_failure_while_commits_are_tried_one_by_one_leaves_nobody_waiting() {
    let (store, control) = store(Durability::Immediate);
    let fail = |kind| Some(Fault::Fail(kind));
    control.next_applies([fail(ErrorKind::Backend), None, fail(ErrorKind::Unknown)]);
    let commits = vec![put("a", "1"), put("b", "1"), put("c", "1")];
    let outcomes = store.commit_all(commits).await;
    let [a, b, c] = outcomes.try_into().unwrap();
    a.unwrap();
    assert_eq!(kind(b), ErrorKind::Unknown);
    assert_eq!(kind(c), ErrorKind::Closed, "it was not tried");
}

#[tokio::test]
async fn a_panic_of_the_engine_is_unknown_and_closes_the_store() {
    let (store, control) = store(Durability::Immediate);
    control.next_applies([Some(Fault::Panic)]);
    let error = store.commit(put("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unknown);
    assert!(error.to_string().contains("told to panic"), "{error}");
    assert_eq!(kind(store.commit(put("b", "1")).await), ErrorKind::Closed);
}

#[tokio::test]
async fn a_panic_while_conditions_are_read_leaves_nobody_waiting() {
    let (store, control) = store(Durability::Immediate);
    control.get_panics.store(true, Ordering::Relaxed);
    let error = store.commit(super::create("a", "1")).await.unwrap_err();
    assert!(error.to_string().contains("told to panic"), "{error}");
    assert_eq!(kind(store.commit(put("b", "1")).await), ErrorKind::Closed);
    assert!(control.objects().is_empty());
}
