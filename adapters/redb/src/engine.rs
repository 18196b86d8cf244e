//! [`Engine`]: one table of a redb database, and the transaction a user shares with it.

use std::fmt;

use bytes::Bytes;
use kvjob::kv::{self, Direction, Key, Limits, Range, Result, Transactional, Write};
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};

use crate::error::{committing, reading, writing};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kvjob");

/// The largest things a store in redb takes. redb itself takes values of 3 GiB; these keep a
/// commit well within the cache.
pub const LIMITS: Limits = Limits {
    key_bytes: 64 << 10,
    value_bytes: 64 << 20,
    commit_bytes: 64 << 20,
    commit_changes: 64 << 10,
};

/// The table `kvjob` of a redb database. Users have it inside a [`Redb`](crate::Redb).
pub struct Engine {
    database: Database,
}

impl Engine {
    /// An engine on this database, whose table it creates if it is not there. Of the database's
    /// other tables it knows nothing.
    ///
    /// # Errors
    /// What redb says; also if there is a table `kvjob` of another kind.
    pub fn new(database: Database) -> Result<Self> {
        let engine = Self { database };
        let transaction = engine.database.begin_read().map_err(reading)?;
        match transaction.open_table(TABLE) {
            Ok(_) => {}
            Err(TableError::TableDoesNotExist(_)) => {
                let transaction = engine.begin(true)?;
                transaction.open_table(TABLE).map_err(writing)?;
                transaction.commit().map_err(committing)?;
            }
            Err(error) => return Err(reading(error)),
        }
        Ok(engine)
    }

    fn table(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>> {
        let transaction = self.database.begin_read().map_err(reading)?;
        transaction.open_table(TABLE).map_err(reading)
    }

    fn begin(&self, sync: bool) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write().map_err(writing)?;
        let durability = if sync {
            Durability::Immediate
        } else {
            Durability::None
        };
        transaction.set_durability(durability).map_err(writing)?;
        Ok(transaction)
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        get(&self.table()?, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        scan(&self.table()?, range, visit)
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        let transaction = self.begin(sync)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(writing)?;
            write(&mut table, writes)?;
        }
        transaction.commit().map_err(committing)
    }

    fn sync(&self) -> Result<()> {
        // A commit that syncs takes along those before it that did not.
        self.begin(true)?.commit().map_err(committing)
    }
}

impl Transactional for Engine {
    type Transaction<'t> = Transaction<'t>;

    fn transact(
        &self,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>> {
        let redb = self.begin(true)?;
        let outcome = {
            let mut transaction = Transaction {
                table: redb.open_table(TABLE).map_err(writing)?,
                redb: &redb,
                put: Vec::new(),
            };
            body(&mut transaction).map(|()| transaction.put)
        };
        match outcome {
            Ok(put) => redb.commit().map_err(committing).map(|()| put),
            Err(error) => {
                // What the body said is what its caller must know. If redb cannot even roll back
                // it takes nothing further, and the next write says so.
                let _ = redb.abort();
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A write transaction that the user shares with the store, in the body of
/// [`with_transaction`](kv::Embedded::with_transaction): [`redb`](Self::redb) for the user's own
/// tables, and [`kv::Transaction`] for the store's keys.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("jobs.redb");
/// use kvjob::kv::{Change, Transaction as _};
/// use kvjob_redb::redb::TableDefinition;
///
/// const ORDERS: TableDefinition<u64, &str> = TableDefinition::new("orders");
///
/// let store = kvjob_redb::open(path)?;
/// store
///     .with_transaction(|tx| {
///         let mut orders = tx.redb().open_table(ORDERS).map_err(kvjob_redb::error)?;
///         orders.insert(7, "a book").map_err(kvjob_redb::error)?;
///         drop(orders);
///         tx.change(&[Change::create("ship/7", "")])
///     })
///     .await?;
/// # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
/// ```
pub struct Transaction<'t> {
    redb: &'t WriteTransaction,
    table: Table<'t, &'static [u8], &'static [u8]>,
    put: Vec<Key>,
}

impl<'t> Transaction<'t> {
    /// redb's own transaction. The store's table `kvjob` is in use and cannot be opened through
    /// it.
    pub fn redb(&self) -> &'t WriteTransaction {
        self.redb
    }
}

impl kv::Transaction for Transaction<'_> {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        get(&self.table, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        scan(&self.table, range, visit)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        write(&mut self.table, writes)?;
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

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>> {
    keys.iter()
        .map(|key| {
            let value = table.get(key.as_bytes()).map_err(reading)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
        .collect()
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let mut objects = table.range::<&[u8]>(range.as_bytes()).map_err(reading)?;
    while let Some(object) = match range.direction {
        Direction::Forward => objects.next(),
        Direction::Reverse => objects.next_back(),
    } {
        let (key, value) = object.map_err(reading)?;
        if !visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

fn write(table: &mut Table<'_, &'static [u8], &'static [u8]>, writes: &[Write<'_>]) -> Result<()> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                table
                    .insert(key.as_bytes(), value.as_ref())
                    .map_err(writing)?;
            }
            Write::Remove(key) | Write::RemovePair { key, .. } => {
                table.remove(key.as_bytes()).map_err(writing)?;
            }
            Write::DeletePrefix(prefix) => {
                let range = kv::Scan::prefix((*prefix).clone()).range(true);
                table
                    .retain_in::<&[u8], _>(range.as_bytes(), |_, _| false)
                    .map_err(writing)?;
            }
        }
    }
    Ok(())
}
