//! What a worker tells its listeners.

use std::time::Duration;

use crate::job::{JobId, State};

/// What happened in a worker.
///
/// Of one attempt there is first `Started`; then `Succeeded` or `Errored`, when its handler is
/// done; then, when that is recorded, `Failed` if no other attempt follows, and `Ended`. Instead
/// of `Ended` there is `GivenBack` or `LeaseLost`, or neither if its end could not be recorded at
/// all; `RecordFailed` may come before. The first event of a worker is `WorkerStarted`, the last
/// one `WorkerStopped`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The worker begins to work.
    WorkerStarted {
        /// Its name.
        worker: String,
    },
    /// The worker was asked to stop, or cannot go on: it claims no more.
    WorkerStopping {
        /// Its name.
        worker: String,
    },
    /// The worker has stopped; nothing of it runs any more.
    WorkerStopped {
        /// Its name.
        worker: String,
        /// Why it could not go on, if it was not asked to stop.
        error: Option<String>,
    },
    /// The store is asked for jobs.
    ClaimStarted {
        /// For how many at most.
        max: usize,
    },
    /// The store gave jobs.
    Claimed {
        /// How many, at least one.
        jobs: usize,
    },
    /// The store had no job that is due.
    ClaimEmpty,
    /// A handler begins.
    Started {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
    /// A handler did what it was to do, or asked for the job to be done later. Not yet recorded.
    Succeeded {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it is.
        attempt: u32,
        /// How long the handler took.
        elapsed: Duration,
    },
    /// A handler failed, panicked, took too long or was canceled. Not yet recorded.
    Errored {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it is.
        attempt: u32,
        /// Why.
        error: String,
        /// How long the handler took.
        elapsed: Duration,
    },
    /// A job failed for good: this was its last attempt, or its handler said that no other will
    /// help.
    Failed {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Which attempt it was.
        attempt: u32,
        /// Why.
        error: String,
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
