//! What a [`Memory`](super::Memory) holds, in its two kinds: one value under a key, or a set of
//! them. Limits, locks and watchers are not known here.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Debug;

use bytes::Bytes;

use crate::kv::{Change, Direction, Expect, Key, Object, PageBuilder, Range};

/// Objects in order. Its methods have other names than those of the collections below.
pub(super) trait Contents: Debug + Send {
    fn put(&mut self, object: Object);

    fn find(&self, key: &Key) -> Option<Object>;

    /// Offers the objects of a range that is not empty, until the page is full.
    fn offer_to(&self, range: Range, page: &mut PageBuilder<'_>);

    fn take_out(&mut self, object: &Object);

    fn clear_prefix(&mut self, prefix: &Key);

    /// Whether what a change expects is there.
    fn holds(&self, change: &Change) -> bool;

    /// Makes a change whose expectation holds.
    fn apply(&mut self, change: Change);

    /// Makes all changes, or says the positions of those whose expectations do not hold.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), Vec<usize>> {
        let failed: Vec<usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !self.holds(change))
            .map(|(index, _)| index)
            .collect();
        if !failed.is_empty() {
            return Err(failed);
        }
        for change in changes {
            if !change.is_check() {
                self.apply(change);
            }
        }
        Ok(())
    }
}

/// One value under each key.
pub(super) type Unique = BTreeMap<Key, Bytes>;

impl Contents for Unique {
    fn put(&mut self, Object { key, value }: Object) {
        self.insert(key, value);
    }

    fn find(&self, key: &Key) -> Option<Object> {
        self.get(key).map(|value| Object {
            key: key.clone(),
            value: value.clone(),
        })
    }

    fn offer_to(&self, range: Range, page: &mut PageBuilder<'_>) {
        let mut within = self.range::<Key, _>((range.start, range.end));
        while let Some((key, value)) = match range.direction {
            Direction::Forward => within.next(),
            Direction::Reverse => within.next_back(),
        } {
            if !page.offer(key.as_bytes(), value) {
                break;
            }
        }
    }

    fn take_out(&mut self, object: &Object) {
        self.remove(&object.key);
    }

    fn clear_prefix(&mut self, prefix: &Key) {
        self.retain(|key, _| !key.starts_with(prefix));
    }

    fn holds(&self, change: &Change) -> bool {
        change.holds(self.get(&change.key).map(Bytes::as_ref))
    }

    fn apply(&mut self, change: Change) {
        match change.after {
            Some(value) => drop(self.insert(change.key, value)),
            None => drop(self.remove(&change.key)),
        }
    }
}

/// A set of values, never an empty one, under each key.
pub(super) type Bag = BTreeMap<Key, BTreeSet<Bytes>>;

impl Contents for Bag {
    fn put(&mut self, Object { key, value }: Object) {
        self.entry(key).or_default().insert(value);
    }

    fn find(&self, key: &Key) -> Option<Object> {
        let value = self.get(key)?.first()?.clone();
        let key = key.clone();
        Some(Object { key, value })
    }

    fn offer_to(&self, range: Range, page: &mut PageBuilder<'_>) {
        let within = self.range::<Key, _>((range.start, range.end));
        let mut pairs = within.flat_map(|(key, values)| values.iter().map(move |v| (key, v)));
        while let Some((key, value)) = match range.direction {
            Direction::Forward => pairs.next(),
            Direction::Reverse => pairs.next_back(),
        } {
            if !page.offer(key.as_bytes(), value) {
                break;
            }
        }
    }

    fn take_out(&mut self, object: &Object) {
        if let Entry::Occupied(mut values) = self.entry(object.key.clone()) {
            values.get_mut().remove(&object.value);
            if values.get().is_empty() {
                values.remove();
            }
        }
    }

    fn clear_prefix(&mut self, prefix: &Key) {
        self.retain(|key, _| !key.starts_with(prefix));
    }

    fn holds(&self, change: &Change) -> bool {
        let values = self.get(&change.key);
        match &change.before {
            Expect::Any => true,
            Expect::Absent => values.is_none(),
            Expect::Value(value) => values.is_some_and(|values| values.contains(value)),
        }
    }

    fn apply(&mut self, Change { key, before, after }: Change) {
        match (before, &after) {
            (Expect::Value(value), _) => {
                let key = key.clone();
                self.take_out(&Object { key, value });
            }
            (Expect::Any, None) => drop(self.remove(&key)),
            (Expect::Any | Expect::Absent, _) => {}
        }
        if let Some(value) = after {
            self.put(Object { key, value });
        }
    }
}
