//! The reference store: an ordered map in memory. What it holds, in its two kinds, is in
//! `contents`.

mod contents;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::contents::{Bag, Contents, Unique};
use super::{
    Atomic, Change, Error, Hub, Key, Limits, Object, Ownership, Page, PageBuilder, Result, Scan,
    Store, Watch, Watcher, check_commit,
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
#[derive(Debug)]
pub struct Memory {
    unique_keys: bool,
    contents: Mutex<Box<dyn Contents>>,
    hub: Hub,
}

impl Memory {
    /// An empty store in which a key holds one value.
    pub fn new() -> Self {
        Self {
            unique_keys: true,
            contents: Mutex::new(Box::new(Unique::new())),
            hub: Hub::new(),
        }
    }

    /// An empty bag: a key holds any number of distinct values, in byte order. See
    /// [`Store`](Store#two-kinds).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kvjob::kv::{Memory, Object, Scan, Store};
    ///
    /// let store = Memory::bag();
    /// store.set(Object::new("colour", "red")).await?;
    /// store.set(Object::new("colour", "blue")).await?;
    /// assert_eq!(store.scan(Scan::prefix("colour")).await?.objects.len(), 2);
    /// assert_eq!(store.get(&"colour".into()).await?.unwrap().value, "blue");
    /// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
    /// ```
    pub fn bag() -> Self {
        Self {
            unique_keys: false,
            contents: Mutex::new(Box::new(Bag::new())),
            hub: Hub::new(),
        }
    }

    fn contents(&self) -> MutexGuard<'_, Box<dyn Contents>> {
        // No code panics while it holds the lock half-way through a change, so that what a
        // poisoned lock guards is whole.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &self.limits())?;
        let mut contents = self.contents();
        let mut put = Vec::new();
        // Asked under the lock: who subscribes from now on finds the changes when it scans.
        if !self.hub.is_idle() {
            let puts = |change: &&Change| change.after.is_some() && !change.is_check();
            put.extend(changes.iter().filter(puts).map(|change| change.key.clone()));
        }
        let done = contents.commit(changes);
        drop(contents);
        done.map_err(Error::condition_failed)?;
        self.hub.announce(put);
        Ok(())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn unique_keys(&self) -> bool {
        self.unique_keys
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        let key = object.key.clone();
        self.contents().put(object);
        self.hub.announce([key]);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        Ok(self.contents().find(key))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let range = scan.range(self.unique_keys);
        let mut page = PageBuilder::new(&scan);
        if !range.is_empty() {
            self.contents().offer_to(range, &mut page);
        }
        Ok(page.finish())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        self.contents().take_out(object);
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.contents().clear_prefix(prefix);
        Ok(())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        for key in keys {
            self.limits().check_key(key)?;
        }
        let contents = self.contents();
        Ok(keys.iter().map(|key| contents.find(key)).collect())
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
