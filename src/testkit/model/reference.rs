//! The map that says what is right, for both kinds of store. What is asked of it lives in `run`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::kv::{
    Change, Direction, ErrorKind, Expect, Key, Limits, Object, Page, PageBuilder, Scan,
    check_commit,
};

/// Every key with its values; where keys are unique a key has one.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) unique_keys: bool,
    pub(super) limits: Limits,
    values: BTreeMap<Key, BTreeSet<Bytes>>,
}

/// The first to fail, of what may be answered: any refusal of the input is as good as another.
type Outcome = Result<(), ErrorKind>;

impl Reference {
    pub(super) fn new(unique_keys: bool, limits: Limits) -> Self {
        Self {
            unique_keys,
            limits,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.values.clear();
    }

    pub(super) fn set(&mut self, object: &Object) -> Outcome {
        self.limits
            .check_object(object)
            .map_err(|error| error.kind().clone())?;
        self.add(object.key.clone(), object.value.clone());
        Ok(())
    }

    /// Keys that cannot be are refused before anything is looked up.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Object>, ErrorKind> {
        self.limits
            .check_key(key)
            .map_err(|error| error.kind().clone())?;
        let value = self.values(key).next().cloned();
        Ok(value.map(|value| Object {
            key: key.clone(),
            value,
        }))
    }

    pub(super) fn remove(&mut self, object: &Object) -> Outcome {
        self.limits
            .check_key(&object.key)
            .map_err(|error| error.kind().clone())?;
        if self.unique_keys {
            self.values.remove(&object.key);
        } else {
            self.take(&object.key, &object.value);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, prefix: &Key) {
        self.values.retain(|key, _| !key.starts_with(prefix));
    }

    /// The values under a key, in order.
    pub(super) fn values(&self, key: &Key) -> impl DoubleEndedIterator<Item = &Bytes> {
        self.values.get(key).into_iter().flatten()
    }

    /// Everything, in order.
    pub(super) fn objects(&self) -> Vec<Object> {
        let pairs = self.values.iter();
        pairs
            .flat_map(|(key, values)| {
                values.iter().map(|value| Object {
                    key: key.clone(),
                    value: value.clone(),
                })
            })
            .collect()
    }

    /// What lies in the scan's range, in its order.
    pub(super) fn within(&self, scan: &Scan) -> Vec<Object> {
        let mut found = self.objects();
        found.retain(|object| object.key.starts_with(&scan.prefix) && self.follows(scan, object));
        if scan.direction == Direction::Reverse {
            found.reverse();
        }
        found
    }

    pub(super) fn scan(&self, scan: &Scan) -> Page {
        page(scan, &self.within(scan))
    }

    /// Whether an object lies behind the scan's cursor.
    fn follows(&self, scan: &Scan, object: &Object) -> bool {
        let Some(cursor) = &scan.after else {
            return true;
        };
        let place = match cursor.value().filter(|_| !self.unique_keys) {
            Some(value) => (&object.key, &object.value).cmp(&(cursor.key(), value)),
            None => object.key.cmp(cursor.key()),
        };
        match scan.direction {
            Direction::Forward => place.is_gt(),
            Direction::Reverse => place.is_lt(),
        }
    }

    pub(super) fn commit(&mut self, changes: &[Change]) -> Outcome {
        check_commit(changes, &self.limits).map_err(|error| error.kind().clone())?;
        let failed = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !self.holds(change));
        let indices: Vec<usize> = failed.map(|(index, _)| index).collect();
        if !indices.is_empty() {
            return Err(ErrorKind::ConditionFailed { indices });
        }
        for change in changes {
            match (&change.before, &change.after) {
                (Expect::Value(before), Some(after)) => {
                    self.take(&change.key, before);
                    self.add(change.key.clone(), after.clone());
                }
                (Expect::Value(before), None) => self.take(&change.key, before),
                (Expect::Any | Expect::Absent, Some(after)) => {
                    self.add(change.key.clone(), after.clone());
                }
                (Expect::Any | Expect::Absent, None) => drop(self.values.remove(&change.key)),
            }
        }
        Ok(())
    }

    fn holds(&self, change: &Change) -> bool {
        let values = self.values.get(&change.key);
        match &change.before {
            Expect::Any => true,
            Expect::Absent => values.is_none(),
            Expect::Value(value) => values.is_some_and(|values| values.contains(value)),
        }
    }

    fn add(&mut self, key: Key, value: Bytes) {
        let values = self.values.entry(key).or_default();
        if self.unique_keys {
            values.clear();
        }
        values.insert(value);
    }

    fn take(&mut self, key: &Key, value: &Bytes) {
        if let Some(values) = self.values.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.values.remove(key);
            }
        }
    }
}

/// The page that the rule of every adapter cuts from these objects.
pub(super) fn page(scan: &Scan, within: &[Object]) -> Page {
    let mut page = PageBuilder::new(scan);
    for object in within {
        if !page.offer(object.key.as_bytes(), &object.value) {
            break;
        }
    }
    page.finish()
}
