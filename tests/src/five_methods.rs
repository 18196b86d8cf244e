//! The least an adapter may be: a store of five methods, of either kind, which keeps its data
//! when it is opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{Direction, Error, ErrorKind, Key, Object, Page, PageBuilder, Result, Scan, Store};
use kvjob::testkit::Factory;

/// The values under each key, of which there is always one at least.
type Values = BTreeMap<Key, BTreeSet<Bytes>>;

/// A store without [`Atomic`](kvjob::kv::Atomic) or [`Watch`](kvjob::kv::Watch), over data that
/// its clones share. Once stopped it answers [`Closed`](ErrorKind::Closed).
///
/// A clone is the same data opened again: it serves, whatever became of the store it was cloned
/// from. So a test clones one, wraps and stops the clone, and clones it again.
#[derive(Debug)]
pub struct FiveMethods {
    values: Arc<Mutex<Values>>,
    unique_keys: bool,
    closed: AtomicBool,
}

impl FiveMethods {
    /// An empty store in which a key holds one value.
    pub fn unique() -> Self {
        Self::new(true)
    }

    /// An empty bag.
    pub fn bag() -> Self {
        Self::new(false)
    }

    fn new(unique_keys: bool) -> Self {
        Self {
            values: Arc::default(),
            unique_keys,
            closed: AtomicBool::new(false),
        }
    }

    fn values(&self) -> Result<MutexGuard<'_, Values>> {
        if self.closed.load(Ordering::SeqCst) {
            let message = format!("{}: the store was stopped", self.name());
            return Err(Error::new(ErrorKind::Closed, message));
        }
        Ok(self.values.lock().unwrap())
    }
}

impl Clone for FiveMethods {
    fn clone(&self) -> Self {
        Self {
            values: Arc::clone(&self.values),
            ..Self::new(self.unique_keys)
        }
    }
}

#[async_trait]
impl Store for FiveMethods {
    fn name(&self) -> &'static str {
        if self.unique_keys {
            "five methods"
        } else {
            "five methods, a bag"
        }
    }

    fn unique_keys(&self) -> bool {
        self.unique_keys
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        let mut all = self.values()?;
        let values = all.entry(object.key).or_default();
        if self.unique_keys {
            values.clear();
        }
        values.insert(object.value);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        let all = self.values()?;
        let value = all.get(key).and_then(BTreeSet::first);
        Ok(value.map(|value| Object::new(key.clone(), value.clone())))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let all = self.values()?;
        let range = scan.range(self.unique_keys);
        let mut page = PageBuilder::new(&scan);
        if !range.is_empty() {
            let within = all.range::<Key, _>((range.start, range.end));
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
        Ok(page.finish())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        let mut all = self.values()?;
        if let Some(values) = all.get_mut(&object.key) {
            values.retain(|value| !self.unique_keys && *value != object.value);
            if values.is_empty() {
                all.remove(&object.key);
            }
        }
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.values()?.retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// The place of a store of five methods is any of its clones.
impl Factory for FiveMethods {
    type Store = Self;

    async fn open(&self) -> Self {
        self.clone()
    }

    async fn reopen(&self, store: Self) -> Option<Self> {
        store.stop().await.unwrap();
        Some(self.clone())
    }
}
