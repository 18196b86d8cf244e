//! What a handler has in hand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::job::{self, Job, Level};

/// What a handler has in hand: its job, the job's log, the store. Clones are the same.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    job: Job,
    store: Arc<dyn job::Store>,
    token: CancellationToken,
}

impl Context {
    pub(super) fn new(job: Job, store: Arc<dyn job::Store>, token: CancellationToken) -> Self {
        Self(Arc::new(Inner { job, store, token }))
    }

    /// The job, as it stood when it was claimed.
    pub fn job(&self) -> &Job {
        &self.0.job
    }

    /// Adds a line to the job's log.
    ///
    /// # Errors
    /// As [`LogStore::log`](job::LogStore::log).
    pub async fn log(&self, level: Level, message: impl Into<String>) -> job::Result<()> {
        let fields = BTreeMap::new();
        self.0
            .store
            .log(self.0.job.id, level, message.into(), fields)
            .await
    }

    /// The store the job came from: to enqueue others, or to look something up.
    pub fn store(&self) -> &Arc<dyn job::Store> {
        &self.0.store
    }

    /// Fires when the handler should stop: its job was canceled, timed out, or is no longer its
    /// own, or the worker is to leave at once. How long it then has is said in the
    /// [module](super#how-a-handler-is-interrupted).
    pub fn cancelled(&self) -> CancellationToken {
        self.0.token.clone()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job", &self.0.job)
            .field("cancelled", &self.0.token.is_cancelled())
            .finish_non_exhaustive()
    }
}
