//! The conformance suite on the other kind of store, a bag, and on one of five methods, both of
//! which keep their data when they are opened again. The reference store is neither, so that it
//! leaves those branches of the suite untried.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{
    Atomic, Change, Cursor, Direction, Error, ErrorKind, Expect, Key, Limits, Object, Page,
    PageBuilder, Result, Scan, Store, check_commit,
};
use kvjob::testkit::Factory;

/// Pairs of key and value in order, with or without atomic changes.
#[derive(Debug)]
struct Bag {
    pairs: Arc<Mutex<BTreeSet<Object>>>,
    atomic: bool,
    closed: AtomicBool,
}

impl Bag {
    fn pairs(&self) -> Result<MutexGuard<'_, BTreeSet<Object>>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the bag is closed"));
        }
        Ok(self.pairs.lock().unwrap())
    }
}

fn holds(pairs: &BTreeSet<Object>, change: &Change) -> bool {
    let key = &change.key;
    match &change.before {
        Expect::Any => true,
        Expect::Absent => !pairs.iter().any(|pair| pair.key == *key),
        Expect::Value(value) => pairs.contains(&Object::new(key.clone(), value.clone())),
    }
}

#[async_trait]
impl Store for Bag {
    fn name(&self) -> &'static str {
        "bag"
    }

    fn unique_keys(&self) -> bool {
        false
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        self.pairs()?.insert(object);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        let least = Object::new(key.clone(), Bytes::new());
        let pairs = self.pairs()?;
        let first = pairs.range(least..).next();
        Ok(first.filter(|pair| pair.key == *key).cloned())
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let pairs = self.pairs()?;
        let follows = |pair: &&Object| {
            let Some(cursor) = &scan.after else {
                return true;
            };
            let place = pair.key.cmp(cursor.key());
            let place = match cursor.value() {
                Some(value) => place.then_with(|| pair.value.cmp(value)),
                None => place,
            };
            match scan.direction {
                Direction::Forward => place.is_gt(),
                Direction::Reverse => place.is_lt(),
            }
        };
        let mut start = scan.prefix.clone();
        if let (Some(cursor), Direction::Forward) = (&scan.after, scan.direction) {
            start = start.max(cursor.key().clone());
        }
        let within = pairs
            .range(Object::new(start, Bytes::new())..)
            .take_while(|pair| pair.key.starts_with(&scan.prefix))
            .filter(follows);
        let within: Box<dyn Iterator<Item = &Object>> = match scan.direction {
            Direction::Forward => Box::new(within),
            Direction::Reverse => Box::new(within.collect::<Vec<_>>().into_iter().rev()),
        };
        let mut page = PageBuilder::new(&scan);
        let taken = within.take_while(|pair| page.offer(pair.key.as_bytes(), &pair.value));
        let last = taken.last();
        let mut page = page.finish();
        // Without its values a page does not know which pair of a key it ended on.
        if let (Some(next), Some(last)) = (&mut page.next, last) {
            *next = Cursor::after_object(last);
        }
        Ok(page)
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        self.pairs()?.remove(object);
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.pairs()?.retain(|pair| !pair.key.starts_with(prefix));
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.atomic.then_some(self)
    }
}

#[async_trait]
impl Atomic for Bag {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &self.limits())?;
        let mut pairs = self.pairs()?;
        let failed: Vec<usize> = (0..changes.len())
            .filter(|place| !holds(&pairs, &changes[*place]))
            .collect();
        if !failed.is_empty() {
            return Err(Error::condition_failed(failed));
        }
        for Change { key, before, after } in changes {
            match (&before, &after) {
                (Expect::Value(value), _) => {
                    pairs.remove(&Object::new(key.clone(), value.clone()));
                }
                (Expect::Any, None) => pairs.retain(|pair| pair.key != key),
                _ => {}
            }
            pairs.extend(after.map(|value| Object { key, value }));
        }
        Ok(())
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        for changes in commits {
            outcomes.push(self.commit(changes).await);
        }
        outcomes
    }
}

/// The place where the pairs live outlives the stores that are opened on it.
struct Bags {
    atomic: bool,
    pairs: Arc<Mutex<BTreeSet<Object>>>,
}

fn bags(atomic: bool) -> Bags {
    Bags {
        atomic,
        pairs: Arc::default(),
    }
}

impl Factory for Bags {
    type Store = Bag;

    async fn open(&self) -> Bag {
        let (pairs, atomic) = (Arc::clone(&self.pairs), self.atomic);
        Bag {
            pairs,
            atomic,
            closed: AtomicBool::new(false),
        }
    }

    async fn reopen(&self, store: Bag) -> Option<Bag> {
        store.stop().await.unwrap();
        Some(self.open().await)
    }
}

mod atomic {
    use super::*;
    kvjob::testkit::conformance!(bags(true));
}

mod five_methods {
    use super::*;
    kvjob::testkit::conformance!(bags(false));
}
