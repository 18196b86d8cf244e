//! kvjob on [RocksDB](https://rocksdb.org): a durable store in one directory, a log-structured
//! merge tree in C++. Here are opening and its options; group commit, conditions and watchers are
//! [`kv::Embedded`]'s.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.rocksdb");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_rocksdb::open(path)?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised
//!
//! | [`Durability`] | an acknowledged change survives |
//! |---|---|
//! | `Immediate` (default) | `kill -9`, a crash of the machine and power loss: its log was synced before it was acknowledged |
//! | `Interval(d)` | a stop and `kill -9`; what is older than `d` survives everything `Immediate` does |
//! | `Memory` | a stop and `kill -9`; otherwise what was synced to keep memory small |
//!
//! In every mode a commit is there as a whole or not at all. Without a sync it is with the
//! operating system when it is acknowledged, which is why `kill -9` loses nothing. A disk that
//! lies about syncs breaks every promise.
//!
//! Many callers share one sync (group commit). Reads are made from a snapshot and do not wait for
//! the writer. A prefix is deleted in one commit, whatever its size. One process has the directory open
//! at a time: a lock on `<path>.lock` keeps the others out and says who has it.
//!
//! # What is not
//!
//! - RocksDB is built from its C++ source, which takes ten minutes or more: see the README.
//! - What was removed goes on costing something until RocksDB has compacted it away: a scan passes
//!   over it, entry by entry. A queue is consumed at its head, so this adapter remembers what a
//!   scan passed over at its beginning, and the next one begins behind it ([`Gaps`](kv::Gaps)); the
//!   first scan of a process, and those in reverse, still pass over all of it. Tables of which half
//!   was removed are compacted first.
//! - Damage at the end of the log cannot be told from a commit that a crash cut short: RocksDB
//!   opens with what is before it. Damage anywhere else is [`Corrupt`](kv::ErrorKind::Corrupt).
//! - RocksDB cannot say whether it refused a commit or failed in the middle of one, so either is
//!   [`Unknown`](kv::ErrorKind::Unknown) and closes the store: open it again to go on.
//! - Nothing of the user's own can be saved in the same transaction; fjall, redb and SQLite can.
//! - A read of what is not in the cache waits for the disk, on the thread that asked.

mod engine;
mod error;
mod files;

use std::path::Path;

use kvjob::kv::{self, Durability, Embedded, FileLock, Result};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, LogLevel};

use files::Found;

use engine::FAMILY;
pub use engine::{Engine, LIMITS};

/// What was written lately is held in memory up to this size, some of it twice. A scan passes over
/// what of it was removed or replaced since.
const MEMTABLE_BYTES: usize = 16 << 20;
/// A table is compacted soon if of so many entries in a row, or of all, half are removals.
const REMOVED_WINDOW: usize = 4096;
const REMOVED_SHARE: f64 = 0.5;
/// The messages RocksDB leaves in the directory, in files called LOG.
const LOG_FILES: usize = 4;
const LOG_BYTES: usize = 4 << 20;

/// A store in a directory of RocksDB's, which [`open`] opens.
pub type RocksDb = Embedded<Engine>;

/// Opens the store in this directory, durable at once, and creates it if it is not there. The
/// directory it lies in must be there. See [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<RocksDb> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use kvjob::kv::Durability;
///
/// let store = kvjob_rocksdb::Options::new()
///     .durability(Durability::Interval(Duration::from_millis(100)))
///     .cache_bytes(512 << 20)
///     .open("jobs.rocksdb")?;
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    cache_bytes: usize,
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

    /// The most memory for what was read, indexes of tables included. What was written lately
    /// takes some 32 MiB more, and as much as a large commit is long.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Opens the store in this directory, and creates it if it is not there. Blocks; after a
    /// crash it reads its log, so use a blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](kv::ErrorKind::InUse) if it is open elsewhere;
    /// [`Unsupported`](kv::ErrorKind::Unsupported) for a database of another program and for
    /// whatever else is there, which are left as they are; [`Corrupt`](kv::ErrorKind::Corrupt);
    /// [`Backend`](kv::ErrorKind::Backend) for what the operating system refuses. Each names the
    /// path and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<RocksDb> {
        let path = path.as_ref();
        let lock = FileLock::acquire(path)?;
        let engine = self.engine(path)?;
        Embedded::open(engine, kv::Options::new(self.durability).lock(lock))
    }

    fn engine(&self, path: &Path) -> Result<Engine> {
        let accessing = |error| error::accessing(path, error);
        match files::found(path).map_err(accessing)? {
            Found::Nothing => {
                let unfinished = files::begin(path).map_err(accessing)?;
                drop(self.database(&unfinished, path, true)?);
                files::finish(&unfinished, path).map_err(accessing)?;
            }
            Found::Database => {
                let families = DB::list_cf(&rocksdb::Options::default(), path);
                let families = families.map_err(|source| error::opening(path, source))?;
                if !families.iter().any(|name| name == FAMILY) {
                    let what = "it is a RocksDB database of another program";
                    return Err(error::refused(path, what));
                }
                let own = ["default", FAMILY];
                if let Some(other) = families.iter().find(|name| !own.contains(&name.as_str())) {
                    let what = format!("it has a column family {other} of another program");
                    return Err(error::refused(path, &what));
                }
            }
            Found::Headless => return Err(error::corrupt(path, "its file CURRENT is missing")),
            Found::File => return Err(error::refused(path, "it is a file, not a directory")),
            Found::ForeignDirectory => {
                return Err(error::refused(path, "it is a directory of another program"));
            }
        }
        Ok(Engine::new(self.database(path, path, false)?))
    }

    /// The database in this directory, which is called `path` in messages.
    fn database(&self, directory: &Path, path: &Path, create: bool) -> Result<DB> {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        // Only for a log that is no longer written; but it costs nothing.
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(LOG_FILES);
        options.set_max_log_file_size(LOG_BYTES);
        let family = ColumnFamilyDescriptor::new(FAMILY, self.family());
        DB::open_cf_descriptors(&options, directory, [family])
            .map_err(|source| error::opening(path, source))
    }

    fn family(&self) -> rocksdb::Options {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(self.cache_bytes));
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_bloom_filter(10.0, false);
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&tables);
        // The default depends on how RocksDB was built: another build could not read it.
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.add_compact_on_deletion_collector_factory(
            REMOVED_WINDOW,
            REMOVED_WINDOW / 2,
            REMOVED_SHARE,
        );
        options
    }
}
