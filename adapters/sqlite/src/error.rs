//! SQLite's errors as kvjob's: what was applied, what may have been, and what to do.

use std::path::Path;

use kvjob::kv::{Error, ErrorKind};
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_FSYNC;

/// The longest blob or text SQLite takes.
const LONGEST: usize = 1_000_000_000;

/// An error of SQLite's own as one of kvjob's, for the body of a transaction:
///
/// ```
/// fn order(tx: &mut kvjob_sqlite::Transaction<'_>) -> kvjob::kv::Result<()> {
///     tx.sqlite()
///         .execute("INSERT INTO orders (id, what) VALUES (?1, ?2)", (7, "a book"))
///         .map_err(kvjob_sqlite::error)?;
///     Ok(())
/// }
/// ```
pub fn error(source: rusqlite::Error) -> Error {
    said("SQLite", kind(&source), source)
}

/// An error before anything was committed.
pub(crate) fn writing(source: rusqlite::Error) -> Error {
    let kind = kind(&source);
    said(
        "SQLite could not write, and nothing was applied",
        kind,
        source,
    )
}

/// An error of a read.
pub(crate) fn reading(source: rusqlite::Error) -> Error {
    let kind = match kind(&source) {
        // There was nothing to be ordered.
        ErrorKind::Conflict => ErrorKind::Transient,
        kind => kind,
    };
    said("SQLite could not read", kind, source)
}

/// An error of the commit itself. It is in doubt unless SQLite says that it was refused.
pub(crate) fn committing(source: rusqlite::Error) -> Error {
    match code(&source) {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::ConstraintViolation,
        ) => writing(source),
        _ => said(
            "SQLite could not bring a commit to disk, which may or may not be there",
            ErrorKind::Unknown,
            source,
        ),
    }
}

/// What SQLite says when it opens a file.
pub(crate) fn opening(path: &Path, source: rusqlite::Error) -> Error {
    let (kind, advice) = match code(&source) {
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Unsupported,
            "it is encrypted, or a file of another program, and was left as it is; choose another \
             path",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Corrupt,
            "it is damaged; restore it from a copy, or save what can be read with the sqlite3 \
             command .recover",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::InUse,
            "a program that does not know kvjob's lock file has it locked; stop that one, or \
             choose another path",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
            ErrorKind::Backend,
            "this process must be allowed to read and write it, and to create files beside it",
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Backend, "make room"),
        _ => return at(path, said("SQLite", kind(&source), source)),
    };
    let message = format!("{source}: {advice}");
    at(path, Error::new(kind, message).with_source(source))
}

/// An error of opening, with the path in front.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

/// Whether another connection was in the way.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        code(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Whether the operating system could not bring to disk what was written.
pub(crate) fn is_sync(error: &rusqlite::Error) -> bool {
    error.sqlite_extended_error_code() == Some(SQLITE_IOERR_FSYNC)
}

fn said(what: &str, kind: ErrorKind, source: rusqlite::Error) -> Error {
    let message = format!("{what}: {}", text(&source));
    Error::new(kind, message).with_source(source)
}

/// What SQLite says, with what it leaves out.
fn text(error: &rusqlite::Error) -> String {
    match (code(error), error.sqlite_extended_error_code()) {
        (Some(ErrorCode::SystemIoFailure), Some(extended)) => {
            format!("{error} (extended error code {extended})")
        }
        (Some(ErrorCode::DatabaseBusy), _) => {
            format!("{error}: another connection is writing to the file, and did not end in time")
        }
        (Some(ErrorCode::DiskFull), _) => format!("{error}: make room, then try again"),
        _ => error.to_string(),
    }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    }
}

fn kind(error: &rusqlite::Error) -> ErrorKind {
    match code(error) {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
        ) => ErrorKind::Conflict,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::TooBig) => ErrorKind::TooLarge {
            what: "blob or text",
            limit: LONGEST,
        },
        _ => ErrorKind::Backend,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failure(extended_code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn a_commit_is_in_doubt_unless_sqlite_refused_it() {
        for refused in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_FULL,
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY,
            ffi::SQLITE_CONSTRAINT_COMMITHOOK,
        ] {
            let error = committing(failure(refused));
            assert!(!error.maybe_applied(), "{error}");
        }
        for doubtful in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_CORRUPT,
        ] {
            let error = committing(failure(doubtful));
            assert!(error.maybe_applied(), "{error}");
        }
    }

    #[test]
    fn a_locked_database_is_worth_another_try() {
        for error in [writing, reading, committing, error] {
            let error = error(failure(ffi::SQLITE_BUSY));
            assert!(error.is_retryable(), "{error}");
            assert!(error.to_string().contains("another connection"), "{error}");
        }
    }
}
