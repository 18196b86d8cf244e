//! Serial queues as their users see them.

use serde::{Deserialize, Serialize};

use super::JobId;

/// How a [serial queue](super::NewJob::queue) stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Its queue key.
    pub queue: String,
    /// The tenant of its jobs; empty for jobs without one.
    pub tenant: String,
    /// How many of its jobs may run at a time:
    /// [`KvStore::limit_queue`](super::KvStore::limit_queue), or one.
    pub concurrency: u32,
    /// The jobs that run. After the limit was lowered they may be more than it allows.
    pub running: Vec<JobId>,
    /// How many due jobs of it do not run yet, counted up to
    /// [`MOST_COUNTED`](Self::MOST_COUNTED).
    pub ready: u64,
    /// Whether there may be more than were counted.
    pub more: bool,
}

impl QueueStatus {
    /// Jobs of a queue that are counted.
    pub const MOST_COUNTED: u64 = 1000;
}
