//! kvjob on [sled](https://docs.rs/sled/0.34) 0.34: a store in one directory, pure Rust. Here are
//! opening and its options; group commit, conditions and watchers are [`kv::Embedded`]'s.
//!
//! **Choose another backend if you can.** This one is for those who already use sled. Its last
//! release is of September 2021; what is to follow it has been an unfinished alpha since, with
//! another format. Its own README calls it beta, and recommends SQLite where reliability matters
//! most. Databases that could not be opened any more after a crash were reported
//! ([#1166](https://github.com/spacejam/sled/issues/1166),
//! [#1509](https://github.com/spacejam/sled/issues/1509),
//! [#1533](https://github.com/spacejam/sled/issues/1533)); the one cause we found is dealt with
//! here (see below), but nobody looks for the others.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.sled");
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_sled::open(path)?;
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
//! | `Memory` | a stop; otherwise what was synced to keep memory small |
//!
//! After `kill -9` a commit is there as a whole or not at all: sled writes a batch behind a record
//! that says where it ends, and recovers it only if all of it is there. sled's own flusher, which
//! would sync every half second, is off: when something is synced is said by the durability alone.
//! Without a sync, sled keeps changes in its own memory: they do **not** survive `kill -9`.
//!
//! Many callers share one sync (group commit). One process has the directory open at a time: a
//! lock on `<path>.lock` keeps the others out and says who has it. Readers wait while a batch is
//! applied in memory, never for a sync; what they read may not be on disk yet.
//!
//! # What this adapter does for sled
//!
//! - On Linux, sled's flush is not a sync: it asks the disk neither to empty its cache nor to note
//!   that the file has grown. That is done here, before anything is acknowledged.
//! - A `kill -9` while sled opens can leave a half-written snapshot, over which every later opening
//!   would fail. It is removed here first; sled makes it anew.
//! - Walking backwards, sled panics at keys with five bytes `ff` in a row; and values that it keeps
//!   in files of their own it hardly ever removes. So objects stand in the tree `kvjob` without
//!   `ff` in their keys, and in pieces of 4 KiB; `src/layout.rs` says how.
//!
//! # What is not promised
//!
//! - sled believes its flush when it writes over old parts of its file. A loss of power at a bad
//!   moment, between such a flush and the sync behind it, can damage the file. Kills were tried by
//!   the thousand, losses of power were not.
//! - Damage is not always seen: where the end of the log is damaged or cut, sled goes on with what
//!   stands before.
//! - The directory grows to several times its contents, to tens of megabytes at least where much
//!   is written, and seldom gets shorter.
//! - Should a thread of sled's own panic, a call may wait for ever, and every sled database in the
//!   process is out of order. After some failures of the disk sled cannot let go of its files: the
//!   store closes itself as it should, but opens again only in a new process.
//! - sled has no transaction that this could share with you: there is no `with_transaction`.
//! - Every read of sled waits for every batch of any sled database in the process.

mod engine;
mod error;
mod files;
mod layout;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use files::{Files, Found};
use kvjob::kv::{self, Durability, Embedded, ErrorKind, FileLock, Result};

pub use engine::{Engine, LIMITS};

/// A store in a directory of sled's, which [`open`] opens.
pub type Sled = Embedded<Engine>;

/// Opens the store in this directory, durable at once, and creates it if it is not there. The
/// directory it lies in must be there. May take long after a crash; see [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Sled> {
    Options::new().open(path)
}

/// How a store is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use kvjob::kv::Durability;
///
/// let store = kvjob_sled::Options::new()
///     .durability(Durability::Interval(Duration::from_millis(100)))
///     .cache_bytes(512 << 20)
///     .open("jobs.sled")?;
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

    /// About how much memory sled spends on what it has read and written.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Opens the store in this directory, and creates it if it is not there. Blocks; after a
    /// crash it may take seconds, so use a blocking thread in async code.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if it is open elsewhere;
    /// [`Unsupported`](ErrorKind::Unsupported) for files, directories of another program and
    /// databases of another sled, which are left as they are; [`Corrupt`](ErrorKind::Corrupt);
    /// [`Backend`](ErrorKind::Backend) for what the operating system refuses. Each names the path
    /// and what to do.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Sled> {
        let path = path.as_ref();
        let lock = FileLock::acquire(path)?;
        let opened = catch_unwind(AssertUnwindSafe(|| self.engine(path)));
        let engine =
            opened.unwrap_or_else(|panic| Err(error::panicked(path, panic_text(&*panic))))?;
        Embedded::open(engine, kv::Options::new(self.durability).lock(lock))
    }

    fn engine(&self, path: &Path) -> Result<Engine> {
        let opening = |error: std::io::Error| error::opening(path, error);
        match files::found(path).map_err(opening)? {
            Found::Nothing => {}
            Found::Database => files::remove_unfinished_snapshots(path).map_err(opening)?,
            Found::File => return Err(refused(path, "it is a file, and sled needs a directory")),
            Found::ForeignDirectory => {
                let what = "it is a directory of another program, or of another version of sled";
                return Err(refused(path, what));
            }
        }
        let database = sled::Config::new()
            .path(path)
            .cache_capacity(self.cache_bytes)
            .flush_every_ms(None)
            .open()
            .map_err(|error| error::opening(path, error))?;
        let files = Files::of(path).map_err(opening)?;
        Engine::new(&database, files).map_err(|error| error::at(path, error))
    }
}

fn refused(path: &Path, what: &str) -> kv::Error {
    let message = format!(
        "cannot open {} as a sled database: {what}; it was left as it is; choose another path",
        path.display()
    );
    kv::Error::new(ErrorKind::Unsupported, message)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("sled panicked")
}
