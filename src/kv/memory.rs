//! The reference store: an ordered map in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Atomic, Change, Direction, Error, Hub, Key, Limits, Object, Ownership, Page, PageBuilder,
    Result, Scan, Store, Watch, Watcher, check_commit,
};

/// A store in this process's memory: the reference for what every other store does, and a fast
/// one for tests. What it holds is gone with it; it never blocks for longer than a copy takes.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use kvjob::kv::{Memory, Object, Store};
///
/// let store = Memory::new();
/// store.set(Object::new("greeting", "hello")).await?;
/// assert_eq!(store.get(&"greeting".into()).await?.unwrap().value, "hello");
/// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    hub: Hub,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        // No code panics while it holds the lock half-way through a change, so that what a
        // poisoned lock guards is whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &self.limits())?;
        let mut objects = self.objects();
        let failed: Vec<usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !change.holds(objects.get(&change.key).map(Bytes::as_ref)))
            .map(|(index, _)| index)
            .collect();
        if !failed.is_empty() {
            return Err(Error::condition_failed(failed));
        }
        let idle = self.hub.is_idle();
        let mut put = Vec::new();
        for change in changes {
            if change.is_check() {
                continue;
            }
            match change.after {
                Some(value) => {
                    if !idle {
                        put.push(change.key.clone());
                    }
                    objects.insert(change.key, value);
                }
                None => drop(objects.remove(&change.key)),
            }
        }
        drop(objects);
        self.hub.announce(put);
        Ok(())
    }
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        self.objects().insert(object.key.clone(), object.value);
        self.hub.announce([object.key]);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        Ok(self.objects().get(key).map(|value| Object {
            key: key.clone(),
            value: value.clone(),
        }))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let range = scan.range(true);
        let mut page = PageBuilder::new(&scan);
        if !range.is_empty() {
            let objects = self.objects();
            let mut within = objects.range::<Key, _>((range.start, range.end));
            while let Some((key, value)) = match range.direction {
                Direction::Forward => within.next(),
                Direction::Reverse => within.next_back(),
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
        self.objects().remove(&object.key);
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.objects().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        for key in keys {
            self.limits().check_key(key)?;
        }
        let objects = self.objects();
        Ok(keys
            .iter()
            .map(|key| {
                objects.get(key).map(|value| Object {
                    key: key.clone(),
                    value: value.clone(),
                })
            })
            .collect())
    }

    fn limits(&self) -> Limits {
        Limits {
            key_bytes: 64 << 10,
            value_bytes: 64 << 20,
            commit_bytes: 64 << 20,
            commit_changes: 64 << 10,
        }
    }

    fn ownership(&self) -> Ownership {
        Ownership::Exclusive
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

#[async_trait]
impl Atomic for Memory {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        self.commit_now(changes)
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        commits
            .into_iter()
            .map(|changes| self.commit_now(changes))
            .collect()
    }
}

#[async_trait]
impl Watch for Memory {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        Ok(self.hub.subscribe(prefix))
    }
}
