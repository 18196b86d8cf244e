//! A waiting job is taken out of the queue for good.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Result, place};
use super::Operation;
use crate::kv::Key;

/// Takes this job if it waits. Its header stays until retention (rule 2).
pub(in crate::job) struct Dequeue(pub(in crate::job) JobId);

#[async_trait]
impl Operation for Dequeue {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.0;
        let Some(mut header) = transition::read(cx, view, id).await? else {
            return Ok(None);
        };
        if header.phase != Phase::Waiting {
            return Ok(None);
        }
        place::unplace(cx, view, id, &header).await?;
        transition::end(cx, view, id, &mut header, Phase::Taken, Why::Nothing).await?;
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
