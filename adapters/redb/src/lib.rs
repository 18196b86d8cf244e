//! kvjob on [redb](https://www.redb.org): a durable store in one file, pure Rust. Here are
//! opening, options and compaction; group commit, conditions and watchers are
//! [`kv::Embedded`]'s.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.redb");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_redb::open(path)?;
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
//! | `Interval(d)` | a stop; what is older than `d` survives everything `Immediate` does |
//! | `Memory` | a stop; otherwise what was synced to keep the file small |
//!
//! In every mode a commit is there as a whole or not at all, and the file is never damaged.
//! Without a sync, redb keeps changes in its own memory until the next one: they do **not**
//! survive `kill -9`. A disk that lies about syncs breaks every promise.
//!
//! Many callers share one sync (group commit), so throughput grows with the number of callers.
//! One process has the file open at a time: a lock on `<path>.lock` keeps the others out and
//! says who has it.
//!
//! # What is not
//!
//! - The file hardly ever gets shorter by itself: space that was freed is used again, and only
//!   [`compact`] gives all of it back. What is not yet synced cannot be used again, which is why
//!   a sync is made after 1,000 groups or 64 MiB at the latest, whatever the durability.
//! - After a crash redb walks the whole file when it is opened, some seconds for a gigabyte.
//! - A read of what is not in the cache waits for the disk, on the thread that asked.
//!
//! # Bags
//!
//! Opened with [`Options::bag`], a key holds a set of values; everything above holds for it, too,
//! and so do the limits. It is there for data of that form, such as the members of a group.
//! kvjob's jobs live in either and give the same answers, but one value a key is the faster of
//! the two: leave it at that where you have the choice.
//!
//! - A condition reads all values of its key; so does a page that begins among them, as far as
//!   its beginning. Thousands of values under a key are fine, millions are not.
//! - redb orders values as it orders keys, and keeps copies of large ones to find its way. Four
//!   of 64 MiB under one key are taken, but they take ten seconds and leave a file of 2 GiB. Keep
//!   large values in keys of their own.

mod bag;
mod engine;
mod error;
mod unique;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use kvjob::kv::{self, Durability, Embedded, ErrorKind, FileLock, Result};
use redb::StorageError;

pub use engine::{Engine, LIMITS, Transaction};
pub use error::error;
/// The redb this was built with, for [`Transaction::redb`].
pub use redb;

/// A store in a redb file, which [`open`] opens.
pub type Redb = Embedded<Engine>;

/// Opens the store in this file, durable at once, and creates the file if it is not there. Its
/// directory must be there. May take long after a crash; see [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Redb> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use kvjob::kv::Durability;
///
/// let store = kvjob_redb::Options::new()
///     .durability(Durability::Interval(Duration::from_millis(100)))
///     .cache_bytes(512 << 20)
///     .open("jobs.redb")?;
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    cache_bytes: usize,
    unique_keys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Immediate,
            cache_bytes: 128 << 20,
            unique_keys: true,
        }
    }
}

impl Options {
    /// Durable at once, with a cache of 128 MiB and one value a key.
    pub fn new() -> Self {
        Self::default()
    }

