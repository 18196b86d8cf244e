//! Somebody says that a job has failed for good.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Result, place};
use super::{Operation, expire};
use crate::kv::Key;

/// Fails a waiting job for good. `None` if there was nothing to change.
pub(in crate::job) struct FailJob {
    pub(in crate::job) id: JobId,
    pub(in crate::job) reason: Arc<str>,
}

#[async_trait]
impl Operation for FailJob {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.id;
        let Some(mut header) = expire::unheld(cx, view, id).await? else {
            return Ok(None);
        };
        if header.phase != Phase::Waiting {
            return Ok(None);
        }
        place::unplace(cx, view, id, &header).await?;
        transition::log_error(cx, view, id, &self.reason)?;
        let why = Why::Error(&self.reason);
        transition::end(cx, view, id, &mut header, Phase::Failed, why).await?;
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
