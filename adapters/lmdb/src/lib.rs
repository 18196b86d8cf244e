//! kvjob on [LMDB](https://www.symas.com/lmdb): a durable store in a database of its own, in a
//! memory-mapped file that may hold your databases, too. Here are opening and options; group
//! commit, conditions and watchers are [`kv::Embedded`]'s.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.lmdb");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_lmdb::open(path)?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised
//!
//! | [`Durability`] | syncs of a group | an acknowledged change survives |
//! |---|---|---|
//! | `Immediate` (default) | two: its pages, then what points to them | `kill -9`, a crash of the machine and power loss |
//! | `Interval(d)` | one: its pages; and another when it is due | `kill -9`; what is older than `d`, or has a later group behind it, survives everything `Immediate` does |
//! | `Memory` | one: its pages | `kill -9`; a crash of the machine may lose the last group |
//!
//! In every mode a commit is there as a whole or not at all, and the file is never damaged. That is
//! why pages are synced in each: LMDB has a switch for no syncs at all (`MDB_NOSYNC`), with which a
//! loss of power can destroy the file, for what points to pages may reach the disk before they do.
//! `Interval` and `Memory` save the second sync, no more; on LMDB they are seldom worth it. A disk
//! that lies about syncs breaks every promise.
//!
//! Many callers share one sync (group commit), so throughput grows with the number of callers.
//! Reads never wait for a write, nor for its sync, and copy nothing but what they return.
//!
//! # The map
//!
//! LMDB maps its file into memory, and a file cannot outgrow its map: see [`Options::map_size`].
//! The default of 64 GiB takes addresses, not memory, and the file is as long as what was ever in
//! it. When the map is full a commit fails as [`TooLarge`](ErrorKind::TooLarge), nothing of it is
//! applied, and the store goes on; open it with a larger map then. Even to remove something takes
//! some room, so do not wait for it: [`health`](kv::Store::health) warns from four fifths on. The
//! map does not grow by itself, since LMDB could only do that while no transaction is open in this
//! process, yours included.
//!
//! # Beside your own databases
//!
//! The store has one database, `kvjob`, and uses no other. A process may open an environment only
//! once, so open it by [`Options::environment`] (or as heed does, for one database more than your
//! own) and give it to [`Options::open_in`]. Then an order and the job that mails it are saved in
//! one [transaction](Transaction): both are there afterwards, or neither is.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("shop.lmdb");
//! use std::sync::Arc;
//! use kvjob::job::{KvStore, NewJob, Options};
//! use kvjob_lmdb::heed::types::{Bytes, Str};
//! use kvjob_lmdb::heed::CommitOrAbort;
//!
//! let env = kvjob_lmdb::Options::new().environment(path, 1)?;
//! let tx = env.write_txn().map_err(kvjob_lmdb::error)?;
//! let orders = env.create_databases_and_commit(tx, |opener, tx| {
//!     opener
//!         .create_database::<Bytes, Str>(tx, Some("orders"))
//!         .map(CommitOrAbort::<_, ()>::Commit)
//! });
//! let orders = orders.map_err(kvjob_lmdb::error)?.unwrap_commit();
//!
//! let store = Arc::new(kvjob_lmdb::Options::new().open_in(env)?);
//! let jobs = KvStore::open(store.clone(), Options::default()).await?;
//!
//! let jobs_within = jobs.clone();
//! let receipt = store
//!     .with_transaction(move |tx| {
//!         orders
//!             .put(tx.lmdb(), b"7", "a book")
//!             .map_err(kvjob_lmdb::error)?;
//!         let (_, receipt) = jobs_within.enqueue_within(tx, NewJob::new("mail", "ada")?)?;
//!         Ok(receipt)
//!     })
//!     .await?;
//! receipt.committed().await;
//! # Ok::<_, kvjob::job::Error>(()) }).unwrap();
//! ```
//!
//! Your own write transactions are as always. The store waits for each, for as long as it takes, and
//! so does everybody for the store's. A read transaction that you keep open keeps LMDB from using
//! again what was removed since, and the file grows meanwhile.
//!
//! One *store* has the file open at a time: a lock on `<path>.lock` keeps other ones out and says
//! who has it, because conditions are checked in its process. (`<path>-lock` is LMDB's own.) Nothing
//! else may write to the database `kvjob`.
//!
//! # Several processes
//!
//! Opened with [`Options::shared`], any number of processes on this machine may have the file open,
//! each once, if all open it so. Conditions are then checked inside LMDB's write transaction, which
//! only one of them can have at a time; still each makes one transaction, with its syncs, of all
//! commits that wait for it. Whoever wants it waits for as long as the others take: LMDB knows no
//! time-out, so there is no [`Conflict`](ErrorKind::Conflict) either. A process that is killed while
//! it has it holds up nobody. Watchers hear within 20 ms or so that others wrote something, to that
//! file: not what. All must open it with the same [`map_size`](Options::map_size).
//!
//! # What is not
//!
//! - The file must be on a local disk, and nothing but LMDB may write to it or cut it while it is
//!   open: the process would die, or read nonsense. LMDB has no checksums. What is visibly damaged
//!   is refused when it is opened; in a file that was damaged elsewhere, LMDB may die.
//! - The file does not get shorter by itself: space that was freed is used again.
//! - A process that forks must not use the store in the child.
//! - A read of what is not in memory waits for the disk, on the thread that asked.
//! - Files are for machines of the same word size and byte order.
//! - The crate builds LMDB from source and needs a C compiler for it.

mod engine;
mod environment;
mod error;
mod file;
mod table;

use std::fs::{self, OpenOptions};
use std::path::Path;

