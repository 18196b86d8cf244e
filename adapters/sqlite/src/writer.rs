//! The one connection that writes: its transactions, when they are on disk, and when SQLite's
//! write-ahead log is moved to the database. What is written is not known here.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Health, Result};
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB, TransactionBehavior};

use crate::error::{at, committing, is_busy, is_sync, opening, reading, writing};
use crate::table;
use crate::{Place, refuse_foreign, told_apart, too_new};

/// Pages that the log grows by between two checkpoints: 4 MiB where a page has 4 KiB.
const CHECKPOINT_PAGES: i32 = 1000;
/// In a log of this length a checkpoint waits for those who read in it, so that SQLite can begin it
/// again from the front: else readers who take turns could make it grow for ever.
const WAITING_PAGES: i32 = 4 * CHECKPOINT_PAGES;
/// How long it waits for each.
const PATIENCE: Duration = Duration::from_millis(50);
/// A log that was longer is cut to this when SQLite begins it again.
const KEPT_LOG_BYTES: i64 = 64 << 20;
/// A log of this length is worth a warning.
const LONG_LOG_BYTES: u64 = 128 << 20;

/// The connection. Its fields are dropped in this order.
pub(crate) struct Writer {
    /// The write-ahead log, which SQLite replaces only when no connection is left.
    log: File,
    log_path: PathBuf,
    connection: Connection,
    /// How long it waits for the locks of others.
    busy_timeout: Duration,
    heard: Arc<Heard>,
    /// Whether SQLite was last told to sync commits.
    syncing: bool,
    /// Whether the log holds commits that were not synced.
    unsynced: bool,
    /// How many pages of the log the last checkpoint found.
    checkpointed: i32,
    /// Why that checkpoint failed, if it did.
    held_up: Option<String>,
    /// SQLite's count of what other connections committed, when last asked.
    data_version: Option<i64>,
}

/// What SQLite's hooks tell, and are told.
#[derive(Debug, Default)]
struct Heard {
    /// No commit goes through but ours.
    committing: AtomicBool,
    /// A transaction was rolled back.
    rolled_back: AtomicBool,
    /// The pages in the log, after a commit that wrote some.
    pages: AtomicI32,
}

impl Writer {
    /// Connects, and creates the table if it is not there.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let mut connection = connect(place)?;
        let heard = Arc::new(Heard::default());
        hook(&mut connection, &heard).map_err(|error| opening(&place.path, error))?;
        let mut log_path = place.path.clone().into_os_string();
        log_path.push("-wal");
        let log_path = PathBuf::from(log_path);
        // To write to, for only such a file can be synced everywhere.
        let log = OpenOptions::new().write(true).open(&log_path);
        let log = log.map_err(|error| {
            let message = format!("its write-ahead log {}: {error}", log_path.display());
            let error = Error::new(ErrorKind::Backend, message).with_source(error);
            at(&place.path, error)
        })?;
        Ok(Self {
            log,
            log_path,
            connection,
            busy_timeout: place.busy_timeout,
            heard,
            syncing: true,
            unsynced: false,
            checkpointed: 0,
            held_up: None,
            data_version: None,
        })
    }

    /// Runs `body` in a write transaction, and commits it if that returned `Ok`; else rolls it
    /// back. With `sync`, it and every earlier one are then on disk.
    pub(crate) fn transact<T>(
        &mut self,
        sync: bool,
        body: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        if !self.connection.is_autocommit() {
            let message = "SQLite could not end the transaction before this one";
            return Err(Error::new(ErrorKind::Closed, message));
        }
        if self.syncing != sync {
            let mode = if sync { "FULL" } else { "NORMAL" };
            let told = self.connection.pragma_update(None, "synchronous", mode);
            told.map_err(writing)?;
            self.syncing = sync;
        }
        // Rolls back when it is dropped.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(writing)?;
        self.heard.rolled_back.store(false, Ordering::Relaxed);
        let outcome = body(&transaction)?;
        if transaction.is_autocommit() || self.heard.rolled_back.load(Ordering::Relaxed) {
            let message = "the transaction was ended inside its body, by a statement of its own or \
                           by an error that it passed over: nothing of it was saved; return such \
                           errors, and leave the end to the store";
            return Err(Error::new(ErrorKind::Backend, message));
        }
        self.heard.pages.store(0, Ordering::Relaxed);
        self.heard.committing.store(true, Ordering::Relaxed);
        let committed = transaction.commit();
        self.heard.committing.store(false, Ordering::Relaxed);
        committed.map_err(committing)?;
        match self.heard.pages.load(Ordering::Relaxed) {
            // For what changed nothing SQLite writes nothing, and syncs nothing.
            0 if sync => self.sync()?,
            0 => {}
            pages => {
                self.unsynced = !sync;
                self.checkpoint(pages)?;
            }
        }
        Ok(outcome)
    }

    /// Brings every earlier commit to disk: what is no longer in the log was synced when it was
    /// moved.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.unsynced {
            self.log.sync_all().map_err(|error| {
                let path = self.log_path.display();
                let message = format!("{path} could not be brought to disk: {error}");
                Error::new(ErrorKind::Unknown, message).with_source(error)
            })?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Whether another connection has committed since this was last asked, one of this process
    /// included.
    pub(crate) fn others_wrote(&mut self) -> Result<bool> {
        let version = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0));
        let version = version.map_err(reading)?;
        Ok(self.data_version.replace(version) != Some(version))
    }

    /// Moves what is in the log to the database, if it has grown enough since the last time.
    fn checkpoint(&mut self, pages: i32) -> Result<()> {
        if pages < self.checkpointed {
            // SQLite began it again from the front.
            self.checkpointed = 0;
        }
        if pages - self.checkpointed < CHECKPOINT_PAGES {
            return Ok(());
        }
        self.checkpointed = pages;
        match self.move_log(pages >= WAITING_PAGES) {
            Ok(()) => self.held_up = None,
            // Another connection is at it, or reads in it: as much as could be was moved.
            Err(error) if is_busy(&error) => {}
            // It may have been of commits that were acknowledged, and the next sync may succeed
            // without them.
            Err(error) if is_sync(&error) => return Err(committing(error)),
            // The log still has everything, and grows instead.
            Err(error) => self.held_up = Some(error.to_string()),
        }
        Ok(())
    }

    fn move_log(&self, waiting: bool) -> rusqlite::Result<()> {
        let connection = &self.connection;
        let move_as = |mode| connection.wal_checkpoint_v2(Some(MAIN_DB), mode).map(drop);
        if !waiting {
            return move_as(CheckpointMode::PASSIVE);
        }
        connection.busy_timeout(PATIENCE)?;
        let moved = move_as(CheckpointMode::RESTART);
        connection.busy_timeout(self.busy_timeout)?;
        moved
    }

    pub(crate) fn health(&self) -> Health {
        let mut health = Health::default();
        if let Some(why) = &self.held_up {
            health.warnings.push(format!(
                "sqlite: {} grows, for it could not be moved to the database: {why}",
                self.log_path.display()
            ));
        }
        let length = self.log.metadata().map_or(0, |log| log.len());
        if length > LONG_LOG_BYTES {
            health.warnings.push(format!(
                "sqlite: {} has {} MiB: does a program keep a transaction on this database open?",
                self.log_path.display(),
                length >> 20
            ));
        }
        health
    }
}

