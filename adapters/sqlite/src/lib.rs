//! kvjob on [SQLite](https://www.sqlite.org): a durable store in a table of its own, in a database
//! that may hold your tables, too. Here are opening and options; group commit, conditions and
//! watchers are [`kv::Embedded`]'s.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.db");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_sqlite::open(path)?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised
//!
//! | [`Durability`] | SQLite's `synchronous` | an acknowledged change survives |
//! |---|---|---|
//! | `Immediate` (default) | `FULL` | `kill -9`, a crash of the machine and power loss: it was synced before it was acknowledged |
//! | `Interval(d)` | `NORMAL`, and a sync when it is due | `kill -9`; what is older than `d` survives everything `Immediate` does |
//! | `Memory` | `NORMAL` | `kill -9`; a crash of the machine may lose what was not synced by the way, at least every 1,000 groups or 64 MiB |
//!
//! In every mode a commit is there as a whole or not at all, and the file is never damaged. A disk
//! that lies about syncs breaks every promise.
//!
//! Many callers share one sync (group commit), so throughput grows with the number of callers.
//! Reads never wait for a write, nor for its sync: they have connections of their own, and see
//! whatever was acknowledged before they began.
//!
//! # Beside your own tables
//!
//! The store has one table, `kvjob`, and uses no other. Open it on your database, in which it makes
//! that table, and save an order and the job that mails it in one [transaction](Transaction): both
//! are there afterwards, or neither is. Your own connections may read and write your tables as
//! always. While one of them holds SQLite's write lock, the store waits for it, [some
//! seconds](Options::busy_timeout) at most; then its commits fail as
//! [`Conflict`](ErrorKind::Conflict), with nothing applied. The database is put into WAL mode and
//! stays there, so `<path>-wal` and `<path>-shm` belong to it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("shop.db");
//! # let shop = kvjob_sqlite::rusqlite::Connection::open(&path).unwrap();
//! # shop.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)").unwrap();
//! use std::sync::Arc;
//! use kvjob::job::{KvStore, NewJob, Options};
//!
//! let store = Arc::new(kvjob_sqlite::open(path)?);
//! let jobs = KvStore::open(store.clone(), Options::default()).await?;
//!
//! let jobs_within = jobs.clone();
//! let receipt = store
//!     .with_transaction(move |tx| {
//!         tx.sqlite()
//!             .execute("INSERT INTO orders (id, what) VALUES (?1, ?2)", (7, "a book"))
//!             .map_err(kvjob_sqlite::error)?;
//!         let (_, receipt) = jobs_within.enqueue_within(tx, NewJob::new("mail", "ada")?)?;
//!         Ok(receipt)
//!     })
//!     .await?;
//! receipt.committed().await;
//! # Ok::<_, kvjob::job::Error>(()) }).unwrap();
//! ```
//!
//! One *store* has the file open at a time: a lock on `<path>.lock` keeps other ones out and says
//! who has it, because conditions are checked in its process. Nothing else may write to the table
//! `kvjob`.
//!
//! # Several processes
//!
//! Opened with [`Options::shared`], any number of stores on this machine may have the file open, if
//! all open it so. Conditions are then checked inside SQLite's write transaction, which only one of
//! them can have at a time; still each makes one transaction, with one sync, of all commits that
//! wait for it. One that cannot have it within the [busy timeout](Options::busy_timeout) fails as
//! [`Conflict`](ErrorKind::Conflict), with nothing applied. Watchers hear within 20 ms or so that
//! others wrote something, to that database: not what. A process that is killed holds up nobody.
//! Alone, a store is faster: a job store on several machines, or of many processes, is better on a
//! server.
//!
//! # What is not
//!
//! - The file must be on a local disk: SQLite's WAL mode does not work over a network.
//! - The file does not get shorter by itself: space that was freed is used again, and SQLite's
//!   `VACUUM` gives it back.
//! - The write-ahead log grows for as long as any connection keeps a transaction open, also one
//!   that only reads. [`health`](kv::Store::health) warns of a long one.
//! - A read of what is not in memory waits for the disk, on the thread that asked.
//! - The crate builds SQLite from source and needs a C compiler for it.

mod engine;
mod error;
mod readers;
mod table;
mod writer;

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kvjob::kv::{self, Durability, Embedded, ErrorKind, FileLock, Result};
use rusqlite::{Connection, OpenFlags};

pub use engine::{Engine, LIMITS, Transaction};
pub use error::error;
/// The rusqlite this was built with, for [`Transaction::sqlite`].
pub use rusqlite;

/// A store in a SQLite database, which [`open`] opens.
pub type Sqlite = Embedded<Engine>;

/// Opens the store in this database, durable at once, and creates the file if it is not there. Its
/// directory must be there. See [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Sqlite> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use kvjob::kv::Durability;
///
/// let store = kvjob_sqlite::Options::new()
///     .durability(Durability::Interval(Duration::from_millis(100)))
///     .busy_timeout(Duration::from_secs(20))
///     .open("shop.db")?;
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    busy_timeout: Duration,
    shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Immediate,
            busy_timeout: Duration::from_secs(5),
            shared: false,
        }
    }
}

