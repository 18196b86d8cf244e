//! The worker floor: takes due jobs from a [`job::Store`] and runs handlers on them, as many at
//! a time as it is told, keeping their leases alive and recording how they ended.
//!
//! What lives here: handlers and what they answer, the claim loop, heartbeats, time-outs,
//! cancelling, stopping, events. What does not: keys, encodings, backends, and when a failed job
//! runs again, which is the store's matter.
//!
//! # What may be relied on
//!
//! - A job runs at least once. A lease is never knowingly outlived: a handler whose lease is
//!   lost, or could not be extended by its deadline, is dropped, and what it would have answered
//!   is thrown away.
//! - A handler that returns an error or panics is a failed attempt, never a dead worker.
//! - A store that is out of reach is tried again until it is back; how a finished job ended is
//!   recorded then, as long as its lease lasts.
//! - Nothing happens unseen: all of it is an [`Event`], and is traced with the job's id.
//!
//! # How a handler is interrupted
//!
//! The token of [`Context::cancelled`] fires first. A handler whose job timed out or was canceled
//! then has the [grace](Builder::grace) to return; one whose lease was lost or whose worker was
//! stopped with [`stop_now`](Control::stop_now) is polled once more. Then it is dropped where it
//! awaits. A handler that blocks its thread cannot be interrupted: use
//! [`spawn_blocking`](tokio::task::spawn_blocking), and let the blocking part look at the token.
//!
//! What an interrupted handler still answers is taken at its word unless it asks for a
//! [`Retry`](Outcome::Retry): that is put down to the interruption: a time-out, a
//! cancellation, or a job given back.
//!
//! # Batches
//!
//! A [batch handler](Builder::batch) gets many jobs of its task in one call: those that are due, up
//! to a number; nobody waits for more to come. Each job keeps its own lease, token, time-out, events
//! and end: those whose outcome is good are completed, the others are tried again or fail as if they
//! had run alone. An error is one of all jobs of the call, and so is a panic. A job that timed out or
//! was canceled has its token fired, and what the handler says of it counts as said above; the
//! handler itself is only dropped once none of its jobs may go on. A job whose lease was lost twice in
//! a row, perhaps because it ends the process that runs it, comes in a call of its own.
//!
//! # Limits
//!
//! A worker runs as many jobs at a time as its [concurrency](Builder::concurrency), and of a task as
//! many as its [own](Builder::concurrency_of). Of a serial queue as many run, in all processes, as
//! [`limit_queue`](job::KvStore::limit_queue) says, and lanes (so tasks, too) have a rate that
//! [`LaneStore::limit`](job::LaneStore::limit) sets. Whom a limit holds back waits in the store, and
//! in nobody's way.
//!
//! # Spans
//!
//! Each attempt, and with it the handler, is in a span `job` of the [`tracing`] facade with the
//! fields `id`, `task`, `attempt` and `worker`, below the span `worker` of its worker. A batch handler
//! is in a span `batch` that follows from those of its jobs. Where the job
//! has a [`traceparent`](job::NewJob::traceparent), the span has it as a field, too, and jobs that
//! are added by [`Context::jobs`] and [`Context::add_job`] inherit it. So a distributed trace goes
//! from who enqueues to who runs. With `tracing-opentelemetry` the span is put into it by a
//! [layer](Builder::layer), or by the handler before it does anything else:
//!
//! ```ignore
//! let carrier = HashMap::from([("traceparent".to_owned(), traceparent)]);
//! Span::current().set_parent(TraceContextPropagator::new().extract(&carrier));
//! ```
//!
//! # Metrics
//!
//! Through the [`metrics`](::metrics) facade, for whoever installs a recorder; each has the label
//! `task`.
//!
//! | counter | what |
//! |---|---|
//! | `kvjob_jobs_queued_total` | jobs this process added |
//! | `kvjob_jobs_claimed_total` | attempts its workers took |
//! | `kvjob_jobs_completed_total`, `..failed_total`, `..timed_out_total`, `..canceled_total` | jobs that ended so under them |
//! | `kvjob_jobs_retried_total` | attempts that failed, with another to follow |
//! | `kvjob_jobs_snoozed_total` | attempts put off |
//!
//! | histogram, seconds | what |
//! |---|---|
//! | `kvjob_job_pickup_seconds` | from when a job was due to its claim |
//! | `kvjob_job_duration_seconds` | how long handlers took |
//!
//! # An example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kvjob::job::Result<()> {
//! use std::sync::Arc;
//! use kvjob::job::{self, KvStore, Level, NewJob, QueueStore, State, StateStore};
//! use kvjob::kv::Memory;
//! use kvjob::worker::{Context, Worker};
//!
//! async fn greet(context: Context) -> job::Result<()> {
//!     let name: String = context.job().payload.parse()?;
//!     context.log(Level::Info, format!("Hello, {name}!")).await
//! }
//!
//! let store = Arc::new(KvStore::open(Arc::new(Memory::new()), job::Options::default()).await?);
//! let id = store.enqueue(NewJob::new("greet", "Ada")?).await?.job.id;
//!
//! let worker = Worker::builder(store.clone()).concurrency(4).handler("greet", greet).build()?;
//! worker.run_once().await?;
//!
//! let job = store.get(id).await?;
//! assert_eq!(job.map(|job| job.state), Some(State::Completed));
//! # Ok(())
//! # }
//! ```

