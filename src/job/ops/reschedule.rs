//! Somebody says when and how a job is to run.

use async_trait::async_trait;

use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::retention::End;
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Reschedule, Result, place};
use super::{Operation, expire};
use crate::kv::Key;

/// Changes when and how a job runs that nobody holds; one that ended badly waits again. `None` if
/// there was nothing to change.
pub(in crate::job) struct RescheduleJob {
    pub(in crate::job) id: JobId,
    pub(in crate::job) to: Reschedule,
}

#[async_trait]
impl Operation for RescheduleJob {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.id;
        let Some(before) = expire::unheld(cx, view, id).await? else {
            return Ok(None);
        };
        let mut header = before.clone();
        let revives = match End::of(header.phase) {
            Some(End::Done) => return Ok(None),
            Some(End::Bad) => true,
            None => false,
        };
        header.priority = self.to.priority.unwrap_or(header.priority);
        header.max_attempts = self.to.max_attempts.unwrap_or(header.max_attempts);
        header.attempts = match self.to.attempts {
            Some(attempts) => attempts,
            // It ended for want of attempts: it gets all of them again.
            None if revives && header.attempts >= header.max_attempts => 0,
            None => header.attempts,
        };
        if header.attempts >= header.max_attempts {
            // It would have no attempt left, and never more than it may (exactly max_attempts).
            return Ok(None);
        }
        let run_at = self.to.run_at.unwrap_or(header.run_at());
        header.run_at = run_at.as_micros();
        if header == before && !revives {
            return Ok(None);
        }
        if revives {
            header.losses = 0;
            transition::forget_end(cx, view, id, &before);
        } else {
            place::unplace(cx, view, id, &before).await?;
        }
        let why = Why::Note("rescheduled by hand");
        transition::wait(cx, view, id, &mut header, run_at, why).await?;
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