use heed::EnvFlags;
use kvjob::kv::{self, Durability, Embedded, ErrorKind, FileLock, Result};

pub use engine::{Engine, LIMITS, Transaction};
pub use error::error;
/// The heed this was built with, for [`Transaction::lmdb`] and [`Options::open_in`].
pub use heed;

/// The name of the store's database.
const NAME: &str = "kvjob";

/// How often one of those who share a file sees to it that somebody makes it.
const ATTEMPTS: usize = 20;

/// An environment whose read transactions belong to no thread.
type Env = heed::Env<heed::WithoutTls>;

/// A store in an LMDB database, which [`open`] opens.
pub type Lmdb = Embedded<Engine>;

/// Opens the store in this file, durable at once, and creates the file if it is not there. Its
/// directory must be there. See [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Lmdb> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// let store = kvjob_lmdb::Options::new()
///     .map_size(1 << 40)
///     .open("jobs.lmdb")?;
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    map_size: usize,
    shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Immediate,
            // Most machines of 64 bits have addresses for a thousand of these.
            map_size: usize::try_from(64u64 << 30).unwrap_or(512 << 20),
            shared: false,
        }
    }
}

impl Options {
    /// Durable at once, with a map of 64 GiB (512 MiB on machines of 32 bits).
    pub fn new() -> Self {
        Self::default()
    }

    /// When an acknowledged change is on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The most bytes the file may ever have, rounded up to whole pages. Takes addresses of this
    /// process, not memory. It may be another one each time the file is opened; one that is smaller
    /// than what the file has takes nothing further. [`open_in`](Self::open_in) leaves it at the
    /// environment's.
    #[must_use]
    pub fn map_size(mut self, bytes: usize) -> Self {
        self.map_size = bytes;
        self
    }

    /// Lets other processes of this machine have the store open, too, if they open it so as well: see
    /// [above](crate#several-processes).
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Opens the store in this file, and creates the file if it is not there. Blocks, so use a
    /// blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if it is open elsewhere; [`TooNew`](ErrorKind::TooNew) and
    /// [`Unsupported`](ErrorKind::Unsupported) for files of a newer LMDB or another program, or with
    /// a database `kvjob` of another's, which are left as they are;
    /// [`Corrupt`](ErrorKind::Corrupt); [`Backend`](ErrorKind::Backend) for what the operating
    /// system refuses. Each names the path and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Lmdb> {
        let (env, lock) = self.locked(path.as_ref(), 0)?;
        self.embed(env, lock)
    }

    /// Opens the environment in this file for so many named databases of your own beside the
    /// store's, and creates the file if it is not there, for [`open_in`](Self::open_in). Blocks.
    /// Sync it (`force_sync`) where a commit of your own must survive power loss at once: the store
    /// does so for its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn environment(
        &self,
        path: impl AsRef<Path>,
        databases: u32,
    ) -> Result<heed::Env<heed::WithoutTls>> {
        self.locked(path.as_ref(), databases).map(|(env, _)| env)
    }

    /// Opens the store in an environment of your own, beside your databases: see
    /// [above](crate#beside-your-own-databases). The store keeps it open until it is stopped.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Unsupported`](ErrorKind::Unsupported) also for an environment
    /// that was opened for too few databases, that may only be read, or with flags that give up what
    /// is promised here (`NO_SYNC`, `MAP_ASYNC`, `NO_LOCK`).
    pub fn open_in(&self, env: heed::Env<heed::WithoutTls>) -> Result<Lmdb> {
        let lock = if self.shared {
            FileLock::share(env.path(), || Ok(()))
        } else {
            FileLock::acquire(env.path())
        }?;
        let flags = env.flags().map_err(error)?.unwrap_or(EnvFlags::empty());
        let unsafe_flags = EnvFlags::NO_SYNC | EnvFlags::MAP_ASYNC | EnvFlags::NO_LOCK;
        if flags.intersects(unsafe_flags | EnvFlags::READ_ONLY) {
            let message = format!(
                "its environment was opened with {flags:?}; open it without NO_SYNC, MAP_ASYNC, \
                 NO_LOCK and READ_ONLY"
            );
            let refused = kv::Error::new(ErrorKind::Unsupported, message);
            return Err(error::at(env.path(), refused));
        }
        self.embed(env, lock)
    }

    /// The environment in this file, with the lock that keeps other stores out.
    fn locked(&self, path: &Path, databases: u32) -> Result<(Env, FileLock)> {
        // By its real name, for another name of it must meet the same lock. What keeps it from
        // being made is said below.
        let _ = OpenOptions::new().append(true).create(true).open(path);
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let prepare = || {
            if file::check(&path)? {
                return Ok(());
            }
            file::create(&path)
        };
        let lock = if self.shared {
            let mut lock = FileLock::share(&path, prepare)?;
            for _ in 0..ATTEMPTS {
                if file::check(&path)? {
                    break;
                }
                // Whoever was to make it has died.
                drop(lock);
                lock = FileLock::share(&path, prepare)?;
            }
            lock
        } else {
            let lock = FileLock::acquire(&path)?;
            prepare()?;
            lock
        };
        let databases = databases.saturating_add(1);
        Ok((environment::open(&path, self, databases)?, lock))
    }

    fn embed(&self, env: Env, lock: FileLock) -> Result<Lmdb> {
        let path = env.path().to_owned();
        let engine = Engine::new(env).map_err(|error| error::at(&path, error))?;
        let options = kv::Options::new(self.durability).lock(lock);
        if self.shared {
            Embedded::open_shared(engine, options)
        } else {
            Embedded::open(engine, options)
        }
    }
}
