//! In which order the jobs of several lanes run.
//!
//! By priority, `run_at` and id, whatever lane they stand in. Where tenants take turns, priority
//! still goes first; among the jobs of one priority, each tenant has one after the other, in the
//! order of their names, beginning behind the one who had its turn last.

use std::collections::BTreeMap;

use super::super::super::keys::KeySpace;
use super::super::super::plan::Context;
use super::super::super::{Lane, Selector};

/// Compares jobs of different lanes. See the [module](self).
#[derive(Debug)]
pub(super) struct Order {
    turns: Option<Turns>,
}

#[derive(Debug)]
struct Turns {
    last: Option<String>,
    /// How many jobs of each tenant had their turn in this pass.
    had: BTreeMap<String, u32>,
}

/// Where a job stands among those of other lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    turn: Option<Turn<'a>>,
    position: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn<'a> {
    priority: i64,
    round: u32,
    /// Whether the round comes to this tenant only from the start of the names again.
    wraps: bool,
    tenant: &'a str,
}

impl Order {
    pub(super) fn new(cx: &Context<'_>, selector: &Selector) -> Self {
        let turns = selector.tenants_in_turn.then(|| Turns {
            last: cx.last_tenant.map(str::to_owned),
            had: BTreeMap::new(),
        });
        Self { turns }
    }

    pub(super) fn rank<'a>(&self, lane: &'a Lane, position: &'a [u8]) -> Rank<'a> {
        let turn = self.turns.as_ref().map(|turns| Turn {
            priority: KeySpace::priority_at(position),
            round: turns.had.get(&lane.tenant).copied().unwrap_or_default(),
            wraps: (turns.last.as_ref()).is_some_and(|last| lane.tenant <= *last),
            tenant: &lane.tenant,
        });
        Rank { turn, position }
    }

    /// Whether tenants take turns.
    pub(super) fn has_turns(&self) -> bool {
        self.turns.is_some()
    }

    /// A job of this lane is next.
    pub(super) fn had_turn(&mut self, lane: &Lane) {
        if let Some(turns) = &mut self.turns {
            match turns.had.get_mut(&lane.tenant) {
                Some(had) => *had = had.saturating_add(1),
                None => drop(turns.had.insert(lane.tenant.clone(), 1)),
            }
        }
    }
}
