//! A key: bytes, compared as bytes.

use std::fmt;

use bytes::Bytes;

/// A key, or a prefix of keys: bytes, compared as bytes. Cloning is cheap.
///
/// The empty key is a valid *prefix* (of every key) but not a key an object can have.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The prefix of every key.
    pub const EMPTY: Self = Self(Bytes::new());

    /// A key of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without copying them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the empty key, which only a prefix may be.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key begins with `prefix`.
    pub fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The smallest key above every key that begins with this prefix: the incremented prefix,
    /// trailing `0xff` dropped. `None` where no such key exists (an empty prefix, or all `0xff`),
    /// which means "to the end".
    ///
    /// ```
    /// use kvjob::kv::Key;
    /// assert_eq!(Key::from(b"ab\xff").prefix_end(), Some(Key::from(b"ac")));
    /// assert_eq!(Key::from(b"\xff\xff").prefix_end(), None);
    /// ```
    pub fn prefix_end(&self) -> Option<Key> {
        let mut end = self.0.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Some(Key(end.into()));
            }
        }
        None
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Shows printable bytes as they are and the others as `\xNN`, cut after 128 bytes.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 128;
        let shown = self.0.get(..SHOWN).unwrap_or(&self.0);
        write!(f, "{}", shown.escape_ascii())?;
        if self.0.len() > SHOWN {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_above_all_its_keys_and_no_other() {
        assert_eq!(Key::from(b"a").prefix_end(), Some(Key::from(b"b")));
        assert_eq!(Key::from(b"a\xff\xff").prefix_end(), Some(Key::from(b"b")));
        assert_eq!(Key::from(b"\x00").prefix_end(), Some(Key::from(b"\x01")));
        assert_eq!(Key::EMPTY.prefix_end(), None);
        assert_eq!(Key::from(b"\xff").prefix_end(), None);
    }

    #[test]
    fn a_key_prints_readably_and_bounded() {
        assert_eq!(Key::from(b"job\x00\xff").to_string(), "job\\x00\\xff");
        let long = Key::from(vec![b'x'; 1000]).to_string();
        assert!(long.len() < 200 && long.ends_with("(1000 bytes)"), "{long}");
    }
}
