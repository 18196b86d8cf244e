//! [`Engine`]: one database of an LMDB environment, its commits and syncs, and the transaction a
//! user shares with it. What is read from and written to the database is in `table`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use heed::{EnvFlags, MdbError, RoTxn, RwTxn, WithoutTls};
use kvjob::kv::{
    self, Error, ErrorKind, Health, Key, Limits, Range, Result, Shareable, Transactional, Write,
};

use crate::error::{committing, doubtful, reading, writing};
use crate::table::{self, Table};
use crate::{Env, file};

/// The largest things a store in LMDB takes. Keys are LMDB's own limit; LMDB itself takes values of
/// 4 GiB, and these keep what a commit holds in memory within reason.
pub const LIMITS: Limits = Limits {
    key_bytes: 511,
    value_bytes: 64 << 20,
    commit_bytes: 64 << 20,
    commit_changes: 64 << 10,
};

/// Of a map that is taken to so many percent, users are warned.
const NEARLY_FULL: u128 = 80;
/// After so many commits it is seen to what processes that were killed while they read have left:
/// LMDB takes them for readers still, and keeps for them what is removed.
const STALE_EVERY: usize = 256;

/// The database `kvjob` of an LMDB environment. Users have it inside a [`Lmdb`](crate::Lmdb).
///
/// Fields are dropped in this order: the environment, which closes the files if nobody else has it,
/// comes last.
pub struct Engine {
    table: Table,
    /// Whether a commit of LMDB's own is on disk as a whole.
    commits_sync: bool,
    /// LMDB's file once more, to ask it what became of writes.
    file: File,
    others: Mutex<Others>,
    env: Env,
}

/// What is known of the commits of others.
#[derive(Debug, Default)]
struct Others {
    /// The last commit that is known. LMDB numbers all of a file.
    last: usize,
    /// Whether there were some of others since it was last asked.
    wrote: bool,
    /// Commits since stale readers were last looked for.
    commits: usize,
}

