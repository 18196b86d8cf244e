//! Why a job store could not do what it was asked.

use std::time::Duration;

use super::JobId;
use crate::kv;

/// The result of an operation on a job store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a job store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lease is over: it ran out and was taken back, or its job was ended or given back
    /// before. Nothing was changed; whatever the holder did may be done again by another.
    #[error("the lease on job {id} (epoch {epoch}) is over: {reason}")]
    LeaseLost {
        /// The job.
        id: JobId,
        /// The epoch the caller stated.
        epoch: u64,
        /// What the store found instead.
        reason: String,
    },
    /// What was asked for cannot be; nothing was changed.
    #[error("{message} [{code}]")]
    Invalid {
        /// A stable name for the mistake, such as `task-too-long`.
        code: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A copy of a job store, or a dump, cannot be made, is not finished, or cannot be trusted. See
    /// [`Namespace`](super::Namespace).
    #[error("{message} [{code}]")]
    Copy {
        /// A stable name for what stands in the way: `no-job-store`, `target-not-empty`,
        /// `same-store`, `copy-unfinished`, `copy-taken-over`, `source-changed`,
        /// `copy-differs`, `no-place`.
        code: &'static str,
        /// What is wrong and what would help.
        message: String,
    },
    /// Nobody can wait for a job that is not there.
    #[error("there is no job {id} to wait for: it was never stored, or is removed")]
    UnknownJob {
        /// The job.
        id: JobId,
    },
    /// A job had not ended when whoever waited for it no longer wanted to. It goes on.
    #[error("job {id} had not ended after {waited:?}")]
    WaitTimedOut {
        /// The job.
        id: JobId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The store was stopped.
    #[error("the job store is stopped: open it again to go on")]
    Stopped,
    /// The store below failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

/// For the body of a transaction that is shared with the store, which answers in the store's own
/// errors; see [`KvStore::enqueue_within`](super::KvStore::enqueue_within).
impl From<Error> for kv::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error,
            error => Self::new(kv::ErrorKind::Backend, error.to_string()).with_source(error),
        }
    }
}

impl Error {
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn copy(code: &'static str, message: impl Into<String>) -> Self {
        Self::Copy {
            code,
            message: message.into(),
        }
    }

    /// Whether the same call may succeed when simply made again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
