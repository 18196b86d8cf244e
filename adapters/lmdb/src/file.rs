//! An LMDB file before LMDB maps it: LMDB believes what stands in it, and where that is wrong the
//! process dies. So it is looked at first. And how a new one comes into being.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kvjob::kv::{Error, ErrorKind, Result};

use crate::error::opening;
use crate::{Env, Options, environment};

/// What LMDB's own `MDB_MAGIC` and `MDB_DATA_VERSION` are.
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// The largest page there is.
const LARGEST_PAGE: u64 = 64 << 10;
/// Where the first page's own header ends, on 64-bit machines.
const META: usize = 16;
/// The end of what is read of each of the first two pages.
const META_END: usize = META + 136;

/// The file of an environment: its path, or, of one that is a directory, the file in it.
pub(crate) fn of(env: &Env) -> PathBuf {
    let path = env.path();
    if path.is_dir() {
        path.join("data.mdb")
    } else {
        path.to_owned()
    }
}

/// Makes an empty file under another name first, and brings it to disk: one that a crash leaves
/// half made, LMDB would never open again. The caller has the lock.
pub(crate) fn create(path: &Path) -> Result<()> {
    let refused = |error: io::Error| opening(path, error.into());
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let new = beside(".new");
    let new_lock = beside(".new-lock");
    remove(&new).map_err(refused)?;
    // Only two pages; the map is that of whoever opens it.
    let env = environment::open(&new, &Options::new().map_size(1 << 20), 0)?;
    env.force_sync().map_err(|error| opening(path, error))?;
    drop(env);
    remove(&new_lock).map_err(refused)?;
    fs::rename(&new, path)
        .and_then(|()| sync_directory(path))
        .map_err(refused)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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

/// Refuses what is there and is no LMDB file of this version, or one that is visibly damaged.
/// Whether there is anything.
pub(crate) fn check(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let why = "it is a directory; choose a path in it, or open an environment that is a \
                       directory yourself and give it to Options::open_in";
            return Err(refused(path, ErrorKind::Unsupported, why));
        }
        Ok(metadata) if metadata.len() > 0 => {}
        _ => return Ok(false),
    }
    if path.file_name().is_some_and(|name| name == "data.mdb") {
        // Its lock file has another name than the one that we would use.
        let why = "an environment that is a directory has its data in a file of this name; open \
                   the directory yourself and give the environment to Options::open_in";
        return Err(refused(path, ErrorKind::Unsupported, why));
    }
    // On other machines than those with 64 bits its header is of another shape, and LMDB looks.
    if cfg!(target_pointer_width = "64") {
        // Somebody may be writing to it, so that its beginning is read half old and half new.
        let look = || look(path);
        look().or_else(|_| look()).or_else(|_| look())?;
    }
    Ok(true)
}

fn look(path: &Path) -> Result<()> {
    let unreadable = |error: io::Error| opening(path, error.into());
    let damaged = || {
        let why = "it is damaged, or was cut; restore it from a copy, or choose another path";
        refused(path, ErrorKind::Corrupt, why)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    let two_pages = (&file).take(2 * LARGEST_PAGE).read_to_end(&mut start);
    two_pages.map_err(unreadable)?;
    // After what says how long it must be, for it may be growing.
    let length = file.metadata().map_err(unreadable)?.len();
    let first = Meta::read(&start).ok_or_else(|| {
        let why = "it is a file of another program; choose another path";
        refused(path, ErrorKind::Unsupported, why)
    })?;
    if first.version > VERSION {
        let why = "its format is that of a newer LMDB; open it with a newer kvjob";
        return Err(refused(path, ErrorKind::TooNew, why));
    }
    let page = u64::from(first.page_bytes);
    if !page.is_power_of_two() || !(512..=LARGEST_PAGE).contains(&page) {
        return Err(damaged());
    }
    let second = start.get(first.page_bytes as usize..).and_then(Meta::read);
    let second = second.ok_or_else(damaged)?;
    let newest = if second.transaction > first.transaction {
        second
    } else {
        first
    };
    // A file may end before its last pages, if those were never written to; never before a root.
    let is_there = |root: u64| root == u64::MAX || root < length / page;
    if !newest.roots.into_iter().all(is_there) {
        return Err(damaged());
    }
    let whole = newest.last_page.checked_add(1);
    let whole = whole.and_then(|pages| pages.checked_mul(page));
    let missing = whole.ok_or_else(damaged)?.saturating_sub(length);
    if missing > 0 {
        // To read what is mapped beyond the end of a file kills the process. What is empty, LMDB
        // calls damaged. Nothing that another process adds meanwhile is overwritten.
        let lengthened = OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| io::copy(&mut io::repeat(0).take(missing), &mut file));
        lengthened.map_err(unreadable)?;
    }
    Ok(())
}

fn refused(path: &Path, kind: ErrorKind, why: &str) -> Error {
    let path = path.display();
    let message = format!("cannot open {path} as an LMDB file: {why}; it was left as it is");
    Error::new(kind, message)
}

/// What one of the first two pages says, the newer of which counts.
#[derive(Clone, Copy)]
struct Meta {
    version: u32,
    page_bytes: u32,
    /// Of the free pages and of the databases; all ones where there are none.
    roots: [u64; 2],
    last_page: u64,
    transaction: u64,
}

impl Meta {
    /// Reads it off the beginning of a page; `None` if it is none.
    fn read(page: &[u8]) -> Option<Self> {
        let meta = page.get(META..META_END)?;
        let u32_at = |at: usize| {
            let bytes = meta.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let u64_at = |at: usize| {
            let bytes = meta.get(at..at + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let meta = Self {
            version: u32_at(4)?,
            page_bytes: u32_at(24)?,
            roots: [u64_at(64)?, u64_at(112)?],
            last_page: u64_at(120)?,
            transaction: u64_at(128)?,
        };
        (u32_at(0)? == MAGIC).then_some(meta)
    }
}
