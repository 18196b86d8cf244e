//! A job is done.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, View};
use super::super::transition::{self, Why};
use super::super::{Lease, Result, State};
use super::{Operation, purge};
use crate::kv::Key;

/// Ends a lease with success. Where completed jobs are not kept, the job goes in the same commit
/// (rule 19).
pub(in crate::job) struct Complete(pub(in crate::job) Lease);

#[async_trait]
impl Operation for Complete {
    type Output = ();

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let id = self.0.id;
        let mut header = transition::leased(cx, view, &self.0).await?;
        transition::release(cx, view, id, &mut header).await?;
        header.losses = 0;
        if !cx.retention.removes_at_once() {
            return transition::end(cx, view, id, &mut header, Phase::Completed, Why::Nothing)
                .await;
        }
        // If it is too large for one commit, its header stays for a while, and is searched for
        // this step.
        header.phase = Phase::Completed;
        transition::step(cx, &mut header, State::Completed, Why::Nothing);
        purge::remove(cx, view, vec![(id, header)]).await?;
        view.effect(Effect::Removed {
            id,
            lease_until: self.0.deadline,
        });
        Ok(())
    }
}
