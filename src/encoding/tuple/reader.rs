//! Reading a key, element by element.

use std::borrow::Cow;

use super::{DecodeError, Found, code};

/// A key being read: each call reads the next element, which must be of the type asked for.
///
/// A call that fails leaves the reader where it was, so another type can be tried. Only what
/// [`Tuple`](super::Tuple) writes is accepted: bytes that decode are the bytes it would write.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `key`. Offsets in errors count from there.
    pub const fn new(key: &'a [u8]) -> Self {
        Self {
            rest: key,
            offset: 0,
        }
    }

    /// Whether all elements were read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads bytes; they are copied only if a zero byte is among them.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, damaged, or not there.
    pub fn read_bytes(&mut self) -> Result<Cow<'a, [u8]>, DecodeError> {
        let (value, rest) = self.escaped(code::BYTES, "bytes")?;
        self.advance_to(rest);
        Ok(value)
    }

    /// Reads a string; it is copied only if a zero byte is in it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, not UTF-8, damaged, or not there.
    pub fn read_string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        const EXPECTED: &str = "a string";
        let (value, rest) = self.escaped(code::STRING, EXPECTED)?;
        let text = match value {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        let text = text.ok_or_else(|| self.error(EXPECTED, Found::NotUtf8))?;
        self.advance_to(rest);
        Ok(text)
    }

    /// Reads an integer, whichever of [`int`](super::Tuple::int) and [`uint`](super::Tuple::uint)
    /// wrote it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, out of range, damaged, or not there.
    pub fn read_i64(&mut self) -> Result<i64, DecodeError> {
        self.integer("an integer of the range of i64")
    }

    /// Reads an integer, whichever of [`int`](super::Tuple::int) and [`uint`](super::Tuple::uint)
    /// wrote it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, out of range, damaged, or not there.
    pub fn read_u64(&mut self) -> Result<u64, DecodeError> {
        self.integer("an integer of the range of u64")
    }

    /// Reads a bool.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, or not there.
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        const EXPECTED: &str = "a bool";
        let (code, rest) = self.code(EXPECTED)?;
        let value = match code {
            code::FALSE => false,
            code::TRUE => true,
            other => return Err(self.error(EXPECTED, Found::Code(other))),
        };
        self.advance_to(rest);
        Ok(value)
    }

    /// Reads the 16 bytes of a UUID.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the next element is something else, damaged, or not there.
    pub fn read_uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        const EXPECTED: &str = "a UUID";
        let rest = self.after_code(code::UUID, EXPECTED)?;
        let (value, rest) = rest
            .split_first_chunk()
            .ok_or_else(|| self.error(EXPECTED, Found::End))?;
        self.advance_to(rest);
        Ok(*value)
    }

    /// Makes sure that all elements were read.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if there are more.
    pub fn finish(self) -> Result<(), DecodeError> {
        self.rest.first().map_or(Ok(()), |&code| {
            Err(self.error("the end of the key", Found::Code(code)))
        })
    }

    fn error(&self, expected: &'static str, found: Found) -> DecodeError {
        DecodeError {
            offset: self.offset,
            expected,
            found,
        }
    }

    /// Goes on at `rest`, a tail of what is left.
    fn advance_to(&mut self, rest: &'a [u8]) {
        self.offset += self.rest.len() - rest.len();
        self.rest = rest;
    }

    fn code(&self, expected: &'static str) -> Result<(u8, &'a [u8]), DecodeError> {
        let (&code, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.error(expected, Found::End))?;
        Ok((code, rest))
    }

    fn after_code(&self, wanted: u8, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.code(expected)? {
            (code, rest) if code == wanted => Ok(rest),
            (code, _) => Err(self.error(expected, Found::Code(code))),
        }
    }

    /// The value of a string or of bytes, and what follows it.
    fn escaped(
        &self,
        code: u8,
        expected: &'static str,
    ) -> Result<(Cow<'a, [u8]>, &'a [u8]), DecodeError> {
        let mut rest = self.after_code(code, expected)?;
        let mut value = Cow::Borrowed(&[][..]);
        loop {
            let mut halves = rest.splitn(2, |&byte| byte == code::END);
            let (Some(part), Some(tail)) = (halves.next(), halves.next()) else {
                return Err(self.error(expected, Found::End));
            };
            if let Some(tail) = tail.strip_prefix(&[code::ESCAPE]) {
                let value = value.to_mut();
                value.extend_from_slice(part);
                value.push(0);
                rest = tail;
                continue;
            }
            match &mut value {
                Cow::Borrowed(value) => *value = part,
                Cow::Owned(value) => value.extend_from_slice(part),
            }
            return Ok((value, tail));
        }
    }

    fn integer<T: TryFrom<i128>>(&mut self, expected: &'static str) -> Result<T, DecodeError> {
        let (code, rest) = self.code(expected)?;
        if !(code::MIN_INTEGER..=code::MAX_INTEGER).contains(&code) {
            return Err(self.error(expected, Found::Code(code)));
        }
        let length = code.abs_diff(code::ZERO);
        let (bytes, rest) = rest
            .split_at_checked(usize::from(length))
            .ok_or_else(|| self.error(expected, Found::End))?;
        let complement = if code < code::ZERO { 0xff } else { 0 };
        let magnitude = bytes.iter().fold(0, |sum: i128, byte| {
            sum << 8 | i128::from(byte ^ complement)
        });
        if bytes.first() == Some(&complement) {
            return Err(self.error(expected, Found::NotShortest));
        }
        let value = if code < code::ZERO {
            -magnitude
        } else {
            magnitude
        };
        let value = T::try_from(value).map_err(|_| self.error(expected, Found::OutOfRange))?;
        self.advance_to(rest);
        Ok(value)
    }
}
