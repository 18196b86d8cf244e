//! A job is to be done later.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Lease, Result};
use super::Operation;
use crate::clock::Timestamp;
use crate::kv::Key;

/// Ends a lease without counting the attempt: the job waits until a time.
pub(in crate::job) struct Snooze {
    pub(in crate::job) lease: Lease,
    pub(in crate::job) until: Timestamp,
}

#[async_trait]
impl Operation for Snooze {
    type Output = ();

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.lease.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let id = self.lease.id;
        let mut header = transition::leased(cx, view, &self.lease).await?;
        transition::release(cx, view, id, &mut header).await?;
        header.losses = 0;
        header.attempts = header.attempts.saturating_sub(1);
        if header.cancel_requested {
            let why = Why::Note("canceled while it ran");
            return transition::end(cx, view, id, &mut header, Phase::Canceled, why).await;
        }
        let why = Why::Note("snoozed");
        transition::wait(cx, view, id, &mut header, self.until, why).await
    }
}
