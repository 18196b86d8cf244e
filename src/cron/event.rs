//! What a scheduler tells its listeners.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{Done, JobId};

/// What happened in a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It begins, with what the program brought along; what is in the store comes to it.
    Starting {
        /// How many schedules those are.
        schedules: usize,
    },
    /// It knows all schedules, and has made up for what was missed before.
    Started {
        /// How many schedules there are.
        schedules: usize,
    },
    /// Slots of a schedule were missed and are made up for; their jobs follow.
    Backfill {
        /// The schedule.
        id: String,
        /// The first of them.
        slot: Timestamp,
    },
    /// A slot is recorded and its job is added, by this scheduler.
    Scheduled {
        /// The schedule.
        id: String,
        /// The slot.
        slot: Timestamp,
        /// The job.
        job: JobId,
        /// What was done: a job that has the schedule's job key may have been there already.
        done: Done,
        /// Whether the slot had been missed.
        backfilled: bool,
    },
    /// This scheduler's clock stands more than a minute before a slot that is settled already: its
    /// clock was put back, or another process's is ahead. There are no jobs until that is past.
    Premature {
        /// The schedule.
        id: String,
        /// Up to where its slots are settled.
        settled: Timestamp,
    },
    /// A slot that this scheduler waited for has no job more than a minute later: the process was
    /// held up, the store was out of reach, or the clock was put forward. What becomes of the slot
    /// is what the schedule says of [missed](super::Missed) ones.
    Overdue {
        /// The schedule.
        id: String,
        /// The slot.
        slot: Timestamp,
        /// How late it is.
        by: Duration,
    },
    /// Something could not be done. It is tried again after a while.
    Failed {
        /// The schedule; `None` if it concerns all.
        id: Option<String>,
        /// Why.
        error: String,
    },
}
