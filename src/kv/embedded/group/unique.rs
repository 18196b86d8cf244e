//! The overlay of a group where a key holds one value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

use crate::kv::{Change, Error, ErrorKind, Expect, Key, Result, Write};

/// The keys that a group of commits touches, as they are after the commits so far.
///
/// Made over all commits of the group, [filled](Self::fill) with what the engine holds under the
/// keys that have conditions, then asked commit by commit. A commit that fails its conditions
/// leaves it as it was. Keys written several times are written once, with the last value.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    slots: Vec<Slot<'a>>,
    places: HashMap<&'a Key, usize>,
    unread: Vec<Key>,
}

#[derive(Debug)]
struct Slot<'a> {
    key: &'a Key,
    value: Value<'a>,
}

/// What is under a key, and where that stands: nothing is copied on the way to the engine.
#[derive(Debug)]
enum Value<'a> {
    Stored(Option<Bytes>),
    Written(Option<&'a Bytes>),
}

impl<'a> Overlay<'a> {
    /// An overlay over these commits, which must be those that [`commit`](Self::commit) gets.
    pub(super) fn over(commits: impl Iterator<Item = &'a [Change]> + Clone) -> Self {
        let changes = commits.clone().map(<[Change]>::len).sum();
        let mut overlay = Self {
            slots: Vec::with_capacity(changes),
            places: HashMap::with_capacity(changes),
            unread: Vec::new(),
        };
        for change in commits.flatten() {
            if change.before != Expect::Any && !overlay.places.contains_key(&change.key) {
                overlay.slot(&change.key);
                overlay.unread.push(change.key.clone());
            }
        }
        overlay
    }

    /// The keys that conditions speak of, each once: what the engine must be asked.
    pub(super) fn unread(&self) -> &[Key] {
        &self.unread
    }

    /// Takes what the engine holds under [`unread`](Self::unread), in its order.
    pub(super) fn fill(&mut self, stored: Vec<Option<Bytes>>) -> Result<()> {
        if stored.len() != self.unread.len() {
            // Not to be taken for absence: that would let a commit through which must fail.
            let message = format!(
                "the engine was asked for {} keys and answered {}: this is a bug in its adapter",
                self.unread.len(),
                stored.len()
            );
            return Err(Error::new(ErrorKind::Backend, message));
        }
        for (slot, value) in self.slots.iter_mut().zip(stored) {
            slot.value = Value::Stored(value);
        }
        Ok(())
    }

    /// Applies one commit on top of the earlier ones, or says all its conditions that fail.
    pub(super) fn commit(&mut self, changes: &'a [Change]) -> Result<()> {
        let failed: Vec<usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !change.holds(self.value(&change.key)))
            .map(|(index, _)| index)
            .collect();
        if !failed.is_empty() {
            return Err(Error::condition_failed(failed));
        }
        for change in changes.iter().filter(|change| !change.is_check()) {
            self.slot(&change.key).value = Value::Written(change.after.as_ref());
        }
        Ok(())
    }

    /// What the commits that went through write, every key once.
    pub(super) fn writes(&self) -> Vec<Write<'a>> {
        let write = |slot: &Slot<'a>| match slot.value {
            Value::Stored(_) => None,
            Value::Written(Some(value)) => Some(Write::Put {
                key: slot.key,
                value,
            }),
            Value::Written(None) => Some(Write::Remove(slot.key)),
        };
        let mut writes = Vec::with_capacity(self.slots.len());
        writes.extend(self.slots.iter().filter_map(write));
        writes
    }

    fn value(&self, key: &Key) -> Option<&[u8]> {
        let place = *self.places.get(key)?;
        match &self.slots.get(place)?.value {
            Value::Stored(value) => value.as_deref(),
            Value::Written(value) => value.map(AsRef::as_ref),
        }
    }

    fn slot(&mut self, key: &'a Key) -> &mut Slot<'a> {
        let place = match self.places.entry(key) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                self.slots.push(Slot {
                    key,
                    value: Value::Stored(None),
                });
                *vacant.insert(self.slots.len() - 1)
            }
        };
        // `places` only ever holds positions in `slots`, which never shrinks.
        #[expect(clippy::indexing_slicing, reason = "see above")]
        &mut self.slots[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay<'a>(commits: &'a [Vec<Change>], stored: &[(&str, &str)]) -> Overlay<'a> {
        let mut overlay = Overlay::over(commits.iter().map(Vec::as_slice));
        let values = overlay
            .unread()
            .iter()
            .map(|key| {
                let found = stored.iter().find(|(name, _)| Key::from(*name) == *key);
                found.map(|(_, value)| Bytes::copy_from_slice(value.as_bytes()))
            })
            .collect();
        overlay.fill(values).unwrap();
        overlay
    }

    /// What is written, in a form that is easy to compare.
    fn written(overlay: &Overlay<'_>) -> Vec<(Key, Option<Bytes>)> {
        let plain = |write: Write<'_>| match write {
            Write::Put { key, value } => (key.clone(), Some(value.clone())),
            Write::Remove(key) => (key.clone(), None),
            other => panic!("{other:?}"),
        };
        overlay.writes().into_iter().map(plain).collect()
    }

    #[test]
    fn a_commit_sees_the_commits_before_it() {
        let commits = [
            vec![Change::create("a", "1")],
            vec![Change::replace("a", "1", Some("2".into()))],
        ];
        let mut overlay = overlay(&commits, &[]);
        assert_eq!(overlay.unread(), [Key::from("a")], "asked once");
        overlay.commit(&commits[0]).unwrap();
        overlay.commit(&commits[1]).unwrap();
        assert_eq!(
            written(&overlay),
            [("a".into(), Some("2".into()))],
            "written once, with the last value"
        );
    }

    #[test]
    fn a_commit_that_fails_names_all_its_conditions_and_leaves_nothing() {
        let commits = [
            vec![
                Change::put("free", "x"),
                Change::create("a", "1"),
                Change::check("a2", "1"),
                Change::replace("b", "other", None),
            ],
            vec![Change::create("c", "1")],
        ];
        let mut overlay = overlay(&commits, &[("a", "0"), ("a2", "1"), ("b", "0")]);
        let error = overlay.commit(&commits[0]).unwrap_err();
        let indices = vec![1, 3];
        assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
        overlay.commit(&commits[1]).unwrap();
        assert_eq!(written(&overlay), [("c".into(), Some("1".into()))]);
    }

    #[test]
    fn a_condition_sees_an_earlier_unconditional_write() {
        let commits = [
            vec![Change::remove("a")],
            vec![Change::create("a", "new")],
            vec![Change::check("a", "new")],
        ];
        let mut overlay = overlay(&commits, &[("a", "old")]);
        for commit in &commits {
            overlay.commit(commit).unwrap();
        }
        assert_eq!(overlay.writes().len(), 1);
    }

    #[test]
    fn a_check_writes_nothing() {
        let commits = [vec![Change::check("a", "1")]];
        let mut overlay = overlay(&commits, &[("a", "1")]);
        overlay.commit(&commits[0]).unwrap();
        assert!(overlay.writes().is_empty());
    }

    #[test]
    fn an_engine_that_answers_too_few_keys_is_not_taken_for_absence() {
        let commits = [vec![Change::create("a", "1")]];
        let mut overlay = Overlay::over(commits.iter().map(Vec::as_slice));
        assert!(overlay.fill(Vec::new()).is_err());
    }
}
