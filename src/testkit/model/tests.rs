//! The model test itself: it notices a store that is wrong, and remembers how it was.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::check;
use crate::kv::{Key, Memory, Object, Page, Result, Scan, Store};
use crate::testkit::Factory;

/// A store that, if it is told to, keeps what it was to remove.
#[derive(Debug)]
struct Keeper {
    inner: Memory,
    keeps: bool,
}

#[async_trait]
impl Store for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        self.inner.set(object).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        if self.keeps {
            return Ok(());
        }
        self.inner.remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.inner.delete(prefix).await
    }
}

/// Makes such stores, one a case, and counts them.
struct Keepers<'a> {
    keeps: bool,
    cases: &'a AtomicUsize,
}

impl Factory for Keepers<'_> {
    type Store = Keeper;

    async fn open(&self) -> Keeper {
        self.cases.fetch_add(1, Ordering::Relaxed);
        Keeper {
            inner: Memory::bag(),
            keeps: self.keeps,
        }
    }

    async fn reopen(&self, store: Keeper) -> Option<Keeper> {
        Some(store)
    }
}

/// How many cases were tried, and whether all went well.
fn tried(directory: &Path, keeps: bool) -> (usize, bool) {
    let cases = AtomicUsize::new(0);
    let factory = || Keepers {
        keeps,
        cases: &cases,
    };
    let directory = directory.to_str().unwrap();
    let run = catch_unwind(AssertUnwindSafe(|| check(directory, "a::test", factory)));
    (cases.into_inner(), run.is_ok())
}

#[test]
fn a_store_that_is_wrong_is_caught_and_its_case_is_tried_first_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let (usual, fine) = tried(directory.path(), false);
    assert!(fine, "nothing is wrong with it");

    let (_, fine) = tried(directory.path(), true);
    assert!(!fine, "it keeps what it was to remove");
    let seeds = directory.path().join("proptest-regressions/a-test.txt");
    let seeds = fs::read_to_string(seeds).unwrap();
    let seeds = seeds.lines().filter(|line| line.starts_with("cc "));
    assert_eq!(seeds.count(), 1);

    let (cases, fine) = tried(directory.path(), false);
    assert!(fine, "nothing is wrong with it any more");
    assert_eq!(cases, usual + 1, "the saved one and the usual ones");
}
