//! Jobs that were claimed ahead, and wait in the worker for a free slot with their leases kept
//! alive.
//!
//! A job on its last attempt is not kept so: if the process dies, it has lost that attempt without
//! ever having run. A [claim](Claim::ahead) takes no such job ahead. Where one has come all the
//! same, because there are fewer slots by now, it begins before the others, or is given back, which
//! counts no attempt. As many jobs are then claimed for free slots alone.

use std::collections::VecDeque;

use super::leases::Held;
use crate::job::{Claim, Job};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    waiting: VecDeque<(Job, Held)>,
    /// Jobs to claim without any ahead.
    plain: usize,
}

impl Prefetched {
    /// How many jobs to claim where so many slots are free and so many jobs may wait: to begin at
    /// once, and ahead. None ahead until half of what waited is gone, so that a claim is for many.
    pub(super) fn wanted(&self, free: usize, most: usize) -> (usize, usize) {
        let waits = self.waiting.len();
        let ahead = match self.plain {
            0 if waits <= most / 2 => most - waits,
            _ => 0,
        };
        let at_once = free.saturating_sub(waits).min(Claim::MOST);
        (at_once, ahead.min(Claim::MOST - at_once))
    }

    /// Takes in a job that was claimed.
    pub(super) fn push(&mut self, job: Job, held: Held) {
        self.plain = self.plain.saturating_sub(1);
        self.waiting.push_back((job, held));
    }

    /// The next job to begin: one on its last attempt, else the one that came first.
    pub(super) fn next(&mut self) -> Option<(Job, Held)> {
        let last = self.waiting.iter().position(|(job, _)| is_last(job));
        self.waiting.remove(last.unwrap_or(0))
    }

    /// The next ones of a task, for a batch.
    pub(super) fn of_task(&mut self, task: &str, most: usize) -> Vec<(Job, Held)> {
        let mut found = Vec::new();
        while found.len() < most
            && let Some(place) = (self.waiting.iter())
                .position(|(job, held)| job.lane.task == task && !held.is_alone())
        {
            found.extend(self.waiting.remove(place));
        }
        found
    }

    /// Those that cannot wait, to be given back.
    pub(super) fn hasty(&mut self) -> VecDeque<(Job, Held)> {
        let (hasty, waiting): (VecDeque<_>, VecDeque<_>) =
            self.all().into_iter().partition(|(job, _)| is_last(job));
        self.waiting = waiting;
        self.plain = self.plain.saturating_add(hasty.len());
        hasty
    }

    /// All of them, to be given back.
    pub(super) fn all(&mut self) -> VecDeque<(Job, Held)> {
        std::mem::take(&mut self.waiting)
    }
}

fn is_last(job: &Job) -> bool {
    job.attempts >= job.max_attempts
}
