//! A worker under a manual clock, on a store that can be told to fail.
//!
//! All of it runs on one thread, without I/O: [`Bench::settle`] lets everything happen that can
//! happen before time moves on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvjob::clock::{Clock as _, Timestamp};
use kvjob::job::{
    Error, Job, JobId, KvStore, NewJob, Options, Query, QueueStore as _, Result, Retention, State,
    StateStore as _, Store,
};
use kvjob::kv::{self, Memory};
use kvjob::testkit::ManualClock;
use kvjob::worker::{Builder, Context, Control, Event, Handler, Worker};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;

use crate::faulty::{Fault, Faulty};

/// A guard against tests that wait for ever; it says nothing about speed.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The lease of the workers here.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// The poll of the workers here.
pub(crate) const POLL: Duration = Duration::from_secs(2);

/// A store and a clock. See the [module](self).
pub(crate) struct Bench {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<Faulty>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Faulty::new, Options::default()).await
    }

    /// One whose store keeps no completed jobs.
    pub(crate) async fn forgetful() -> Self {
        let retention = Retention::new().completed(Duration::ZERO);
        Self::with(Faulty::new, Options::default().retention(retention)).await
    }

    /// One whose store tells nobody that something happened.
    pub(crate) async fn deaf() -> Self {
        Self::with(Faulty::deaf, Options::default()).await
    }

    async fn with(faulty: impl FnOnce(Arc<dyn Store>) -> Faulty, options: Options) -> Self {
        let clock = ManualClock::new(1);
        let options = options.clock(Arc::new(clock.clone()));
        let store = KvStore::open(Arc::new(Memory::new()), options).await;
        let store = Arc::new(faulty(Arc::new(store.unwrap())));
        Self { clock, store }
    }

    pub(crate) fn worker(&self) -> Builder {
        Worker::builder(self.store.clone())
            .clock(Arc::new(self.clock.clone()))
            .lease(LEASE)
            .poll(POLL)
            .handle_signals(false)
    }

    pub(crate) async fn add(&self, task: &str) -> JobId {
        self.enqueue(job(task)).await
    }

    pub(crate) async fn enqueue(&self, job: NewJob) -> JobId {
        self.store.enqueue(job).await.unwrap().job.id
    }

    pub(crate) async fn get(&self, id: JobId) -> Job {
        self.store.get(id).await.unwrap().unwrap()
    }

    pub(crate) async fn cancel(&self, id: JobId) {
        let canceled = self.store.cancel(&Query::new().id(id)).await.unwrap();
        assert_eq!(canceled.items.len(), 1);
    }

    pub(crate) fn after(&self, time: Duration) -> Timestamp {
        self.clock.now().after(time)
    }

    /// Lets everything happen that can happen now.
    pub(crate) async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets everything happen that can happen now, then moves time on, then again.
    pub(crate) async fn pass(&self, time: Duration) {
        self.settle().await;
        self.clock.advance(time);
        self.settle().await;
    }

    /// The same in steps of a second, so that nothing that is due in between comes late.
    pub(crate) async fn pass_slowly(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.pass(SECOND).await;
        }
    }
}

/// A worker that runs.
pub(crate) struct Runs {
    pub(crate) events: broadcast::Receiver<Event>,
    pub(crate) control: Control,
    pub(crate) run: JoinHandle<Result<()>>,
}

impl Runs {
    pub(crate) fn start(builder: Builder) -> Self {
        let worker = builder.build().unwrap();
        Self {
            events: worker.events(),
            control: worker.control(),
            run: tokio::spawn(worker.run()),
        }
    }

    /// The next event of an attempt or an error, which must come without time moving on.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let event = within(self.events.recv()).await.unwrap();
            if !is_aside(&event) {
                return event;
            }
        }
    }

    /// The next such event that has happened already.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let mut events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.find(|event| !is_aside(event))
    }

    /// What happened since to attempts, and errors.
    pub(crate) fn happened(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.filter(|event| !is_aside(event)).collect()
    }

    pub(crate) async fn ended(self) -> Result<()> {
        within(self.run).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.control.stop();
        self.ended().await.unwrap();
    }
}

/// Whether most tests are about something else: see `events.rs` for these.
fn is_aside(event: &Event) -> bool {
    use Event::{
        ClaimEmpty, ClaimStarted, Claimed, Errored, Failed, Succeeded, WorkerStarted,
        WorkerStopped, WorkerStopping,
    };
    matches!(
        event,
        WorkerStarted { .. }
            | WorkerStopping { .. }
            | WorkerStopped { .. }
            | ClaimStarted { .. }
            | Claimed { .. }
            | ClaimEmpty
            | Succeeded { .. }
            | Errored { .. }
            | Failed { .. }
    )
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened long ago")
}

pub(crate) fn job(task: &str) -> NewJob {
    NewJob::new(task, &()).unwrap()
}

/// Handlers that wait until they are let go, and count themselves.
#[derive(Clone)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(0)),
            inside: Arc::default(),
        }
    }

    /// A handler that completes when it is let go, and looks at no token.
    pub(crate) fn handler(
        &self,
    ) -> impl Fn(Context) -> futures::future::BoxFuture<'static, ()> + use<> {
        let gate = self.clone();
        move |_| {
            let gate = gate.clone();
            Box::pin(async move {
                let _inside = Inside::new(&gate.inside);
                gate.permits.acquire().await.unwrap().forget();
            })
        }
    }

    /// Lets so many go.
    pub(crate) fn open(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// How many wait.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }
}

/// Counts itself while it lives.
struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn outage() -> Fault {
    Fault::Before(broken(kv::ErrorKind::Backend))
}

pub(crate) fn broken(kind: kv::ErrorKind) -> Error {
    Error::Store(kv::Error::new(kind, "the cable is out"))
}

pub(crate) fn started(id: JobId, task: &str, attempt: u32) -> Event {
    Event::Started {
        id,
        task: task.to_owned(),
        attempt,
    }
}

/// What became of an attempt, from the event that says so.
pub(crate) fn ended(event: Event) -> (State, Option<String>) {
    match event {
        Event::Ended { state, error, .. } => (state, error),
        other => panic!("{other:?} is not the end of an attempt"),
    }
}

/// Runs one job of this handler to the event after `Started`.
pub(crate) async fn only(bench: &Bench, new: NewJob, handler: impl Handler) -> Event {
    let id = bench.enqueue(new).await;
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    let event = runs.next().await;
    runs.stop().await;
    event
}