    /// When an acknowledged change is on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The most memory for pages of the file, also for those that wait to be written.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// As a bag: a key holds any number of distinct values, in byte order, see
    /// [`Store`](kv::Store#two-kinds). Which of the two a file holds is settled when it is
    /// created; opened as the other it is refused and loses nothing. What it is for, and what it
    /// costs, is said in the [crate's documentation](crate#bags).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("tags.redb");
    /// use kvjob::kv::{Object, Scan, Store};
    ///
    /// let store = kvjob_redb::Options::new().bag().open(path)?;
    /// store.set(Object::new("colour", "red")).await?;
    /// store.set(Object::new("colour", "blue")).await?;
    /// assert_eq!(store.scan(Scan::prefix("colour")).await?.objects.len(), 2);
    /// # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn bag(mut self) -> Self {
        self.unique_keys = false;
        self
    }

    /// Opens the store in this file, and creates the file if it is not there. Blocks; after a
    /// crash it may take seconds, so use a blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if it is open elsewhere; [`TooNew`](ErrorKind::TooNew) and
    /// [`Unsupported`](ErrorKind::Unsupported) for files of another redb or another program, which
    /// are left as they are; `Unsupported` for a [bag](Self::bag) that is not opened as one, or
    /// the other way round, which loses nothing; [`Corrupt`](ErrorKind::Corrupt);
    /// [`Backend`](ErrorKind::Backend) for what the operating system refuses. Each names the path
    /// and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Redb> {
        let path = path.as_ref();
        let (database, lock) = self.database(path)?;
        let engine = self
            .engine(database)
            .map_err(|error| error::at(path, error))?;
        Embedded::open(engine, kv::Options::new(self.durability).lock(lock))
    }

    /// Opens a store on a storage of your own, such as [`redb::backends::InMemoryBackend`]. What
    /// keeps others out of it is yours, too.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_backend(&self, backend: impl redb::StorageBackend) -> Result<Redb> {
        let database = self
            .builder()
            .create_with_backend(backend)
            .map_err(|error| error::opening(Path::new("a storage backend"), error))?;
        let engine = self.engine(database)?;
        Embedded::open(engine, kv::Options::new(self.durability))
    }

    fn database(&self, path: &Path) -> Result<(redb::Database, FileLock)> {
        let lock = FileLock::acquire(path)?;
        refuse_foreign(path)?;
        if fs::metadata(path).map_or(true, |metadata| metadata.len() == 0) {
            self.create(path)?;
        }
        let database = self
            .builder()
            .open(path)
            .map_err(|error| error::opening(path, error))?;
        Ok((database, lock))
    }

    /// Makes an empty database under another name first: one that a crash leaves half made, redb
    /// would never open again.
    fn create(&self, path: &Path) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let refused = |error: io::Error| error::opening(path, StorageError::Io(error).into());
        // Whoever has the lock knows that nobody else is making it.
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let database = self.builder().create(new);
        drop(database.map_err(|error| error::opening(path, error))?);
        fs::rename(new, path)
            .and_then(|()| sync_directory(path))
            .map_err(refused)
    }

    fn engine(&self, database: redb::Database) -> Result<Engine> {
        if self.unique_keys {
            Engine::new(database)
        } else {
            Engine::bag(database)
        }
    }

    fn builder(&self) -> redb::Builder {
        let mut builder = redb::Database::builder();
        builder.set_cache_size(self.cache_bytes);
        builder
    }
}

/// Notes on disk what the directory of this file has in it. Elsewhere than on Unix a directory
/// cannot be opened, and need not be.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Refuses what is there and is no redb file. redb would refuse it too, but of a short one it
/// says that it is damaged.
fn refuse_foreign(path: &Path) -> Result<()> {
    const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    let what = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => "it is a directory",
        // redb makes a new database of an empty file.
        Ok(metadata) if metadata.len() > 0 => {
            let mut start = Vec::new();
            let read = File::open(path)
                .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
            if read.is_err() || start == MAGIC {
                return Ok(());
            }
            "it is a file of another program"
        }
        _ => return Ok(()),
    };
    let message = format!(
        "cannot open {} as a redb file: {what}, and was left as it is; choose another path",
        path.display()
    );
    Err(kv::Error::new(ErrorKind::Unsupported, message))
}

/// How long a file was before and after [`compact`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Gives the space in this file that is not in use back to the file system. The store must be
/// closed, in this process and every other. Blocks until it is done; a crash meanwhile loses
/// nothing.
///
/// # Errors
/// As [`Options::open`]; and an error if the file is not there.
pub fn compact(path: impl AsRef<Path>) -> Result<Compacted> {
    let path = path.as_ref();
    let length = || fs::metadata(path).map(|metadata| metadata.len());
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot compact {}: {error}", path.display());
        kv::Error::new(ErrorKind::Backend, message).with_source(error)
    };
    let before = length().map_err(unreadable)?;
    let (mut database, _lock) = Options::new().database(path)?;
    database.compact().map_err(|error| {
        let message = format!("cannot compact {}: {error}", path.display());
        kv::Error::new(ErrorKind::Backend, message).with_source(error)
    })?;
    drop(database);
    let after = length().map_err(unreadable)?;
    Ok(Compacted { before, after })
}