mod attempt;
mod batch;
mod builder;
mod cancel;
mod context;
mod control;
mod event;
mod extract;
mod handler;
mod heartbeat;
mod leases;
mod metrics;
mod places;
mod prefetch;
mod record;
mod route;
mod run;
mod shared;
mod signals;
mod typed;

use std::fmt;
use std::sync::Arc;

use tokio::sync::broadcast;

pub use batch::IntoOutcomes;
pub use builder::Builder;
pub use context::Context;
pub use control::Control;
pub use event::Event;
pub use extract::{Attempt, Data, FromContext, Need, WorkerName};
pub use handler::{Handler, IntoOutcome, Json, Outcome};
pub use route::{BoxError, Route};
pub use typed::{Layered, TaskHandler};

use crate::job;
use shared::Shared;

/// Runs handlers on the jobs of a store. Made by a [`Builder`].
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker for the jobs of this store.
    pub fn builder(store: Arc<dyn job::Store>) -> Builder {
        Builder::new(store)
    }

    /// What stops it, from anywhere, also before it runs.
    pub fn control(&self) -> Control {
        Control::new(self.shared.stop.clone(), self.shared.concurrency.clone())
    }

    /// What happens from now on. A listener that falls more than 1024 events behind is told
    /// [how many it missed](broadcast::error::RecvError::Lagged) and goes on; it never holds up
    /// the worker.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Works until it is stopped by its [`Control`], or by a
    /// [signal](Builder::handle_signals). If the future is dropped, its handlers are
    /// dropped with it, and their jobs run again when their leases have ended.
    ///
    /// # Errors
    /// [`Stopped`](job::Error::Stopped) or [`Closed`](crate::kv::ErrorKind::Closed) if the store
    /// will not come back, or what it says to a claim that can never succeed; each after the
    /// running jobs have ended.
    pub async fn run(self) -> job::Result<()> {
        run::run(self.shared, run::Until::Stopped).await
    }

    /// Works until nothing is due and nothing runs, jobs that were added meanwhile included.
    /// Failed jobs wait for their next attempt as ever; future ones are left alone.
    ///
    /// # Errors
    /// As [`run`](Self::run), or what the store says if it cannot be reached five times in a row.
    pub async fn run_once(self) -> job::Result<()> {
        run::run(self.shared, run::Until::NothingDue).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.shared.name)
            .field("selector", &self.shared.selector)
            .field("concurrency", &*self.shared.concurrency.borrow())
            .finish_non_exhaustive()
    }
}
