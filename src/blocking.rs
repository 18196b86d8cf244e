//! For a program without async: a small facade that owns a tokio runtime and waits.
//!
//! What lives here: [`Jobs`], which opens a job store and blocks until it has answered, and what
//! makes handlers of plain functions ([`task`], [`handler`]). What does not: the many things that
//! a store and a worker can do besides. [`Jobs::block_on`] waits for any of them.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use kvjob::blocking::{self, Jobs};
//! use kvjob::job::{Options, StateStore as _, Task};
//! use kvjob::kv::Memory;
//! use kvjob::worker::{Context, Json};
//! # use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Count {
//!     text: String,
//! }
//!
//! impl Task for Count {
//!     const NAME: &'static str = "count";
//! }
//!
//! fn count(job: Count, _: &Context) -> Json<usize> {
//!     Json(job.text.split_whitespace().count())
//! }
//!
//! let jobs = Jobs::open(Arc::new(Memory::new()), Options::default())?;
//! let id = jobs.add(Count { text: "one two three".to_owned() })?.job.id;
//!
//! let worker = jobs.worker().concurrency(4).register(blocking::task(count)).build()?;
//! jobs.run_once(worker)?;
//!
//! assert_eq!(jobs.wait(id, std::time::Duration::ZERO)?.value::<usize>()?, 3);
//! // What has no method of its own here:
//! assert_eq!(jobs.block_on(jobs.store().history(id))??.len(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! An async program has no use for this: there all of it is an error (`inside-runtime`).

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

use crate::job::{
    Ended, Enqueued, Error, Job, JobId, KvStore, NewJob, Options, QueueStore as _, Result,
    ResultStore as _, StateStore as _, Store as _, Task,
};
use crate::kv::{self, ErrorKind};
use crate::worker::{self, Context, Handler, IntoOutcome, Outcome, TaskHandler, Worker};

thread_local! {
    /// Whether this thread runs a plain function for a worker, and may block.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// A job store for a program without async. Every method blocks until the store has answered, in
/// any thread but those that run async code: there it answers
/// [`Invalid`](Error::Invalid) (`inside-runtime`).
///
/// Clones are the same. A plain handler may hold one, too. When the last one is dropped, the store
/// is stopped, and what runs in the background is waited for; in async code it is not.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    store: KvStore,
    /// Taken by the drop alone.
    runtime: Option<Runtime>,
}

impl Jobs {
    /// Opens the job store that lives in `store`.
    ///
    /// # Errors
    /// As [`KvStore::open`].
    pub fn open(store: Arc<dyn kv::Store>, options: Options) -> Result<Self> {
        Self::open_with(async { Ok::<_, Error>(store) }, options)
    }

    /// Opens the job store that lives in a store which takes async to open, such as one on a
    /// server:
    ///
    /// ```no_run
    /// # fn open_url(_: &str) -> impl Future<Output = kvjob::kv::Result<std::sync::Arc<dyn kvjob::kv::Store>>> {
    /// #     async { todo!() }
    /// # }
    /// # fn main() -> kvjob::job::Result<()> {
    /// use kvjob::blocking::Jobs;
    /// use kvjob::job::Options;
    ///
    /// # mod kvjob_any { pub(crate) use super::open_url as open; }
    /// let jobs = Jobs::open_with(kvjob_any::open("redis://localhost"), Options::default())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the opening says, or as [`open`](Self::open).
    pub fn open_with<E: Into<Error>>(
        opening: impl Future<Output = Result<Arc<dyn kv::Store>, E>>,
        options: Options,
    ) -> Result<Self> {
        check_may_block()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("kvjob")
            .build()
            .map_err(|error| {
                let message = format!("the system could not make a tokio runtime: {error}");
                kv::Error::new(ErrorKind::Backend, message)
            })?;
        let store = runtime.block_on(async {
            let store = opening.await.map_err(Into::into)?;
            KvStore::open(store, options).await
        })?;
        Ok(Self(Arc::new(Inner {
            store,
            runtime: Some(runtime),
        })))
    }

    /// Stores a job of the task that its payload is pinned to; [`NewJob::of`] is one of which more
    /// may be said.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    #[allow(clippy::needless_pass_by_value)] // It is made for this, and used nowhere else.
    pub fn add<T: Task>(&self, task: T) -> Result<Enqueued> {
        self.enqueue(NewJob::of(&task)?)
    }

