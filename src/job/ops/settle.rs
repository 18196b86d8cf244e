//! Nothing of its own: whoever waits for it knows that what was sent before is stored.

use async_trait::async_trait;

use super::super::Result;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::Operation;
use crate::kv::Key;

/// Waits for the operations and log lines before it.
pub(in crate::job) struct Settle;

#[async_trait]
impl Operation for Settle {
    type Output = ();

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, _cx: &Context<'_>, _view: &mut View<'_>) -> Result<()> {
        Ok(())
    }
}
