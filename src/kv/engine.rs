//! What an embedded backend implements.

use std::fmt::Debug;

use bytes::Bytes;

use super::{Health, Key, Limits, Object, Range, Result};

/// One write of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Stores an object, whatever was there.
    Put(Object),
    /// Removes what is under this key, if anything.
    Remove(Key),
    /// Removes every key that begins with this prefix.
    DeletePrefix(Key),
}

/// A synchronous key-value engine in this process. [`Embedded`](super::Embedded) makes a full
/// [`Store`](super::Store) of it, with [`Atomic`](super::Atomic) and [`Watch`](super::Watch).
///
/// Reads come from any thread, also while a write is under way, and see the state before or
/// after a whole [`apply`](Self::apply), never between. `apply` and [`sync`](Self::sync) are
/// called from one thread at a time. Keys and values have been checked against
/// [`limits`](Self::limits).
pub trait Engine: Send + Sync + Debug + 'static {
    /// What it is called in messages, such as `redb`.
    fn name(&self) -> &str;

    /// The largest things it takes.
    fn limits(&self) -> Limits;

    /// The values under these keys, each at its key's place, all of one moment.
    ///
    /// # Errors
    /// What the engine says.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;

    /// Visits the objects of a range in its order, all of one moment, until `visit` returns
    /// `false` or the range ends.
    ///
    /// # Errors
    /// What the engine says.
    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;

    /// Applies all of these writes, in this order, or none. With `sync`, they and every earlier
    /// write are on disk when it returns `Ok`.
    ///
    /// # Errors
    /// [`Unknown`](super::ErrorKind::Unknown) if the writes may have been applied or may be lost
    /// later (a sync that failed, above all): the store then closes itself. Every other kind
    /// means that none was applied.
    fn apply(&self, writes: &[Write], sync: bool) -> Result<()>;

    /// Brings every earlier write to disk.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn sync(&self) -> Result<()>;

    /// What would surprise a user.
    ///
    /// # Errors
    /// What the engine says.
    fn health(&self) -> Result<Health> {
        Ok(Health::default())
    }
}

/// An engine that lets its user share a transaction with the store: see
/// [`Embedded::with_transaction`](super::Embedded::with_transaction).
pub trait Transactional: Engine {
    /// The transaction as the user gets it in hand: the engine's own, and with it the store's
    /// keys.
    type Transaction<'t>;

    /// Begins a write transaction, runs `body` in it, and commits and syncs it if `body` returned
    /// `Ok`; else rolls it back. Returns the keys that were put through the store's side of the
    /// transaction, for the watchers.
    ///
    /// # Errors
    /// What `body` returned, or as [`apply`](Engine::apply).
    fn transact(
        &self,
        body: &mut dyn FnMut(&mut Self::Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>>;
}
