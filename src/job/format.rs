//! The record that says which format a namespace has (protocol rule 20), or that what is in it is
//! not a job store yet, but a copy that was not finished.

use serde::{Deserialize, Serialize};

use super::{Error, Result, header};
use crate::encoding::record;
use crate::kv::{self, ErrorKind, Key};

/// The format of a namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Format {
    /// The newest format of any record in it.
    newest: u8,
    /// The oldest software, by format, that may read it.
    least_reader: u8,
}

impl Format {
    /// What this software writes, as it is stored.
    pub(crate) fn present() -> Result<Vec<u8>> {
        header::encode(&Self {
            newest: header::VERSION,
            least_reader: header::VERSION,
        })
    }

    /// Reads the record of a namespace that this software may read.
    pub(crate) fn read(namespace: &str, key: &Key, value: &[u8]) -> Result<Self> {
        if Unfinished::is(value) {
            let message = format!(
                "the copy into namespace {namespace:?} was not finished: copy again, and it goes on"
            );
            return Err(Error::copy("copy-unfinished", message));
        }
        let format: Self = header::decode(key, value)?;
        if format.least_reader > header::VERSION {
            let message = format!(
                "the jobs under namespace {namespace:?} are in format {}, this software reads up to format {}: use a newer version of it",
                format.newest,
                header::VERSION
            );
            return Err(kv::Error::new(ErrorKind::TooNew, message).into());
        }
        Ok(format)
    }

    /// Whether newer software has written to the namespace.
    pub(crate) fn is_newer(&self) -> bool {
        self.newest > header::VERSION
    }
}

/// What stands in its place while a copy is under way, so that nobody takes the part that is there
/// for a job store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unfinished {
    /// Which copy: one that finds another's was replaced by it.
    token: u64,
}

impl Unfinished {
    /// No format has this version, so that software that knows nothing of copies leaves it alone.
    const VERSION: u8 = u8::MAX;

    /// The mark of the copy of this token, as it is stored.
    pub(crate) fn mark(token: u64) -> Result<Vec<u8>> {
        record::encode(Self::VERSION, &Self { token }).map_err(|error| {
            let message = format!("cannot write the mark of a copy: {error}");
            let error = kv::Error::new(ErrorKind::Unsupported, message).with_source(error);
            Error::Store(error)
        })
    }

    /// Whether this is the mark of a copy.
    pub(crate) fn is(value: &[u8]) -> bool {
        value.first() == Some(&Self::VERSION)
    }
}
