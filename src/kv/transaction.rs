//! The store's side of a transaction that a user shares with a store on a server. That of an
//! engine in this process is [`Transaction`](super::Transaction).

use async_trait::async_trait;
use bytes::Bytes;

use super::{Change, Key, Limits, Result};

/// The store's side of a transaction that its user began, on a server: what
/// [`Transaction`](super::Transaction) is in this process. Reads see what the transaction itself
/// wrote. The user commits it, or rolls it back.
#[async_trait]
pub trait AsyncTransaction: Send {
    /// The largest things it takes; those of its store.
    fn limits(&self) -> Limits;

    /// As [`Store::unique_keys`](super::Store::unique_keys), and the same as its store's.
    fn unique_keys(&self) -> bool {
        true
    }

    /// The values under these keys, each at its key's place: of a bag the smallest under each key.
    ///
    /// # Errors
    /// What the backend says.
    async fn get(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;

    /// Makes every change part of the transaction, or none if any `before` does not hold: what
    /// [`Atomic::commit`](super::Atomic::commit) is outside of one. Nothing is retried.
    ///
    /// # Errors
    /// As [`Atomic::commit`](super::Atomic::commit). Roll the transaction back, unless it is a
    /// condition that failed and the transaction makes sense without these changes.
    async fn change(&mut self, changes: &[Change]) -> Result<()>;
}
