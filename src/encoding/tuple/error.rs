//! Why a key could not be read.

use std::fmt;

use super::code;

/// A key that does not say what was expected of it: where, what was expected, what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {offset} of the key, found {found}")]
pub struct DecodeError {
    /// Where the element begins that could not be read.
    pub offset: usize,
    /// What was expected there, in words.
    pub expected: &'static str,
    /// What was found instead.
    pub found: Found,
}

/// What was found where an element was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The end of the key, there or before the end of the element.
    End,
    /// An element with another type code, or a byte that is no type code at all.
    Code(u8),
    /// An integer that the type asked for cannot hold.
    OutOfRange,
    /// An integer in more bytes than it takes: no writer of this format does that.
    NotShortest,
    /// A string that is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::End => f.write_str("the end of the key"),
            Self::Code(code) => {
                let name = match code {
                    code::BYTES => "bytes",
                    code::STRING => "a string",
                    code::MIN_INTEGER..=code::MAX_INTEGER => "an integer",
                    code::FALSE | code::TRUE => "a bool",
                    code::UUID => "a UUID",
                    _ => "nothing this version knows",
                };
                write!(f, "{name} (type code {code:#04x})")
            }
            Self::OutOfRange => f.write_str("an integer out of range"),
            Self::NotShortest => f.write_str("an integer that is not written the shortest way"),
            Self::NotUtf8 => f.write_str("a string that is not UTF-8"),
        }
    }
}
