//! Keys made of several elements, whose byte order is the order of the elements.
//!
//! The format is a subset of the public [tuple format of FoundationDB][format], so that it is fixed
//! by a document that is not ours and other tools can read it. [`Tuple`] writes a key, [`Reader`]
//! reads one. Which elements make up which key, and what a text in a key may contain, is not decided
//! here.
//!
//! | element | type codes | after the code |
//! |---|---|---|
//! | bytes | `01` | the bytes, each `00` written as `00 ff`; then `00` |
//! | string | `02` | its UTF-8, in the same way |
//! | integer, `i64::MIN` to `u64::MAX` | `0c` to `1c` | big endian in as few bytes as it takes, of a negative one the complement; the code is `14` plus or minus their number |
//! | bool | `26`, `27` | nothing |
//! | UUID | `30` | its 16 bytes |
//!
//! The rest of the format (null, nested tuples, floats, larger integers, versionstamps) is refused.
//!
//! # Order
//!
//! Two keys compare as bytes as their elements compare one by one; a key comes before every longer
//! one that starts with its elements. Elements of different types stand in the order of the table.
//! Integers compare as numbers, strings by code point (as in Rust).
//!
//! # Prefixes
//!
//! The keys that start with some elements start with their bytes, so they can be scanned by prefix.
//! The reverse holds unless the last element of the prefix is bytes or a string: those of `"a"` are
//! also the start of `"a\0"`. End a prefix with another type, keep `\0` out of such texts, or use
//! bytes of a fixed length.
//!
//! # Example
//!
//! ```
//! use kvjob::encoding::tuple::{Reader, Tuple};
//!
//! let ready = Tuple::new().string("ready").string("send-mail").finish();
//! let key = Tuple::after(&ready, 32).int(-5).uuid(&[7; 16]).finish();
//!
//! let mut rest = Reader::new(key.strip_prefix(&*ready).ok_or("another space")?);
//! assert_eq!(rest.read_i64()?, -5);
//! assert_eq!(rest.read_uuid()?, [7; 16]);
//! rest.finish()?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [format]: https://github.com/apple/foundationdb/blob/main/design/tuple.md

mod error;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{DecodeError, Found};
pub use reader::Reader;
pub use writer::Tuple;

/// The type codes of the public document.
mod code {
    pub(super) const BYTES: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    /// The integer zero; `n` bytes of a positive integer are `ZERO + n`, of a negative `ZERO - n`.
    pub(super) const ZERO: u8 = 0x14;
    pub(super) const MIN_INTEGER: u8 = ZERO - 8;
    pub(super) const MAX_INTEGER: u8 = ZERO + 8;
    pub(super) const FALSE: u8 = 0x26;
    pub(super) const TRUE: u8 = 0x27;
    pub(super) const UUID: u8 = 0x30;
    /// Ends bytes and strings.
    pub(super) const END: u8 = 0x00;
    /// After an [`END`], says that it was a zero byte of the value. No element begins with it.
    pub(super) const ESCAPE: u8 = 0xff;
}
