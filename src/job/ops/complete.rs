//! A job is done.

use async_trait::async_trait;

use super::super::header::{Arguments, Header, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, View};
use super::super::transition::{self, Why};
use super::super::{Lease, Payload, Result, State};
use super::{Operation, purge};
use crate::kv::Key;

/// Ends a lease with success. Where completed jobs are not kept, the job goes in the same commit
/// (rule 19).
pub(in crate::job) struct Complete {
    pub(in crate::job) lease: Lease,
    pub(in crate::job) result: Option<Payload>,
}

impl Complete {
    /// The result goes into the header if it fits in there beside the arguments.
    fn keep_result(&self, cx: &Context<'_>, view: &mut View<'_>, header: &mut Header) {
        let Some(result) = &self.result else {
            return;
        };
        let text = result.as_str();
        header.result = Some(if text.len() <= header.room_for_result() {
            Arguments::Inline(text.to_owned())
        } else {
            view.put_new(cx.keys.result(self.lease.id), text.to_owned());
            Arguments::Stored {
                bytes: text.len() as u64,
            }
        });
    }
}

#[async_trait]
impl Operation for Complete {
    type Output = ();

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.lease.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let id = self.lease.id;
        let mut header = transition::leased(cx, view, &self.lease).await?;
        transition::release(cx, view, id, &mut header).await?;
        header.losses = 0;
        if !cx.retention.removes_at_once() {
            self.keep_result(cx, view, &mut header);
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
            lease_until: self.lease.deadline,
        });
        Ok(())
    }
}
