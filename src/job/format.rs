//! The record that says which format a namespace has (protocol rule 20).

use serde::{Deserialize, Serialize};

use super::{Result, header};
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
