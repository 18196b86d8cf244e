//! Values that still can be read by a later version: one byte that says which format, then the body.
//!
//! The body is serde by way of [bincode 2][format], standard configuration (little endian, variable
//! length integers); no other module knows that. What the records of kvjob are, and which versions of
//! each there are, is not decided here: a caller writes with the version it has and, when it reads,
//! is told the version it found.
//!
//! Versions count from 1. To change what a record contains, make a new type, write it with the next
//! version, and keep the old type for reading; bincode's fields have no names, so *any* change of a
//! type (a field added, removed, or moved, an enum variant other than a new last one) is a new version.
//!
//! The body must be a type that describes itself by position alone: nothing of serde that skips
//! fields, flattens, is untagged, or needs to see what it reads (`serde_json::Value`). Text of unknown
//! shape, such as JSON, goes in as bytes.
//!
//! # Example
//!
//! ```
//! use kvjob::encoding::record::{self, DecodeError};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct QueueV1(u32);
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct Queue { running: u32, paused: bool }
//!
//! const NEWEST: u8 = 2;
//!
//! fn read(bytes: &[u8]) -> Result<Queue, DecodeError> {
//!     let (version, body) = record::open(bytes, NEWEST)?;
//!     match version {
//!         1 => body.decode().map(|QueueV1(running)| Queue { running, paused: false }),
//!         _ => body.decode(),
//!     }
//! }
//!
//! let old = record::encode(1, &QueueV1(7))?;
//! assert_eq!(read(&old)?, Queue { running: 7, paused: false });
//! let new = record::encode(NEWEST, &Queue { running: 7, paused: true })?;
//! assert_eq!(read(&new)?, Queue { running: 7, paused: true });
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [format]: https://docs.rs/bincode/2.0.1/bincode/spec/index.html

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(test)]
mod tests;

/// The most bytes the body of a record can have: 16 MiB. Nothing larger is written or read.
pub const MAX_BODY: usize = 16 << 20;

/// What bincode may claim to hold while it reads a body.
///
/// It counts the size in memory, and an integer of 16 bytes may be one byte in the record: with less,
/// some of what [`encode`] accepts could not be read again.
const MAX_CLAIM: usize = 16 * MAX_BODY;

/// Most records fit, so that encoding one is one allocation.
const USUAL_SIZE: usize = 256;

const BINCODE: Configuration<LittleEndian, Varint, Limit<MAX_CLAIM>> =
    bincode::config::standard().with_limit::<MAX_CLAIM>();

/// Why a value could not be made a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Versions count from 1.
    #[error("a record cannot have version 0: versions count from 1")]
    VersionZero,
    /// The body is over [`MAX_BODY`].
    #[error("the body of a record is over the limit of {limit} bytes")]
    TooLarge {
        /// The most it may be, in bytes.
        limit: usize,
    },
    /// The type has something that this format cannot express: see the [module](self).
    #[error("a value of {type_name} cannot be written as a record: {reason}")]
    Unsupported {
        /// The type that was to be written.
        type_name: &'static str,
        /// What is wrong, in words.
        reason: String,
    },
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer version of the software: leave it alone.
    #[error("the record has version {found}, this software knows those up to {newest}")]
    TooNew {
        /// The version of the record.
        found: u8,
        /// The newest one the caller knows.
        newest: u8,
    },
    /// Not what was ever written.
    #[error("the record is corrupt: {reason}")]
    Corrupt {
        /// What is wrong, in words.
        reason: String,
    },
}

impl DecodeError {
    fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt {
            reason: reason.into(),
        }
    }
}

/// A record of this value, written with this version.
///
/// # Errors
///
/// [`EncodeError`] if the version is 0, the body over [`MAX_BODY`], or the type not one this format
/// can express.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Result<Vec<u8>, EncodeError> {
    if version == 0 {
        return Err(EncodeError::VersionZero);
    }
    let mut sink = Sink {
        record: Vec::with_capacity(USUAL_SIZE),
        too_large: false,
    };
    sink.record.push(version);
    match bincode::serde::encode_into_writer(value, &mut sink, BINCODE) {
        Ok(()) => Ok(sink.record),
        Err(_) if sink.too_large => Err(EncodeError::TooLarge { limit: MAX_BODY }),
        Err(error) => Err(EncodeError::Unsupported {
            type_name: std::any::type_name::<T>(),
            reason: error.to_string(),
        }),
    }
}

/// The version of a record, from 1 to `newest`, and its body, to be decoded as the type of that
/// version.
///
/// # Errors
///
/// [`DecodeError::TooNew`] if the version is above `newest`; [`DecodeError::Corrupt`] if there is
/// none, it is 0, or the body is over [`MAX_BODY`].
pub fn open(record: &[u8], newest: u8) -> Result<(u8, Body<'_>), DecodeError> {
    match record.split_first() {
        None => Err(DecodeError::corrupt("it is empty")),
        Some((0, _)) => Err(DecodeError::corrupt("its version is 0")),
        Some((&found, _)) if found > newest => Err(DecodeError::TooNew { found, newest }),
        Some((_, body)) if body.len() > MAX_BODY => Err(DecodeError::corrupt(format!(
            "its body of {} bytes is over the limit of {MAX_BODY}",
            body.len()
        ))),
        Some((&version, body)) => Ok((version, Body(body))),
    }
}

/// The body of a record: what [`open`] found behind the version.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a>(&'a [u8]);

impl Body<'_> {
    /// The value, of the type that was written with this version.
    ///
    /// Two things do not belong in a record, for nothing bounds what a damaged one may claim to have
    /// of them: a sequence of something without a size, such as `Vec<()>` (the time), and a type that
    /// contains itself (the stack).
    ///
    /// # Errors
    ///
    /// [`DecodeError::Corrupt`] if the body is not a value of this type, to the last byte.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        let type_name = std::any::type_name::<T>();
        let (value, read) = bincode::serde::decode_from_slice(self.0, BINCODE)
            .map_err(|error| DecodeError::corrupt(format!("it is no {type_name}: {error}")))?;
        match self.0.len() - read {
            0 => Ok(value),
            more => Err(DecodeError::corrupt(format!(
                "{more} bytes follow the {type_name}"
            ))),
        }
    }
}

/// The record while it is written: the version is there first, so that the body is never moved.
struct Sink {
    record: Vec<u8>,
    too_large: bool,
}

impl Writer for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        if bytes.len() > (MAX_BODY + 1).saturating_sub(self.record.len()) {
            self.too_large = true;
            return Err(bincode::error::EncodeError::UnexpectedEnd);
        }
        self.record.extend_from_slice(bytes);
        Ok(())
    }
}
