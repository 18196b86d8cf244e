//! Taking jobs for a while, and what becomes of them.

use std::time::Duration;

use super::{Job, JobId, State};
use crate::clock::Timestamp;

/// A request for jobs to work on.
///
/// ```
/// use std::time::Duration;
/// use kvjob::job::Claim;
/// let claim = Claim::new("worker-1").tasks(["send-mail"]).max(16).lease(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct Claim {
    pub(crate) worker: String,
    pub(crate) max: usize,
    pub(crate) ahead: usize,
    pub(crate) lease: Duration,
    pub(crate) selector: Selector,
}

/// Which lanes jobs are taken from: all of them where nothing else is said.
///
/// ```
/// use kvjob::job::Selector;
/// let from = Selector::new().tasks(["send-mail"]).tenant("acme").forbid_flags(["slow"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The tasks, sorted; `None` for all.
    pub(crate) tasks: Option<Vec<String>>,
    /// The tenant; `None` for all.
    pub(crate) tenant: Option<String>,
    /// Flags no job may have, sorted.
    pub(crate) forbidden_flags: Vec<String>,
    /// Whether tenants take turns.
    pub(crate) tenants_in_turn: bool,
    /// How many jobs of these tasks one claim takes at most, sorted.
    pub(crate) at_most: Vec<(String, usize)>,
}

impl Selector {
    /// All lanes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only jobs of these tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut tasks: Vec<String> = tasks.into_iter().map(Into::into).collect();
        tasks.sort();
        self.tasks = Some(tasks);
        self
    }

    /// Only jobs of this tenant; of an empty one, those without a tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// No jobs that carry any of these flags, besides those forbidden before. Lanes with such a
    /// flag are not read, however many jobs stand in them; flags that no job has do no harm.
    #[must_use]
    pub fn forbid_flags(mut self, flags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.forbidden_flags
            .extend(flags.into_iter().map(Into::into));
        self.forbidden_flags.sort();
        self.forbidden_flags.dedup();
        self
    }

    /// Tenants take turns, so that one with very many jobs does not keep the others waiting.
    ///
    /// Priority goes first, as always: it is among jobs of one priority that each tenant has one
    /// after the other, in the order of the tenants' names, whatever their jobs' `run_at` is. Who
    /// had the last turn is remembered by each process for itself.
    #[must_use]
    pub fn tenants_in_turn(mut self) -> Self {
        self.tenants_in_turn = true;
        self
    }

    /// At most so many jobs of this task in one claim, whatever else there is; none for 0. Jobs of
    /// others are taken in their place.
    #[must_use]
    pub fn at_most(mut self, task: impl Into<String>, jobs: usize) -> Self {
        let task = task.into();
        match self.at_most.binary_search_by(|(of, _)| of.cmp(&task)) {
            Ok(place) => {
                if let Some((_, most)) = self.at_most.get_mut(place) {
                    *most = jobs;
                }
            }
            Err(place) => self.at_most.insert(place, (task, jobs)),
        }
        self
    }

    pub(crate) fn wants(&self, lane: &super::Lane) -> bool {
        self.tasks
            .as_ref()
            .is_none_or(|tasks| tasks.binary_search(&lane.task).is_ok())
            && self
                .tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == lane.tenant)
            && !lane
                .flags
                .iter()
                .any(|flag| self.forbidden_flags.binary_search(flag).is_ok())
            && !(self.at_most.iter()).any(|(task, most)| *most == 0 && *task == lane.task)
    }
}

impl Claim {
    /// The lease where none is asked for: five minutes.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(300);
    /// The most jobs one claim gets, however many it asks for.
    pub const MOST: usize = 1024;

    /// One job of any task for this worker, whose name the history will show.
    pub fn new(worker: impl Into<String>) -> Self {
        Self {
            worker: worker.into(),
            max: 1,
            ahead: 0,
            lease: Self::DEFAULT_LEASE,
            selector: Selector::default(),
        }
    }

