//! The leases of this process, and the worker records they stand in (protocol rules 5 and 6).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::super::JobId;
use super::super::keys::KeySpace;
use crate::clock::Timestamp;
use crate::kv::Key;

/// Leases in a worker record that still takes new ones.
const MOST_IN_SLOT: usize = 256;

/// What stands under a `worker` key: what one worker of one incarnation holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct WorkerRecord {
    pub(in crate::job) worker: String,
    /// The longest lease in it, in microseconds.
    pub(in crate::job) lease: u64,
    pub(in crate::job) entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct Entry {
    pub(in crate::job) id: [u8; 16],
    pub(in crate::job) epoch: u64,
    pub(in crate::job) deadline: i64,
    /// The hash of the job's serial queue, which must not wait for a header that cannot be read.
    pub(in crate::job) queue: Option<[u8; 16]>,
}

impl Entry {
    pub(in crate::job) fn id(&self) -> JobId {
        JobId::from_bytes(self.id)
    }

    pub(in crate::job) fn deadline(&self) -> Timestamp {
        Timestamp::from_micros(self.deadline)
    }
}

/// The leases this process holds.
#[derive(Debug, Default)]
pub(in crate::job) struct Held {
    leases: HashMap<JobId, Lease>,
    slots: BTreeMap<u64, Slot>,
    suspects: usize,
    /// Leases on jobs of serial queues.
    queued: usize,
    next_slot: u64,
}

#[derive(Debug)]
struct Lease {
    epoch: u64,
    slot: u64,
    suspect: bool,
    queue: Option<Key>,
}

#[derive(Debug, Default)]
struct Slot {
    worker: String,
    live: usize,
}

impl Held {
    /// The record in which this worker's next leases go.
    pub(in crate::job) fn slot_for(&self, worker: &str) -> u64 {
        self.slots
            .iter()
            .find(|(_, slot)| slot.worker == worker && slot.live < MOST_IN_SLOT)
            .map_or(self.next_slot, |(number, _)| *number)
    }

    /// Whether this process still holds that lease.
    pub(in crate::job) fn holds(&self, id: JobId, epoch: u64) -> bool {
        self.leases
            .get(&id)
            .is_some_and(|lease| lease.epoch == epoch)
    }

    /// Whether it holds a suspect (rule 9).
    pub(in crate::job) fn has_suspect(&self) -> bool {
        self.suspects > 0
    }

    /// The records of the serial queues of those of these headers' jobs that it holds.
    pub(in crate::job) fn queues_of(&self, keys: &KeySpace, headers: &[Key]) -> Vec<Key> {
        if self.queued == 0 {
            return Vec::new();
        }
        let ids = headers.iter().filter_map(|key| keys.job_id(key).ok());
        let queues = ids.filter_map(|id| self.leases.get(&id)?.queue.clone());
        let queues: BTreeSet<Key> = queues.collect();
        queues.into_iter().collect()
    }

    pub(in crate::job) fn begin(
        &mut self,
        worker: &str,
        slot: u64,
        id: JobId,
        epoch: u64,
        suspect: bool,
        queue: Option<Key>,
    ) {
        self.next_slot = self.next_slot.max(slot + 1);
        let entry = self.slots.entry(slot).or_default();
        if entry.worker.is_empty() {
            worker.clone_into(&mut entry.worker);
        }
        entry.live += 1;
        self.suspects += usize::from(suspect);
        self.queued += usize::from(queue.is_some());
        if let Some(earlier) = self.leases.insert(
            id,
            Lease {
                epoch,
                slot,
                suspect,
                queue,
            },
        ) {
            self.forget(&earlier);
        }
    }

    pub(in crate::job) fn end(&mut self, id: JobId, epoch: u64) {
        if self.holds(id, epoch)
            && let Some(lease) = self.leases.remove(&id)
        {
            self.forget(&lease);
        }
    }

    fn forget(&mut self, lease: &Lease) {
        self.suspects -= usize::from(lease.suspect);
        self.queued -= usize::from(lease.queue.is_some());
        if let Some(slot) = self.slots.get_mut(&lease.slot) {
            slot.live = slot.live.saturating_sub(1);
        }
    }

    /// The record is gone.
    pub(in crate::job) fn drop_slot(&mut self, slot: u64) {
        if self.slots.get(&slot).is_some_and(|slot| slot.live == 0) {
            self.slots.remove(&slot);
        }
    }

    /// Records without a live lease, which their holder should remove.
    pub(in crate::job) fn empty_slots(&self) -> impl Iterator<Item = u64> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.live == 0)
            .map(|(number, _)| *number)
    }
}
