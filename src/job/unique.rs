//! The record of a job key, which says who has the key.

use serde::{Deserialize, Serialize};

use super::header::{self, Header, Phase};
use super::plan::{Context, View};
use super::{JobId, Result};
use crate::kv;

/// What stands under a `unique` key: the job key in full, for its hash is in the key, and who
/// has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unique {
    pub(crate) tenant: String,
    pub(crate) text: String,
    pub(crate) id: [u8; 16],
}

/// What stands under the key of a job that has one and keeps it: until it is done, or, if that
/// was asked for, until it is removed.
pub(crate) fn kept(id: JobId, header: &Header) -> Option<Unique> {
    let key = header.key.as_ref()?;
    let kept = match header.phase {
        Phase::Completed | Phase::Taken => key.retain,
        Phase::Removed | Phase::Deleting => false,
        _ => true,
    };
    kept.then(|| Unique {
        tenant: header.lane.tenant.clone(),
        text: key.text.clone(),
        id: *id.as_bytes(),
    })
}

/// Frees a job's key, if the key is still this job's.
pub(crate) async fn free(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    let Some(key) = &header.key else {
        return Ok(());
    };
    let key = cx.keys.unique(&header.lane.tenant, &key.text);
    if let Some(value) = view.get(&key).await? {
        let unique: kv::Result<Unique> = header::decode(&key, &value);
        if unique.is_ok_and(|unique| unique.id == *id.as_bytes()) {
            view.replace(key, None);
        }
    }
    Ok(())
}
