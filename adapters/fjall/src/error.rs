//! fjall's errors as kvjob's: what was applied, what may have been, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use fjall::{Error as Fjall, JournalRecoveryError, LsmError};
use kvjob::kv::{Error, ErrorKind};

/// An error of fjall's own as one of kvjob's, for the body of a transaction:
///
/// ```
/// use kvjob_fjall::fjall::Readable as _;
///
/// fn ordered(tx: &mut kvjob_fjall::Transaction<'_>) -> kvjob::kv::Result<bool> {
///     let orders = tx.keyspace("orders")?;
///     tx.fjall().contains_key(&orders, "7").map_err(kvjob_fjall::error)
/// }
/// ```
pub fn error(source: Fjall) -> Error {
    let message = format!("fjall: {}", Brief(&source));
    Error::new(kind(&source), message).with_source(source)
}

/// An error of what changes nothing.
pub(crate) fn reading(source: Fjall) -> Error {
    let message = format!("fjall could not read: {}", Brief(&source));
    Error::new(kind(&source), message).with_source(source)
}

/// An error of a batch. Only one says that nothing of it was applied.
pub(crate) fn committing(source: Fjall) -> Error {
    if let Fjall::Poisoned = source {
        let message = "fjall wrote nothing, for it failed before, in the background: the messages \
                       it logged then say why; is the disk full?";
        return Error::new(ErrorKind::Closed, message).with_source(source);
    }
    syncing(source)
}

/// An error of a sync, whatever it was.
pub(crate) fn syncing(source: Fjall) -> Error {
    let message = format!(
        "fjall could not bring changes to disk, which may or may not be there: {}",
        Brief(&source)
    );
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// An error of opening, with the path in front.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

/// What fjall says when it opens a directory.
pub(crate) fn opening(path: &Path, source: impl Into<Fjall>) -> Error {
    let source = source.into();
    let (kind, what) = match (kind(&source), io_error(&source)) {
        (ErrorKind::InUse, _) => (
            ErrorKind::InUse,
            "a program that does not know kvjob's lock file has it open, or a handle of fjall's \
             that was kept; stop that one, or choose another path"
                .to_owned(),
        ),
        (ErrorKind::Corrupt, _) => (ErrorKind::Corrupt, damaged(&Brief(&source))),
        (kind, Some(error)) => {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "; this process must be allowed to read and write it"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
                _ => "",
            };
            (kind, format!("{error}{advice}"))
        }
        (kind, None) => (kind, Brief(&source).to_string()),
    };
    at(path, Error::new(kind, what).with_source(source))
}

/// What is damaged, as found by others than fjall: by its assertions, or by us.
pub(crate) fn corrupt(path: &Path, why: &str) -> Error {
    at(path, Error::new(ErrorKind::Corrupt, damaged(&why)))
}

/// What is there and is no store of ours.
pub(crate) fn refused(path: &Path, what: &str) -> Error {
    let message = format!("{what}, and was left as it is; choose another path");
    at(path, Error::new(ErrorKind::Unsupported, message))
}

pub(crate) fn older(path: &Path, format: u8) -> Error {
    let message = format!(
        "it is a database of fjall {format}; upgrade it with fjall's migration tool, or choose \
         another path"
    );
    at(path, Error::new(ErrorKind::Unsupported, message))
}

pub(crate) fn newer(path: &Path, format: u8) -> Error {
    let message =
        format!("it was written by a newer fjall (format {format}); open it with the newer kvjob");
    at(path, Error::new(ErrorKind::TooNew, message))
}

pub(crate) fn homeless(path: &Path, why: io::Error) -> Error {
    let message = format!(
        "fjall needs a current directory, and this process's is gone ({why}); change to one that \
         is there"
    );
    at(
        path,
        Error::new(ErrorKind::Backend, message).with_source(why),
    )
}

fn damaged(why: &dyn fmt::Display) -> String {
    format!("it is damaged ({why}); restore it from a copy, or choose another path")
}

fn kind(error: &Fjall) -> ErrorKind {
    match error {
        Fjall::Locked => ErrorKind::InUse,
        Fjall::Poisoned => ErrorKind::Closed,
        Fjall::KeyspaceDeleted => ErrorKind::Backend,
        _ => match io_error(error) {
            // A file of it is shorter than another one says.
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            Some(_) => ErrorKind::Backend,
            None => ErrorKind::Corrupt,
        },
    }
}

fn io_error(error: &Fjall) -> Option<&io::Error> {
    match error {
        Fjall::Io(error) | Fjall::Storage(LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

/// fjall's error as a sentence.
struct Brief<'a>(&'a Fjall);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fjall::Io(error) | Fjall::Storage(LsmError::Io(error)) => error.fmt(f),
            Fjall::Storage(LsmError::ChecksumMismatch { .. }) => {
                f.write_str("a block of a table has a wrong checksum")
            }
            Fjall::Storage(error) => write!(f, "{error:?}"),
            Fjall::JournalRecovery(JournalRecoveryError::ChecksumMismatch) => f.write_str(
                "a commit in a journal has a wrong checksum, which also a loss of power can leave \
                 while a commit with large values is being synced",
            ),
            Fjall::JournalRecovery(error) => write!(f, "a journal cannot be read: {error:?}"),
            Fjall::Unrecoverable => f.write_str("its files do not fit together"),
            Fjall::Poisoned => f.write_str("it failed before, as the messages it logged then say"),
            other => write!(f, "{other:?}"),
        }
    }
}
