//! What is kept of a cron schedule: how far its slots are settled, and, of one that was added at
//! run time, what it says. What a schedule means is a matter of a higher floor.

use serde::{Deserialize, Serialize};

use super::header;
use super::{Enqueued, Result};
use crate::clock::Timestamp;
use crate::kv::{self, Key};

/// Longest identifier of a cron schedule, in bytes of UTF-8: that of a task, which it is where not
/// said.
pub const MAX_CRON_ID: usize = super::MAX_TASK;
/// Longest definition of a cron schedule, in bytes.
pub const MAX_CRON_DEFINITION: usize = 64 << 10;

/// What is kept of a cron schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CronRecord {
    /// What it is known by.
    pub id: String,
    /// What it says, if it was added at run time; `None` if a program brings that along.
    pub definition: Option<String>,
    /// When it was first seen, or last defined.
    pub added_at: Timestamp,
    /// Slots up to here are settled, once and for all: they had their job, or will have none.
    pub settled: Timestamp,
    /// The last slot that had a job.
    pub last_slot: Option<Timestamp>,
    /// Whether its slots pass without a job.
    pub paused: bool,
    /// Counts its changes.
    pub revision: u64,
}

/// What became of a [slot](super::CronStore::fire_cron).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fired {
    /// The slot is recorded, and its job added, by this call alone.
    Added {
        /// The job.
        enqueued: Box<Enqueued>,
        /// What is kept now.
        record: CronRecord,
    },
    /// Nothing was done, for the schedule is not as the caller knows it: what is kept, or `None`
    /// if nothing is.
    Outdated(Option<CronRecord>),
}

/// A [`CronRecord`] as it is stored; its id stands in the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct Stored {
    pub(in crate::job) revision: u64,
    pub(in crate::job) definition: Option<String>,
    pub(in crate::job) added_at: i64,
    pub(in crate::job) settled: i64,
    pub(in crate::job) last_slot: Option<i64>,
    pub(in crate::job) paused: bool,
}

impl Stored {
    pub(in crate::job) fn decode(key: &Key, value: &[u8]) -> kv::Result<Self> {
        header::decode(key, value)
    }

    pub(in crate::job) fn encode(&self) -> Result<Vec<u8>> {
        header::encode(self)
    }

    pub(in crate::job) fn to_record(&self, id: &str) -> CronRecord {
        CronRecord {
            id: id.to_owned(),
            definition: self.definition.clone(),
            added_at: Timestamp::from_micros(self.added_at),
            settled: Timestamp::from_micros(self.settled),
            last_slot: self.last_slot.map(Timestamp::from_micros),
            paused: self.paused,
            revision: self.revision,
        }
    }
}