impl Engine {
    /// An engine in this environment, in which it makes its database if it is not there.
    pub(crate) fn new(env: Env) -> Result<Self> {
        let path = file::of(&env);
        // To write to, for only such a file can be synced everywhere.
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|error| writing(error.into()))?;
        // Those of processes that were killed.
        env.clear_stale_readers().map_err(reading)?;
        let table = table::open(&env)?;
        env.force_sync().map_err(writing)?;
        let flags = env.flags().map_err(reading)?;
        let others = Others {
            last: env.read_txn().map_err(reading)?.id(),
            ..Others::default()
        };
        Ok(Self {
            table,
            commits_sync: flags.is_some_and(|flags| !flags.contains(EnvFlags::NO_META_SYNC)),
            file,
            others: Mutex::new(others),
            env,
        })
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        // Plain numbers.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<RoTxn<'_, WithoutTls>> {
        match self.env.read_txn() {
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                self.env.clear_stale_readers().map_err(reading)?;
                self.env.read_txn()
            }
            begun => begun,
        }
        .map_err(reading)
    }

    fn begin(&self) -> Result<RwTxn<'_>> {
        let txn = self.env.write_txn().map_err(writing)?;
        let before = txn.id().saturating_sub(1);
        let mut others = self.others();
        others.wrote |= others.last != before;
        others.last = before;
        others.commits += 1;
        if others.commits >= STALE_EVERY {
            others.commits = 0;
            self.env.clear_stale_readers().map_err(writing)?;
        }
        drop(others);
        Ok(txn)
    }

    /// Commits, and with `sync` brings this and every earlier commit to disk. What `put` nothing may
    /// have changed nothing, and then has no number.
    fn commit(&self, txn: RwTxn<'_>, put: bool, sync: bool) -> Result<()> {
        let number = txn.id();
        txn.commit().map_err(|error| self.failed(error))?;
        if put {
            self.others().last = number;
        }
        if sync && !self.commits_sync {
            self.env.force_sync().map_err(doubtful)?;
        }
        Ok(())
    }

    /// The error of a commit. It is in doubt where LMDB could not take back that it pointed to what
    /// it had written, and where an earlier one may be missing on disk.
    fn failed(&self, error: heed::Error) -> Error {
        if !matches!(error, heed::Error::Io(_)) {
            return self.of_map(committing(error));
        }
        let fatal = matches!(
            self.env.read_txn(),
            Err(heed::Error::Mdb(MdbError::Panic) | heed::Error::Io(_))
        );
        // LMDB does not say whether a write failed or a sync. This handle has yet to be told of
        // every failure of the disk, so it tells.
        if fatal || self.file.sync_data().is_err() {
            return doubtful(error);
        }
        committing(error)
    }

    /// Says how large the map is where it was too small.
    fn of_map(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::TooLarge { what: "map", .. } => {
                let limit = self.env.info().map_size;
                let kind = ErrorKind::TooLarge { what: "map", limit };
                let message = format!("{error}; it has {} MiB now", limit >> 20);
                Error::new(kind, message).with_source(error)
            }
            _ => error,
        }
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "lmdb"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let txn = self.read()?;
        table::get(self.table, &txn, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let txn = self.read()?;
        table::scan(self.table, &txn, range, visit)
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        if let [Write::DeletePrefix(prefix)] = writes {
            // In parts: pages that one part frees, the next but one can use.
            loop {
                let mut txn = self.begin()?;
                let more = table::delete(self.table, &mut txn, prefix);
                let more = more.map_err(|error| self.of_map(error))?;
                self.commit(txn, false, sync && !more)?;
                if !more {
                    return Ok(());
                }
            }
        }
        let mut txn = self.begin()?;
        table::write(self.table, &mut txn, writes).map_err(|error| self.of_map(error))?;
        let put = writes
            .iter()
            .any(|write| matches!(write, Write::Put { .. }));
        self.commit(txn, put, sync)
    }

    fn sync(&self) -> Result<()> {
        self.env.force_sync().map_err(doubtful)
    }

    fn health(&self) -> Result<Health> {
        self.env.clear_stale_readers().map_err(reading)?;
        let mut health = Health::default();
        let info = self.env.info();
        let page = u128::from(self.env.unnamed_database_stat().page_size);
        let taken = (info.last_page_number as u128 + 1) * page;
        let size = info.map_size as u128;
        if taken * 100 >= size * NEARLY_FULL {
            health.warnings.push(format!(
                "lmdb: {} of {} MiB of the map are taken, some of them perhaps by what was removed \
                 and can be used again; open it with a larger map_size before it is full. Does \
                 a program keep a read transaction open?",
                taken >> 20,
                size >> 20
            ));
        }
        Ok(health)
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
        let mut transaction = Transaction {
            lmdb: self.begin()?,
            table: self.table,
            put: Vec::new(),
        };
        // Rolls back when it is dropped.
        body(&mut transaction).map_err(|error| self.of_map(error))?;
        let Transaction { lmdb, put, .. } = transaction;
        self.commit(lmdb, !put.is_empty(), sync)?;
        Ok(put)
    }

    fn others_wrote(&self) -> Result<bool> {
        // What a reader would see: LMDB's file says it earlier.
        let last = self.read()?.id();
        let mut others = self.others();
        let wrote = others.wrote || others.last != last;
        others.last = last;
        others.wrote = false;
        Ok(wrote)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("env", &self.env)
            .finish_non_exhaustive()
    }
}

/// A write transaction that the user shares with the store, in the body of
/// [`with_transaction`](kv::Embedded::with_transaction): [`lmdb`](Self::lmdb) for the user's own
/// databases, and [`kv::Transaction`] for the store's keys.
///
/// An [example](crate#beside-your-own-databases) is in the crate's documentation.
pub struct Transaction<'t> {
    lmdb: RwTxn<'t>,
    table: Table,
    put: Vec<Key>,
}

impl<'t> Transaction<'t> {
    /// heed's own transaction, for databases that were opened before: LMDB opens none inside of
    /// one. Nested transactions are yours to use. Leave the database `kvjob` to the store.
    pub fn lmdb(&mut self) -> &mut RwTxn<'t> {
        &mut self.lmdb
    }
}

impl kv::Transaction for Transaction<'_> {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        table::get(self.table, &self.lmdb, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        table::scan(self.table, &self.lmdb, range, visit)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        table::write(self.table, &mut self.lmdb, writes)?;
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
