//! What fjall's directory holds, and how it comes to be there as a whole or not at all. What is in
//! the files is fjall's alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The format that fjall 3 writes.
const FORMAT: u8 = 3;

/// What a path is, before fjall is let near it: fjall takes any directory, and makes anew what is
/// missing of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or an empty directory.
    Nothing,
    Database,
    File,
    ForeignDirectory,
    /// A database of fjall 1 or 2.
    Older(u8),
    Newer(u8),
    /// A database of which this is missing.
    Incomplete(&'static str),
}

/// Looks what is at this path.
pub(crate) fn found(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Ok(Found::File),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    let version = match fs::read(path.join("version")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        version => version.unwrap_or_default(),
    };
    match *version {
        [b'F', b'J', b'L', FORMAT] => whole(path),
        [b'F', b'J', b'L', older @ ..FORMAT] => Ok(Found::Older(older)),
        [b'F', b'J', b'L', newer, ..] => Ok(Found::Newer(newer)),
        _ if fs::read_dir(path)?.next().is_none() => Ok(Found::Nothing),
        _ => Ok(Found::ForeignDirectory),
    }
}

/// Whether what fjall would silently make anew is there.
fn whole(path: &Path) -> io::Result<Found> {
    let keyspaces = path.join("keyspaces");
    if !keyspaces.join("0").join("current").try_exists()? {
        return Ok(Found::Incomplete(
            "keyspaces/0, its list of keyspaces, is missing",
        ));
    }
    for entry in fs::read_dir(keyspaces)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        if entry.file_type()?.is_dir() && number.is_none() {
            return Ok(Found::Incomplete(
                "in keyspaces is a directory that is not fjall's",
            ));
        }
    }
    let mut journals = 0;
    for entry in fs::read_dir(path)? {
        journals +=
            usize::from(Path::new(&entry?.file_name()).extension() == Some(OsStr::new("jnl")));
    }
    if journals == 0 {
        return Ok(Found::Incomplete("its journal is missing"));
    }
    Ok(Found::Database)
}

/// Where a database is made that is to be at `path`: fjall could never open one that it was killed
/// over while it made it. What a crash left there is removed.
pub(crate) fn begin(path: &Path) -> io::Result<PathBuf> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    unless_missing(fs::remove_dir_all(&unfinished))?;
    Ok(unfinished)
}

/// Moves a database that was made to `path`, where nothing or an empty directory is.
pub(crate) fn finish(unfinished: &Path, path: &Path) -> io::Result<()> {
    sync_directory(&unfinished.join("keyspaces"))?;
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
