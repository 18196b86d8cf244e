//! The leases a worker holds: until when, and why their handlers should stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::places::Place;
use crate::job::{Beat, JobId, Lease};

/// Why a handler should stop; a later one overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It should not.
    No,
    /// The worker is to leave, and has been patient; but it may still take its time.
    Stopping,
    TimedOut,
    Canceled,
    /// The worker is to leave at once.
    StopNow,
    /// The job is no longer this worker's.
    Lost,
}

/// All leases of a worker.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<Key, Entry>>,
    added: Notify,
}

type Key = (JobId, u64);

#[derive(Debug)]
struct Entry {
    lease: Lease,
    /// The lease's deadline in monotonic time: counted from before the store was asked, so that
    /// it is never after the store's.
    deadline: Duration,
    /// Whether the handler is done, so that only the store's answer to that counts.
    recording: bool,
    signal: Arc<Signal>,
}

impl Entry {
    fn is_lost(&self) -> bool {
        *self.signal.why.borrow() == Why::Lost
    }

    /// The store says that it is over; perhaps by what is being recorded.
    fn lose(&self) {
        if !self.recording {
            self.signal.raise(Why::Lost);
        }
    }
}

#[derive(Debug)]
struct Signal {
    why: watch::Sender<Why>,
    token: CancellationToken,
}

impl Signal {
    fn raise(&self, why: Why) {
        self.why.send_if_modified(|current| {
            let higher = why > *current;
            *current = why.max(*current);
            higher
        });
        self.token.cancel();
    }
}

impl Leases {
    /// Takes in a lease, until the answer is dropped; of a job that has a place of its task, or is to
    /// run alone.
    pub(super) fn hold(
        self: &Arc<Self>,
        lease: Lease,
        deadline: Duration,
        place: Option<Place>,
        alone: bool,
    ) -> Held {
        let signal = Arc::new(Signal {
            why: watch::Sender::new(Why::No),
            token: CancellationToken::new(),
        });
        let held = Held {
            leases: self.clone(),
            key: (lease.id, lease.epoch),
            signal: signal.clone(),
            place,
            alone,
        };
        let entry = Entry {
            lease,
            deadline,
            recording: false,
            signal,
        };
        self.lock().insert(held.key, entry);
        self.added.notify_waiters();
        held
    }

    /// Returns when there is a lease to look after.
    pub(super) async fn wait_until_some(&self) {
        loop {
            // Hears of what is added from here on.
            let added = self.added.notified();
            if self.earliest().is_some() {
                return;
            }
            added.await;
        }
    }

    /// The leases to extend.
    pub(super) fn living(&self) -> Vec<Lease> {
        let held = self.lock();
        let living = held.values().filter(|entry| !entry.is_lost());
        living.map(|entry| entry.lease.clone()).collect()
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<Duration> {
        let held = self.lock();
        let living = held.values().filter(|entry| !entry.is_lost());
        living.map(|entry| entry.deadline).min()
    }

    /// Gives up the leases whose deadline has come.
    pub(super) fn lapse(&self, now: Duration) {
        for entry in self.lock().values() {
            if entry.deadline <= now && !entry.is_lost() {
                tracing::warn!(id = %entry.lease.id, "the lease could not be extended in time");
                entry.signal.raise(Why::Lost);
            }
        }
    }

    /// Notes what a heartbeat found for a lease, which may have ended meanwhile.
    pub(super) fn note(&self, lease: &Lease, beat: &Beat, deadline: Duration) {
        let mut held = self.lock();
        let Some(entry) = held.get_mut(&(lease.id, lease.epoch)) else {
            return;
        };
        match beat {
            Beat::Extended {
                deadline: wall,
                cancel_requested,
            } => {
                entry.lease.deadline = *wall;
                entry.deadline = deadline;
                if *cancel_requested {
                    entry.signal.raise(Why::Canceled);
                }
            }
            Beat::Lost => entry.lose(),
        }
    }

    /// Notes that the store said a lease is over.
    pub(super) fn lose(&self, lease: &Lease) {
        if let Some(entry) = self.lock().get(&(lease.id, lease.epoch)) {
            entry.lose();
        }
    }

    /// Tells the handlers of these jobs to stop.
    pub(super) fn cancel(&self, ids: &[JobId]) {
        if ids.is_empty() {
            return;
        }
        for (_, entry) in self.lock().iter().filter(|((id, _), _)| ids.contains(id)) {
            entry.signal.raise(Why::Canceled);
        }
    }

    /// Tells every handler to stop.
    pub(super) fn raise_all(&self, why: Why) {
        for entry in self.lock().values() {
            entry.signal.raise(why);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lease in the worker's hand: kept alive until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    leases: Arc<Leases>,
    key: Key,
    signal: Arc<Signal>,
    place: Option<Place>,
    alone: bool,
}

impl Held {
    /// Whether its job is to run in no batch with others.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// It shares the place of another from now on, if its task has a limit.
    pub(super) fn leave_place(&mut self) {
        self.place = None;
    }

    /// Fires when the handler should stop, whatever for.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.signal.token
    }

    /// Tells the handler to stop.
    pub(super) fn raise(&self, why: Why) {
        self.signal.raise(why);
    }

    /// Why the handler should stop.
    pub(super) fn why(&self) -> Why {
        *self.signal.why.borrow()
    }

    /// Returns when there is a stronger reason than this one, with it.
    pub(super) async fn stronger_than(&self, why: Why) -> Why {
        let mut reasons = self.signal.why.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let stronger = reasons.wait_for(|reason| *reason > why).await;
        stronger.map_or(Why::Lost, |reason| *reason)
    }

    /// The lease as it was last extended. From now on only the store's answer to what is recorded
    /// tells whether it is lost, or that its deadline has come.
    pub(super) fn record(&self) -> Option<Lease> {
        let mut held = self.leases.lock();
        let entry = held.get_mut(&self.key)?;
        entry.recording = true;
        Some(entry.lease.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.key);
    }
}
