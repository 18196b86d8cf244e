//! Records that cannot be read are put aside, as raw bytes, and reported (protocol rule 20).
//!
//! One record moves, and nothing that belongs to it: the payload, the older history and the log of
//! a job whose header is put aside stay where they are, for the day it is
//! [released](super::release).

use serde::{Deserialize, Serialize};

use super::super::header::{decode, encode};
use super::super::plan::{Context, View};
use super::super::scheme::Scheme;
use super::super::{QuarantineId, Quarantined, QuarantinedRecord, Result};
use crate::clock::Timestamp;
use crate::kv::{self, Key, Object};

/// What stands under a `quarantine` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct Record {
    pub(in crate::job) key: Vec<u8>,
    pub(in crate::job) value: Vec<u8>,
    pub(in crate::job) reason: String,
    pub(in crate::job) at: i64,
}

impl Record {
    /// What an entry of the quarantine says. One that cannot be read itself stands for itself.
    pub(in crate::job) fn read(object: &Object) -> Self {
        decode(&object.key, &object.value).unwrap_or_else(|error| Self {
            key: object.key.as_bytes().to_vec(),
            value: object.value.to_vec(),
            reason: error.to_string(),
            at: 0,
        })
    }

    pub(in crate::job) fn id(&self) -> QuarantineId {
        QuarantineId::of(&self.key, &self.value)
    }

    pub(in crate::job) fn to_quarantined(&self) -> Quarantined {
        Quarantined {
            id: self.id(),
            key: Key::from(self.key.as_slice()).to_string(),
            reason: self.reason.clone(),
            at: Timestamp::from_micros(self.at),
            bytes: self.value.len(),
        }
    }

    pub(in crate::job) fn into_raw(self) -> QuarantinedRecord {
        QuarantinedRecord {
            about: self.to_quarantined(),
            key: self.key.into(),
            value: self.value.into(),
        }
    }
}

/// Puts aside the header that was read under `key`. Says whether that was all there: in a bag a
/// foreign value may have hidden the job's own, and then what leads to the job must stay.
pub(in crate::job) async fn header(
    cx: &Context<'_>,
    view: &mut View<'_>,
    key: &Key,
    value: &[u8],
    error: &kv::Error,
) -> Result<bool> {
    let alone = match cx.keys.scheme {
        Scheme::UniqueKeys => true,
        Scheme::Bag => view.read_again(key).await?.len() <= 1,
    };
    put_aside(cx, view, key, value, &error.to_string())?;
    view.replace(key.clone(), None);
    Ok(alone)
}

/// Puts aside an index entry whose key says nothing we know.
pub(in crate::job) fn index(
    cx: &Context<'_>,
    view: &mut View<'_>,
    object: &Object,
    reason: &str,
) -> Result<()> {
    put_aside(cx, view, &object.key, &object.value, reason)?;
    view.remove_object(object);
    Ok(())
}

pub(in crate::job) fn put_aside(
    cx: &Context<'_>,
    view: &mut View<'_>,
    key: &Key,
    value: &[u8],
    reason: &str,
) -> Result<()> {
    tracing::error!(%key, reason, "a record cannot be read and is put aside");
    let record = Record {
        key: key.as_bytes().to_vec(),
        value: value.to_vec(),
        reason: reason.to_owned(),
        at: cx.now.as_micros(),
    };
    let at = cx.keys.quarantine(key, record.id().as_u64());
    view.put(at, encode(&record)?);
    Ok(())
}
