//! What a scheduler tells, for the commands that have one.

use kvjob::clock::Timestamp;
use kvjob::cron::Event;
use kvjob::job::{Done, JobId};
use serde::Serialize;

use crate::output::{cut, lasting, seconds};

/// A job that was added, in JSON.
#[derive(Serialize)]
pub(in crate::commands) struct Added<'a> {
    schedule: &'a str,
    slot: Timestamp,
    job: JobId,
    new: bool,
    done: &'static str,
    backfilled: bool,
}

impl<'a> Added<'a> {
    pub(in crate::commands) fn by(event: &'a Event) -> Option<Self> {
        match event {
            Event::Scheduled {
                id,
                slot,
                job,
                done,
                backfilled,
            } => Some(Self {
                schedule: id,
                slot: *slot,
                job: *job,
                new: *done == Done::Inserted,
                done: done.as_str(),
                backfilled: *backfilled,
            }),
            _ => None,
        }
    }

    /// In a line.
    pub(super) fn line(&self) -> String {
        let late = if self.backfilled {
            "  (missed before)"
        } else {
            ""
        };
        let keyed = match self.done {
            "replaced" => "  (had the key, and was replaced)",
            "unchanged" => "  (has the key already)",
            _ => "",
        };
        let (slot, schedule) = (seconds(self.slot), cut(self.schedule, 60));
        format!("{slot}  {}  {schedule}{late}{keyed}", self.job)
    }
}

/// What went wrong.
pub(in crate::commands) fn trouble(event: &Event) -> Option<String> {
    match event {
        Event::Premature { id, settled } => Some(format!(
            "the clock stands before {}, up to where {} has had its slots: no jobs until then",
            seconds(*settled),
            cut(id, 60)
        )),
        Event::Overdue { id, slot, by } => Some(format!(
            "the slot {} of {} is {} late",
            seconds(*slot),
            cut(id, 60),
            lasting(*by)
        )),
        Event::Failed { id, error } => Some(match id {
            Some(id) => format!("{}: {error}", cut(id, 60)),
            None => error.clone(),
        }),
        _ => None,
    }
}
