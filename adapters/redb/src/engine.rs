//! [`Engine`]: one table of a redb database, and the transaction a user shares with it. What is
//! read from and written to the table is in `unique` and `bag`, for the two kinds of store.

use std::fmt;

use bytes::Bytes;
use kvjob::kv::{self, ErrorKind, Key, Limits, Range, Result, Transactional, Write};
use redb::{Database, Durability, ReadableDatabase, TableError, WriteTransaction};

use crate::error::{committing, reading, writing};
use crate::{bag, unique};

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
    unique_keys: bool,
}

impl Engine {
    /// An engine on this database, whose table it creates if it is not there. Of the database's
    /// other tables it knows nothing.
    ///
    /// # Errors
    /// What redb says; also if there is a table `kvjob` of another kind:
    /// [`Unsupported`](ErrorKind::Unsupported) if it is a [bag](Self::bag)'s.
    pub fn new(database: Database) -> Result<Self> {
        Self::with(database, true)
    }

    /// The same as a bag, in which a key holds a set of values: its table is a multimap table.
    ///
    /// # Errors
    /// What redb says; also if there is a table `kvjob` of another kind:
    /// [`Unsupported`](ErrorKind::Unsupported) if it is one of [unique keys](Self::new).
    pub fn bag(database: Database) -> Result<Self> {
        Self::with(database, false)
    }

    fn with(database: Database, unique_keys: bool) -> Result<Self> {
        let engine = Self {
            database,
            unique_keys,
        };
        let transaction = engine.database.begin_read().map_err(reading)?;
        let opened = if unique_keys {
            transaction.open_table(unique::TABLE).map(drop)
        } else {
            transaction.open_multimap_table(bag::TABLE).map(drop)
        };
        match opened {
            Ok(()) => {}
            Err(TableError::TableDoesNotExist(_)) => {
                let transaction = engine.begin(true)?;
                engine.writable(&transaction)?;
                transaction.commit().map_err(committing)?;
            }
            Err(error) => return Err(other_kind(error)),
        }
        Ok(engine)
    }

    fn readable(&self) -> Result<Readable> {
        let transaction = self.database.begin_read().map_err(reading)?;
        if self.unique_keys {
            let table = transaction.open_table(unique::TABLE).map_err(reading)?;
            Ok(Readable::Unique(table))
        } else {
            let table = transaction.open_multimap_table(bag::TABLE);
            Ok(Readable::Bag(table.map_err(reading)?))
        }
    }

    fn writable<'t>(&self, transaction: &'t WriteTransaction) -> Result<Writable<'t>> {
        if self.unique_keys {
            let table = transaction.open_table(unique::TABLE).map_err(writing)?;
            Ok(Writable::Unique(table))
        } else {
            let table = transaction.open_multimap_table(bag::TABLE);
            Ok(Writable::Bag(table.map_err(writing)?))
        }
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

/// The table in a read transaction.
enum Readable {
    Unique(unique::ReadOnlyTable),
    Bag(bag::ReadOnlyTable),
}

/// The table in a write transaction.
enum Writable<'t> {
    Unique(unique::Table<'t>),
    Bag(bag::Table<'t>),
}

impl Writable<'_> {
    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        match self {
            Self::Unique(table) => unique::write(table, writes),
            Self::Bag(table) => bag::write(table, writes),
        }
    }
}

/// The error of a table that is there and cannot be opened.
fn other_kind(source: TableError) -> kv::Error {
    let why = match &source {
        TableError::TableIsMultimap(_) => {
            "it holds a bag, whose keys have sets of values, and was to be opened as a store with \
             one value a key; open it with Options::bag(), or choose another path"
        }
        TableError::TableIsNotMultimap(_) => {
            "it holds a store with one value a key, and was to be opened as a bag, whose keys \
             have sets of values; open it without Options::bag(), or choose another path"
        }
        _ => return reading(source),
    };
    kv::Error::new(ErrorKind::Unsupported, why).with_source(source)
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn unique_keys(&self) -> bool {
        self.unique_keys
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        match self.readable()? {
            Readable::Unique(table) => unique::get(&table, keys),
            Readable::Bag(table) => bag::get(&table, keys),
        }
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        match self.readable()? {
            Readable::Unique(table) => unique::scan(&table, range, visit),
            Readable::Bag(table) => bag::scan(&table, range, visit),
        }
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        let transaction = self.begin(sync)?;
        self.writable(&transaction)?.write(writes)?;
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
                table: self.writable(&redb)?,
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
    table: Writable<'t>,
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

    fn unique_keys(&self) -> bool {
        matches!(self.table, Writable::Unique(_))
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        match &self.table {
            Writable::Unique(table) => unique::get(table, keys),
            Writable::Bag(table) => bag::get(table, keys),
        }
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        match &self.table {
            Writable::Unique(table) => unique::scan(table, range, visit),
            Writable::Bag(table) => bag::scan(table, range, visit),
        }
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        self.table.write(writes)?;
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
