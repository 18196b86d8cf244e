//! [`Engine`]: one table of a SQLite database, and the transaction a user shares with it. One
//! connection writes, others read.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kvjob::kv::{self, Health, Key, Limits, Range, Result, Shareable, Transactional, Write};
use rusqlite::Connection;

use crate::Place;
use crate::error::reading;
use crate::readers::Readers;
use crate::table;
use crate::writer::Writer;

/// The largest things a store in SQLite takes. SQLite itself takes values of 1 GB; these keep the
/// write-ahead log of a commit within reason.
pub const LIMITS: Limits = Limits {
    key_bytes: 64 << 10,
    value_bytes: 64 << 20,
    commit_bytes: 64 << 20,
    commit_changes: 64 << 10,
};

/// The table `kvjob` of a SQLite database. Users have it inside a [`Sqlite`](crate::Sqlite).
///
/// Fields are dropped in this order: the connection that writes is closed last, and empties the
/// write-ahead log.
#[derive(Debug)]
pub struct Engine {
    readers: Readers,
    writer: Mutex<Writer>,
}

impl Engine {
    /// An engine on this file, in which it creates its table if it is not there.
    pub(crate) fn open(place: Place) -> Result<Self> {
        let writer = Mutex::new(Writer::open(&place)?);
        let readers = Readers::new(place);
        Ok(Self { readers, writer })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic rolled back what it interrupted.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.readers.read(|connection| match keys {
            [] | [_] => table::get(connection, keys),
            _ => {
                // What several statements read is of one moment only within a transaction.
                let moment = connection.transaction().map_err(reading)?;
                table::get(&moment, keys)
            }
        })
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.readers
            .read(|connection| table::scan(connection, range, visit))
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        self.writer()
            .transact(sync, |connection| table::write(connection, writes))
    }

    fn sync(&self) -> Result<()> {
        self.writer().sync()
    }

    fn health(&self) -> Result<Health> {
        Ok(self.writer().health())
    }
}

impl Transactional for Engine {
    type Transaction<'t> = Transaction<'t>;

    fn transact(
        &self,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>> {
        self.transact_group(true, body)
    }
}

impl Shareable for Engine {
    fn transact_group(
        &self,
        sync: bool,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>> {
        self.writer().transact(sync, |sqlite| {
            let put = Vec::new();
            let mut transaction = Transaction { sqlite, put };
            body(&mut transaction)?;
            Ok(transaction.put)
        })
    }

    fn others_wrote(&self) -> Result<bool> {
        self.writer().others_wrote()
    }
}

/// A write transaction that the user shares with the store, in the body of
/// [`with_transaction`](kv::Embedded::with_transaction): [`sqlite`](Self::sqlite) for the user's own
/// tables, and [`kv::Transaction`] for the store's keys.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("shop.db");
/// # let orders = kvjob_sqlite::rusqlite::Connection::open(&path).unwrap();
/// # orders.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)").unwrap();
/// use kvjob::kv::{Change, Transaction as _};
///
/// let store = kvjob_sqlite::open(path)?;
/// store
///     .with_transaction(|tx| {
///         tx.sqlite()
///             .execute("INSERT INTO orders (id, what) VALUES (?1, ?2)", (7, "a book"))
///             .map_err(kvjob_sqlite::error)?;
///         tx.change(&[Change::create("ship/7", "")])
///     })
///     .await?;
/// # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
/// ```
pub struct Transaction<'t> {
    sqlite: &'t Connection,
    put: Vec<Key>,
}

impl<'t> Transaction<'t> {
    /// SQLite's own connection, inside the transaction, with foreign keys checked. Savepoints are
    /// yours to use; `COMMIT` and `ROLLBACK` are not: they leave nothing of either side, and the
    /// call fails. Leave the table `kvjob` to the store.
    pub fn sqlite(&self) -> &'t Connection {
        self.sqlite
    }
}

impl kv::Transaction for Transaction<'_> {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        table::get(self.sqlite, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        table::scan(self.sqlite, range, visit)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        table::write(self.sqlite, writes)?;
        self.put
            .extend(writes.iter().filter_map(|write| match write {
                Write::Put { key, .. } => Some((*key).clone()),
                Write::Remove(_) | Write::RemovePair { .. } | Write::DeletePrefix(_) => None,
            }));
        Ok(())
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
