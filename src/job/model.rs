//! What a job is, as its users see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backoff, JobId, Payload};
use crate::clock::Timestamp;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It was stored. Appears in the history only.
    Created,
    /// Waiting, and not yet due.
    Scheduled,
    /// Waiting, and due.
    Ready,
    /// A worker holds a lease on it.
    Running,
    /// Done.
    Completed,
    /// Out of attempts, or failed for good by its handler. Kept, and may be retried.
    Failed,
    /// Called off. May be retried.
    Canceled,
    /// Out of attempts, and the last one timed out. May be retried.
    TimedOut,
    /// Taken out of the queue by a caller who asked for no lease.
    Taken,
    /// Removed; only its header is left for a while.
    Removed,
}

impl State {
    /// Every state a job can be in.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::TimedOut,
        Self::Taken,
        Self::Removed,
    ];

    /// Whether nothing will happen to it by itself any more.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Created | Self::Scheduled | Self::Ready | Self::Running
        )
    }

    /// Its name, as in JSON: `timed_out`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timed_out",
            Self::Taken => "taken",
            Self::Removed => "removed",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a worker can subscribe to: jobs of one tenant, one task and one set of flags wait in a
/// lane of their own, ordered by priority, then `run_at`, then id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The tenant; empty for none.
    pub tenant: String,
    /// The task.
    pub task: String,
    /// The flags, sorted.
    pub flags: Vec<String>,
}

/// One job, as it stood when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its tenant, task and flags.
    #[serde(flatten)]
    pub lane: Lane,
    /// Its arguments.
    pub payload: Payload,
    /// The value it completed with, if it has one.
    #[serde(default)]
    pub result: Option<Payload>,
    /// Where it stands.
    pub state: State,
    /// Lower runs first.
    pub priority: i16,
    /// Not before this time.
    pub run_at: Timestamp,
    /// Attempts begun, the running one included.
    pub attempts: u32,
    /// The most attempts it gets.
    pub max_attempts: u32,
    /// How long it waits after a failed one.
    pub backoff: Backoff,
    /// How long an attempt may take.
    pub timeout: Option<Duration>,
    /// Its job key.
    pub key: Option<String>,
    /// Where it stands in a distributed trace: the `traceparent` of W3C trace context.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The key of its serial queue.
    pub queue: Option<String>,
    /// Why the last failed attempt failed; cut to 1 KiB.
    pub last_error: Option<String>,
    /// Who holds it, while it runs.
    pub worker: Option<String>,
    /// Whether it was asked to stop while it ran.
    pub cancel_requested: bool,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When its latest attempt began.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub ended_at: Option<Timestamp>,
    /// Counts every change of the job.
    pub revision: u64,
    /// Counts its leases.
    pub epoch: u64,
}

/// One step of a job's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// Counts the job's steps, from 0, without gaps.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// What it became.
    pub state: State,
    /// The attempts begun by then.
    pub attempt: u32,
    /// Why, where there is something to say: a failed attempt's error, cut to 1 KiB.
    pub reason: Option<String>,
    /// The worker, where one took it.
    pub worker: Option<String>,
}
