//! sled's errors as kvjob's: what was applied, what may have been, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use kvjob::kv::{Error, ErrorKind, Key};

/// An error of a read.
pub(crate) fn reading(source: sled::Error) -> Error {
    let kind = match &source {
        sled::Error::Corruption { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Backend,
    };
    Error::new(kind, format!("sled could not read: {}", Brief(&source))).with_source(source)
}

/// The error of a value whose pieces are not all there.
pub(crate) fn lost(key: &[u8]) -> Error {
    let message = format!("sled has lost a piece of the value of {}", Key::from(key));
    Error::new(ErrorKind::Corrupt, message)
}

/// An error of a batch, whatever it was: sled applies one change by change, and takes none back.
pub(crate) fn applying(source: sled::Error) -> Error {
    let message = format!(
        "sled could not finish a batch, of which some may be there: {}",
        Brief(&source)
    );
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// The error of whoever would read half of a batch.
pub(crate) fn torn() -> Error {
    let message = "sled failed half-way through a batch, and is not read any more";
    Error::new(ErrorKind::Closed, message)
}

/// An error of a flush, or of what is done about the files beside it.
pub(crate) fn syncing(source: impl Into<sled::Error>) -> Error {
    let source = source.into();
    let message = format!(
        "sled could not bring changes to disk, which may or may not be there: {}",
        Brief(&source)
    );
    Error::new(ErrorKind::Unknown, message).with_source(source)
}

/// An error of opening, with the path in front.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    error.context(format_args!("cannot open {}", path.display()))
}

/// What sled says when it opens a directory.
pub(crate) fn opening(path: &Path, source: impl Into<sled::Error>) -> Error {
    let source = source.into();
    let (kind, what) = match &source {
        sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => (
            ErrorKind::InUse,
            "a program that does not know kvjob's lock file has it open, or this one still has it \
             after a failure of sled; stop that one, or choose another path"
                .to_owned(),
        ),
        sled::Error::Io(error) => {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "; this process must be allowed to read and write it"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
                _ => "",
            };
            (ErrorKind::Backend, format!("{error}{advice}"))
        }
        sled::Error::Corruption { .. } => (ErrorKind::Corrupt, damaged(&Brief(&source))),
        sled::Error::Unsupported(why) => (
            ErrorKind::Unsupported,
            format!("it was made by another version of sled, or with other settings: {why}"),
        ),
        _ => (ErrorKind::Backend, Brief(&source).to_string()),
    };
    at(path, Error::new(kind, what).with_source(source))
}

/// sled checks some of what it reads with assertions.
pub(crate) fn panicked(path: &Path, panic: &str) -> Error {
    at(path, Error::new(ErrorKind::Corrupt, damaged(&panic)))
}

fn damaged(why: &dyn fmt::Display) -> String {
    format!("it is damaged ({why}); restore it from a copy, or choose another path")
}

/// sled's error without what it says of backtraces it does not have.
struct Brief<'a>(&'a sled::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            sled::Error::Corruption { at: Some(at), .. } => {
                write!(f, "corrupted data at {at}")
            }
            sled::Error::Corruption { at: None, .. } => f.write_str("corrupted data"),
            sled::Error::Io(error) => error.fmt(f),
            other => other.fmt(f),
        }
    }
}
