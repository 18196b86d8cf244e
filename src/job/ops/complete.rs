//! A job is done.

use async_trait::async_trait;

use super::super::header::Phase;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Lease, Result};
use super::Operation;
use crate::kv::Key;

/// Ends a lease with success.
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
        transition::release(cx, view, id, &mut header);
        header.losses = 0;
        transition::end(cx, view, id, &mut header, Phase::Completed, Why::Nothing).await
    }
}
