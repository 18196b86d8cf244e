//! What is known of the jobs of a file: which have not ended, and how the others did.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use kvjob::job::{self, Enqueued, Job, JobId, State};
use kvjob::kv::ErrorKind;
use kvjob::worker::Event;
use serde::Serialize;

use crate::error::Result;

/// How many jobs are looked at each time while others end.
const LOOK_BUSY: usize = 100;
/// The same while nothing happens.
const LOOK_IDLE: usize = 5000;
/// How many failed jobs are named at the end.
const NAMED: usize = 10;

/// What a line led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    /// Its job was there before this run.
    Before,
    /// An earlier line of this file has the same key.
    Duplicate,
}

/// Counts of jobs, each of which stands in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) completed: u64,
    /// Failed for good, timed out ones included.
    pub(super) failed: u64,
    pub(super) canceled: u64,
    /// Taken out or purged by someone else, or not to be read.
    pub(super) lost: u64,
}

/// A job that did not complete.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failed {
    pub(super) id: JobId,
    pub(super) task: String,
    pub(super) state: Option<State>,
    pub(super) error: Option<String>,
}

/// What is known of the jobs of a file.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Whether all lines were read.
    pub(super) read_all: bool,
    /// Jobs of this file that have not ended.
    open: BTreeSet<JobId>,
    /// Jobs whose lines have keys of their own, which may come twice.
    keyed: HashSet<JobId>,
    /// Jobs that ended before a line of this file was seen to be theirs.
    strangers: HashSet<JobId>,
    pub(super) running: HashSet<JobId>,
    pub(super) retrying: HashSet<JobId>,
    /// Jobs, bad lines and lines left out.
    pub(super) lines: u64,
    pub(super) bad_lines: u64,
    pub(super) duplicates: u64,
    /// Jobs that were there before.
    pub(super) found: u64,
    /// Ended by this run, and before it.
    pub(super) now: Counts,
    pub(super) before: Counts,
    /// Jobs that needed more than one attempt.
    pub(super) retried: u64,
    /// Jobs of others that ended in this run.
    pub(super) others: u64,
    pub(super) named: Vec<Failed>,
    /// Where looking goes on.
    looked: Option<JobId>,
    /// Jobs that looking found to have ended: if it was here, the news is still on its way.
    found_ended: HashSet<JobId>,
    /// Jobs that looking did not find. If they completed here, where completed ones are not kept,
    /// the news is on its way; if they are not found twice, they are lost.
    not_found: HashSet<JobId>,
    /// Whether anything happened since the last look.
    busy: bool,
}

impl Tracker {
    /// Whether every job of the file has ended.
    pub(super) fn is_done(&self) -> bool {
        self.read_all && self.open.is_empty()
    }

    /// The jobs that have not ended.
    pub(super) fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// All jobs of the file so far.
    pub(super) fn jobs(&self) -> u64 {
        self.lines - self.bad_lines - self.duplicates
    }

    pub(super) fn read_to_the_end(&mut self) {
        self.read_all = true;
        // No line will claim them any more.
        self.others += self.strangers.len() as u64;
        self.strangers = HashSet::new();
    }

    pub(super) fn bad_line(&mut self) {
        self.lines += 1;
        self.bad_lines += 1;
    }

    /// A line's job is in the store.
    pub(super) fn added(&mut self, enqueued: &Enqueued, has_key: bool) -> Added {
        let job = &enqueued.job;
        self.lines += 1;
        self.busy = true;
        if has_key && !self.keyed.insert(job.id) {
            self.duplicates += 1;
            return Added::Duplicate;
        }
        let ended_in_this_run = self.strangers.remove(&job.id);
        if !job.state.is_final() {
            self.open.insert(job.id);
        } else if ended_in_this_run {
            self.ended(job, true);
        } else {
            self.ended(job, false);
        }
        if enqueued.is_new {
            return Added::New;
        }
        self.found += 1;
        Added::Before
    }

    /// What the worker tells.
    pub(super) fn event(&mut self, event: Event) {
        self.busy = true;
        match event {
            Event::Started { id, .. } => {
                self.running.insert(id);
                self.retrying.remove(&id);
            }
            Event::LeaseLost { id } | Event::GivenBack { id } => {
                self.running.remove(&id);
            }
            Event::Ended {
                id,
                task,
                attempt,
                state,
                error,
                ..
            } => {
                self.running.remove(&id);
                if !state.is_final() {
                    if self.open.contains(&id) {
                        self.retrying.insert(id);
                    }
                } else if self.found_ended.remove(&id) {
                    // It is counted.
                } else if self.open.remove(&id) {
                    self.retried += u64::from(attempt > 1);
                    let ended = Failed {
                        id,
                        task,
                        state: Some(state),
                        error,
                    };
                    self.count(ended, true);
                } else if self.read_all {
                    self.others += 1;
                } else {
                    self.strangers.insert(id);
                }
            }
            _ => {}
        }
    }

    /// Looks at some of the jobs that have not ended: someone else may have ended them.
    pub(super) async fn look(&mut self, store: &dyn job::Store) -> Result<()> {
        let some = if self.busy { LOOK_BUSY } else { LOOK_IDLE };
        self.busy = false;
        let after = self.looked.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.open.range((after, Bound::Unbounded)).take(some);
        let ids: Vec<JobId> = ids.copied().collect();
        // From the first one again after the last.
        self.looked = ids.last().copied();
        for id in ids {
            if self.running.contains(&id) {
                continue;
            }
            match store.get(id).await {
                Ok(Some(job)) if !job.state.is_final() => {}
                Ok(Some(job)) => {
                    self.open.remove(&id);
                    self.found_ended.insert(id);
                    self.ended(&job, true);
                }
                Ok(None) if self.not_found.insert(id) => {}
                Ok(None) => self.lost(id, "it was purged while it waited".to_owned()),
                Err(job::Error::Store(error))
                    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooNew) =>
                {
                    self.lost(id, error.to_string());
                }
                // Perhaps the next time.
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A job that was read has ended.
    fn ended(&mut self, job: &Job, now: bool) {
        self.retrying.remove(&job.id);
        if now {
            self.retried += u64::from(job.attempts > 1);
        }
        let ended = Failed {
            id: job.id,
            task: job.lane.task.clone(),
            state: Some(job.state),
            error: job.last_error.clone(),
        };
        self.count(ended, now);
    }

    fn lost(&mut self, id: JobId, why: String) {
        self.open.remove(&id);
        self.retrying.remove(&id);
        let ended = Failed {
            id,
            task: String::new(),
            state: None,
            error: Some(why),
        };
        self.count(ended, true);
    }

    fn count(&mut self, job: Failed, now: bool) {
        let counts = if now { &mut self.now } else { &mut self.before };
        match job.state {
            Some(State::Completed) => {
                counts.completed += 1;
                return;
            }
            Some(State::Failed | State::TimedOut) => counts.failed += 1,
            Some(State::Canceled) => counts.canceled += 1,
            _ => counts.lost += 1,
        }
        if self.named.len() < NAMED {
            self.named.push(job);
        }
    }
}
