//! What a handler has in hand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::batch::Call;
use super::shared::Shared;
use crate::clock::Clock;
use crate::job::{self, Add, Job, Jobs, Level, NewJob};

/// How long a report of progress stands before another is written.
const PROGRESS_STANDS: Duration = Duration::from_secs(1);

/// What a handler has in hand: its job, the job's log, the store. Clones are the same.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    job: Job,
    shared: Arc<Shared>,
    token: CancellationToken,
    /// When progress was written last, in monotonic time.
    told: Mutex<Option<Duration>>,
    /// The call of a batch handler, of its first job.
    call: Option<Call>,
}

impl Context {
    pub(super) fn new(job: Job, shared: Arc<Shared>, token: CancellationToken) -> Self {
        Self::of(job, shared, token, None)
    }

    /// Of the first job of a batch.
    pub(super) fn of(
        job: Job,
        shared: Arc<Shared>,
        token: CancellationToken,
        call: Option<Call>,
    ) -> Self {
        Self(Arc::new(Inner {
            job,
            shared,
            token,
            told: Mutex::default(),
            call,
        }))
    }

    /// The call of a batch handler that this is the first job of.
    pub(super) fn call(&self) -> Option<&Call> {
        self.0.call.as_ref()
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
        self.store()
            .log(self.0.job.id, level, message.into(), fields)
            .await
    }

    /// Says how far the job has come: a line of the job's log, with the field `progress`, such as
    /// `3/10`. At most one a second is written, so that this may be called as often as one likes;
    /// that all is done is always written.
    ///
    /// # Errors
    /// As [`log`](Self::log).
    pub async fn progress(
        &self,
        done: u64,
        total: u64,
        message: impl Into<String>,
    ) -> job::Result<()> {
        if !self.is_progress_due(done >= total) {
            return Ok(());
        }
        let fields = BTreeMap::from([("progress".to_owned(), format!("{done}/{total}"))]);
        self.store()
            .log(self.0.job.id, Level::Info, message.into(), fields)
            .await
    }

    fn is_progress_due(&self, all_done: bool) -> bool {
        let now = self.0.shared.clock.monotonic();
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = told.is_some_and(|at| now.saturating_sub(at) < PROGRESS_STANDS);
        if stands && !all_done {
            return false;
        }
        *told = Some(now);
        true
    }

    /// Adds jobs. They stand in the distributed trace of this one, unless they say where they
    /// stand.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(Arc::clone(self.store())).within_trace(self.0.job.traceparent.clone())
    }

    /// Adds a job whose task is known by name, as [`jobs`](Self::jobs) does. Await it.
    pub fn add_job(&self, job: NewJob) -> Add {
        self.jobs().add_job(job)
    }

    /// What the job's history calls the worker.
    pub fn worker(&self) -> &str {
        &self.0.shared.name
    }

    /// What the worker was given of this type by [`Builder::data`](super::Builder::data).
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.shared.data.get()
    }

    /// The store the job came from: to look something up. Jobs that are enqueued into it are stored
    /// as they are; [`jobs`](Self::jobs) adds them to the trace of this one.
    pub fn store(&self) -> &Arc<dyn job::Store> {
        &self.0.shared.store
    }

    /// The clock the worker goes by: the system's, or a test's.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.shared.clock
    }

    /// Waits by the worker's [clock](Self::clock). A handler that waits so, and not for a time of
    /// the system, can be tested without waiting.
    pub async fn sleep(&self, duration: Duration) {
        let clock = self.clock();
        let deadline = clock.monotonic().saturating_add(duration);
        clock.sleep_until(deadline).await;
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
