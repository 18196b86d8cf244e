//! kvjob on [fjall](https://fjall-rs.github.io) 3: a durable store in one directory, pure Rust, a
//! log-structured merge tree. Here are opening and its options; group commit, conditions and
//! watchers are [`kv::Embedded`]'s.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.fjall");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_fjall::open(path)?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised
//!
//! | [`Durability`] | an acknowledged change survives |
//! |---|---|
//! | `Immediate` (default) | `kill -9`, a crash of the machine and power loss: it was synced before it was acknowledged |
//! | `Interval(d)` | a stop and `kill -9`; what is older than `d` survives everything `Immediate` does |
//! | `Memory` | a stop and `kill -9`; otherwise what was synced to keep memory small |
//!
//! In every mode a commit is there as a whole or not at all. Without a sync it is with the
//! operating system when it is acknowledged, which is why `kill -9` loses nothing. A disk that
//! lies about syncs breaks every promise.
//!
//! Many callers share one sync (group commit). Reads are made from a snapshot and do not wait for
//! the writer, but for a scan that takes long. One process has the directory open at a time: a lock
//! on `<path>.lock` keeps the others out and says who has it.
//!
//! Your data and its job can be saved together: see [`Transaction`], and
//! [`Options::open_database`] for a database that is yours. It is opened as one of fjall's
//! single-writer transactional databases, which costs nothing while no transaction is used.
//!
//! # What is not
//!
//! - What was removed or replaced goes on costing something until fjall has compacted it away: a
//!   scan passes over it, entry by entry. A queue is consumed at its head, so this adapter remembers
//!   what a scan passed over at its beginning, and the next one begins behind it
//!   ([`Gaps`](kv::Gaps)); the first scan of a process, and those in reverse, still pass over all
//!   of it. Little is held in memory for the
//!   same reason (4 MiB until it is written to a table, where fjall would hold 64), and a scan that
//!   takes longer than 10 ms keeps commits waiting until it is through.
//! - An emptied store is not empty: removed keys cost disk, and memory when they are passed over,
//!   until they are compacted away. Journals take up to 512 MiB of disk; the newest is 64 MiB
//!   long from the start, but what is not yet written of it takes no room.
//! - A loss of power while a commit with values of more than 4 KiB is being synced can leave its
//!   last part on disk without its first. fjall 3.1 refuses to open the database then
//!   ([`Corrupt`](kv::ErrorKind::Corrupt), with a wrong checksum in a journal).
//! - A prefix is deleted in batches of 1,000 keys: it may be seen half-way, and so may a crash
//!   leave it.
//! - Should the disk fill up when four tables wait to be written, a call may wait for ever; before
//!   that, it is told that the store has closed.
//! - fjall tells why it failed in the background with the crate `log`, and nobody else.
//! - A read of what is not in the cache waits for the disk, on the thread that asked.

mod engine;
mod error;
mod files;
mod transaction;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use files::Found;
use fjall::{CompressionType, SingleWriterTxDatabase};
use kvjob::kv::{self, Durability, Embedded, FileLock, Result};

pub use engine::{Engine, LIMITS};
pub use error::error;
/// The fjall this was built with, for [`Transaction::fjall`].
pub use fjall;
pub use transaction::Transaction;

/// A store in a directory of fjall's, which [`open`] opens.
pub type Fjall = Embedded<Engine>;

/// Opens the store in this directory, durable at once, and creates it if it is not there. The
/// directory it lies in must be there. May take long after a crash; see [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Fjall> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use kvjob::kv::Durability;
///
/// let store = kvjob_fjall::Options::new()
///     .durability(Durability::Interval(Duration::from_millis(100)))
///     .cache_bytes(512 << 20)
///     .open("jobs.fjall")?;
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Immediate,
            cache_bytes: 128 << 20,
        }
    }
}

impl Options {
    /// Durable at once, with a cache of 128 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// When an acknowledged change is on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The most memory for what was read. What was written lately takes up to some 300 MiB more.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Opens the store in this directory, and creates it if it is not there. Blocks; after a
    /// crash it may take seconds, so use a blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](kv::ErrorKind::InUse) if it is open elsewhere; [`TooNew`](kv::ErrorKind::TooNew) and
    /// [`Unsupported`](kv::ErrorKind::Unsupported) for databases of another fjall or another program
    /// and for whatever else is there, which are left as they are;
    /// [`Corrupt`](kv::ErrorKind::Corrupt); [`Backend`](kv::ErrorKind::Backend) for what the operating
    /// system refuses. Each names the path and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Fjall> {
        let path = path.as_ref();
        let lock = FileLock::acquire(path)?;
        let opened = catch_unwind(AssertUnwindSafe(|| self.engine(path)));
        let engine =
            opened.unwrap_or_else(|panic| Err(error::corrupt(path, panic_text(&*panic))))?;
        Embedded::open(engine, kv::Options::new(self.durability).lock(lock))
    }

    /// Opens a store in the keyspace `kvjob` of a database that is open already, beside keyspaces
    /// of your own. With what settings it was opened is yours, and it stays open for as long as you
    /// keep a handle of it. Leave the keyspace `kvjob` to the store.
    ///
    /// # Errors
    /// [`InUse`](kv::ErrorKind::InUse) if a store of it is open already; what fjall says.
    pub fn open_database(&self, database: SingleWriterTxDatabase) -> Result<Fjall> {
        let engine = Engine::new(database)?;
        let lock = FileLock::acquire(engine.directory())?;
        Embedded::open(engine, kv::Options::new(self.durability).lock(lock))
    }

    fn engine(&self, path: &Path) -> Result<Engine> {
        let opening = |error: std::io::Error| error::opening(path, error);
        if let Err(why) = std::env::current_dir() {
            // fjall panics without one, even where it has no need of it.
            return Err(error::homeless(path, why));
        }
        match files::found(path).map_err(opening)? {
            Found::Nothing => {
                let unfinished = files::begin(path).map_err(opening)?;
                let database = self.database(&unfinished, path)?;
                drop(Engine::new(database).map_err(|error| error::at(path, error))?);
                files::finish(&unfinished, path).map_err(opening)?;
            }
            Found::Database => {}
            Found::Incomplete(why) => return Err(error::corrupt(path, why)),
            Found::File => return Err(error::refused(path, "it is a file, not a directory")),
            Found::ForeignDirectory => {
                return Err(error::refused(path, "it is a directory of another program"));
            }
            Found::Older(format) => return Err(error::older(path, format)),
            Found::Newer(format) => return Err(error::newer(path, format)),
        }
        let database = self.database(path, path)?;
        if !Engine::is_in(&database) {
            let what = "it is a fjall database of another program";
            return Err(error::refused(path, what));
        }
        Engine::new(database).map_err(|error| error::at(path, error))
    }

    /// The database in this directory, which is called `path` in messages.
    fn database(&self, directory: &Path, path: &Path) -> Result<SingleWriterTxDatabase> {
        SingleWriterTxDatabase::builder(directory)
            .cache_size(self.cache_bytes)
            // As with the keyspace: another build must be able to read it.
            .journal_compression(CompressionType::None)
            .open()
            .map_err(|error| error::opening(path, error))
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("fjall panicked")
}
