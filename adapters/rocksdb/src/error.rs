//! RocksDB's errors as kvjob's: what was applied, what may have been, and what to do.
//!
//! RocksDB's C interface says in words alone what failed; the words are those of its `Status`.

use std::io;
use std::path::Path;

use kvjob::kv::{Error, ErrorKind};
use rocksdb::{Error as Rocks, ErrorKind as RocksKind};

/// An error of what changes nothing.
pub(crate) fn reading(source: Rocks) -> Error {
    let message = format!("RocksDB could not read: {source}");
    Error::new(kind(&source), message).with_source(source)
}

/// An error of a commit. RocksDB goes on to refuse commits after one that failed, and after what
/// failed in the background, and does not tell these apart.
pub(crate) fn committing(source: Rocks) -> Error {
    if source.kind() == RocksKind::InvalidArgument {
        let message = format!("RocksDB refused a commit: {source}");
        return Error::new(ErrorKind::Backend, message).with_source(source);
    }
    syncing(source)
}

/// An error of a sync, whatever it was.
pub(crate) fn syncing(source: Rocks) -> Error {
    let message = format!(
        "RocksDB could not bring changes to disk, which may or may not be there: {source}{}",
        advice(&source)
    );
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// What RocksDB says when it opens a directory.
pub(crate) fn opening(path: &Path, source: Rocks) -> Error {
    let (kind, what) = match kind(&source) {
        ErrorKind::InUse => (
            ErrorKind::InUse,
            "a program that does not know kvjob's lock file has it open; stop that one, or choose \
             another path"
                .to_owned(),
        ),
        ErrorKind::Corrupt => (ErrorKind::Corrupt, damaged(source.as_ref())),
        // It is there, as was looked at before; so a file is missing that another one names.
        _ if source.as_ref().contains("No such file") => {
            (ErrorKind::Corrupt, damaged(source.as_ref()))
        }
        kind => (kind, format!("{source}{}", advice(&source))),
    };
    at(path, Error::new(kind, what).with_source(source))
}

/// What the operating system says about the directory.
pub(crate) fn accessing(path: &Path, source: io::Error) -> Error {
    let message = format!("{source}{}", advice_text(&source.to_string()));
    at(
        path,
        Error::new(ErrorKind::Backend, message).with_source(source),
    )
}

/// What is damaged, as found by us.
pub(crate) fn corrupt(path: &Path, why: &str) -> Error {
    at(path, Error::new(ErrorKind::Corrupt, damaged(why)))
}

/// What is there and is no store of ours.
pub(crate) fn refused(path: &Path, what: &str) -> Error {
    let message = format!("{what}, and was left as it is; choose another path");
    at(path, Error::new(ErrorKind::Unsupported, message))
}

/// A database without the column family, which is never opened.
pub(crate) fn missing() -> Error {
    Error::new(ErrorKind::Backend, "RocksDB lost a column family")
}

fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

fn damaged(why: &str) -> String {
    format!("it is damaged ({why}); restore it from a copy, or choose another path")
}

fn kind(error: &Rocks) -> ErrorKind {
    match error.kind() {
        RocksKind::Corruption => ErrorKind::Corrupt,
        RocksKind::NotSupported => ErrorKind::Unsupported,
        // "While lock file", or "lock hold by current process".
        RocksKind::IOError if error.as_ref().contains("/LOCK: ") => {
            let text = error.as_ref();
            let held = ["lock hold by", "Resource temporarily unavailable"];
            if held.iter().any(|words| text.contains(words)) {
                ErrorKind::InUse
            } else {
                ErrorKind::Backend
            }
        }
        _ => ErrorKind::Backend,
    }
}

fn advice(error: &Rocks) -> &'static str {
    advice_text(error.as_ref())
}

fn advice_text(text: &str) -> &'static str {
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        "; make room"
    } else if text.contains("Permission denied") || text.contains("Read-only file system") {
        "; this process must be allowed to read and write it"
    } else {
        ""
    }
}
