//! Lanes as their users see them: which ones are meant, what is set for them, how they stand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::new::{MAX_FLAG, MAX_FLAGS, MAX_TASK, MAX_TENANT, check_text};
use super::{Error, Lane, Result};
use crate::clock::Timestamp;

/// Which lanes are meant: all, those of a task, those of a tenant, or a single one. What is not
/// set matches all, also lanes that have no job yet.
///
/// ```
/// use kvjob::job::LaneFilter;
/// let mail = LaneFilter::all().task("send-mail");
/// let mail_of_acme = LaneFilter::all().task("send-mail").tenant("acme");
/// # assert_ne!(mail, mail_of_acme);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneFilter {
    /// The tenant; `None` for any. An empty one is that of jobs without a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The task; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Exactly these flags; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

impl LaneFilter {
    /// All lanes.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only lanes of this task.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Only lanes of this tenant; empty for jobs without one.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only lanes of exactly these flags.
    #[must_use]
    pub fn flags(mut self, flags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.flags = Some(flags.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it means this lane.
    pub fn matches(&self, lane: &Lane) -> bool {
        self.task.as_ref().is_none_or(|task| *task == lane.task)
            && (self.tenant.as_ref()).is_none_or(|tenant| *tenant == lane.tenant)
            && self.flags.as_ref().is_none_or(|flags| *flags == lane.flags)
    }

    /// Checks names and brings the flags in order.
    pub(crate) fn checked(mut self) -> Result<Self> {
        if let Some(task) = &self.task {
            check_text("task", task, 1, MAX_TASK)?;
        }
        if let Some(tenant) = &self.tenant {
            check_text("tenant", tenant, 0, MAX_TENANT)?;
        }
        if let Some(flags) = &mut self.flags {
            flags.sort();
            flags.dedup();
            for flag in flags.iter() {
                check_text("flag", flag, 1, MAX_FLAG)?;
            }
            let count = flags.len();
            if count > MAX_FLAGS {
                return Err(Error::invalid(
                    "too-many-flags",
                    format!("{count} flags are more than the {MAX_FLAGS} a job may have"),
                ));
            }
        }
        Ok(self)
    }
}

/// How many jobs may be taken in what time: one after the other at even intervals, and after a
/// quiet time up to `burst` at once.
///
/// With a burst of 1, no stretch of `per` ever sees more than `jobs`; a larger burst comes on top.
///
/// ```
/// use std::time::Duration;
/// use kvjob::job::Rate;
/// let ten_a_second = Rate::new(10, Duration::from_secs(1));
/// let all_at_once = ten_a_second.burst(10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// So many jobs, at least 1.
    pub jobs: u32,
    /// In this time, longer than nothing.
    pub per: Duration,
    /// How many may be taken at once after a quiet time, at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many jobs in this time, one after the other.
    pub fn new(jobs: u32, per: Duration) -> Self {
        Self {
            jobs,
            per,
            burst: 1,
        }
    }

    /// How many may be taken at once after a quiet time.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    pub(crate) fn checked(self) -> Result<Self> {
        if self.jobs == 0 || self.burst == 0 {
            return Err(Error::invalid(
                "rate-zero",
                "a rate of no jobs would never let one go: pause the lanes instead",
            ));
        }
        if self.per.is_zero() {
            return Err(Error::invalid(
                "rate-without-time",
                "a rate is so many jobs in some time, and that must be longer than nothing",
            ));
        }
        Ok(self)
    }
}

/// What is set for some lanes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaneSetting {
    /// For which.
    pub lanes: LaneFilter,
    /// Since when they are paused.
    pub paused_at: Option<Timestamp>,
    /// How many of their jobs each process may take, all of these lanes together.
    pub rate: Option<Rate>,
}

impl LaneSetting {
    /// Whether it says nothing that would not hold without it.
    pub(crate) fn is_default(&self) -> bool {
        self.paused_at.is_none() && self.rate.is_none()
    }
}

/// How a lane that has due jobs stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The lane.
    #[serde(flatten)]
    pub lane: Lane,
    /// Whether it is paused, by whichever setting.
    pub paused: bool,
    /// The limits it is under.
    pub rates: Vec<Rate>,
    /// How many due jobs stand in it, counted up to [`MOST_COUNTED`](Self::MOST_COUNTED).
    pub ready: u64,
    /// Whether there may be more than were counted.
    pub more: bool,
    /// Since when its next job is due.
    pub next_run_at: Timestamp,
}

impl LaneStatus {
    /// Jobs of a lane that are counted.
    pub const MOST_COUNTED: u64 = 1000;
}
