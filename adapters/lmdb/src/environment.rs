//! Opening an LMDB environment: the one place of this crate with unsafe code, and why it is sound.

#![expect(unsafe_code, reason = "heed's way to open a file is unsafe; see open")]

use std::path::Path;

use heed::{EnvFlags, EnvOpenOptions};
use kvjob::kv::{Durability, Result};

use crate::error::opening as cannot_open;
use crate::{Env, Options};

/// Read transactions at a time, of all threads: beyond, reads fail. LMDB's own default is 126, and
/// each takes 64 bytes of a file.
const READERS: u32 = 2048;
/// A map is a multiple of this, which every page size divides.
const GRANULE: usize = 64 << 10;

/// Opens the file at this path for so many named databases, and makes it if it is not there. Of one
/// that is there, the caller knows that LMDB can map it.
pub(crate) fn open(path: &Path, options: &Options, databases: u32) -> Result<Env> {
    let mut opening = EnvOpenOptions::new().read_txn_without_tls();
    let map_size = options
        .map_size
        .max(GRANULE)
        .checked_next_multiple_of(GRANULE);
    opening
        .map_size(map_size.unwrap_or(usize::MAX - (GRANULE - 1)))
        .max_readers(READERS)
        .max_dbs(databases);
    let mut flags = EnvFlags::NO_SUB_DIR;
    flags.set(
        EnvFlags::NO_META_SYNC,
        options.durability != Durability::Immediate,
    );
    // SAFETY: The flags are unsafe for what they may do to the file. NO_SUB_DIR only says what the
    // path names. With NO_META_SYNC every commit still syncs its pages before it points to them, so
    // that a loss of power takes back a commit, but damages nothing; the engine syncs the rest.
    unsafe { opening.flags(flags) };
    // SAFETY: The map is sound for as long as nothing but LMDB changes the file. LMDB's own lock
    // file orders every process that uses it, also those that do not know us, and is not switched
    // off; heed opens no path twice in this process; without WRITE_MAP, no stray write of this
    // process reaches the file. That another program overwrites or cuts a file that is in use
    // cannot be ruled out, by nobody who maps one; the crate's documentation says so. What of an
    // unsound file can be told before it is mapped has been told: see `file`.
    let opened = unsafe { opening.open(path) };
    opened.map_err(|error| cannot_open(path, error))
}
