//! Atomic changes: one idea for conditions and writes.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Error, ErrorKind, Key, Limits, Result};

/// What a change expects to find under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything, also nothing.
    Any,
    /// Nothing.
    Absent,
    /// This very value. On a bag: this pair of key and value.
    Value(Bytes),
}

/// One write of a commit, which says what it replaces.
///
/// Values are compared as bytes, which every backend can do; a writer that must notice every
/// change keeps a revision counter inside its values. A change whose `after` equals its `before`
/// is a pure check.
///
/// On a bag `Value(v)` means the pair (key, v) and replaces only it, `Absent` means no value under
/// the key, `Any` with a value adds it, `Any` without removes all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key; not empty, and not twice in one commit.
    pub key: Key,
    /// What must be there.
    pub before: Expect,
    /// What is there afterwards; `None` for nothing.
    pub after: Option<Bytes>,
}

impl Change {
    /// Writes `value`, whatever was there.
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            before: Expect::Any,
            after: Some(value.into()),
        }
    }

    /// Removes the key, whatever was there.
    pub fn remove(key: impl Into<Key>) -> Self {
        Self {
            key: key.into(),
            before: Expect::Any,
            after: None,
        }
    }

    /// Writes `value` where nothing is.
    pub fn create(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            before: Expect::Absent,
            after: Some(value.into()),
        }
    }

    /// Replaces `before` by `after`.
    pub fn replace(
        key: impl Into<Key>,
        before: impl Into<Bytes>,
        after: impl Into<Option<Bytes>>,
    ) -> Self {
        Self {
            key: key.into(),
            before: Expect::Value(before.into()),
            after: after.into(),
        }
    }

    /// Checks that `value` is there and leaves it.
    pub fn check(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        let value = value.into();
        Self {
            key: key.into(),
            before: Expect::Value(value.clone()),
            after: Some(value),
        }
    }

    /// Whether this is a pure check, which writes nothing.
    pub fn is_check(&self) -> bool {
        match &self.before {
            Expect::Any => false,
            Expect::Absent => self.after.is_none(),
            Expect::Value(value) => self.after.as_ref() == Some(value),
        }
    }

    /// Whether `before` holds for what is stored under the key of a store with unique keys.
    pub fn holds(&self, stored: Option<&[u8]>) -> bool {
        match &self.before {
            Expect::Any => true,
            Expect::Absent => stored.is_none(),
            Expect::Value(value) => stored == Some(value),
        }
    }

    /// Bytes it adds to a commit: key and new value.
    pub fn size(&self) -> usize {
        self.key.len() + self.after.as_ref().map_or(0, Bytes::len)
    }
}

/// A store that can apply several changes as one.
///
/// A check without a write is only promised on a value that is present (protocol rule 17): one
/// that expects absence and writes nothing is refused with [`ErrorKind::Unsupported`].
#[async_trait]
pub trait Atomic: Send + Sync {
    /// Applies every change, or none if any `before` does not hold. Once it returned `Ok` the
    /// changes are as durable as the store was opened to be; an empty commit does nothing.
    ///
    /// # Errors
    /// [`ConditionFailed`](ErrorKind::ConditionFailed) with *all* positions that failed;
    /// [`InvalidKey`](ErrorKind::InvalidKey) for an empty key or one that stands twice;
    /// [`TooLarge`](ErrorKind::TooLarge), [`Conflict`](ErrorKind::Conflict) and
    /// [`Transient`](ErrorKind::Transient) where nothing was applied;
    /// [`Unknown`](ErrorKind::Unknown) where it may have been.
    async fn commit(&self, changes: Vec<Change>) -> Result<()>;

    /// Independent commits in one trip, applied in this order; each has its own outcome, at its
    /// own place.
    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>>;
}

/// Refuses what no store may accept in one commit: an empty key, a key that stands twice, a
/// check of absence that writes nothing, or more than `limits`. Every adapter calls it first.
///
/// # Errors
/// [`InvalidKey`](ErrorKind::InvalidKey), [`Unsupported`](ErrorKind::Unsupported) or
/// [`TooLarge`](ErrorKind::TooLarge).
pub fn check_commit(changes: &[Change], limits: &Limits) -> Result<()> {
    if changes.len() > limits.commit_changes {
        return Err(Error::too_large(
            "changes in a commit",
            changes.len(),
            limits.commit_changes,
        ));
    }
    let mut seen = HashSet::with_capacity(changes.len());
    let mut bytes = 0usize;
    for change in changes {
        limits.check_key(&change.key)?;
        if let Some(value) = &change.after {
            limits.check_value(&change.key, value)?;
        }
        if change.before == Expect::Absent && change.after.is_none() {
            let message = format!(
                "a commit checks that {} is absent and writes nothing there: such a check is not promised by every store",
                change.key
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if !seen.insert(&change.key) {
            let message = format!("the key {} stands twice in one commit", change.key);
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        bytes = bytes.saturating_add(change.size());
    }
    if bytes > limits.commit_bytes {
        return Err(Error::too_large(
            "bytes of a commit",
            bytes,
            limits.commit_bytes,
        ));
    }
    Ok(())
}
