//! What an enqueue does where another job has the job key, and what it answers.

use std::fmt;
use std::str::FromStr;

use super::{Error, Job, Result};

/// What an enqueue does if another job of the tenant has its job key.
///
/// | the job that has the key | [`Replace`](Self::Replace) | [`PreserveRunAt`](Self::PreserveRunAt) | [`UnsafeDedupe`](Self::UnsafeDedupe) |
/// |---|---|---|---|
/// | waits, never failed | is replaced | is replaced, but for its `run_at` | stays as it is |
/// | waits for a retry | is replaced | is replaced | stays as it is |
/// | runs | loses its key, the new one is stored | as `Replace` | stays as it is |
/// | failed, timed out, was canceled | loses its key, the new one is stored | as `Replace` | stays as it is |
/// | is done, and retains the key | stays as it is | stays as it is | stays as it is |
///
/// A job that is replaced keeps its id and its history. All else is that of the new job: what this
/// one does not say has its default; it has no attempts behind it, and no error. One of no attempts,
/// because it was given back, snoozed or retried by hand, counts as one that never failed.
///
/// A running job that loses its key goes on under its lease, beside the new one. It is not tried
/// again: if it fails, it has failed for good. One that is given back runs once more, for that
/// attempt was never counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyMode {
    /// The new job takes the place of the other.
    Replace,
    /// As `Replace`, but a job that never failed runs when it would have run: for jobs that gather
    /// what is to be done, and must not be put off for ever by that.
    PreserveRunAt,
    /// The other job stays as it is, even if it runs or has failed for good, and the new one is not
    /// stored: unsafe where the arguments matter, for those of the new job are lost.
    #[default]
    UnsafeDedupe,
}

impl KeyMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Replace, Self::PreserveRunAt, Self::UnsafeDedupe];

    /// Its name: `preserve_run_at`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::PreserveRunAt => "preserve_run_at",
            Self::UnsafeDedupe => "unsafe_dedupe",
        }
    }
}

impl fmt::Display for KeyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for KeyMode {
    type Err = Error;

    /// [`Invalid`](Error::Invalid), `unknown-key-mode`, if there is no such mode.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| {
            let message = format!(
                "{text:?} is no key mode: it is one of replace, preserve_run_at and unsafe_dedupe"
            );
            Error::invalid("unknown-key-mode", message)
        })
    }
}

/// What became of an enqueue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Enqueued {
    /// The job: the new one, or the one that had its key already.
    pub job: Job,
    /// Whether its id is new: it was [inserted](Done::Inserted).
    pub is_new: bool,
    /// What was done.
    pub done: Done,
}

impl Enqueued {
    pub(crate) fn new(job: Job, done: Done) -> Self {
        let is_new = done == Done::Inserted;
        Self { job, is_new, done }
    }
}

/// What an enqueue did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Done {
    /// The job was stored as a new one. Another that had its key, if any, has none now.
    Inserted,
    /// The waiting job that has the key was replaced: its id stayed.
    Replaced,
    /// The job that has the key stayed as it is, but for its revision unless it is done.
    Unchanged,
}

impl Done {
    /// Its name: `inserted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
