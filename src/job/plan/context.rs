//! What an operation may know while it plans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::keys::KeySpace;
use super::super::{Lane, Retention, Selector};
use super::held::Held;
use super::lanes::{Known, Lanes};
use super::settings::Settings;
use super::stamps::Stamps;
use crate::clock::{Clock, Timestamp};
use crate::kv::Key;

/// What an operation may know while it plans, besides what its [`View`](super::View) reads.
pub(in crate::job) struct Context<'a> {
    pub(in crate::job) keys: &'a KeySpace,
    pub(in crate::job) clock: &'a dyn Clock,
    pub(in crate::job) now: Timestamp,
    pub(in crate::job) monotonic: Duration,
    /// Written into each step of this plan, so that it can be found again (rule 2).
    pub(in crate::job) token: u64,
    /// This start of the store.
    pub(in crate::job) incarnation: [u8; 16],
    pub(in crate::job) max_skew: Duration,
    /// How long jobs are kept after they ended.
    pub(in crate::job) retention: Retention,
    /// Changes and bytes a commit may have.
    pub(in crate::job) max_changes: usize,
    pub(in crate::job) max_bytes: usize,
    pub(in crate::job) lanes: &'a Lanes,
    pub(in crate::job) settings: &'a Settings,
    /// Whether they need not be read again yet.
    pub(in crate::job) settings_known: bool,
    /// The tenant who had its turn last, where tenants take turns.
    pub(in crate::job) last_tenant: Option<&'a str>,
    /// Lanes, by their prefixes, that another process was heard to have filled, and that are not
    /// among the known ones.
    pub(in crate::job) heard: &'a BTreeSet<Key>,
    /// How many blocks of jobs near the head a claim chooses from: 1 while no other process is in
    /// the way (rule 16).
    pub(in crate::job) blocks: usize,
    pub(in crate::job) held: &'a Held,
    pub(in crate::job) stamps: &'a Stamps,
    /// Whether it is time to see what others did.
    pub(in crate::job) look: Look,
    /// How long ago the wall clock made a step against the monotonic one: leases are not taken
    /// back before the longest of them has passed since (rule 8).
    pub(in crate::job) since_step: Option<Duration>,
}

/// Which lanes a claim looks for, besides those in memory (rule 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::job) enum Look {
    /// None: it is not yet time.
    Not,
    /// Some of those behind this one.
    Some(Option<Key>),
    /// All: this process has not looked yet.
    All,
}

impl Context<'_> {
    /// Whether claims of this selector take from this lane, as far as limits let them.
    pub(in crate::job) fn takes_from(&self, selector: &Selector, lane: &Lane) -> bool {
        selector.wants(lane) && !self.settings.is_paused(lane)
    }

    /// The known lanes with jobs from which they do.
    pub(in crate::job) fn lanes_for(&self, selector: &Selector) -> BTreeMap<Key, Known> {
        self.lanes.matching(|lane| self.takes_from(selector, lane))
    }

    /// The time and writer of a new log line.
    pub(in crate::job) fn log_stamp(&self) -> (Timestamp, u64) {
        self.stamps.next(self.clock)
    }
}
