//! A job is given back.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Lease, Result};
use super::Operation;
use crate::kv::Key;

/// Ends a lease without counting the attempt: the job waits where it stood.
pub(in crate::job) struct Abandon(pub(in crate::job) Lease);

#[async_trait]
impl Operation for Abandon {
    type Output = ();

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let id = self.0.id;
        let mut header = transition::leased(cx, view, &self.0).await?;
        transition::release(cx, view, id, &mut header).await?;
        header.attempts = header.attempts.saturating_sub(1);
        if header.cancel_requested {
            let why = Why::Note("canceled while it ran");
            return transition::end(cx, view, id, &mut header, Phase::Canceled, why).await;
        }
        let run_at = header.run_at();
        transition::wait(cx, view, id, &mut header, run_at, Why::Note("given back")).await
    }
}