    /// Stores a job.
    ///
    /// # Errors
    /// As [`QueueStore::enqueue`](crate::job::QueueStore::enqueue).
    pub fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.block_on(self.0.store.enqueue(job))?
    }

    /// A job by its id, or `None`.
    ///
    /// # Errors
    /// As [`StateStore::get`](crate::job::StateStore::get).
    pub fn get(&self, id: JobId) -> Result<Option<Job>> {
        self.block_on(self.0.store.get(id))?
    }

    /// Waits until a job has ended, in whichever process, but no longer than `timeout`, and says
    /// how.
    ///
    /// # Errors
    /// As [`ResultStore::wait`](crate::job::ResultStore::wait).
    pub fn wait(&self, id: JobId, timeout: Duration) -> Result<Ended> {
        self.block_on(self.0.store.wait(id, timeout))?
    }

    /// A worker for these jobs, to be given handlers ([`task`], [`handler`], or async ones), built,
    /// and run.
    pub fn worker(&self) -> worker::Builder {
        Worker::builder(Arc::new(self.0.store.clone()))
    }

    /// Works until nothing is due and nothing runs, in this thread and others.
    ///
    /// # Errors
    /// As [`Worker::run_once`].
    pub fn run_once(&self, worker: Worker) -> Result<()> {
        self.block_on(worker.run_once())?
    }

    /// Works until the worker is stopped, by a [signal](worker::Builder::handle_signals) or by its
    /// [control](Worker::control) in another thread.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn run(&self, worker: Worker) -> Result<()> {
        self.block_on(worker.run())?
    }

    /// The store, for all that has no method here: see [`block_on`](Self::block_on).
    pub fn store(&self) -> &KvStore {
        &self.0.store
    }

    /// Waits for what a future says.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) (`inside-runtime`) in a thread that runs async code.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        check_may_block()?;
        let runtime = self.0.runtime.as_ref().ok_or(Error::Stopped)?;
        // Inside of it is async code, in whatever thread.
        let _plain = Plain::set(false);
        Ok(runtime.block_on(future))
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jobs").field(&self.0.store).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // A runtime cannot wait for its own threads, nor may async code wait.
        if Handle::try_current().is_ok() {
            runtime.shutdown_background();
            return;
        }
        if let Err(error) = runtime.block_on(self.store.stop()) {
            tracing::warn!(%error, "the job store could not be stopped");
        }
    }
}

/// Only where a thread may be blocked.
fn check_may_block() -> Result<()> {
    if Handle::try_current().is_ok() && !PLAIN.get() {
        return Err(Error::invalid(
            "inside-runtime",
            "`kvjob::blocking` cannot wait inside an async runtime, whose thread others need: use \
             `kvjob::job::KvStore` there, and in a handler `Context::jobs`, and await",
        ));
    }
    Ok(())
}

/// Whether this thread is one of a plain function, until this is dropped.
struct Plain(bool);

impl Plain {
    fn set(plain: bool) -> Self {
        Self(PLAIN.replace(plain))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        PLAIN.set(self.0);
    }
}

/// Makes a handler for [`register`](worker::Builder::register) of a plain function, which may
/// block: it runs in a thread of its own.
///
/// It cannot be interrupted. One that may take long looks at the token of
/// [`Context::cancelled`] now and then; one that does not goes on after its job has timed out, and
/// may be running still when the next attempt begins.
pub fn task<T: Task, Answer: IntoOutcome>(
    function: impl Fn(T, &Context) -> Answer + Send + Sync + 'static,
) -> impl TaskHandler<(T, Context)> {
    let function = Arc::new(function);
    move |task: T, context: Context| {
        let function = Arc::clone(&function);
        in_thread(move || function(task, &context).into_outcome())
    }
}

/// Makes a handler for [`handler`](worker::Builder::handler) of a plain function, as [`task`] does.
pub fn handler<Answer: IntoOutcome>(
    function: impl Fn(&Context) -> Answer + Send + Sync + 'static,
) -> impl Handler {
    let function = Arc::new(function);
    move |context: Context| {
        let function = Arc::clone(&function);
        in_thread(move || function(&context).into_outcome())
    }
}

/// What a function answers that runs where it may block.
async fn in_thread(function: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let span = tracing::Span::current();
    let plain = move || {
        let _plain = Plain::set(true);
        span.in_scope(function)
    };
    match tokio::task::spawn_blocking(plain).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            // The worker knows what a panic means.
            Ok(panic) => panic::resume_unwind(panic),
            Err(error) => Outcome::Retry(format!("the handler has no thread: {error}")),
        },
    }
}
