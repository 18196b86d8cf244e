//! LMDB's errors as kvjob's: what was applied, what may have been, and what to do.

use std::io;
use std::path::Path;

use heed::MdbError;
use kvjob::kv::{Error, ErrorKind};

/// An error of LMDB's own, or of heed's, as one of kvjob's, for the body of a transaction:
///
/// ```
/// # use kvjob_lmdb::heed::{Database, types};
/// # type Orders = Database<'static, types::Bytes, types::Str>;
/// fn order(tx: &mut kvjob_lmdb::Transaction<'_>, orders: &Orders) -> kvjob::kv::Result<()> {
///     orders
///         .put(tx.lmdb(), b"7", "a book")
///         .map_err(kvjob_lmdb::error)
/// }
/// ```
pub fn error(source: heed::Error) -> Error {
    said("LMDB", source)
}

/// An error before anything was committed.
pub(crate) fn writing(source: heed::Error) -> Error {
    said("LMDB could not write, and nothing was applied", source)
}

/// An error of a read.
pub(crate) fn reading(source: heed::Error) -> Error {
    said("LMDB could not read", source)
}

/// An error of the commit itself, which left nothing of it behind.
pub(crate) fn committing(source: heed::Error) -> Error {
    said("LMDB could not commit, and nothing was applied", source)
}

/// An error of the commit itself, or of a sync, after which nobody can say what is on disk.
pub(crate) fn doubtful(source: heed::Error) -> Error {
    let message = format!(
        "LMDB could not bring a commit to disk, which may or may not be there: {}",
        text(&source)
    );
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// What LMDB says when it opens a file.
pub(crate) fn opening(path: &Path, source: heed::Error) -> Error {
    let (kind, advice) = match &source {
        heed::Error::EnvAlreadyOpened => (
            ErrorKind::InUse,
            "this process has it open, and LMDB lets it do so only once: give that environment to \
             Options::open_in",
        ),
        heed::Error::Mdb(MdbError::Invalid | MdbError::Corrupted | MdbError::PageNotFound) => (
            ErrorKind::Corrupt,
            "it is damaged; restore it from a copy, or choose another path",
        ),
        heed::Error::Mdb(MdbError::VersionMismatch) => (
            ErrorKind::InUse,
            "a program with an LMDB of another version has it open; stop that one",
        ),
        heed::Error::Io(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                ErrorKind::Backend,
                "this process must be allowed to read and write it, and to create files beside it",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::Backend, "make room")
            }
            io::ErrorKind::OutOfMemory => (
                ErrorKind::Backend,
                "this process may not map so much of a file; choose a smaller Options::map_size",
            ),
            _ => return at(path, said("LMDB", source)),
        },
        _ => return at(path, said("LMDB", source)),
    };
    let message = format!("{source}: {advice}");
    at(path, Error::new(kind, message).with_source(source))
}

/// An error of opening, with the path in front.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

fn said(what: &str, source: heed::Error) -> Error {
    let message = format!("{what}: {}", text(&source));
    Error::new(kind(&source), message).with_source(source)
}

/// What LMDB says, and what to do.
fn text(error: &heed::Error) -> String {
    let advice = match error {
        heed::Error::Mdb(MdbError::MapFull) => {
            "open it with a larger Options::map_size (to remove something takes room, too)"
        }
        heed::Error::Mdb(MdbError::MapResized) => {
            "another process has it open with a larger map, and has filled more than ours holds; \
             open it with the same Options::map_size everywhere"
        }
        heed::Error::Mdb(MdbError::ReadersFull) => "too many read at the same time; try again",
        heed::Error::Mdb(MdbError::Panic) => {
            "a write to the file failed before; open it again to go on with what is on disk"
        }
        heed::Error::Mdb(MdbError::BadTxn) => {
            "an error before it, which was passed over, had ended the transaction; return such \
             errors"
        }
        heed::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => "make room, then try again",
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

fn kind(error: &heed::Error) -> ErrorKind {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => ErrorKind::TooLarge {
            what: "map",
            // Whoever knows the map says it.
            limit: usize::MAX,
        },
        heed::Error::Mdb(MdbError::TxnFull) => ErrorKind::TooLarge {
            what: "transaction",
            limit: usize::MAX,
        },
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid) => {
            ErrorKind::Corrupt
        }
        heed::Error::Mdb(MdbError::ReadersFull) => ErrorKind::Transient,
        heed::Error::Mdb(MdbError::Panic) => ErrorKind::Closed,
        _ => ErrorKind::Backend,
    }
}
