//! Counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::State;

/// How many jobs are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// All jobs.
    pub total: u64,
    /// By state; states without jobs are left out.
    pub states: BTreeMap<State, u64>,
    /// By task, then by state.
    pub tasks: BTreeMap<String, BTreeMap<State, u64>>,
    /// Records put aside because they could not be read.
    pub quarantined: u64,
    /// Headers that cannot be read and are not put aside yet: no claim has met them.
    pub unreadable: u64,
    /// Records of a newer version, left alone.
    pub too_new: u64,
}
