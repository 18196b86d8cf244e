//! Cron schedules, on every store.
//!
//! | file | what is tested |
//! |---|---|
//! | `slots` | which slots get a job, and what it says |
//! | `once` | that each slot has its job once, however many schedulers there are |
//! | `keyed` | slots whose jobs have a job key or a serial queue |
//! | `kept` | schedules that are kept in the store |
//! | `running` | a scheduler that runs: when it wakes, what it tells, how it stops |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kept;
mod keyed;
mod once;
mod running;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Timestamp;
use kvjob::cron::{Builder, Missed, Schedule, Scheduler};
use kvjob::job::{Job, KvStore, Query, StateStore as _};
use kvjob::testkit::ManualClock;
use kvjob_tests::Fixture;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A job of the task `hourly` every hour, all of them, however late.
pub(crate) fn hourly() -> Schedule {
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap();
    schedule.missed(Missed::All(Duration::MAX))
}

/// A scheduler on a job store.
pub(crate) fn on(jobs: &KvStore, clock: &ManualClock) -> Builder {
    Scheduler::builder(Arc::new(jobs.clone())).clock(Arc::new(clock.clone()))
}

/// A scheduler on a fixture's job store.
pub(crate) fn scheduler(fixture: &Fixture) -> Builder {
    on(&fixture.jobs, &fixture.clock)
}

/// Each job's task, slot and whether it was backfilled, in the order in which they were added.
pub(crate) async fn added(jobs: &KvStore) -> Vec<String> {
    let jobs = all(jobs).await.into_iter();
    jobs.map(|job| {
        let payload: serde_json::Value = job.payload.parse().unwrap();
        let of_slot = &payload["_cron"];
        let slot: Timestamp = of_slot["ts"].as_str().unwrap().parse().unwrap();
        assert!(job.run_at >= slot);
        let late = if of_slot["backfilled"].as_bool().unwrap() {
            " backfilled"
        } else {
            ""
        };
        format!("{} {slot}{late}", job.lane.task).replace("2026-", "")
    })
    .collect()
}

/// All jobs.
pub(crate) async fn all(jobs: &KvStore) -> Vec<Job> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = jobs.lookup(&Query::new().cursor(cursor)).await.unwrap();
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}
