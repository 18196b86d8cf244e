//! [`Files`]: what sled's directory holds, and what sled itself leaves undone about it. What is
//! in the files is sled's alone.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long closing waits for sled's last thread, at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// The files of an open database.
///
/// On Linux sled's flush starts the writing of its log, and waits for it, but empties neither the
/// disk's own cache nor writes down that the file has grown; and values too large for the log,
/// each in a file of its own (a "blob"), it leaves to the operating system altogether. The methods
/// here make up for both.
///
/// Dropped after everything of sled's, it waits until a thread of sled's has closed the log, so
/// that it can be opened again at once.
#[derive(Debug)]
pub(crate) struct Files {
    /// A second handle of the log.
    log: File,
    blobs: PathBuf,
    /// Blobs are named by their position in the log, which only grows: all up to this one are on
    /// disk.
    synced: AtomicI64,
}

impl Files {
    /// Those of the database that sled has open in this directory.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let files = Self {
            log: OpenOptions::new()
                .read(true)
                .write(true)
                .open(directory.join("db"))?,
            blobs: directory.join("blobs"),
            synced: AtomicI64::new(i64::MIN),
        };
        // They may be new, and sled does not see to it that they are still there tomorrow.
        sync_file(&directory.join("conf"))?;
        sync_directory(&files.blobs)?;
        sync_directory(directory)?;
        match directory.parent() {
            Some(parent) if parent != Path::new("") => sync_directory(parent)?,
            _ => sync_directory(Path::new("."))?,
        }
        Ok(files)
    }

    /// Brings the blobs to disk. To be done before the log is flushed, which speaks of them.
    pub(crate) fn sync_blobs(&self) -> io::Result<()> {
        let synced = self.synced.load(Ordering::Relaxed);
        let mut newest = synced;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(position) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if position > synced {
                match sync_file(&entry.path()) {
                    // What it held is no longer needed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
                newest = newest.max(position);
            }
        }
        if newest > synced {
            sync_directory(&self.blobs)?;
            self.synced.store(newest, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Brings the log to disk, as far as sled has flushed it.
    pub(crate) fn sync_log(&self) -> io::Result<()> {
        self.log.sync_data()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let patience = Instant::now() + PATIENCE;
        // sled holds a lock on it for as long as it has it open.
        while self.log.try_lock().is_err() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a directory is, before sled is let near it: sled takes any, and makes one of what is
/// missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or an empty directory, or one that a crash left half-made.
    Nothing,
    Database,
    File,
    ForeignDirectory,
}

/// Looks what is at this path.
pub(crate) fn found(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Ok(Found::File),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    if let Ok(conf) = fs::read(path.join("conf"))
        && conf.starts_with(b"segment_size: ")
    {
        return Ok(Found::Database);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !["blobs", "conf", "db"].map(OsStr::new).contains(&&*name) {
            return Ok(Found::ForeignDirectory);
        }
    }
    Ok(Found::Nothing)
}

/// Removes the snapshots that sled was killed over. sled 0.34 would take one for the newest and
/// refuse the whole database as damaged; without it, it makes a new one of the log.
pub(crate) fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.sync_all()
}

/// Makes sure that the names in a directory outlive a loss of power.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be synced, and need not be.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