impl Options {
    /// Durable at once, with a busy timeout of 5 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// When an acknowledged change is on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a commit waits while another connection, one of your own or another store's, writes
    /// to the database.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Lets others have the store open, too, in this process or another one of this machine, if
    /// they open it so as well: see [above](crate#several-processes).
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Opens the store in this database, and creates the file if it is not there. Blocks, and
    /// longer after a crash, so use a blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if it is open elsewhere; [`TooNew`](ErrorKind::TooNew) and
    /// [`Unsupported`](ErrorKind::Unsupported) for files of a newer SQLite or another program, or
    /// with a table `kvjob` of another's, which are left as they are;
    /// [`Corrupt`](ErrorKind::Corrupt); [`Backend`](ErrorKind::Backend) for what the operating
    /// system refuses. Each names the path and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Sqlite> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            // SQLite would give each connection an empty database of its own.
            let message = "it names no file, and a store in SQLite needs one; choose a path, or \
                           use kvjob::kv::Memory";
            let error = kv::Error::new(ErrorKind::Unsupported, message);
            return Err(error::at(path, error));
        }
        // By its real name, for another name of it must meet the same lock. A file that is there is
        // not opened for it: closing it would take the locks of every SQLite connection that this
        // process has to it. What keeps it from being made is said below.
        let real = fs::canonicalize(path).or_else(|_| {
            drop(OpenOptions::new().append(true).create(true).open(path)?);
            fs::canonicalize(path)
        });
        let place = Place {
            path: real.unwrap_or_else(|_| path.to_owned()),
            busy_timeout: self.busy_timeout,
        };
        if self.shared {
            let prepare = || Engine::open(place.clone()).map(drop);
            let lock = FileLock::share(&place.path, prepare)?;
            let options = kv::Options::new(self.durability).lock(lock);
            Embedded::open_shared(patiently(&place)?, options)
        } else {
            let lock = FileLock::acquire(&place.path)?;
            let options = kv::Options::new(self.durability).lock(lock);
            Embedded::open(Engine::open(place)?, options)
        }
    }
}

/// An engine on a file that others open and close meanwhile, during which SQLite locks it.
fn patiently(place: &Place) -> Result<Engine> {
    let begin = Instant::now();
    loop {
        match Engine::open(place.clone()) {
            Err(error)
                if error.kind() == &ErrorKind::InUse && begin.elapsed() < place.busy_timeout =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// The file as every connection opens it.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// How long a connection waits for the lock of another.
    busy_timeout: Duration,
}

impl Place {
    fn connect(&self) -> rusqlite::Result<Connection> {
        // Each connection has one user at a time, and a path is a path, even if it begins with
        // `file:`. The file is there already.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok(connection)
    }
}

/// Refuses what can be seen to be no SQLite database without being opened: to open and close a file
/// would take the locks of every SQLite connection that this process has to it.
fn refuse_foreign(path: &Path) -> Result<()> {
    /// The smallest database has one page of this size. SQLite takes what is shorter for empty.
    const LEAST: u64 = 512;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Err(refused(path, ErrorKind::Unsupported, "it is a directory"))
        }
        // SQLite makes a new database of an empty file.
        Ok(metadata) if (1..LEAST).contains(&metadata.len()) => Err(foreign(path)),
        _ => Ok(()),
    }
}

/// Says of a file that SQLite could not open what it is: of a file of another program, or a newer
/// one, SQLite says the same as of damage.
fn told_apart(path: &Path, error: kv::Error) -> kv::Error {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    /// Version 2 brought write-ahead logs.
    const NEWEST: u8 = 2;
    // By SQLite itself, so that no connection that could lose its locks is of any use.
    let is_unreadable = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)
        && std::error::Error::source(&error).is_some();
    let mut start = Vec::new();
    let mut read = || File::open(path).and_then(|file| file.take(20).read_to_end(&mut start));
    if !is_unreadable || read().is_err() {
        return error;
    }
    match start.strip_prefix(MAGIC) {
        Some([_, _, written, read, ..]) if *written.max(read) > NEWEST => too_new(path),
        Some(_) => error,
        None => foreign(path),
    }
}

fn foreign(path: &Path) -> kv::Error {
    let what = "it is encrypted, or a file of another program; choose another path";
    refused(path, ErrorKind::Unsupported, what)
}

fn too_new(path: &Path) -> kv::Error {
    let what = "its format is that of a newer SQLite; open it with a newer kvjob";
    refused(path, ErrorKind::TooNew, what)
}

fn refused(path: &Path, kind: ErrorKind, what: &str) -> kv::Error {
    let path = path.display();
    let message = format!("cannot open {path} as a SQLite database: {what}; it was left as it is");
    kv::Error::new(kind, message)
}
