//! A job is removed by its job key.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Job, Result, place, unique};
use super::Operation;
use super::enqueue::{find, lose_key};
use crate::kv::Key;

/// Removes the job that has this key, or takes the key from it if it runs. `None` if nobody has it.
pub(in crate::job) struct RemoveJob {
    pub(in crate::job) tenant: String,
    pub(in crate::job) key: String,
}

#[async_trait]
impl Operation for RemoveJob {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.unique(&self.tenant, &self.key)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let at = cx.keys.unique(&self.tenant, &self.key);
        let Some((id, mut header)) = find(cx, view, &at, &self.tenant, &self.key).await? else {
            return Ok(None);
        };
        if header.phase == Phase::Running {
            unique::free(cx, view, id, &header).await?;
            lose_key(cx, view, id, &mut header, "removed by its key while it ran")?;
        } else {
            if header.phase == Phase::Waiting {
                place::unplace(cx, view, id, &header).await?;
            } else {
                transition::forget_end(cx, view, id, &header);
            }
            // The header stays until retention, for whoever lost the answer (rule 2).
            let why = Why::Note("removed by its key");
            transition::end(cx, view, id, &mut header, Phase::Removed, why).await?;
        }
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
