//! What a process remembers of the lanes: which have jobs, and where their first one stands
//! (protocol rule 13).
//!
//! It is a hint: a claim that reads a lane corrects it, and a skip-scan finds lanes that others
//! filled.

use std::collections::BTreeMap;

use super::super::Lane;
use super::super::keys::Position;
use crate::kv::Key;

/// The known lanes with jobs. See the [module](self).
#[derive(Debug, Default)]
pub(in crate::job) struct Lanes(BTreeMap<Key, Known>);

/// A lane that is believed to have jobs.
#[derive(Clone, Debug)]
pub(in crate::job) struct Known {
    pub(in crate::job) lane: Lane,
    /// Where its first job is believed to stand.
    pub(in crate::job) head: Position,
}

impl Lanes {
    /// A job stands there now.
    pub(in crate::job) fn put(&mut self, prefix: &Key, lane: &Lane, position: &Position) {
        match self.0.get_mut(prefix) {
            Some(known) if known.head <= *position => {}
            Some(known) => known.head.clone_from(position),
            None => {
                let known = Known {
                    lane: lane.clone(),
                    head: position.clone(),
                };
                self.0.insert(prefix.clone(), known);
            }
        }
    }

    /// The first job stands there; `None` if the lane is empty.
    pub(in crate::job) fn set(&mut self, prefix: &Key, lane: &Lane, head: Option<Position>) {
        match head {
            Some(head) => {
                self.0.insert(
                    prefix.clone(),
                    Known {
                        lane: lane.clone(),
                        head,
                    },
                );
            }
            None => drop(self.0.remove(prefix)),
        }
    }

    /// The prefixes of all of them, in order.
    pub(in crate::job) fn prefixes(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// Whether this lane is among them.
    pub(in crate::job) fn knows(&self, prefix: &Key) -> bool {
        self.0.contains_key(prefix)
    }

    /// Somebody put a job into a lane that is known.
    pub(in crate::job) fn lower(&mut self, prefix: &Key, position: &[u8]) {
        if let Some(known) = self.0.get_mut(prefix)
            && *position < *known.head
        {
            known.head = position.into();
        }
    }

    /// Those of which this holds.
    pub(in crate::job) fn matching(&self, wanted: impl Fn(&Lane) -> bool) -> BTreeMap<Key, Known> {
        self.0
            .iter()
            .filter(|(_, known)| wanted(&known.lane))
            .map(|(prefix, known)| (prefix.clone(), known.clone()))
            .collect()
    }
}
