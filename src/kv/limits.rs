//! What a store can take, who may open it, how it fares.

use super::{Error, ErrorKind, Key, Object, Result};

/// The largest things a store takes. Beyond them it answers [`ErrorKind::TooLarge`] and nothing
/// is applied.
///
/// [`ErrorKind::TooLarge`]: super::ErrorKind::TooLarge
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Bytes of all keys and new values in one commit.
    pub commit_bytes: usize,
    /// Changes in one commit.
    pub commit_changes: usize,
}

impl Default for Limits {
    /// What every backend we know takes: keys of 511 bytes (LMDB), values of 1 MiB and commits of
    /// 1 MiB (etcd: 1.5 MiB a request) and 128 changes (etcd).
    fn default() -> Self {
        Self {
            key_bytes: 511,
            value_bytes: 1 << 20,
            commit_bytes: 1 << 20,
            commit_changes: 128,
        }
    }
}

/// Who may have the store open at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ownership {
    /// Several processes may.
    Shared,
    /// This process alone: an OS lock keeps the others out.
    Exclusive,
}

/// How a store fares. Empty means: nothing to report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What would surprise a user, one sentence each: a sync that is switched off, a disk that is
    /// nearly full.
    pub warnings: Vec<String>,
}

impl Limits {
    /// Refuses a key that no object can have in a store of these limits.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) if it is empty,
    /// [`TooLarge`](ErrorKind::TooLarge) if it is too long.
    pub fn check_key(&self, key: &Key) -> Result<()> {
        if key.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidKey,
                "the empty key is not a key",
            ));
        }
        if key.len() > self.key_bytes {
            return Err(
                Error::too_large("bytes of a key", key.len(), self.key_bytes)
                    .context(format_args!("key {key}")),
            );
        }
        Ok(())
    }

    /// Refuses a value that is too large for a store of these limits.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge).
    pub fn check_value(&self, key: &Key, value: &[u8]) -> Result<()> {
        if value.len() > self.value_bytes {
            return Err(
                Error::too_large("bytes of a value", value.len(), self.value_bytes)
                    .context(format_args!("value under key {key}")),
            );
        }
        Ok(())
    }

    /// Refuses an object that [`check_key`](Self::check_key) or
    /// [`check_value`](Self::check_value) refuses.
    ///
    /// # Errors
    /// Theirs.
    pub fn check_object(&self, object: &Object) -> Result<()> {
        self.check_key(&object.key)?;
        self.check_value(&object.key, &object.value)
    }
}
