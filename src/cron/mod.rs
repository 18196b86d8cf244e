//! The cron floor, beside that of the workers: adds jobs to a [`job::Store`] when schedules say so,
//! again and again or once.
//!
//! What lives here: what a schedule says, crontabs, time zones, which slots are due, and the
//! [`Scheduler`], which runs beside workers. What does not: keys and encodings; and how a job is
//! run once it was added.
//!
//! # What may be relied on
//!
//! - **Each slot has its job exactly once**, however many schedulers run in however many processes:
//!   one commit records the slot and adds the job.
//! - A schedule is known by its id. One that is seen for the first time is only recorded: its slots
//!   count from then on. What was [missed](Missed) of one that is known is skipped or made up for,
//!   oldest first.
//! - A clock that is put back repeats no slot, and one that is put forward makes slots missed ones.
//! - Schedules come from the program ([`Builder`]), or are kept in the store: [`add`]ed, listed
//!   ([`crons`](job::CronStore::crons)), paused, resumed and removed while schedulers run. These
//!   see it at once where the store can tell them, else within their
//!   [refresh](Builder::refresh). Where the program and the store have one id, the program's
//!   counts. A program's schedule that is removed is seen for the first time again; pause it.
//! - Jobs are due at their slot, plus [jitter](Schedule::jitter), and say in their payload which
//!   slot they are of: `"_cron": {"ts": "2026-03-29T01:00:00Z", "backfilled": false}`.
//!
//! # When clocks change
//!
//! A schedule with fields is read in its [time zone](Schedule::time_zone). Where its clock is put
//! forward, some times do not exist, and where it is put back, some come twice. Then, as cron has
//! done for long:
//!
//! - A schedule whose minute and hour have no `*` stands for certain times of the day. Each has one
//!   slot: a time that does not exist has it at the moment the clock is put forward, and one that
//!   comes twice the first time.
//! - One with a `*` in minute or hour stands for "every so often", and follows the clock: there is
//!   no slot at times that do not exist, and one at both where a time comes twice.
//!
//! # An example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kvjob::job::Result<()> {
//! use std::sync::Arc;
//! use std::time::Duration;
//! use kvjob::cron::{Schedule, Scheduler};
//! use kvjob::job::{KvStore, Options};
//! use kvjob::kv::Memory;
//!
//! let store = Arc::new(KvStore::open(Arc::new(Memory::new()), Options::default()).await?);
//! let scheduler = Scheduler::builder(store.clone())
//!     .crontab("0 4 * * * report ?fill=1d {\"to\":\"ada\"}")?
//!     .schedule(Schedule::every("tidy", Duration::from_secs(600))?)
//!     .build()?;
//! let control = scheduler.control();
//! let running = tokio::spawn(scheduler.run());
//! // A worker beside it runs the jobs.
//! control.stop();
//! running.await.unwrap()?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod crontab;
mod duration;
mod event;
mod pattern;
mod schedule;
mod scheduler;
mod slots;
mod when;

pub use builder::Builder;
pub use crontab::{CrontabError, parse};
pub use event::Event;
pub use schedule::{Missed, Schedule};
pub use scheduler::{Control, Scheduler};

use crate::job::{self, CronRecord, CronStore, Error};

/// Keeps a schedule in the store, where every scheduler finds it. One of the same id says this from
/// now on, and its slots up to now are settled; one that says the same already stays as it is.
/// Returns what is kept, and whether it is new.
///
/// # Errors
/// [`Invalid`](Error::Invalid) for a schedule that cannot be, or `cron-of-program` if a program
/// brings one of this id along; or what the store says.
pub async fn add<S: CronStore + ?Sized>(
    store: &S,
    schedule: &Schedule,
) -> job::Result<(CronRecord, bool)> {
    schedule.check()?;
    let definition = serde_json::to_string(schedule).map_err(|error| {
        Error::invalid(
            "cron-unwritable",
            format!("the schedule has no JSON: {error}"),
        )
    })?;
    store.keep_cron(schedule.known_as(), Some(definition)).await
}
