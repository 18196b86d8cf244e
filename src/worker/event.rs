//! What a worker tells its listeners.

use std::time::Duration;

use crate::job::{JobId, State};

/// What happened in a worker. Of one attempt there is first `Started`, then one of `Ended`,
/// `GivenBack` and `LeaseLost`, unless its end could not be recorded at all; `RecordFailed` may
/// come before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A handler begins.
    Started {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
    /// An attempt is over, and recorded.
    Ended {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it was.
        attempt: u32,
        /// What the job became: final, or scheduled or ready for another attempt.
        state: State,
        /// Why the attempt failed, if it did.
        error: Option<String>,
        /// How long the handler took.
        elapsed: Duration,
    },
    /// A job was no longer this worker's: what its handler did may be done again by another.
    LeaseLost {
        /// The job.
        id: JobId,
    },
    /// A job was given back unfinished; its attempt is not counted.
    GivenBack {
        /// The job.
        id: JobId,
    },
    /// The store could not be asked for jobs. The worker asks again after a while, unless it
    /// will not come back.
    ClaimFailed {
        /// Why.
        error: String,
    },
    /// The leases of what runs could not be extended. The worker tries again soon.
    HeartbeatFailed {
        /// Why.
        error: String,
    },
    /// How an attempt ended could not be recorded. The worker tries again while the lease lasts,
    /// if that can help.
    RecordFailed {
        /// The job.
        id: JobId,
        /// Why.
        error: String,
    },
}