/// Connects, and makes the file ready. One that is refused is left as it is.
fn connect(place: &Place) -> Result<Connection> {
    let path = &*place.path;
    refuse_foreign(path)?;
    connect_file(place).map_err(|error| match error.kind() {
        ErrorKind::InUse => error,
        _ => told_apart(path, error),
    })
}

fn connect_file(place: &Place) -> Result<Connection> {
    let path = &*place.path;
    let opening = |error| opening(path, error);
    let connection = place.connect().map_err(opening)?;
    if connection.is_readonly(MAIN_DB).map_err(opening)? {
        let message = "this process may only read it, but must be allowed to write, too";
        return Err(at(path, Error::new(ErrorKind::Backend, message)));
    }
    let is_there = table::is_there(&connection, path)?;
    if connection.is_readonly(MAIN_DB).map_err(opening)? {
        // It has read the file now, and found that only a newer one may write to it.
        return Err(too_new(path));
    }
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(opening)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let message = format!(
            "SQLite cannot keep a write-ahead log for it (its journal mode is {mode:?}); put it on \
             a local disk"
        );
        return Err(at(path, Error::new(ErrorKind::Unsupported, message)));
    }
    let settings = format!(
        "PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = {KEPT_LOG_BYTES};
         -- Where a plain sync does not empty the disk's cache (macOS), ask for one that does.
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;"
    );
    connection.execute_batch(&settings).map_err(opening)?;
    if !is_there {
        table::create(&connection).map_err(opening)?;
    }
    Ok(connection)
}

fn hook(connection: &mut Connection, heard: &Arc<Heard>) -> rusqlite::Result<()> {
    let here = Arc::clone(heard);
    // `true` makes a rollback of it.
    let refused = move || !here.committing.load(Ordering::Relaxed);
    connection.commit_hook(Some(refused))?;
    let here = Arc::clone(heard);
    connection.rollback_hook(Some(move || {
        here.rolled_back.store(true, Ordering::Relaxed);
    }))?;
    let here = Arc::clone(heard);
    // Takes the place of SQLite's own checkpoints, which tell nobody when they fail.
    connection.wal_hook(Some(move |log: &mut Wal, pages| {
        if log.name() == MAIN_DB {
            here.pages.store(pages, Ordering::Relaxed);
        }
        Ok(())
    }))
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
