//! [`Transaction`]: what the user has in hand of one that is shared with the store.

use std::fmt;

use bytes::Bytes;
use fjall::{Readable as _, SingleWriterTxDatabase, SingleWriterTxKeyspace, SingleWriterWriteTx};
use kvjob::kv::{self, Key, Limits, Range, Result, Scan, Write};

use crate::LIMITS;
use crate::engine::{KEYSPACE, get, scan, short};
use crate::error::reading;

/// A write transaction that the user shares with the store, in the body of
/// [`with_transaction`](kv::Embedded::with_transaction): [`fjall`](Self::fjall) for the user's own
/// keyspaces, and [`kv::Transaction`] for the store's keys.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("jobs.fjall");
/// use kvjob::kv::{Change, Transaction as _};
///
/// let store = kvjob_fjall::open(path)?;
/// store
///     .with_transaction(|tx| {
///         let orders = tx.keyspace("orders")?;
///         tx.fjall().insert(&orders, "7", "a book");
///         tx.change(&[Change::create("ship/7", "")])
///     })
///     .await?;
/// # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
/// ```
pub struct Transaction<'t> {
    fjall: SingleWriterWriteTx<'t>,
    database: &'t SingleWriterTxDatabase,
    own: &'t SingleWriterTxKeyspace,
    put: Vec<Key>,
}

impl<'t> Transaction<'t> {
    pub(crate) fn new(
        fjall: SingleWriterWriteTx<'t>,
        database: &'t SingleWriterTxDatabase,
        own: &'t SingleWriterTxKeyspace,
    ) -> Self {
        Self {
            fjall,
            database,
            own,
            put: Vec::new(),
        }
    }

    /// fjall's own transaction, and the store's keys that were put.
    pub(crate) fn into_parts(self) -> (SingleWriterWriteTx<'t>, Vec<Key>) {
        (self.fjall, self.put)
    }

    /// fjall's own transaction. Its reads see what it wrote. Leave the store's keyspace `kvjob`
    /// to the store.
    pub fn fjall(&mut self) -> &mut SingleWriterWriteTx<'t> {
        &mut self.fjall
    }

    /// A keyspace of the user's own, with fjall's default options. It is created at once if it is
    /// not there, and stays (empty) if the transaction is rolled back.
    ///
    /// A handle that is kept keeps the database open, and locked, after the store was stopped.
    ///
    /// # Errors
    /// [`Unsupported`](kv::ErrorKind::Unsupported) for a name that is the store's own or that
    /// fjall does not take; what fjall says.
    pub fn keyspace(&self, name: &str) -> Result<SingleWriterTxKeyspace> {
        if name == KEYSPACE || name.is_empty() || name.len() > usize::from(u8::MAX) {
            let message = format!(
                "a keyspace cannot be called {name:?}: choose a name of 1 to 255 bytes other than \
                 {KEYSPACE:?}, which is the store's own"
            );
            return Err(kv::Error::new(kv::ErrorKind::Unsupported, message));
        }
        let keyspace = self.database.keyspace(name, Default::default);
        keyspace.map_err(reading)
    }
}

impl kv::Transaction for Transaction<'_> {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        get(&self.fjall, self.own, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        scan(&self.fjall, self.own, &short(range), visit)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        let keyspace = self.own;
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    self.fjall.insert(keyspace, key.as_bytes(), value.as_ref());
                    self.put.push((*key).clone());
                }
                Write::Remove(key) | Write::RemovePair { key, .. } => {
                    self.fjall.remove(keyspace, key.as_bytes());
                }
                Write::DeletePrefix(prefix) => {
                    let range = short(&Scan::prefix((*prefix).clone()).range(true));
                    let objects = self.fjall.range::<&[u8], _>(keyspace, range.as_bytes());
                    let keys: fjall::Result<Vec<_>> = objects.map(fjall::Guard::key).collect();
                    for key in keys.map_err(reading)? {
                        self.fjall.remove(keyspace, key);
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
