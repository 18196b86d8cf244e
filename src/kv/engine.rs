//! What an embedded backend implements: a synchronous engine, and, where it has transactions,
//! the store's side of one that a user shares. Threads, groups, conditions, durability and
//! watchers are [`Embedded`](super::Embedded)'s.

use std::fmt::Debug;

use bytes::Bytes;

use super::embedded::decide;
use super::{Change, Health, Key, Limits, Range, Result, check_commit};

/// One write of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// Stores an object, whatever was there. A bag gets the pair beside those it has, and stays as
    /// it is if it has this one.
    Put {
        /// Its key.
        key: &'a Key,
        /// Its value.
        value: &'a Bytes,
    },
    /// Removes what is under this key, if anything: on a bag, every value.
    Remove(&'a Key),
    /// Removes this very pair, if it is there. Only a bag is sent it; where keys are unique it is
    /// what [`Remove`](Self::Remove) is.
    RemovePair {
        /// Its key.
        key: &'a Key,
        /// Its value.
        value: &'a Bytes,
    },
    /// Removes every key that begins with this prefix. [`Embedded`](super::Embedded) sends it
    /// alone, for it may take long. It alone may be seen half-way, and left so by an error or a
    /// crash.
    DeletePrefix(&'a Key),
}

/// A synchronous key-value engine in this process. [`Embedded`](super::Embedded) makes a full
/// [`Store`](super::Store) of it, with [`Atomic`](super::Atomic) and [`Watch`](super::Watch).
///
/// Reads come from any thread, also while a write is under way, and see the state before or
/// after a whole [`apply`](Self::apply), never between. `apply` and [`sync`](Self::sync) are
/// called from one thread at a time. Keys and values have been checked against
/// [`limits`](Self::limits). Dropping the engine closes its files.
///
/// Where removed keys slow scans down, [`Gaps`](super::Gaps) passes over them.
///
/// # Errors that close the store
///
/// Two kinds of error from `apply` and `sync` make the store close itself, for afterwards nobody
/// can say what is on disk: [`Unknown`](super::ErrorKind::Unknown), the writes may have been
/// applied or may be lost later (a sync that failed, above all), and
/// [`Closed`](super::ErrorKind::Closed), none of *these* writes was applied, and the engine takes
/// no further ones. A panic counts as the first. Every other kind means that none was applied and
/// that the engine goes on.
pub trait Engine: Send + Sync + Debug + 'static {
    /// What it is called in messages, such as `redb`.
    fn name(&self) -> &str;

    /// The largest things it takes.
    fn limits(&self) -> Limits;

    /// Whether a key holds one value (`true`) or a set of them: see
    /// [`Store`](super::Store#two-kinds). Stays the same.
    fn unique_keys(&self) -> bool {
        true
    }

    /// The values under these keys, each at its key's place, all of one moment: of a bag the
    /// smallest under each key.
    ///
    /// # Errors
    /// What the engine says.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;

    /// Visits the objects of a range in its order, all of one moment, until `visit` returns
    /// `false` or the range ends: of a bag every pair, by key and then by value, in reverse by
    /// both. The range is not [empty](Range::is_empty).
    ///
    /// # Errors
    /// What the engine says.
    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;

    /// Applies all of these writes, in this order, or none. With `sync`, they and every earlier
    /// write are on disk when it returns `Ok`.
    ///
    /// # Errors
    /// What the engine says, in the kinds the [trait](Self) tells apart.
    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()>;

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
    type Transaction<'t>: Transaction;

    /// Begins a write transaction, runs `body` in it, and commits and syncs it (with every
    /// earlier write) if `body` returned `Ok`; else rolls it back. Returns the keys that were put
    /// through the store's side of the transaction, for the watchers.
    ///
    /// # Errors
    /// What `body` returned, or as [`apply`](Engine::apply).
    fn transact(
        &self,
        body: &mut dyn FnMut(&mut Self::Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>>;
}

/// An engine whose files several processes may have open: see
/// [`Embedded::open_shared`](super::Embedded::open_shared).
///
/// Its write transactions exclude each other also across processes, and what one of them reads
/// nobody changes before it ends. One that cannot begin because of another fails as
/// [`Conflict`](super::ErrorKind::Conflict), with nothing applied.
pub trait Shareable: Transactional {
    /// As [`transact`](Transactional::transact), but syncs only with `sync`: for a group of commits,
    /// whose conditions are checked in it.
    ///
    /// # Errors
    /// As [`transact`](Transactional::transact).
    fn transact_group(
        &self,
        sync: bool,
        body: &mut dyn FnMut(&mut Self::Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>>;

    /// Whether anybody else has written since this was last asked. May say yes where nobody has,
    /// and never says no of a write that a read which begins now would see.
    ///
    /// # Errors
    /// What the engine says.
    fn others_wrote(&self) -> Result<bool>;
}

/// The store's side of a transaction that its user shares with it. Reads see what the
/// transaction itself wrote.
pub trait Transaction {
    /// The largest things it takes; those of its engine.
    fn limits(&self) -> Limits;

    /// As [`Engine::unique_keys`], and the same as its engine's.
    fn unique_keys(&self) -> bool {
        true
    }

    /// As [`Engine::get`].
    ///
    /// # Errors
    /// What the engine says.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;

    /// As [`Engine::scan`].
    ///
    /// # Errors
    /// What the engine says.
    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;

    /// Makes these writes part of the transaction. For implementers: users call
    /// [`change`](Self::change), which checks first.
    ///
    /// # Errors
    /// What the engine says; the transaction must then be rolled back.
    fn write(&mut self, writes: &[Write<'_>]) -> Result<()>;

    /// Makes every change part of the transaction, or none if any `before` does not hold: what
    /// [`Atomic::commit`](super::Atomic::commit) is outside of one. Nothing is retried.
    ///
    /// # Errors
    /// As [`Atomic::commit`](super::Atomic::commit). Return the error, unless it is a condition
    /// that failed and the transaction makes sense without these changes.
    fn change(&mut self, changes: &[Change]) -> Result<()> {
        check_commit(changes, &self.limits())?;
        let decided = decide(
            self.unique_keys(),
            std::iter::once(changes),
            |keys| self.get(keys),
            |range, visit| self.scan(range, visit),
        )?;
        decided.outcomes.into_iter().collect::<Result<()>>()?;
        self.write(&decided.writes)
    }
}
