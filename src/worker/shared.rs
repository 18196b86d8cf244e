//! What all parts of one worker have in hand, and how long they wait before they try again.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tracing::Span;

use super::batch::Batch;
use super::control::Stop;
use super::extract::DataMap;
use super::leases::Leases;
use super::places::Places;
use super::{Event, Route};
use crate::clock::Clock;
use crate::job::{self, Error, Job, Selector};
use crate::kv::ErrorKind;

/// Asked before every claim which flags jobs must not have.
pub(super) type Forbidden = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The worker's options and shared parts.
pub(super) struct Shared {
    pub(super) store: Arc<dyn job::Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) name: String,
    pub(super) concurrency: watch::Sender<usize>,
    pub(super) lease: Duration,
    /// How often to look for cancellations.
    pub(super) poll: Duration,
    /// How often to look for jobs.
    pub(super) idle_poll: Duration,
    pub(super) grace: Duration,
    pub(super) shutdown_grace: Duration,
    /// How often in a row the store may fail to answer a claim.
    pub(super) max_store_errors: Option<u32>,
    pub(super) handle_signals: bool,
    /// How many jobs may wait for a free slot.
    pub(super) prefetch: usize,
    /// How long an attempt may take whose job and task do not say.
    pub(super) timeout: Option<Duration>,
    /// How long one of these tasks may take whose job does not say.
    pub(super) timeouts: HashMap<String, Duration>,
    pub(super) places: Places,
    pub(super) handlers: HashMap<String, Registered>,
    pub(super) fallback: Option<Registered>,
    pub(super) data: DataMap,
    /// Which jobs to claim.
    pub(super) selector: Selector,
    /// Names more flags that they must not have.
    pub(super) forbidden: Option<Forbidden>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) stop: watch::Sender<Stop>,
    pub(super) leases: Arc<Leases>,
}

/// What runs the jobs of a task.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) work: Work,
    /// How long an attempt may take whose job does not say.
    pub(super) timeout: Option<Duration>,
}

/// How many jobs a handler gets at a time.
#[derive(Clone)]
pub(super) enum Work {
    Each(Route),
    Many(Arc<Batch>),
}

impl Shared {
    pub(super) fn handler(&self, task: &str) -> Option<&Registered> {
        self.handlers.get(task).or(self.fallback.as_ref())
    }

    /// What runs jobs of this task together, if they are.
    pub(super) fn batch(&self, task: &str) -> Option<&Arc<Batch>> {
        match &self.handler(task)?.work {
            Work::Many(batch) => Some(batch),
            Work::Each(_) => None,
        }
    }

    /// How long an attempt of this job may take.
    pub(super) fn timeout(&self, job: &Job) -> Option<Duration> {
        let task = &job.lane.task;
        job.timeout
            .or_else(|| self.timeouts.get(task).copied())
            .or_else(|| self.handler(task)?.timeout)
            .or(self.timeout)
    }

    /// The span of an attempt.
    pub(super) fn span(&self, job: &Job) -> Span {
        tracing::info_span!(
            "job",
            id = %job.id,
            task = job.lane.task,
            attempt = job.attempts,
            worker = self.name,
            traceparent = job.traceparent,
        )
    }

    /// Which jobs to claim now.
    pub(super) fn selector(&self) -> job::Result<Selector> {
        let selector = self.selector.clone();
        let Some(forbidden) = &self.forbidden else {
            return Ok(selector);
        };
        // It is the user's code, and the worker goes on running jobs whatever becomes of it.
        match catch_unwind(AssertUnwindSafe(forbidden)) {
            Ok(flags) => Ok(selector.forbid_flags(flags)),
            Err(_) => Err(Error::invalid(
                "forbid-flags-panicked",
                "the function that says which flags are forbidden panicked: nobody knows which jobs this worker may take",
            )),
        }
    }

    /// Whether there is a task with a place for a job of it.
    pub(super) fn has_places(&self) -> bool {
        self.fallback.is_some() || self.handlers.keys().any(|task| self.places.has(task))
    }

    /// Tells the listeners, if there are any.
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.events.receiver_count() > 0 {
            // Fails only where the last listener left just now.
            let _ = self.events.send(event());
        }
    }

    /// How long to wait after this many failures in a row: from 100 ms, doubling up to 30 s, and
    /// up to half of it left to chance, so that many workers do not come back at once.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        const FIRST: u64 = 100;
        const LONGEST: u64 = 30_000;
        let millis = 1_u64
            .checked_shl(failures.saturating_sub(1))
            .map_or(LONGEST, |factor| FIRST.saturating_mul(factor))
            .min(LONGEST);
        let half = millis / 2;
        Duration::from_millis(millis - self.clock.random() % (half + 1))
    }

    /// Returns at this monotonic time; never for `None`.
    pub(super) async fn sleep_until(&self, moment: Option<Duration>) {
        match moment {
            Some(moment) => self.clock.sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }
}

/// Returns when something happened in the store; never if the store no longer says so.
pub(super) async fn changed(activity: &mut watch::Receiver<u64>) {
    if activity.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What an error of the store means to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be back later.
    Passing,
    /// This record cannot be read or written, but others can.
    Stuck,
    /// What was asked for can never be.
    Refused,
    /// The store will not come back.
    Over,
}

pub(super) fn verdict(error: &job::Error) -> Verdict {
    match error {
        job::Error::Stopped => Verdict::Over,
        job::Error::Invalid { .. }
        | job::Error::Copy { .. }
        | job::Error::UnknownJob { .. }
        | job::Error::WaitTimedOut { .. } => Verdict::Refused,
        job::Error::LeaseLost { .. } => Verdict::Stuck,
        job::Error::Store(error) => match error.kind() {
            ErrorKind::Closed => Verdict::Over,
            ErrorKind::Unsupported | ErrorKind::InUse => Verdict::Refused,
            ErrorKind::TooLarge { .. }
            | ErrorKind::InvalidKey
            | ErrorKind::Corrupt
            | ErrorKind::TooNew => Verdict::Stuck,
            ErrorKind::ConditionFailed { .. }
            | ErrorKind::Conflict
            | ErrorKind::Transient
            | ErrorKind::Unknown
            | ErrorKind::Backend => Verdict::Passing,
        },
    }
}
