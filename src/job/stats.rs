//! Counts, and what was put aside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::State;
use crate::clock::Timestamp;

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

/// A record that could not be read and was put aside, as raw bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// The key it stood under, printable.
    pub key: String,
    /// Why it could not be read.
    pub reason: String,
    /// When it was put aside.
    pub at: Timestamp,
    /// How many bytes it has.
    pub bytes: usize,
}
