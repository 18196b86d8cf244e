//! How many jobs of a serial queue may run at a time.

use async_trait::async_trait;

use super::super::Result;
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::serial::Queue;
use super::Operation;
use crate::kv::Key;

/// Sets the limit of a queue. Of a higher one more jobs are exposed at once; where more run than a
/// lower one allows, they go on.
pub(in crate::job) struct LimitQueue {
    pub(in crate::job) tenant: String,
    pub(in crate::job) queue: String,
    pub(in crate::job) limit: u32,
}

impl LimitQueue {
    fn hash(&self) -> [u8; 16] {
        KeySpace::queue_hash(&self.tenant, &self.queue)
    }
}

#[async_trait]
impl Operation for LimitQueue {
    /// Whether it was another before.
    type Output = bool;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.queue(&self.hash())]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<bool> {
        let mut queue = Queue::open(cx, view, self.hash()).await?;
        queue.name(&self.tenant, &self.queue);
        if queue.record().limit() == self.limit {
            return Ok(false);
        }
        queue.limit(self.limit);
        queue.close(cx, view).await?;
        Ok(true)
    }
}
