//! The operations, one a file. Each reads what it needs and says what is to be written; none
//! commits. `KvStore` plans them together, commits, and plans again where others were faster
//! (protocol rule 15).

pub(in crate::job) mod abandon;
pub(in crate::job) mod cancel;
pub(in crate::job) mod claim;
pub(in crate::job) mod clear_history;
pub(in crate::job) mod clear_logs;
pub(in crate::job) mod complete;
pub(in crate::job) mod complete_job;
pub(in crate::job) mod cron;
pub(in crate::job) mod dequeue;
pub(in crate::job) mod enqueue;
pub(in crate::job) mod expire;
pub(in crate::job) mod fail;
pub(in crate::job) mod fail_job;
pub(in crate::job) mod heartbeat;
pub(in crate::job) mod limit;
pub(in crate::job) mod mend;
pub(in crate::job) mod promote;
pub(in crate::job) mod purge;
pub(in crate::job) mod quarantine;
pub(in crate::job) mod release;
pub(in crate::job) mod remove_job;
pub(in crate::job) mod reschedule;
pub(in crate::job) mod retry;
pub(in crate::job) mod set_lanes;
pub(in crate::job) mod settle;
pub(in crate::job) mod snooze;
pub(in crate::job) mod sweep;
pub(in crate::job) mod unlock;

use async_trait::async_trait;

use super::Result;
use super::keys::KeySpace;
use super::plan::{Context, View};
use crate::kv::Key;

/// One operation. It may be planned several times, until a commit holds.
#[async_trait]
pub(in crate::job) trait Operation: Send + Sync + 'static {
    /// What the caller gets.
    type Output: Send + 'static;

    /// What it will read for certain, so that the reads of a group go out together.
    fn reads(&self, keys: &KeySpace) -> Vec<Key>;

    /// Reads through the view and writes into it. An error takes back what it wrote.
    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Self::Output>;
}
