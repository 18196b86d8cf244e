//! The trait an adapter implements.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Atomic, Health, Key, Limits, Object, Ownership, Page, Result, Scan, Watch};

/// A key-value store: the least a backend must be able to do.
///
/// # Implementing it
///
/// The five methods without a body make an adapter; override the others where the backend does
/// better. Refuse what [`limits`](Self::limits) exclude before touching the backend
/// ([`Limits::check_object`], [`check_commit`](super::check_commit)), cut pages with
/// [`PageBuilder`](super::PageBuilder), and never block an async thread for long: a synchronous
/// backend implements [`Engine`](super::Engine) instead.
///
/// # Two kinds
///
/// With [`unique_keys`](Self::unique_keys) (the default) a key holds one value: `set` overwrites
/// it, `remove` ignores the value it is given. Without, a key holds a *set* of distinct values in
/// byte order (a bag): `set` adds one, `get` returns the smallest, `remove` takes out that very
/// pair.
///
/// # Wrapping it
///
/// A wrapper forwards every method, the provided ones too; deny
/// `clippy::missing_trait_methods` in it, so that none can be forgotten.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// What this store is called in messages, such as `redb`.
    fn name(&self) -> &str;

    /// Whether a key holds one value (`true`) or a set of them.
    fn unique_keys(&self) -> bool {
        true
    }

    /// Stores an object. Durable, as far as the store was opened to be, once it returned `Ok`.
    ///
    /// # Errors
    /// [`InvalidKey`](super::ErrorKind::InvalidKey) for the empty key,
    /// [`TooLarge`](super::ErrorKind::TooLarge) beyond [`limits`](Self::limits), or what the
    /// backend says.
    async fn set(&self, object: Object) -> Result<()>;

    /// The object under `key`, or `None`.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    async fn get(&self, key: &Key) -> Result<Option<Object>>;

    /// One page of the objects under a prefix.
    ///
    /// # Errors
    /// What the backend says.
    async fn scan(&self, scan: Scan) -> Result<Page>;

    /// Removes an object; `Ok` if it is not there.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    async fn remove(&self, object: &Object) -> Result<()>;

    /// Removes every object whose key begins with `prefix`; the empty prefix removes everything.
    /// Need not be atomic: after an error or a crash some may be gone, and calling it again
    /// finishes the work.
    ///
    /// # Errors
    /// What the backend says.
    async fn delete(&self, prefix: &Key) -> Result<()>;

    /// The objects under these keys, each at its key's place. One trip where the backend can.
    ///
    /// # Errors
    /// As [`get`](Self::get); none of the answers is then known.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        let mut objects = Vec::with_capacity(keys.len());
        for key in keys {
            objects.push(self.get(key).await?);
        }
        Ok(objects)
    }

    /// A page for each scan, at its place. One trip where the backend can.
    ///
    /// # Errors
    /// As [`scan`](Self::scan); none of the answers is then known.
    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let mut pages = Vec::with_capacity(scans.len());
        for scan in scans {
            pages.push(self.scan(scan).await?);
        }
        Ok(pages)
    }

    /// Gets the store ready. Calling it again changes nothing.
    ///
    /// # Errors
    /// What the backend says.
    async fn start(&self) -> Result<()> {
        Ok(())
    }

    /// Finishes what was begun, makes it durable and lets go of the backend. Afterwards every
    /// call answers [`Closed`](super::ErrorKind::Closed), where the store holds something to
    /// close. Calling it again changes nothing.
    ///
    /// # Errors
    /// What the backend says.
    async fn stop(&self) -> Result<()> {
        Ok(())
    }

    /// What would surprise a user.
    ///
    /// # Errors
    /// What the backend says.
    async fn health(&self) -> Result<Health> {
        Ok(Health::default())
    }

    /// The largest things it takes.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Whether other processes may have it open, too.
    fn ownership(&self) -> Ownership {
        Ownership::Shared
    }

    /// Several changes as one, if the store can.
    fn atomic(&self) -> Option<&dyn Atomic> {
        None
    }

    /// Being told of changes, if the store can.
    fn watch(&self) -> Option<&dyn Watch> {
        None
    }
}

/// A shared store is a store, so that a wrapper takes one, too.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn unique_keys(&self) -> bool {
        (**self).unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        (**self).set(object).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        (**self).get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        (**self).scan(scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        (**self).remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        (**self).delete(prefix).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        (**self).get_many(keys).await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        (**self).scan_many(scans).await
    }

    async fn start(&self) -> Result<()> {
        (**self).start().await
    }

    async fn stop(&self) -> Result<()> {
        (**self).stop().await
    }

    async fn health(&self) -> Result<Health> {
        (**self).health().await
    }

    fn limits(&self) -> Limits {
        (**self).limits()
    }

    fn ownership(&self) -> Ownership {
        (**self).ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        (**self).atomic()
    }

    fn watch(&self) -> Option<&dyn Watch> {
        (**self).watch()
    }
}
