//! Writing a key, element by element.

use super::code;

/// A key being written: [`finish`](Self::finish) hands out its bytes.
///
/// It is a `Vec<u8>` that elements are appended to, and nothing else; [`after`](Self::after) and
/// [`in_buffer`](Self::in_buffer) make a hot path take one allocation a key, or none.
#[derive(Clone, Debug, Default)]
#[must_use = "a tuple does nothing until `finish` hands out its bytes"]
pub struct Tuple {
    bytes: Vec<u8>,
}

impl Tuple {
    /// A tuple without elements.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends to what `buffer` holds: nothing, or the bytes of other elements.
    ///
    /// A buffer that was cleared keeps its capacity, so a loop can use one for all its keys.
    pub const fn in_buffer(buffer: Vec<u8>) -> Self {
        Self { bytes: buffer }
    }

    /// The elements already written in `prefix`, with room for `room` bytes more, in one allocation.
    pub fn after(prefix: &[u8], room: usize) -> Self {
        let mut bytes = Vec::with_capacity(prefix.len().saturating_add(room));
        bytes.extend_from_slice(prefix);
        Self { bytes }
    }

    /// Appends bytes.
    pub fn bytes(self, value: &[u8]) -> Self {
        self.escaped(code::BYTES, value)
    }

    /// Appends a string.
    pub fn string(self, value: &str) -> Self {
        self.escaped(code::STRING, value.as_bytes())
    }

    /// Appends an integer. A negative one sorts before all others; the same number has the same
    /// bytes here and in [`uint`](Self::uint).
    pub fn int(self, value: i64) -> Self {
        let magnitude = value.unsigned_abs();
        if value >= 0 {
            return self.uint(magnitude);
        }
        let skip = leading_zero_bytes(magnitude);
        self.integer(code::MIN_INTEGER + skip, !magnitude, skip)
    }

    /// Appends an integer that is not negative.
    pub fn uint(self, value: u64) -> Self {
        let skip = leading_zero_bytes(value);
        self.integer(code::MAX_INTEGER - skip, value, skip)
    }

    /// Appends a bool; `false` sorts before `true`.
    pub fn bool(mut self, value: bool) -> Self {
        self.bytes
            .push(if value { code::TRUE } else { code::FALSE });
        self
    }

    /// Appends a UUID, given in network byte order as usual.
    pub fn uuid(mut self, value: &[u8; 16]) -> Self {
        self.bytes.reserve(17);
        self.bytes.push(code::UUID);
        self.bytes.extend_from_slice(value);
        self
    }

    /// The key. Empty if there were no elements.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn escaped(mut self, code: u8, value: &[u8]) -> Self {
        self.bytes.reserve(value.len().saturating_add(2));
        self.bytes.push(code);
        if value.contains(&0) {
            for &byte in value {
                self.bytes.push(byte);
                if byte == 0 {
                    self.bytes.push(code::ESCAPE);
                }
            }
        } else {
            self.bytes.extend_from_slice(value);
        }
        self.bytes.push(code::END);
        self
    }

    /// Appends `code` and the bytes of `bits` without the first `skip`.
    fn integer(mut self, code: u8, bits: u64, skip: u8) -> Self {
        let shifted = bits.checked_shl(u32::from(skip) * 8).unwrap_or(0);
        self.bytes.reserve(9);
        self.bytes.push(code);
        // All eight and off with the tail: a copy of a fixed length is a single store.
        self.bytes.extend_from_slice(&shifted.to_be_bytes());
        self.bytes.truncate(self.bytes.len() - usize::from(skip));
        self
    }
}

/// How many of its eight bytes a number can do without: 0 to 8.
#[expect(clippy::cast_possible_truncation, reason = "at most 64 / 8")]
const fn leading_zero_bytes(value: u64) -> u8 {
    (value.leading_zeros() / 8) as u8
}
