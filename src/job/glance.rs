//! What a look at a living store shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{JobId, State};

/// How many jobs wait, run and ended badly, as far as was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Glance {
    /// By task, then by state; what there is none of is left out.
    pub tasks: BTreeMap<String, BTreeMap<State, u64>>,
    /// The states of which there are more than were counted.
    pub cut: BTreeSet<State>,
}

impl Glance {
    /// All that were counted, by state.
    pub fn states(&self) -> BTreeMap<State, u64> {
        let mut states = BTreeMap::new();
        for (state, count) in self.tasks.values().flatten() {
            *states.entry(*state).or_default() += count;
        }
        states
    }

    pub(super) fn count(&mut self, task: &str, state: State) {
        if let Some(states) = self.tasks.get_mut(task) {
            *states.entry(state).or_default() += 1;
        } else {
            self.tasks.insert(task.to_owned(), [(state, 1)].into());
        }
    }

    pub(super) fn cut(&mut self, is_cut: bool, states: impl IntoIterator<Item = State>) {
        if is_cut {
            self.cut.extend(states);
        }
    }
}

/// What was seen to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// A job is as this says.
    Job {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
        /// Its state when it was read.
        state: State,
        /// The attempts it has had, one under way included.
        attempts: u32,
        /// Why its last attempt failed, if one did.
        error: Option<String>,
    },
    /// Some of what happened was not seen.
    Missed,
}
