//! What a store promises over an engine whose keys hold sets of values.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds as _};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::engine::LIMITS;
use super::{create, kind, put};
use crate::kv::{
    Atomic, Change, Direction, Durability, Embedded, Engine, ErrorKind, Key, Limits, Object,
    Options, Range, Result, Scan, Store, Transaction, Transactional, Write,
};

type Pairs = BTreeSet<Object>;

/// What a bag holds, and what its store asked of it: shared between a test and its engine.
#[derive(Debug, Default)]
struct Control {
    pairs: Mutex<Pairs>,
    scans: Mutex<Vec<Range>>,
    /// The writes of each `apply`.
    applied: Mutex<Vec<usize>>,
}

impl Control {
    /// What it holds, as text.
    fn pairs(&self) -> Vec<String> {
        let pairs = self.pairs.lock().unwrap();
        let text = |pair: &Object| {
            let value = String::from_utf8_lossy(&pair.value);
            format!("{}={value}", pair.key)
        };
        pairs.iter().map(text).collect()
    }
}

#[derive(Debug)]
struct Bag(Arc<Control>);

fn store() -> (Embedded<Bag>, Arc<Control>) {
    let control = Arc::new(Control::default());
    let engine = Bag(Arc::clone(&control));
    let options = Options::new(Durability::Immediate);
    (Embedded::open(engine, options).unwrap(), control)
}

fn get(pairs: &Pairs, keys: &[Key]) -> Vec<Option<Bytes>> {
    let smallest = |key: &Key| pairs.iter().find(|pair| pair.key == *key);
    keys.iter()
        .map(|key| smallest(key).map(|pair| pair.value.clone()))
        .collect()
}

fn scan(pairs: &Pairs, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
    let bounds = (range.start.clone(), range.end.clone());
    let mut within = pairs.iter().filter(|pair| bounds.contains(&pair.key));
    while let Some(pair) = match range.direction {
        Direction::Forward => within.next(),
        Direction::Reverse => within.next_back(),
    } {
        if !visit(pair.key.as_bytes(), &pair.value) {
            break;
        }
    }
}

fn write(pairs: &mut Pairs, writes: &[Write<'_>]) {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                pairs.insert(Object::new((*key).clone(), (*value).clone()));
            }
            Write::Remove(key) => pairs.retain(|pair| pair.key != **key),
            Write::RemovePair { key, value } => {
                pairs.remove(&Object::new((*key).clone(), (*value).clone()));
            }
            Write::DeletePrefix(prefix) => pairs.retain(|pair| !pair.key.starts_with(prefix)),
        }
    }
}

impl Engine for Bag {
    fn name(&self) -> &'static str {
        "bag"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn unique_keys(&self) -> bool {
        false
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        Ok(get(&self.0.pairs.lock().unwrap(), keys))
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.0.scans.lock().unwrap().push(range.clone());
        scan(&self.0.pairs.lock().unwrap(), range, visit);
        Ok(())
    }

    fn apply(&self, writes: &[Write<'_>], _sync: bool) -> Result<()> {
        write(&mut self.0.pairs.lock().unwrap(), writes);
        self.0.applied.lock().unwrap().push(writes.len());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct BagTransaction(Pairs);

impl Transaction for BagTransaction {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn unique_keys(&self) -> bool {
        false
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        Ok(get(&self.0, keys))
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        scan(&self.0, range, visit);
        Ok(())
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        write(&mut self.0, writes);
        Ok(())
    }
}

impl Transactional for Bag {
    type Transaction<'t> = BagTransaction;

    fn transact(
        &self,
        body: &mut dyn FnMut(&mut BagTransaction) -> Result<()>,
    ) -> Result<Vec<Key>> {
        let mut transaction = BagTransaction(self.0.pairs.lock().unwrap().clone());
        body(&mut transaction)?;
        *self.0.pairs.lock().unwrap() = transaction.0;
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn the_store_is_a_bag_where_its_engine_is_one() {
    let (store, _control) = store();
    assert!(!store.unique_keys());
}

#[tokio::test]
async fn commits_of_a_group_see_each_others_pairs_and_share_one_transaction() {
    let (store, control) = store();
    let commits = vec![
        put("a", "2"),
        create("a", "3"),
        put("a", "1"),
        vec![Change::replace("a", "2", Some("4".into()))],
        vec![Change::check("a", "2")],
        create("b", "1"),
    ];
    let outcomes = store.commit_all(commits).await;
    let failed = |outcome: &Result<()>| outcome.is_err();
    let failed: Vec<bool> = outcomes.iter().map(failed).collect();
    assert_eq!(failed, [false, true, false, false, true, false]);
    assert_eq!(control.pairs(), ["a=1", "a=4", "b=1"]);
    assert_eq!(control.applied.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_commit_that_fails_names_its_conditions_and_adds_nothing() {
    let (store, control) = store();
    store.commit(put("a", "1")).await.unwrap();
    let changes = vec![
        Change::put("b", "1"),
        Change::create("a", "2"),
        Change::check("c", "1"),
    ];
    let indices = vec![1, 2];
    let failed = store.commit(changes).await;
    assert_eq!(kind(failed), ErrorKind::ConditionFailed { indices });
    assert_eq!(control.pairs(), ["a=1"]);
}

#[tokio::test]
async fn only_keys_with_conditions_are_read() {
    let (store, control) = store();
    let changes = vec![
        Change::put("added", "1"),
        Change::remove("cleared"),
        Change::create("asked", "1"),
    ];
    store.commit(changes).await.unwrap();
    let scans = control.scans.lock().unwrap();
    let asked = Bound::Included(Key::from("asked"));
    let [read] = &scans[..] else {
        panic!("read {scans:?}");
    };
    assert_eq!((&read.start, &read.end), (&asked, &asked));
}

#[tokio::test]
async fn removing_takes_out_that_pair_and_is_ok_where_it_is_not() {
    let (store, control) = store();
    for value in ["1", "2", "3"] {
        store.set(Object::new("a", value)).await.unwrap();
    }
    store.remove(&Object::new("a", "2")).await.unwrap();
    store.remove(&Object::new("a", "2")).await.unwrap();
    store.remove(&Object::new("b", "1")).await.unwrap();
    assert_eq!(control.pairs(), ["a=1", "a=3"]);
}

#[tokio::test]
async fn get_gives_the_smallest_value_and_pages_walk_all() {
    let (store, _control) = store();
    for value in ["2", "1", "3"] {
        store.set(Object::new("a", value)).await.unwrap();
    }
    let found = store.get(&"a".into()).await.unwrap();
    assert_eq!(found, Some(Object::new("a", "1")));
    let mut scan = Scan::prefix("a").limit(1).reverse();
    for value in ["3", "2", "1"] {
        let page = store.scan(scan.clone()).await.unwrap();
        assert_eq!(page.objects, [Object::new("a", value)]);
        scan = scan.after(page.next);
    }
    assert_eq!(scan.after, None, "nothing follows");
}

#[tokio::test]
async fn a_transaction_of_the_users_changes_pairs() {
    let (store, control) = store();
    store.commit(put("a", "1")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("a", "2")])?;
        let refused = transaction.change(&[Change::create("a", "3"), Change::put("b", "1")]);
        assert!(refused.is_err());
        transaction.change(&[Change::replace("a", "1", Some("4".into()))])
    });
    outcome.await.unwrap();
    assert_eq!(control.pairs(), ["a=2", "a=4"]);
}
