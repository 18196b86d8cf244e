//! A key and its value.

use bytes::Bytes;

use super::Key;

/// A key and a value. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// The key; not empty.
    pub key: Key,
    /// The value; may be empty.
    pub value: Bytes,
}

impl Object {
    /// An object of this key and value.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    /// Bytes of key and value together.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}
