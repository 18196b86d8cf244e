//! Which handlers run, and which of them wait for time.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Polling, Poll};

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tower_layer::Layer;
use tower_service::Service;

use crate::worker::{BoxError, Context, Outcome, Route};

thread_local! {
    /// The handler that is being polled in this thread.
    static POLLED: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Those that run; a layer around all of them keeps it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Handlers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    running: Mutex<Vec<Arc<Running>>>,
    /// Told when one of them was polled, or is no more.
    moved: Notify,
}

/// A handler that runs.
#[derive(Debug)]
struct Running {
    /// What it runs, for people.
    what: String,
    /// How many of its sleeps are under way.
    sleeps: AtomicUsize,
}

impl Handlers {
    /// A handler that waits for something other than time, if there is one.
    pub(super) fn busy(&self) -> Option<String> {
        let running = self.lock();
        let busy = |one: &&Arc<Running>| one.sleeps.load(Ordering::SeqCst) == 0;
        running.iter().find(busy).map(|one| one.what.clone())
    }

    /// Returns when one of them did something.
    pub(super) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        let running = self.0.running.lock();
        running.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer<Route> for Handlers {
    type Service = Followed;

    fn layer(&self, route: Route) -> Followed {
        Followed {
            route,
            handlers: self.clone(),
        }
    }
}

/// A handler's service, followed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    route: Route,
    handlers: Handlers,
}

impl Service<Context> for Followed {
    type Response = Outcome;
    type Error = BoxError;
    type Future = Attempt;

    fn poll_ready(&mut self, cx: &mut Polling<'_>) -> Poll<Result<(), BoxError>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, context: Context) -> Attempt {
        let job = context.job();
        let running = Arc::new(Running {
            what: format!("of task {:?}, job {}", job.lane.task, job.id),
            sleeps: AtomicUsize::new(0),
        });
        self.handlers.lock().push(Arc::clone(&running));
        Attempt {
            answer: Some(self.route.call(context)),
            running,
            handlers: self.handlers.clone(),
        }
    }
}

/// A handler at work.
pub(super) struct Attempt {
    /// Dropped first, that what it leaves behind is its own.
    answer: Option<BoxFuture<'static, Result<Outcome, BoxError>>>,
    running: Arc<Running>,
    handlers: Handlers,
}

impl Future for Attempt {
    type Output = Result<Outcome, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Polling<'_>) -> Poll<Self::Output> {
        self.handlers.0.moved.notify_waiters();
        let _polled = Polled::begin(&self.running);
        match &mut self.answer {
            Some(answer) => answer.as_mut().poll(cx),
            // Only its drop takes it.
            None => Poll::Pending,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let running = &self.running;
        let mut handlers = self.handlers.lock();
        handlers.retain(|one| !Arc::ptr_eq(one, running));
        self.handlers.0.moved.notify_waiters();
    }
}

/// Says whose sleeps begin in this thread, until it is dropped.
struct Polled(Option<Arc<Running>>);

impl Polled {
    fn begin(running: &Arc<Running>) -> Self {
        Self(POLLED.replace(Some(Arc::clone(running))))
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        POLLED.set(self.0.take());
    }
}

/// A sleep of a handler, from its begin until it is over or dropped.
#[derive(Debug)]
pub(in super::super) struct Sleeping(Arc<Running>);

impl Sleeping {
    /// Of the handler that is being polled; nothing if it is nobody's.
    pub(in super::super) fn begin() -> Option<Self> {
        let running = POLLED.with_borrow(Clone::clone)?;
        running.sleeps.fetch_add(1, Ordering::SeqCst);
        Some(Self(running))
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.sleeps.fetch_sub(1, Ordering::SeqCst);
    }
}
