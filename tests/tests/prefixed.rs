//! A part of a store is a store: the conformance suite under a prefix, and what the neighbours
//! of that prefix may rely on.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kvjob::kv::wrap::Prefixed;
use kvjob::kv::{Change, ErrorKind, Event, Key, Memory, Object, Scan, Store};
use kvjob::testkit::Factory;

/// The stores of another factory, under a prefix.
struct Under<F>(F, &'static [u8]);

impl<F: Factory> Factory for Under<F> {
    type Store = Prefixed<F::Store>;

    async fn open(&self) -> Self::Store {
        let store = self.0.open().await;
        store.start().await.unwrap();
        // Neighbours on both sides, which must neither be seen nor touched.
        for key in self.neighbours() {
            store.set(Object::new(key, "neighbour")).await.unwrap();
        }
        Prefixed::new(store, self.1)
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        let store = self.0.reopen(store.into_inner()).await?;
        store.start().await.unwrap();
        for key in self.neighbours() {
            let found = store.get(&key).await.unwrap();
            assert_eq!(found.unwrap().value, "neighbour", "{key}");
        }
        Some(Prefixed::new(store, self.1))
    }
}

impl<F> Under<F> {
    fn neighbours(&self) -> Vec<Key> {
        let prefix = Key::from(self.1);
        let mut before = self.1.to_vec();
        before.pop();
        let mut keys = vec![Key::from(b"\x00\x00"), before.into()];
        keys.extend(prefix.prefix_end());
        keys.retain(|key| !key.is_empty());
        keys
    }
}

struct InMemory;

impl Factory for InMemory {
    type Store = Memory;

    async fn open(&self) -> Memory {
        Memory::new()
    }
}

struct InFile(tempfile::TempDir);

impl InFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Factory for InFile {
    type Store = kvjob_redb::Redb;

    async fn open(&self) -> Self::Store {
        kvjob_redb::open(self.0.path().join("prefixed.redb")).unwrap()
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

mod memory {
    use super::*;
    kvjob::testkit::conformance!(Under(InMemory, b"part/"));
}

mod memory_under_the_last_prefix {
    use super::*;
    kvjob::testkit::conformance!(Under(InMemory, b"\xff\xff"));
}

mod redb {
    use super::*;
    kvjob::testkit::conformance!(Under(InFile::new(), b"part/"));
}

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
