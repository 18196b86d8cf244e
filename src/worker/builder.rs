//! How a worker is put together.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tower_layer::Layer;
use tower_service::Service;

use super::batch::Batch;
use super::control::Stop;
use super::extract::{self, DataMap, Need};
use super::leases::Leases;
use super::places::Places;
use super::shared::{Forbidden, Registered, Shared, Work};
use super::{BoxError, Context, Handler, IntoOutcome, IntoOutcomes, Route, TaskHandler, Worker};
use crate::clock::{Clock, SystemClock};
use crate::job::{self, Claim, Error, Selector, Task};

/// The shortest lease: one below it would be all heartbeats.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// The shortest poll.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
/// How far a listener may fall behind.
const EVENTS: usize = 1024;

/// Puts a [`Worker`] together.
///
/// ```
/// # fn example(store: std::sync::Arc<dyn kvjob::job::Store>) -> kvjob::job::Result<()> {
/// use std::time::Duration;
/// use kvjob::worker::{Context, Outcome, Worker};
///
/// let worker = Worker::builder(store)
///     .concurrency(8)
///     .lease(Duration::from_secs(60))
///     .handler("resize-image", |context: Context| async move {
///         if context.job().attempts > 3 {
///             return Outcome::Fail("it cannot be done".to_owned());
///         }
///         Outcome::Complete
///     })
///     .build()?;
/// # drop(worker);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    store: Arc<dyn job::Store>,
    clock: Arc<dyn Clock>,
    name: Option<String>,
    concurrency: usize,
    lease: Duration,
    poll: Duration,
    idle_poll: Option<Duration>,
    grace: Duration,
    shutdown_grace: Duration,
    max_store_errors: Option<u32>,
    handle_signals: bool,
    prefetch: usize,
    timeout: Option<Duration>,
    timeouts: HashMap<String, Duration>,
    limits: HashMap<String, usize>,
    handlers: Vec<(String, Registered)>,
    fallback: Option<Registered>,
    layers: Vec<Box<dyn Fn(Route) -> Route + Send + Sync>>,
    data: DataMap,
    needs: Vec<Need>,
    selector: Selector,
    forbidden: Option<Forbidden>,
}

