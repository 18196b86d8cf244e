//! Why a store could not do what it was asked.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of an operation on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, and so what a caller may do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A commit's expectation did not hold; nothing was applied. Read again and plan again.
    ConditionFailed {
        /// Positions, in the commit, of *all* changes whose `before` did not hold; ascending.
        indices: Vec<usize>,
    },
    /// The backend could not order this commit against others; nothing was applied. Try again.
    Conflict,
    /// A passing fault; nothing was applied. Try again.
    Transient,
    /// The answer was lost: it **may** have been applied. Read before acting.
    Unknown,
    /// Larger than [`Limits`](super::Limits) allow; nothing was applied.
    TooLarge {
        /// What was too large: `"key"`, `"value"`, `"commit"`, ...
        what: &'static str,
        /// The most it may be, in bytes (or changes, where `what` says so).
        limit: usize,
    },
    /// A key that cannot be: empty, or twice in one commit.
    InvalidKey,
    /// This store cannot do that, now or ever.
    Unsupported,
    /// What is stored is not what was ever written.
    Corrupt,
    /// Written by a newer version of this software: leave it alone.
    TooNew,
    /// The store was stopped, or closed itself because it could no longer keep its promises.
    Closed,
    /// Somebody else has it open who must have it alone; the message says who, where it is known.
    InUse,
    /// Anything else the backend said; nothing was applied.
    Backend,
}

/// Why a store could not do what it was asked: what was attempted, on what, and why it failed.
///
/// Display gives one sentence; the backend's own error is the [`source`](StdError::source).
///
/// Cloning is cheap enough to answer many callers of one group with it.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind. The message says what was attempted, on what, why it failed and,
    /// where there is something to do, what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// The same with the backend's own error kept as its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The same kind and source, with `context` put in front of the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// A commit whose expectations at these positions did not hold.
    pub fn condition_failed(indices: Vec<usize>) -> Self {
        let message =
            format!("changes {indices:?} of the commit found another value than expected");
        Self::new(ErrorKind::ConditionFailed { indices }, message)
    }

    /// Something larger than a limit. `what` is its name, `actual` its size.
    pub fn too_large(what: &'static str, actual: usize, limit: usize) -> Self {
        let message = format!("{what} of {actual} is over this store's limit of {limit}");
        Self::new(ErrorKind::TooLarge { what, limit }, message)
    }

    /// The kind of failure.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Whether the same call may succeed when simply made again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Transient)
    }

    /// Whether the change may have been applied although this is an error.
    pub fn maybe_applied(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unknown)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
