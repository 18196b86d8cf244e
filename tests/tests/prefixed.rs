//! What the neighbours of a prefix may rely on, and the prefixes that the conformance suite of every
//! adapter leaves out: one with no end, and one under another.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kvjob::kv::wrap::Prefixed;
use kvjob::kv::{Change, ErrorKind, Event, Key, Memory, Object, Scan, Store};
use kvjob::testkit::Factory;

/// A prefix with nothing behind it, and room for long ones.
struct UnderTheLast;

impl Factory for UnderTheLast {
    type Store = Prefixed<Memory>;

    async fn open(&self) -> Self::Store {
        Prefixed::new(Memory::new(), b"\xff\xff")
    }
}

kvjob::testkit::conformance!(UnderTheLast);

/// Two parts of one store, and that store.
fn parts() -> [Arc<dyn Store>; 3] {
    let whole: Arc<dyn Store> = Arc::new(Memory::new());
    [
        Arc::new(Prefixed::new(Arc::clone(&whole), "red/")),
        Arc::new(Prefixed::new(Arc::clone(&whole), "blue/")),
        whole,
    ]
}

#[tokio::test]
async fn parts_of_a_store_do_not_meet() {
    let [red, blue, whole] = parts();
    for (part, value) in [(&red, "r"), (&blue, "b")] {
        part.set(Object::new("k", value)).await.unwrap();
        let commit = vec![Change::create("l", value), Change::check("k", value)];
        part.atomic().unwrap().commit(commit).await.unwrap();
    }
    red.delete(&Key::EMPTY).await.unwrap();
    let page = red.scan(Scan::prefix("")).await.unwrap();
    assert!(page.objects.is_empty());
    let page = blue.scan(Scan::prefix("").reverse()).await.unwrap();
    assert_eq!(page.objects, [Object::new("l", "b"), Object::new("k", "b")]);
    let page = whole.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects[0], Object::new("blue/k", "b"));
}

#[tokio::test]
async fn a_watcher_hears_its_own_part_under_its_own_names() {
    let [red, blue, _] = parts();
    let mut events = red.watch().unwrap().watch(&"k".into()).await.unwrap();
    blue.set(Object::new("k1", "")).await.unwrap();
    red.set(Object::new("j1", "")).await.unwrap();
    red.set(Object::new("k2", "")).await.unwrap();
    assert_eq!(events.next().await, Some(Event::Changed("k2".into())));
    assert!(events.next().now_or_never().is_none());
}

#[tokio::test]
async fn the_empty_key_is_refused_although_the_prefix_is_a_key() {
    let [red, _, whole] = parts();
    whole.set(Object::new("red/", "whole")).await.unwrap();
    let refused = red.get(&Key::EMPTY).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::InvalidKey);
    let commits = vec![vec![Change::put("", "1")], vec![Change::put("a", "1")]];
    let outcomes = red.atomic().unwrap().commit_all(commits).await;
    let refused = outcomes[0].as_ref().unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::InvalidKey);
    assert!(outcomes[1].is_ok());
    let stays = whole.get(&"red/".into()).await.unwrap();
    assert_eq!(stays.unwrap().value, "whole");
}

#[tokio::test]
async fn a_page_is_cut_as_if_there_were_no_prefix() {
    let prefix = "p".repeat(100);
    let whole = Arc::new(Memory::new());
    let part = Prefixed::new(Arc::clone(&whole), prefix.as_str());
    // More objects than the first scan pays for, within the budget they have without a prefix.
    let all: Vec<Object> = (0..5000)
        .map(|n| Object::new(format!("{n:04}").into_bytes(), "v"))
        .collect();
    for object in &all {
        part.set(object.clone()).await.unwrap();
    }
    for (budget, count) in [(5, 1), (9, 1), (10, 2), (20_000, 4000), (24_999, 4999)] {
        for limit in [count, usize::MAX] {
            let scan = Scan::prefix("").limit(limit).byte_budget(budget);
            let page = part.scan(scan.clone()).await.unwrap();
            assert_eq!(page.objects, all[..count], "{scan:?}");
            let rest = part.scan_many(vec![scan.after(page.next)]).await.unwrap();
            assert_eq!(rest[0].objects[0], all[count], "{budget}");
        }
    }
    let scan = Scan::prefix("").limit(usize::MAX).byte_budget(25_000);
    let page = part.scan(scan).await.unwrap();
    assert_eq!((page.objects.len(), page.next), (5000, None));
}

#[tokio::test]
async fn a_prefix_without_room_for_a_key_refuses_every_key() {
    let memory = Memory::new();
    let long = vec![b'p'; memory.limits().key_bytes];
    let part = Prefixed::new(memory, long);
    let refused = part.set(Object::new("k", "v")).await.unwrap_err();
    assert!(matches!(
        refused.kind(),
        ErrorKind::TooLarge { limit: 0, .. }
    ));
}
