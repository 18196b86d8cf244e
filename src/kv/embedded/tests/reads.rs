//! Reads, short and long.

use std::sync::atomic::Ordering;

use super::engine::store;
use crate::kv::{Cursor, Durability, ErrorKind, Key, Object, Scan, Store};

#[tokio::test]
async fn short_and_long_reads_answer_alike() {
    let (store, control) = store(Durability::Memory);
    let keys: Vec<Key> = (0..2500u32)
        .map(|n| n.to_be_bytes().as_slice().into())
        .collect();
    for key in &keys {
        control.objects().insert(key.clone(), "1".into());
    }
    let long = store.scan(Scan::prefix("").limit(2000)).await.unwrap();
    assert_eq!(long.objects.len(), 2000);
    let short = store.scan(Scan::prefix("").limit(500)).await.unwrap();
    assert_eq!(short.objects, long.objects[..500]);
    let pages = store
        .scan_many(vec![
            Scan::prefix("").limit(2000),
            Scan::prefix("").limit(0),
        ])
        .await
        .unwrap();
    assert_eq!(pages[0], long);
    assert!(pages[1].objects.is_empty());
    let many = store.get_many(&keys).await.unwrap();
    assert_eq!(many.len(), 2500);
    assert!(many.iter().all(Option::is_some));
    let few = store.get_many(&keys[..2]).await.unwrap();
    assert_eq!(few, many[..2]);
}

#[tokio::test]
async fn a_range_that_holds_no_key_does_not_reach_the_engine() {
    let (store, control) = store(Durability::Memory);
    let behind = Scan::prefix("a").after(Cursor::after("b"));
    assert!(store.scan(behind).await.unwrap().objects.is_empty());
    assert_eq!(control.reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_panic_of_a_read_is_an_error_and_the_store_goes_on() {
    let (store, control) = store(Durability::Memory);
    control.get_panics.store(true, Ordering::Relaxed);
    let error = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    control.get_panics.store(false, Ordering::Relaxed);
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[test]
fn a_long_read_needs_no_tokio() {
    let (store, _control) = store(Durability::Memory);
    let scan = store.scan(Scan::prefix("").limit(5000));
    let page = futures::FutureExt::now_or_never(scan).unwrap().unwrap();
    assert!(page.objects.is_empty());
}
