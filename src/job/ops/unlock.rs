//! Jobs are taken from workers that somebody knows to be dead.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::Result;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::Operation;
use super::expire::{self, Expired, Taken};
use crate::kv::Key;

/// Takes back what workers of these names hold, as if it had run out, but due again at once.
pub(in crate::job) struct Unlock(pub(in crate::job) Arc<[String]>);

#[async_trait]
impl Operation for Unlock {
    type Output = Expired;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Expired> {
        expire::sweep(cx, view, &Taken::Of(Arc::clone(&self.0))).await
    }
}
