//! How many handlers of a task a worker runs at a time, where that is less than its concurrency.
//!
//! A job has a place from its claim until its end is recorded. A task without a place left is not
//! claimed, and one with some is claimed for no more than these: so nobody waits in the worker for a
//! place, and jobs of other tasks find theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::job::Selector;

/// The places of all tasks that have a limit.
#[derive(Debug, Default)]
pub(super) struct Places {
    of: HashMap<String, Arc<Room>>,
    /// Whether a task that was full has had a place again since the last claim.
    freed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Room {
    most: usize,
    taken: AtomicUsize,
    freed: Arc<AtomicBool>,
}

impl Room {
    fn left(&self) -> usize {
        self.most.saturating_sub(self.taken.load(Ordering::SeqCst))
    }
}

impl Places {
    /// At most so many of each of these tasks.
    pub(super) fn new(limits: &HashMap<String, usize>) -> Self {
        let freed = Arc::new(AtomicBool::new(false));
        let room = |most| Room {
            most,
            taken: AtomicUsize::new(0),
            freed: Arc::clone(&freed),
        };
        Self {
            of: limits
                .iter()
                .map(|(task, most)| (task.clone(), Arc::new(room(*most))))
                .collect(),
            freed,
        }
    }

    /// For a claim: of no task more jobs than there are places for.
    pub(super) fn narrow(&self, selector: Selector) -> Selector {
        let rooms = self.of.iter();
        rooms.fold(selector, |selector, (task, room)| {
            selector.at_most(task, room.left())
        })
    }

    /// Whether a job of this task could have a place.
    pub(super) fn has(&self, task: &str) -> bool {
        self.of.get(task).is_none_or(|room| room.left() > 0)
    }

    /// Takes a place for a job, if its task has a limit.
    pub(super) fn take(&self, task: &str) -> Option<Place> {
        let room = self.of.get(task)?;
        room.taken.fetch_add(1, Ordering::SeqCst);
        Some(Place(Arc::clone(room)))
    }

    /// Whether a claim may find what the last one had to leave out.
    pub(super) fn freed(&self) -> bool {
        self.freed.load(Ordering::SeqCst)
    }

    /// A claim begins: from now on only places that become free later count.
    pub(super) fn forget_freed(&self) {
        self.freed.store(false, Ordering::SeqCst);
    }
}

/// A place of a job: free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        let Room {
            most, taken, freed, ..
        } = &*self.0;
        if taken.fetch_sub(1, Ordering::SeqCst) >= *most {
            freed.store(true, Ordering::SeqCst);
        }
    }
}
