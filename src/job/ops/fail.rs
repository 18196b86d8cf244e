//! An attempt failed.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Next};
use super::super::{Failure, Lease, Outcome, Result, Retry};
use super::Operation;
use crate::kv::Key;

/// Ends a lease with a failure: the job waits for its next attempt, or is final.
pub(in crate::job) struct Fail {
    pub(in crate::job) lease: Lease,
    pub(in crate::job) failure: Failure,
}

#[async_trait]
impl Operation for Fail {
    type Output = Outcome;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.lease.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Outcome> {
        let mut header = transition::leased(cx, view, &self.lease).await?;
        header.losses = 0;
        let last = header.attempts >= header.max_attempts;
        let next = match self.failure.retry {
            _ if self.failure.canceled => Next::Final(Phase::Canceled),
            _ if last && self.failure.timed_out => Next::Final(Phase::TimedOut),
            _ if last => Next::Final(Phase::Failed),
            Retry::Never => Next::Final(Phase::Failed),
            Retry::After(pause) => Next::After(pause),
            Retry::Backoff => Next::After(header.backoff.wait(header.attempts, cx.clock.random())),
        };
        let error = &self.failure.error;
        transition::failed(cx, view, self.lease.id, &mut header, error, next).await
    }
}
