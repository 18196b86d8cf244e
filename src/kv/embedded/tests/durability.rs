//! When what was acknowledged is synced.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::engine::store;
use super::{kind, put};
use crate::kv::{Atomic, Change, Durability, ErrorKind, Store};

/// Longer than any test.
const LONG: Durability = Durability::Interval(Duration::from_secs(1 << 30));

#[tokio::test]
async fn immediate_syncs_with_every_group() {
    let (store, control) = store(Durability::Immediate);
    store.commit(put("a", "1")).await.unwrap();
    store.commit(put("b", "1")).await.unwrap();
    store.stop().await.unwrap();
    assert_eq!(control.applied(), [(1, true), (1, true)]);
    assert_eq!(control.syncs.load(Ordering::Relaxed), 0, "nothing was left");
}

#[tokio::test]
async fn an_interval_syncs_by_itself_when_it_is_over() {
    let (store, control) = store(Durability::Interval(Duration::from_millis(1)));
    let mut syncs = control.hear_syncs();
    store.commit(put("a", "1")).await.unwrap();
    syncs.recv().await.unwrap();
    store.commit(put("b", "1")).await.unwrap();
    syncs.recv().await.unwrap();
    assert_eq!(control.applied(), [(1, false), (1, false)]);
    store.stop().await.unwrap();
    assert_eq!(control.syncs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn groups_that_wait_for_their_sync_are_bounded_in_number() {
    for durability in [LONG, Durability::Memory] {
        let (store, control) = store(durability);
        for _ in 0..2001 {
            store.commit(put("a", "1")).await.unwrap();
        }
        let applied = control.applied();
        let synced = applied.iter().enumerate().filter(|(_, (_, sync))| *sync);
        let synced: Vec<usize> = synced.map(|(place, _)| place + 1).collect();
        assert_eq!(synced, [1000, 2000], "{durability}");
    }
}

#[tokio::test]
async fn groups_that_wait_for_their_sync_are_bounded_in_bytes() {
    let (store, control) = store(Durability::Memory);
    for _ in 0..64 {
        let mebibyte = vec![0u8; 1 << 20];
        store
            .commit(vec![Change::put("a", mebibyte)])
            .await
            .unwrap();
    }
    let applied = control.applied();
    assert_eq!(applied.iter().filter(|(_, sync)| *sync).count(), 1);
    assert!(applied.last().unwrap().1);
}

#[tokio::test]
async fn stop_syncs_what_was_not() {
    for durability in [LONG, Durability::Memory] {
        let (store, control) = store(durability);
        store.commit(put("a", "1")).await.unwrap();
        assert_eq!(control.syncs.load(Ordering::Relaxed), 0);
        store.stop().await.unwrap();
        assert_eq!(control.syncs.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_transaction_takes_along_what_was_not_synced() {
    let (store, control) = store(LONG);
    store.commit(put("a", "1")).await.unwrap();
    store.with_transaction(|_| Ok(())).await.unwrap();
    store.stop().await.unwrap();
    assert_eq!(control.syncs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_sync_that_fails_is_told_by_stop() {
    let (store, control) = store(LONG);
    store.commit(put("a", "1")).await.unwrap();
    control.sync_fails.store(true, Ordering::Relaxed);
    let error = store.stop().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("acknowledged could not be synced"),
        "{error}"
    );
}

#[tokio::test]
async fn a_sync_that_fails_in_the_background_closes_the_store() {
    let (store, control) = store(Durability::Interval(Duration::from_millis(1)));
    control.sync_fails.store(true, Ordering::Relaxed);
    let mut closed = store.watch().unwrap().watch(&"".into()).await.unwrap();
    store.commit(put("a", "1")).await.unwrap();
    while futures::StreamExt::next(&mut closed).await.is_some() {}
    assert_eq!(kind(store.commit(put("b", "1")).await), ErrorKind::Closed);
}

#[tokio::test]
async fn memory_durability_is_no_surprise() {
    let (store, _control) = store(Durability::Memory);
    let warnings = store.health().await.unwrap().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("durability=memory"))
    );
}
