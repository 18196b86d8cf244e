//! Somebody says that a job is done.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::retention::End;
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Result, place};
use super::{Operation, expire};
use crate::kv::Key;

/// Completes a job that nobody holds, be it waiting or ended badly. `None` if there was nothing to
/// change.
pub(in crate::job) struct CompleteJob(pub(in crate::job) JobId);

#[async_trait]
impl Operation for CompleteJob {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.0;
        let Some(mut header) = expire::unheld(cx, view, id).await? else {
            return Ok(None);
        };
        match End::of(header.phase) {
            Some(End::Done) => return Ok(None),
            Some(End::Bad) => transition::forget_end(cx, view, id, &header),
            None => place::unplace(cx, view, id, &header).await?,
        }
        // Kept for a while even where completed jobs are not: only its history can tell whoever
        // lost the answer that it was done (rule 2).
        let why = Why::Note("Manually marked as completed");
        transition::end(cx, view, id, &mut header, Phase::Completed, why).await?;
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