    /// Up to this many jobs, at most [`MOST`](Self::MOST).
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max.min(Self::MOST);
        self
    }

    /// So many of them are claimed ahead, to be begun later: no job is among these whose last
    /// attempt it would be, for if the process dies it has lost that without ever having run. The
    /// claim ends before such a job, and [says so](Claims::held_back). None where not said.
    #[must_use]
    pub fn ahead(mut self, jobs: usize) -> Self {
        self.ahead = jobs;
        self
    }

    /// How long the jobs are this worker's alone, unless it extends the time by a heartbeat.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Only jobs of these tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selector = self.selector.tasks(tasks);
        self
    }

    /// Only jobs of this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.selector = self.selector.tenant(tenant);
        self
    }

    /// No jobs that carry this flag.
    #[must_use]
    pub fn forbid_flag(mut self, flag: impl Into<String>) -> Self {
        self.selector = self.selector.forbid_flags([flag]);
        self
    }

    /// Only jobs of these lanes, whatever was said of tasks, tenant and flags before.
    #[must_use]
    pub fn selector(mut self, from: Selector) -> Self {
        self.selector = from;
        self
    }
}

/// The right to a job, until its deadline: each operation that ends or extends it states the
/// epoch, and one that is stale changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The job.
    pub id: JobId,
    /// Which lease of this job it is.
    pub epoch: u64,
    /// When it ends, unless extended.
    pub deadline: Timestamp,
}

/// A job a claim got, and the lease on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The job, running.
    pub job: Job,
    /// The right to it.
    pub lease: Lease,
    /// Whether its lease was lost twice in a row, perhaps because it ends the process that runs it.
    /// Such a job is claimed alone, and should run apart from others.
    pub suspect: bool,
}

/// What a claim got.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The jobs, in the order in which they are to run; none if nothing is due.
    pub jobs: Vec<Claimed>,
    /// When to claim again: when the next scheduled job will be due, if any is scheduled (of any
    /// task), or when a limit lets the next job go.
    pub next_due: Option<Timestamp>,
    /// When a [limit](super::LaneStore::limit) lets the next job go, if one holds back jobs that are
    /// due and that this claim asked for.
    pub limited_until: Option<Timestamp>,
    /// Whether there is another due job, which was not to be claimed [ahead](Claim::ahead).
    pub held_back: bool,
}

/// How an attempt failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) error: String,
    pub(crate) timed_out: bool,
    pub(crate) canceled: bool,
    pub(crate) retry: Retry,
}

/// What a failed attempt asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Another attempt after the job's backoff, if it has one left.
    #[default]
    Backoff,
    /// Another attempt after this time, if it has one left.
    After(Duration),
    /// No other attempt.
    Never,
}

impl Failure {
    /// A failed attempt, to be made again after the job's backoff.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            timed_out: false,
            canceled: false,
            retry: Retry::Backoff,
        }
    }

    /// An attempt that took too long, to be made again after the job's backoff. Out of attempts,
    /// the job ends as [`State::TimedOut`].
    pub fn timed_out(error: impl Into<String>) -> Self {
        Self {
            timed_out: true,
            ..Self::new(error)
        }
    }

    /// An attempt that found that the job is not to be done: it ends as [`State::Canceled`].
    pub fn canceled(reason: impl Into<String>) -> Self {
        Self {
            canceled: true,
            ..Self::new(reason)
        }
    }

    /// When to try again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

/// What a heartbeat found for one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Beat {
    /// The lease lives on until this deadline.
    Extended {
        /// The new deadline.
        deadline: Timestamp,
        /// Whether the job was asked to stop.
        cancel_requested: bool,
    },
    /// The lease is over.
    Lost,
}

/// What a failed attempt led to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What the job became: scheduled or ready for another attempt, or final.
    pub state: State,
    /// When it will be due again, if it waits.
    pub run_at: Option<Timestamp>,
}
