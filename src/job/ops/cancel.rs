//! A job is called off.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, View};
use super::super::transition::{self, Why};
use super::super::{Job, JobId, Result, State, place};
use super::Operation;
use crate::kv::Key;

/// Ends a waiting job, or asks a running one to stop (rule 21). `None` if there was nothing to
/// change.
pub(in crate::job) struct Cancel {
    pub(in crate::job) id: JobId,
    /// The states that were asked for: a job that left them since it was found stays as it is.
    pub(in crate::job) states: Arc<[State]>,
}

#[async_trait]
impl Operation for Cancel {
    type Output = Option<Job>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Job>> {
        let id = self.id;
        let Some(mut header) = transition::read(cx, view, id).await? else {
            return Ok(None);
        };
        if !self.states.contains(&header.state(cx.now)) {
            return Ok(None);
        }
        match (header.phase, &header.holder) {
            (Phase::Waiting, _) => {
                place::unplace(cx, view, id, &header).await?;
                transition::end(cx, view, id, &mut header, Phase::Canceled, Why::Nothing).await?;
            }
            (Phase::Running, Some(holder)) if !header.cancel_requested => {
                view.put(cx.keys.signal(&holder.incarnation, id), Vec::new());
                view.effect(Effect::Stirred);
                header.cancel_requested = true;
                let why = Why::Note("asked to stop");
                transition::step(cx, &mut header, State::Running, why);
                transition::write(cx, view, id, &mut header)?;
            }
            _ => return Ok(None),
        }
        transition::to_job(cx, view, id, &header).await.map(Some)
    }
}
