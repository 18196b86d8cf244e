//! A job that ended badly gets another chance.

use async_trait::async_trait;

use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::retention::End;
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Result};
use super::Operation;
use crate::kv::Key;

/// Lets a failed, canceled or timed-out job wait again, with all its attempts. `None` if there
/// was nothing to change.
pub(in crate::job) struct RetryJob(pub(in crate::job) JobId);

#[async_trait]
impl Operation for RetryJob {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.0;
        let Some(mut header) = transition::read(cx, view, id).await? else {
            return Ok(None);
        };
        if End::of(header.phase) != Some(End::Bad) {
            return Ok(None);
        }
        transition::forget_end(cx, view, id, &header);
        header.attempts = 0;
        header.losses = 0;
        transition::wait(cx, view, id, &mut header, cx.now, Why::Note("retried")).await?;
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
