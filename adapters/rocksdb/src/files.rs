//! What RocksDB's directory holds, and how it comes to be there as a whole or not at all. What is
//! in the files is RocksDB's alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a path is, before RocksDB is let near it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or an empty directory.
    Nothing,
    Database,
    File,
    ForeignDirectory,
    /// A database without the file that says which of the others it consists of.
    Headless,
}

/// Looks what is at this path.
pub(crate) fn found(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Ok(Found::File),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    let mut found = Found::Nothing;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name == "CURRENT" {
            return Ok(Found::Database);
        }
        if name == "IDENTITY" || name.starts_with("MANIFEST-") {
            found = Found::Headless;
        } else if found == Found::Nothing {
            found = Found::ForeignDirectory;
        }
    }
    Ok(found)
}

/// Where a database is made that is to be at `path`: of one that was being made when the process
/// was killed, nobody could tell whose it is. What a crash left there is removed.
pub(crate) fn begin(path: &Path) -> io::Result<PathBuf> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    unless_missing(fs::remove_dir_all(&unfinished))?;
    Ok(unfinished)
}

/// Moves a database that was made to `path`, where nothing or an empty directory is.
pub(crate) fn finish(unfinished: &Path, path: &Path) -> io::Result<()> {
    // Not every operating system lets one directory take the place of another.
    unless_missing(fs::remove_dir(path))?;
    fs::rename(unfinished, path)?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

fn unless_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
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
