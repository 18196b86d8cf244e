//! The overlay of a group on a bag, where a key holds a set of values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::{Change, Direction, Error, Expect, Key, Range, Result, Write};

/// The keys that a group of commits touches, with their sets as they are after the commits so
/// far.
///
/// Made over all commits of the group, [filled](Self::fill) with the whole sets of those keys
/// that have conditions, then asked commit by commit. A commit that fails its conditions leaves
/// it as it was. Pairs written several times are written once.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    slots: BTreeMap<&'a Key, Slot<'a>>,
}

/// The values of one key: those stored, and what the group makes of them.
#[derive(Debug, Default)]
struct Slot<'a> {
    /// Whether conditions speak of it; else `stored` is not known.
    conditional: bool,
    stored: BTreeSet<Bytes>,
    /// Whether everything that is stored goes.
    cleared: bool,
    /// The pairs that the group decides over: whether each is there afterwards.
    decided: BTreeMap<&'a Bytes, bool>,
}

impl Slot<'_> {
    fn contains(&self, value: &Bytes) -> bool {
        match self.decided.get(value) {
            Some(there) => *there,
            None => !self.cleared && self.stored.contains(value),
        }
    }

    fn is_empty(&self) -> bool {
        let stays = |value| !self.decided.contains_key(value);
        !self.decided.values().any(|there| *there)
            && (self.cleared || !self.stored.iter().any(stays))
    }
}

impl<'a> Overlay<'a> {
    /// An overlay over these commits, which must be those that [`commit`](Self::commit) gets.
    pub(super) fn over(commits: impl Iterator<Item = &'a [Change]>) -> Self {
        let mut slots: BTreeMap<_, Slot<'a>> = BTreeMap::new();
        for change in commits.flatten() {
            slots.entry(&change.key).or_default().conditional |= change.before != Expect::Any;
        }
        Self { slots }
    }

    /// Reads the values of the keys that conditions speak of.
    pub(super) fn fill(
        &mut self,
        mut scan: impl FnMut(&Range, &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>,
    ) -> Result<()> {
        for (key, slot) in &mut self.slots {
            if slot.conditional {
                let range = Range {
                    start: Bound::Included((*key).clone()),
                    end: Bound::Included((*key).clone()),
                    direction: Direction::Forward,
                };
                scan(&range, &mut |_, value| {
                    slot.stored.insert(Bytes::copy_from_slice(value));
                    true
                })?;
            }
        }
        Ok(())
    }

    /// Applies one commit on top of the earlier ones, or says all its conditions that fail.
    pub(super) fn commit(&mut self, changes: &'a [Change]) -> Result<()> {
        let failed: Vec<usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !self.holds(change))
            .map(|(index, _)| index)
            .collect();
        if !failed.is_empty() {
            return Err(Error::condition_failed(failed));
        }
        for change in changes.iter().filter(|change| !change.is_check()) {
            let slot = self.slots.entry(&change.key).or_default();
            match (&change.before, &change.after) {
                (Expect::Value(value), _) => drop(slot.decided.insert(value, false)),
                (Expect::Any, None) => {
                    slot.cleared = true;
                    slot.decided.clear();
                }
                (Expect::Any | Expect::Absent, _) => {}
            }
            if let Some(value) = &change.after {
                slot.decided.insert(value, true);
            }
        }
        Ok(())
    }