impl Builder {
    pub(super) fn new(store: Arc<dyn job::Store>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock),
            name: None,
            concurrency: 1,
            lease: Claim::DEFAULT_LEASE,
            poll: Duration::from_secs(2),
            idle_poll: None,
            grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(30),
            max_store_errors: None,
            handle_signals: true,
            prefetch: 0,
            timeout: None,
            timeouts: HashMap::new(),
            limits: HashMap::new(),
            handlers: Vec::new(),
            fallback: None,
            layers: Vec::new(),
            data: DataMap::default(),
            needs: Vec::new(),
            selector: Selector::new(),
            forbidden: None,
        }
    }

    /// What the history of its jobs calls it; `worker-<process id>-<random>` where not said.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many jobs it runs at a time, at least 1; 1 where not said.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many jobs of this task it runs at a time, at least 1; as many as its
    /// [concurrency](Self::concurrency) allows where not said. Of a [batch handler](Self::batch),
    /// how many calls. A task that has reached its limit is not claimed, and keeps no other from
    /// being; nor is it claimed [ahead](Self::prefetch).
    ///
    /// How many jobs of a task begin in a time is a matter of its lanes, in all processes:
    /// [`LaneStore::limit`](job::LaneStore::limit).
    ///
    /// ```
    /// # fn example(builder: kvjob::worker::Builder) {
    /// // However many reports are wanted, six slots are left for the rest.
    /// builder.concurrency(8).concurrency_of("report", 2);
    /// # }
    /// ```
    pub fn concurrency_of(mut self, task: impl Into<String>, concurrency: usize) -> Self {
        self.limits.insert(task.into(), concurrency);
        self
    }

    /// How many jobs it claims ahead, so that many short jobs do not each wait for a claim; none
    /// where not said. They keep other workers from having them: so no more than what runs in a
    /// moment. What was not begun when the worker ends is given back, and counts no attempt. A job
    /// on its last attempt is never claimed ahead.
    pub fn prefetch(mut self, jobs: usize) -> Self {
        self.prefetch = jobs;
        self
    }

    /// How long a job stays this worker's if the worker dies, at least a second; 5 minutes where
    /// not said. While it lives, it extends the leases of what it runs at every third of that
    /// time, so a job may take as long as it likes.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How often to look for jobs, and for cancellations of those that run, that nothing told it
    /// about, at least 10 ms; 2 s where not said.
    /// Jobs enqueued through the same store, and scheduled jobs, do not wait for it.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// How often to look for jobs, where that is not the [poll](Self::poll): for a store that tells
    /// of all of them.
    #[cfg(feature = "testkit")]
    pub(crate) fn idle_poll(mut self, poll: Duration) -> Self {
        self.idle_poll = Some(poll);
        self
    }

    /// How long a handler may go on after its job timed out or was canceled; 5 s where not said.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long what runs may go on after the worker was told to stop, before the tokens of
    /// [`Context::cancelled`](super::Context::cancelled) fire; 30 s where not said. A handler that
    /// then asks for a retry has its job given back, the attempt not counted; one that does not
    /// listen goes on to its end, or until it is told to stop at once.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// After how many failures of the store in a row to answer a claim the worker ends with the
    /// error, at least 1. Where not said, [`run`](Worker::run) tries for ever, ever less often, and
    /// [`run_once`](Worker::run_once) five times.
    pub fn max_store_errors(mut self, errors: u32) -> Self {
        self.max_store_errors = Some(errors.max(1));
        self
    }

    /// Whether it listens to the signals that ask a process to end (Ctrl-C; on Unix also SIGTERM)
    /// while it runs: the first is a [`stop`](super::Control::stop), a second one a
    /// [`stop_now`](super::Control::stop_now). On where not said. Turn it off where the program
    /// has its own ideas of signals, and use a [`Control`](super::Control). It needs a tokio
    /// runtime with I/O enabled. A process that has listened once no longer dies of them by itself.
    pub fn handle_signals(mut self, handle: bool) -> Self {
        self.handle_signals = handle;
        self
    }

    /// The clock: the system's where not said. It should be the store's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What runs the jobs of a task. Only tasks with a handler are claimed.
    pub fn handler(self, task: impl Into<String>, handler: impl Handler) -> Self {
        self.service(task, Route::of_handler(handler))
    }

    /// What runs the jobs of the task whose payload its first argument is: see [`TaskHandler`].
    pub fn register<H: TaskHandler<Args>, Args>(mut self, handler: H) -> Self {
        self.needs.extend(H::needs());
        let work = Work::Each(handler.into_route());
        self.add(H::Task::NAME, work, H::Task::TIMEOUT)
    }

    /// What runs the jobs of a task many at a time: as many as are due, but not more than `max`, at
    /// least 1. A call takes one slot of the worker, and begins without waiting for more jobs to
    /// come.
    ///
    /// Every async function or closure that takes a `Vec` of [`Context`]s will do, as long as it
    /// answers with something that is [`IntoOutcomes`]: nothing, or an answer for each job in
    /// their order, or a `Result` of one of these. What becomes of each job is said in the
    /// [module](super#batches).
    ///
    /// ```
    /// # fn example(store: std::sync::Arc<dyn kvjob::job::Store>) -> kvjob::job::Result<()> {
    /// use kvjob::worker::{Context, Worker};
    ///
    /// // Rows that are wrong are tried again, the others are done.
    /// async fn insert(batch: Vec<Context>) -> Vec<kvjob::job::Result<()>> {
    ///     let rows = batch.iter().map(|context| context.job().payload.parse::<u64>());
    ///     rows.map(|row| row.map(drop)).collect()
    /// }
    ///
    /// let worker = Worker::builder(store).batch("insert-row", 500, insert).build()?;
    /// # drop(worker);
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch<F, Answers>(self, task: impl Into<String>, max: usize, handler: F) -> Self
    where
        F: Fn(Vec<Context>) -> Answers + Send + Sync + 'static,
        Answers: Future<Output: IntoOutcomes> + Send + 'static,
    {
        self.add(task, Work::Many(Arc::new(Batch::new(max, handler))), None)
    }

    /// The same for the jobs of the task that their payload's type is pinned to. One whose payload
    /// does not decode fails for good, and does not come to the handler.
    ///
    /// ```
    /// # use kvjob::job::Task;
    /// # use kvjob::worker::Context;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct InsertRow { id: u64 }
    ///
    /// impl Task for InsertRow {
    ///     const NAME: &'static str = "insert-row";
    /// }
    ///
    /// async fn insert(rows: Vec<(InsertRow, Context)>) -> std::io::Result<()> {
    ///     // All of them, or none.
    ///     Ok(())
    /// }
    /// # fn example(builder: kvjob::worker::Builder) {
    /// builder.register_batch(500, insert);
    /// # }
    /// ```
    pub fn register_batch<F, T, Answers>(self, max: usize, handler: F) -> Self
    where
        F: Fn(Vec<(T, Context)>) -> Answers + Send + Sync + 'static,
        Answers: Future<Output: IntoOutcomes> + Send + 'static,
        T: Task,
    {
        let work = Work::Many(Arc::new(Batch::typed(max, handler)));
        self.add(T::NAME, work, T::TIMEOUT)
    }

    fn add(mut self, task: impl Into<String>, work: Work, timeout: Option<Duration>) -> Self {
        self.handlers
            .push((task.into(), Registered { work, timeout }));
        self
    }

    /// A tower service that runs the jobs of a task: see [`Route`].
    pub fn service<S>(self, task: impl Into<String>, service: S) -> Self
    where
        S: Service<Context, Response: IntoOutcome, Error: Into<BoxError>, Future: Send>,
        S: Clone + Send + Sync + 'static,
    {
        self.add(task, Work::Each(Route::new(service)), None)
    }

    /// A tower layer around each handler of this worker: a limit, a time-out, a span. The layer
    /// that is added last sees an attempt first. Around one handler alone:
    /// [`TaskHandler::layer`]. A call of a [batch handler](Self::batch) is an attempt of its first
    /// job to layers; what they answer instead of it they answer for all its jobs.
    ///
    /// ```
    /// # fn example(builder: kvjob::worker::Builder) {
    /// use tower::limit::GlobalConcurrencyLimitLayer;
    ///
    /// // However many tasks there are, two attempts at a time.
    /// builder.concurrency(8).layer(GlobalConcurrencyLimitLayer::new(2));
    /// # }
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Context, Response: IntoOutcome, Error: Into<BoxError>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        let layer = move |route| Route::new(layer.layer(route));
        self.layers.push(Box::new(layer));
        self
    }

    /// What handlers share, for those that ask for [`Data`](super::Data) of this type. Another of
    /// the same type takes its place.
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.data.insert(value);
        self
    }

    /// How long an attempt may take where neither its job nor its [`Task`] says; any time where
    /// not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long an attempt of this task may take where its job does not say; instead of what its
    /// [`Task`] and [`timeout`](Self::timeout) say. How often and after which time a job is tried
    /// again is stored with it by who adds it: a [`Task`] says that once for all of them.
    pub fn timeout_of(mut self, task: impl Into<String>, timeout: Duration) -> Self {
        self.timeouts.insert(task.into(), timeout);
        self
    }

    /// What runs the jobs of all tasks without a handler of their own. All tasks are claimed
    /// then.
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.fallback = Some(Registered {
            work: Work::Each(Route::of_handler(handler)),
            timeout: None,
        });
        self
    }

    /// Only jobs of this tenant; of an empty one, those without a tenant. Of all where not said.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.selector = self.selector.tenant(tenant);
        self
    }

    /// Tenants take turns: see [`Selector::tenants_in_turn`].
    pub fn tenants_in_turn(mut self) -> Self {
        self.selector = self.selector.tenants_in_turn();
        self
    }

    /// No jobs that carry any of these flags.
    pub fn forbid_flags(mut self, flags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selector = self.selector.forbid_flags(flags);
        self
    }

    /// No jobs that carry a flag which this function names; it is asked before every claim, and
    /// must not block. Besides those of [`forbid_flags`](Self::forbid_flags).
    ///
    /// ```
    /// # fn example(store: std::sync::Arc<dyn kvjob::job::Store>) -> kvjob::job::Result<()> {
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # use kvjob::worker::{Context, Worker};
    /// let busy = Arc::new(AtomicBool::new(false));
    /// let worker = Worker::builder(store)
    ///     .forbid_flags_by(move || busy.load(Ordering::Relaxed).then_some("heavy"))
    ///     .handler("resize-image", |_: Context| async {})
    ///     .build()?;
    /// # drop(worker);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If it panics, the worker finishes what runs and [`run`](Worker::run) fails with
    /// `forbid-flags-panicked`.
    pub fn forbid_flags_by<I>(mut self, flags: impl Fn() -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let flags = move || flags().into_iter().map(Into::into).collect();
        self.forbidden = Some(Box::new(flags));
        self
    }

    /// The worker.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): `no-handler`, `duplicate-handler`, `concurrency-zero`,
    /// `batch-zero`, `lease-too-short`, `poll-too-short`; `unknown-task` if something is said of a
    /// task that has no handler; `missing-data` if a handler asks for
    /// [data](Self::data) that was not given.
    pub fn build(self) -> job::Result<Worker> {
        let handlers = self.check()?;
        let fallback = self.fallback.map(|one| one.under(&self.layers));
        let handlers = handlers
            .into_iter()
            .map(|(task, one)| (task, one.under(&self.layers)))
            .collect::<HashMap<_, _>>();
        let clock = self.clock;
        let name = self
            .name
            .unwrap_or_else(|| format!("worker-{}-{:08x}", std::process::id(), clock.random()));
        let selector = match fallback {
            Some(_) => self.selector,
            None => self.selector.tasks(handlers.keys()),
        };
        Ok(Worker {
            shared: Arc::new(Shared {
                store: self.store,
                clock,
                name,
                concurrency: watch::Sender::new(self.concurrency),
                lease: self.lease,
                poll: self.poll,
                idle_poll: self.idle_poll.unwrap_or(self.poll),
                grace: self.grace,
                shutdown_grace: self.shutdown_grace,
                max_store_errors: self.max_store_errors,
                handle_signals: self.handle_signals,
                prefetch: self.prefetch,
                timeout: self.timeout,
                timeouts: self.timeouts,
                places: Places::new(&self.limits),
                handlers,
                fallback,
                data: self.data,
                selector,
                forbidden: self.forbidden,
                events: broadcast::Sender::new(EVENTS),
                stop: watch::Sender::new(Stop::No),
                leases: Arc::new(Leases::default()),
            }),
        })
    }

    fn check(&self) -> job::Result<HashMap<String, Registered>> {
        if self.handlers.is_empty() && self.fallback.is_none() {
            return Err(Error::invalid(
                "no-handler",
                "a worker needs a handler for at least one task, or a fallback",
            ));
        }
        if self.concurrency == 0 || self.limits.values().any(|most| *most == 0) {
            return Err(Error::invalid(
                "concurrency-zero",
                "concurrency must be at least 1, of a task, too",
            ));
        }
        let has_handler = |task| self.handlers.iter().any(|(of, _)| of == task);
        let mut said = self.limits.keys().chain(self.timeouts.keys());
        if self.fallback.is_none()
            && let Some(task) = said.find(|task| !has_handler(*task))
        {
            return Err(Error::invalid(
                "unknown-task",
                format!("task {task:?} has a limit or a time-out, but no handler"),
            ));
        }
        let shortest = |code, what, length: Duration, shortest: Duration| {
            if length < shortest {
                let message = format!("a {what} of {length:?} is under the {shortest:?} it needs");
                return Err(Error::invalid(code, message));
            }
            Ok(())
        };
        shortest("lease-too-short", "lease", self.lease, SHORTEST_LEASE)?;
        shortest("poll-too-short", "poll", self.poll, SHORTEST_POLL)?;

        let lacks = |need: &&Need| !self.data.has(need);
        let mut missing: Vec<&str> = self
            .needs
            .iter()
            .filter(lacks)
            .map(|need| need.name)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            return Err(extract::missing(&missing));
        }

        let mut handlers = HashMap::new();
        for (task, handler) in &self.handlers {
            if let Work::Many(batch) = &handler.work
                && batch.max() == 0
            {
                return Err(Error::invalid(
                    "batch-zero",
                    format!("a batch of task {task:?} must have room for at least 1 job"),
                ));
            }
            if handlers.insert(task.clone(), handler.clone()).is_some() {
                return Err(Error::invalid(
                    "duplicate-handler",
                    format!("task {task:?} has two handlers: a job could go to either"),
                ));
            }
        }
        Ok(handlers)
    }
}

impl Registered {
    /// The same with these layers around it, the last one outermost.
    fn under(self, layers: &[Box<dyn Fn(Route) -> Route + Send + Sync>]) -> Self {
        let layered = |route| layers.iter().fold(route, |route, layer| layer(route));
        let work = match self.work {
            Work::Each(route) => Work::Each(layered(route)),
            Work::Many(batch) => Work::Many(Arc::new(Batch::clone(&batch).layered(layered))),
        };
        Self { work, ..self }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .field("lease", &self.lease)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}
