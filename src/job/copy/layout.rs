//! The neutral form of what a namespace holds: keys without the namespace, in the layout of a
//! store whose keys are unique. Each object is one record in it, whatever kind its store is, so
//! that two stores hold the same exactly when their records are the same.
//!
//! A bag may hold what has no such form, an appended object that kvjob did not write, and a store
//! of unique keys has no place for two values of one key. Both are refused with the key: a check
//! puts aside what does not belong.

use super::super::keys::{KeySpace, Space};
use super::super::scheme::Scheme;
use super::super::{Error, JobId, Result};
use crate::encoding::tuple::{DecodeError, Reader};
use crate::kv::{Key, Object};

/// Brings what lies in one namespace of one kind of store into the neutral form, and back.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    namespace: Key,
    scheme: Scheme,
}

impl Layout {
    pub(super) fn of(keys: &KeySpace) -> Self {
        Self {
            namespace: keys.everything(),
            scheme: keys.scheme,
        }
    }

    /// An object of the namespace in the neutral form.
    pub(super) fn neutral(&self, object: Object) -> Result<Object> {
        let from = self.namespace.len().min(object.key.len());
        let key = object.key.into_bytes().slice(from..);
        let object = Object {
            key: key.into(),
            value: object.value,
        };
        relaid(object, self.scheme, Scheme::UniqueKeys)
    }

    /// The object that is this record here.
    pub(super) fn placed(&self, record: Object) -> Result<Object> {
        let object = relaid(record, Scheme::UniqueKeys, self.scheme)?;
        let key = [self.namespace.as_bytes(), object.key.as_bytes()].concat();
        Ok(Object {
            key: key.into(),
            value: object.value,
        })
    }
}

/// The key of the format, in the neutral form: every copy begins with its record.
pub(super) fn format_key() -> Key {
    KeySpace::bare(Scheme::UniqueKeys).format()
}

/// Whether this record is the header of a job.
pub(super) fn is_job(record: &Object) -> bool {
    KeySpace::bare(Scheme::UniqueKeys).space_of(&record.key) == Some(Space::Job)
}

/// What a record is to a reader: of which job, where its key says so, and the key.
pub(super) fn name(record: &Object) -> String {
    match job_of(record) {
        Some(id) => format!("the record of job {id} under the key {}", record.key),
        None => format!("the record under the key {}", record.key),
    }
}

fn job_of(record: &Object) -> Option<JobId> {
    let keys = KeySpace::bare(Scheme::UniqueKeys);
    let space = keys.space_of(&record.key)?;
    let names_job = matches!(
        space,
        Space::Job | Space::Payload | Space::Result | Space::History | Space::Log
    );
    names_job.then(|| keys.owner(space, &record.key).ok())?
}

/// An object whose key is without a namespace, from one layout to another.
fn relaid(object: Object, from: Scheme, to: Scheme) -> Result<Object> {
    if from == to {
        return Ok(object);
    }
    let keys = KeySpace::bare(from);
    let space = keys.space_of(&object.key);
    let Some(space @ (Space::History | Space::Log)) = space else {
        return Ok(object);
    };
    let read = |suffix: &mut Reader<'_>| -> Result<(), DecodeError> {
        if space == Space::Log {
            suffix.read_i64()?;
        }
        suffix.read_u64().map(drop)
    };
    let relaid = keys.owner(space, &object.key).ok().and_then(|id| {
        let prefix = match space {
            Space::Log => keys.logs(id),
            _ => keys.histories(id),
        };
        from.relaid(to, &prefix, &object, read).ok()
    });
    relaid.ok_or_else(|| {
        let message = format!(
            "{} is none that kvjob wrote, and a store of another kind has no place for it: a check with repair puts it aside",
            name(&object)
        );
        Error::copy("no-place", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn id() -> JobId {
        JobId::from_bytes([7; 16])
    }

    /// One object of each kind, as it lies in this namespace.
    fn objects(keys: &KeySpace) -> Vec<Object> {
        vec![
            Object::new(keys.format(), "f"),
            Object::new(keys.job(id()), "header"),
            Object::new(keys.payload(id()), ""),
            keys.history(id(), 300, b"steps"),
            keys.log(id(), Timestamp::from_micros(-5), u64::MAX, b""),
            Object::new(keys.quarantine(&keys.job(id()), 7), "aside"),
            Object::new([keys.everything().as_bytes(), b"\x15\x63"].concat(), "new"),
        ]
    }

    #[test]
    fn all_kinds_of_stores_and_namespaces_have_the_same_neutral_form() {
        let keys = |namespace, scheme| KeySpace::new(namespace, scheme).unwrap();
        let all = [
            keys("a", Scheme::UniqueKeys),
            keys("a", Scheme::Bag),
            keys("other", Scheme::UniqueKeys),
            keys("other", Scheme::Bag),
        ];
        let neutral = |keys: &KeySpace| -> Vec<Object> {
            let layout = Layout::of(keys);
            let objects = objects(keys).into_iter();
            objects.map(|o| layout.neutral(o).unwrap()).collect()
        };
        for keys in &all {
            assert_eq!(neutral(keys), neutral(&all[0]));
            let layout = Layout::of(keys);
            let placed: Vec<Object> = neutral(keys)
                .into_iter()
                .map(|record| layout.placed(record).unwrap())
                .collect();
            assert_eq!(placed, objects(keys));
        }
    }

    #[test]
    fn what_nobody_appended_has_no_place_in_the_other_kind() {
        let bag = KeySpace::new("a", Scheme::Bag).unwrap();
        let foreign = Object::new(bag.logs(id()), "foreign");
        let refused = Layout::of(&bag).neutral(foreign).unwrap_err();
        assert!(refused.to_string().contains(&id().to_string()), "{refused}");
        let unique = KeySpace::new("a", Scheme::UniqueKeys).unwrap();
        let foreign = Object::new(unique.logs(id()), "foreign");
        let neutral = Layout::of(&unique).neutral(foreign).unwrap();
        assert!(Layout::of(&bag).placed(neutral).is_err());
    }
}
