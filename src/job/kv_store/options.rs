//! How a job store is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::job::Retention;

/// The namespace of a job store where none is named.
pub const DEFAULT_NAMESPACE: &str = "kvjob";

/// How a [`KvStore`](super::KvStore) is opened.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) namespace: String,
    pub(crate) max_payload: usize,
    pub(crate) max_skew: Option<Duration>,
    pub(crate) retention: Retention,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for Options {
    /// Namespace [`DEFAULT_NAMESPACE`], payloads up to 1 MiB, every job kept for ever, the system's clock.
    fn default() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            max_payload: 1 << 20,
            max_skew: None,
            retention: Retention::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    /// Where in the store this job store lives: 1 to 32 bytes of UTF-8. Several job stores share
    /// one backend under different namespaces.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The largest payload, and the largest result, in bytes, up to what the store's values can hold, and 8 KiB less than
    /// its commits.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// How far the clocks of the processes that share the store may be apart: leases are taken
    /// back only this much after their deadline. 10 s on a shared store where not said, 0 on an
    /// exclusive one.
    #[must_use]
    pub fn max_skew(mut self, skew: Duration) -> Self {
        self.max_skew = Some(skew);
        self
    }

    /// How long jobs are kept after they ended. Where this says that any are removed, the store
    /// does so in the background, a few at a time, until it is stopped or its last handle is
    /// dropped; [`sweep`](super::KvStore::sweep) does it now.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The clock, and the source of ids, tokens and jitter.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}
