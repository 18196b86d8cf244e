//! redb's errors as kvjob's: what was applied, what may have been, and what to do.

use std::io;
use std::path::Path;

use kvjob::kv::{Error, ErrorKind};
use redb::{CommitError, DatabaseError, StorageError};

/// An error of redb's own as one of kvjob's, for the body of a transaction:
///
/// ```
/// # use kvjob_redb::redb;
/// # const ORDERS: redb::TableDefinition<u64, &str> = redb::TableDefinition::new("orders");
/// fn order(tx: &mut kvjob_redb::Transaction<'_>) -> kvjob::kv::Result<()> {
///     let mut orders = tx.redb().open_table(ORDERS).map_err(kvjob_redb::error)?;
///     orders.insert(7, "a book").map_err(kvjob_redb::error)?;
///     Ok(())
/// }
/// ```
pub fn error(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let kind = kind(&error);
    Error::new(kind, format!("redb: {error}")).with_source(error)
}

/// An error before anything was committed.
pub(crate) fn writing(source: impl Into<redb::Error>) -> Error {
    let source = source.into();
    // redb does nothing further after one failed write to the file, whatever it was for.
    let kind = match &source {
        redb::Error::Io(_) => ErrorKind::Closed,
        other => kind(other),
    };
    let message = format!("redb could not write, and nothing was applied: {source}");
    Error::new(kind, message).with_source(source)
}

/// An error of a read.
pub(crate) fn reading(source: impl Into<redb::Error>) -> Error {
    let source = source.into();
    let kind = kind(&source);
    Error::new(kind, format!("redb could not read: {source}")).with_source(source)
}

/// An error of the commit itself. Only one kind of it says that nothing was applied.
pub(crate) fn committing(source: CommitError) -> Error {
    if let CommitError::TransactionPoisoned = source {
        let message = format!("redb rolled the transaction back: {source}");
        return Error::new(ErrorKind::Backend, message).with_source(source);
    }
    let message =
        format!("redb could not bring a commit to disk, which may or may not be there: {source}");
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// An error of opening, with the path in front.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

/// What redb says when it opens a file.
pub(crate) fn opening(path: &Path, source: DatabaseError) -> Error {
    let (kind, what) = match &source {
        DatabaseError::DatabaseAlreadyOpen => (
            ErrorKind::InUse,
            "a program that does not know kvjob's lock file has it open; stop that one, or choose \
             another path"
                .to_owned(),
        ),
        DatabaseError::UpgradeRequired(version) => (
            ErrorKind::Unsupported,
            format!(
                "it has the old file format {version}; upgrade it with redb 2.6 \
                 (Database::upgrade), or choose another path"
            ),
        ),
        // redb has no error of its own for it; a test watches over this text.
        DatabaseError::Storage(StorageError::Corrupted(text)) if text.contains("file format") => (
            ErrorKind::TooNew,
            format!("it was written by a newer redb ({text}); open it with the newer kvjob"),
        ),
        DatabaseError::Storage(StorageError::Corrupted(text)) => (
            ErrorKind::Corrupt,
            format!("it is damaged ({text}); restore it from a copy, or choose another path"),
        ),
        DatabaseError::Storage(StorageError::Io(error)) => {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "; this process must be allowed to read and write it"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
                _ => "",
            };
            (ErrorKind::Backend, format!("{error}{advice}"))
        }
        other => (ErrorKind::Backend, other.to_string()),
    };
    at(path, Error::new(kind, what).with_source(source))
}

fn kind(error: &redb::Error) -> ErrorKind {
    match error {
        redb::Error::Corrupted(_) => ErrorKind::Corrupt,
        redb::Error::ValueTooLarge(_) => ErrorKind::TooLarge {
            what: "value",
            limit: 3 << 30,
        },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
            ErrorKind::Closed
        }
        _ => ErrorKind::Backend,
    }
}
