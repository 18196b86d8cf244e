//! Records that cannot be read are put aside, as raw bytes, and reported (protocol rule 20).

use serde::{Deserialize, Serialize};

use super::super::header::encode;
use super::super::plan::{Context, View};
use super::super::{Quarantined, Result};
use crate::clock::Timestamp;
use crate::kv::{self, Key, Object};

/// What stands under a `quarantine` key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::job) struct Record {
    pub(in crate::job) key: Vec<u8>,
    pub(in crate::job) value: Vec<u8>,
    pub(in crate::job) reason: String,
    pub(in crate::job) at: i64,
}

impl Record {
    pub(in crate::job) fn to_quarantined(&self) -> Quarantined {
        Quarantined {
            key: Key::from(self.key.as_slice()).to_string(),
            reason: self.reason.clone(),
            at: Timestamp::from_micros(self.at),
            bytes: self.value.len(),
        }
    }
}

/// Puts aside the header that was read under `key`.
pub(in crate::job) fn header(
    cx: &Context<'_>,
    view: &mut View<'_>,
    key: &Key,
    value: &[u8],
    error: &kv::Error,
) -> Result<()> {
    put_aside(cx, view, key, value, &error.to_string())?;
    view.replace(key.clone(), None);
    Ok(())
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
    view.put(cx.keys.quarantine(key), encode(&record)?);
    Ok(())
}
