//! [`Journaled`]: atomic changes for a store that has none. Here are its promises and its face;
//! how it commits is in `commit`, who may in `owner`, what it writes in `record`, how that is
//! hidden in `hidden`, and what all of them share in `shared`.

mod commit;
mod hidden;
mod owner;
mod record;
mod shared;

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;

use self::shared::Shared;
use super::watch_of;
use crate::kv::{
    Atomic, Change, Health, Key, Limits, Object, Ownership, Page, Result, Scan, Store, Watch,
    Watcher, check_commit,
};

/// A store that makes commits of the plain writes of the store below, of either kind.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use kvjob::kv::wrap::Journaled;
/// use kvjob::kv::{Atomic, Change, Memory, Store};
///
/// // Any store; this one could do without.
/// let store = Journaled::new(Memory::new());
/// store.commit(vec![Change::create("a", "1"), Change::create("b", "1")]).await?;
/// assert!(store.commit(vec![Change::put("a", "2"), Change::create("b", "2")]).await.is_err());
/// assert_eq!(store.get(&"a".into()).await?.unwrap().value, "1");
/// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
/// ```
///
/// # How a commit is made
///
/// While it is under way nothing else is: other callers wait. Its conditions are checked, all it
/// will write goes into one *redo record* with a single `set`, the writes are made one by one, and
/// the record is removed. So it costs its writes and four calls more; a commit that comes down to
/// one write of the store below costs that and one call. An [`Atomic`] the store below may have is
/// not used.
///
/// It is as durable as the writes of the store below, and goes on when its caller is dropped.
///
/// # What may go wrong
///
/// - *The process ends.* Who opens the store next finds the record, and makes the writes again;
///   doing that twice changes nothing. A commit is whole or absent, and one that was acknowledged
///   is there.
/// - *The store below fails.* If the record could not be written, nothing has happened, and its
///   error is returned. Afterwards every write is tried again for a second; if that does not help
///   the caller gets [`Unknown`](crate::kv::ErrorKind::Unknown), and the store closes itself: nobody sees
///   half a commit, every call answers [`Closed`](crate::kv::ErrorKind::Closed), and opening the store again
///   finishes what was begun. If the store below panics, that is one more way to fail.
/// - *A record is damaged.* [`start`](Store::start) answers [`Corrupt`](crate::kv::ErrorKind::Corrupt), names
///   its key, and changes nothing. Whoever removes that key goes on with what is there, which may
///   hold half a commit. A record of newer software is [`TooNew`](crate::kv::ErrorKind::TooNew).
///
/// # One process
///
/// The lock is in this process, so that one process alone may have the store open, through one
/// `Journaled`. To notice others, `start` writes a random owner mark, and each commit looks
/// whether it still stands: before it writes its record, and again before it applies it. An owner
/// that was replaced gets `Closed`, and so does every call after it. This is best effort: one that
/// is suspended between the second look and its writes, and goes on when the next owner has
/// opened the store, does harm; and reads and plain writes do not look. Where [`ownership`](Store::ownership) is
/// [`Shared`](Ownership::Shared), [`health`](Store::health) says so.
///
/// The record stands under its owner and its number, which ascends: so a record that its owner
/// left half applied is told from one that it withdrew, and from a `set` of a record whose answer
/// was lost and which a backend carried out after the commit had long been finished.
///
/// # Its keys
///
/// Keys are the same in the store below, so that it can be used without a journal, too, should it
/// learn to commit. The journal keeps its own under `\xff\xffkvjob-journal/`: they are
/// [`InvalidKey`](crate::kv::ErrorKind::InvalidKey) here, and no scan, delete or watcher meets them.
///
/// It needs a Tokio runtime with time enabled.
#[derive(Debug)]
pub struct Journaled<S>(Arc<Shared<S>>);

impl<S: Store> Journaled<S> {
    /// Makes commits of the plain writes of `inner`. Nothing is read or written before
    /// [`start`](Store::start) or the first call.
    pub fn new(inner: S) -> Self {
        Self(Arc::new(Shared::new(inner)))
    }