    /// What the commits that went through write, every pair once.
    pub(super) fn writes(&self) -> Vec<Write<'a>> {
        let mut writes = Vec::with_capacity(self.slots.len());
        for (&key, slot) in &self.slots {
            if slot.cleared {
                writes.push(Write::Remove(key));
            }
            for (&value, there) in &slot.decided {
                if *there {
                    writes.push(Write::Put { key, value });
                } else if !slot.cleared {
                    writes.push(Write::RemovePair { key, value });
                }
            }
        }
        writes
    }

    fn holds(&self, change: &Change) -> bool {
        let slot = self.slots.get(&change.key);
        match &change.before {
            Expect::Any => true,
            Expect::Absent => slot.is_none_or(Slot::is_empty),
            Expect::Value(value) => slot.is_some_and(|slot| slot.contains(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::ErrorKind;

    /// Decides over all commits. Their outcomes by the positions that failed, and the writes as
    /// text.
    fn decide(commits: &[Vec<Change>], stored: &[(&str, &str)]) -> (Vec<Vec<usize>>, Vec<String>) {
        let mut overlay = Overlay::over(commits.iter().map(Vec::as_slice));
        overlay
            .fill(|range, visit| {
                let Bound::Included(asked) = &range.start else {
                    panic!("asked for {range:?}");
                };
                assert!(range.as_bytes().1 == range.as_bytes().0, "of one key");
                let mut found = stored.iter().filter(|(key, _)| asked == &Key::from(*key));
                assert!(found.all(|(key, value)| visit(key.as_bytes(), value.as_bytes())));
                Ok(())
            })
            .unwrap();
        let failed = |outcome: Result<()>| match outcome.map_err(|error| error.kind().clone()) {
            Ok(()) => Vec::new(),
            Err(ErrorKind::ConditionFailed { indices }) => indices,
            Err(kind) => panic!("{kind:?}"),
        };
        let outcomes = commits
            .iter()
            .map(|changes| failed(overlay.commit(changes)));
        let outcomes = outcomes.collect();
        let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
        let writes = overlay.writes().into_iter().map(|write| match write {
            Write::Put { key, value } => format!("{key} + {}", text(value)),
            Write::RemovePair { key, value } => format!("{key} - {}", text(value)),
            Write::Remove(key) => format!("{key} cleared"),
            Write::DeletePrefix(key) => panic!("deletes {key}"),
        });
        let writes = writes.collect();
        (outcomes, writes)
    }

    const FINE: Vec<usize> = Vec::new();

    #[test]
    fn a_condition_on_a_value_speaks_of_that_pair_alone() {
        let commits = [
            vec![Change::replace("a", "1", Some("3".into()))],
            vec![Change::replace("a", "1", None)],
            vec![Change::check("a", "2")],
            vec![Change::check("a", "3")],
            vec![Change::replace("a", "3", None)],
        ];
        let (outcomes, writes) = decide(&commits, &[("a", "1"), ("a", "2")]);
        assert_eq!(outcomes, [FINE, vec![0], FINE, FINE, FINE]);
        assert_eq!(writes, ["a - 1", "a - 3"]);
    }

    #[test]
    fn a_value_beside_others_does_not_make_a_key_absent() {
        let commits = [
            vec![Change::replace("a", "1", None)],
            vec![Change::create("a", "3")],
            vec![Change::replace("a", "2", None)],
            vec![Change::create("a", "4")],
        ];
        let (outcomes, writes) = decide(&commits, &[("a", "1"), ("a", "2")]);
        assert_eq!(outcomes, [FINE, vec![0], FINE, FINE]);
        assert_eq!(writes, ["a - 1", "a - 2", "a + 4"]);
    }

    #[test]
    fn a_condition_sees_pairs_that_were_added_without_one() {
        let commits = [
            vec![Change::put("a", "1")],
            vec![Change::create("a", "2")],
            vec![Change::check("a", "1"), Change::put("b", "1")],
        ];
        let (outcomes, writes) = decide(&commits, &[]);
        assert_eq!(outcomes, [FINE, vec![0], FINE]);
        assert_eq!(writes, ["a + 1", "b + 1"]);
    }

    #[test]
    fn a_key_that_was_cleared_is_absent_and_what_comes_then_is_there() {
        let commits = [
            vec![Change::put("a", "0")],
            vec![Change::remove("a")],
            vec![Change::check("a", "1")],
            vec![Change::create("a", "2")],
            vec![Change::put("a", "1")],
            vec![Change::replace("a", "2", None)],
            vec![Change::check("a", "1")],
        ];
        let (outcomes, writes) = decide(&commits, &[("a", "1")]);
        assert_eq!(outcomes, [FINE, FINE, vec![0], FINE, FINE, FINE, FINE]);
        assert_eq!(writes, ["a cleared", "a + 1"]);
    }

    #[test]
    fn a_commit_that_fails_names_all_its_conditions_and_leaves_nothing() {
        let commits = [
            vec![
                Change::put("free", "x"),
                Change::create("a", "2"),
                Change::check("b", "1"),
                Change::replace("c", "1", None),
            ],
            vec![Change::create("c", "1")],
        ];
        let (outcomes, writes) = decide(&commits, &[("a", "1"), ("b", "1")]);
        assert_eq!(outcomes, [vec![1, 3], FINE]);
        assert_eq!(writes, ["c + 1"]);
    }

    #[test]
    fn a_check_writes_nothing() {
        let (outcomes, writes) = decide(&[vec![Change::check("a", "1")]], &[("a", "1")]);
        assert_eq!(outcomes, [FINE]);
        assert!(writes.is_empty());
    }

    #[test]
    fn keys_without_conditions_are_not_read() {
        let commits = [vec![Change::put("a", "1"), Change::remove("b")]];
        let mut overlay = Overlay::over(commits.iter().map(Vec::as_slice));
        overlay.fill(|range, _| panic!("read {range:?}")).unwrap();
        overlay.commit(&commits[0]).unwrap();
        assert_eq!(overlay.writes().len(), 2);
    }
}