    /// The store below. `None` if a write is under way whose caller is gone: after
    /// [`stop`](Store::stop) there is none.
    pub fn into_inner(self) -> Option<S> {
        Arc::into_inner(self.0).map(|shared| shared.inner)
    }

    fn check_commit(&self, changes: &[Change]) -> Result<()> {
        check_commit(changes, &self.limits())?;
        changes
            .iter()
            .try_for_each(|change| hidden::refuse(&change.key))
    }

    fn check_key(&self, key: &Key) -> Result<()> {
        self.limits().check_key(key)?;
        hidden::refuse(key)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Journaled<S> {
    fn name(&self) -> &str {
        self.0.inner.name()
    }

    fn unique_keys(&self) -> bool {
        self.0.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        hidden::refuse(&object.key)?;
        let reading = self.0.reading().await?;
        self.0
            .detached(reading, |shared, _| {
                let set = async { shared.inner.set(object).await };
                shared.answer(set).boxed()
            })
            .await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.check_key(key)?;
        let _reading = self.0.reading().await?;
        self.0.read(async { self.0.inner.get(key).await }).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let _reading = self.0.reading().await?;
        self.0.scan_around_reserved(&scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.check_key(&object.key)?;
        let (reading, object) = (self.0.reading().await?, object.clone());
        self.0
            .detached(reading, |shared, _| {
                let remove = async move { shared.inner.remove(&object).await };
                shared.answer(remove).boxed()
            })
            .await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        let (reading, prefix) = (self.0.reading().await?, prefix.clone());
        if hidden::is_reserved(&prefix) {
            return Ok(());
        }
        self.0
            .detached(reading, |shared, state| {
                async move {
                    if hidden::covers_reserved(&prefix) {
                        return shared.delete_around_mark(state, &prefix).await;
                    }
                    let delete = async { shared.inner.delete(&prefix).await };
                    shared.answer(delete).await
                }
                .boxed()
            })
            .await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let _reading = self.0.reading().await?;
        self.0
            .read(async { self.0.inner.get_many(keys).await })
            .await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let _reading = self.0.reading().await?;
        let mut prefixes = scans.iter().map(|scan| &scan.prefix);
        if prefixes.any(|prefix| hidden::is_reserved(prefix) || hidden::covers_reserved(prefix)) {
            let mut pages = Vec::with_capacity(scans.len());
            for scan in &scans {
                pages.push(self.0.scan_around_reserved(scan).await?);
            }
            return Ok(pages);
        }
        self.0
            .read(async { self.0.inner.scan_many(scans).await })
            .await
    }

    async fn start(&self) -> Result<()> {
        self.0.begin().await
    }

    async fn stop(&self) -> Result<()> {
        self.0.stop().await
    }

    async fn health(&self) -> Result<Health> {
        let _reading = self.0.reading().await?;
        let mut health = self.0.read(async { self.0.inner.health().await }).await?;
        if self.ownership() == Ownership::Shared {
            let warning = format!(
                "{}: its commits are made by a journal, which serves one process, and nothing keeps others out",
                self.name()
            );
            health.warnings.push(warning);
        }
        Ok(health)
    }

    fn limits(&self) -> Limits {
        record::limits(self.0.inner.limits(), self.unique_keys())
    }

    fn ownership(&self) -> Ownership {
        self.0.inner.ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.0.inner.watch().is_some().then_some(self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Atomic for Journaled<S> {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        self.check_commit(&changes)?;
        let writing = self.0.writing().await?;
        self.0
            .detached(writing, |shared, state| {
                async move { shared.commit(state, &changes).await }.boxed()
            })
            .await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        for changes in commits {
            outcomes.push(self.commit(changes).await);
        }
        outcomes
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Watch for Journaled<S> {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let _reading = self.0.reading().await?;
        let events = watch_of(&self.0.inner)?.watch(prefix).await?;
        Ok(hidden::deaf_to_reserved(events))
    }

    fn announce(&self, keys: Vec<Key>) {
        if let Some(watch) = self.0.inner.watch() {
            watch.announce(keys);
        }
    }
}
