//! What runs the jobs of a task: a tower service, boxed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use futures::future::BoxFuture;
use tower_service::Service;

use super::handler::{IntoOutcome, Outcome, reason};
use super::{Context, Handler};

/// What a service under a worker may fail with, whatever it is.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What runs the jobs of a task: a [`Service`] from the [`Context`] of an attempt to its
/// [`Outcome`]. Layers are put around it; see [`Builder::layer`](super::Builder::layer).
///
/// An attempt waits until its service is ready, with its lease kept alive and its time running.
/// An error of the service is a failed attempt, as an error of a handler is.
pub struct Route(Box<dyn Boxed>);

impl Route {
    /// Boxes a service. Each attempt has a clone of its own, so that what limits them together
    /// must be shared by clones, as tower's limits of concurrency are.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Context> + Clone + Send + Sync + 'static,
        S::Response: IntoOutcome,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(Box::new(Erased(service)))
    }

    /// What calls this function for each attempt.
    pub(super) fn of(
        run: impl Fn(Context) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Calls(Arc::new(run)))
    }

    pub(super) fn of_handler(handler: impl Handler) -> Self {
        let handler = Arc::new(handler);
        Self::of(move |context| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler.handle(context).await })
        })
    }

    /// Runs one attempt, when the service is ready for it.
    pub(super) async fn run(&self, context: Context) -> Outcome {
        let mut service = self.clone();
        let answer = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(context).await,
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(|error| Outcome::Retry(reason(&*error)))
    }
}

impl Clone for Route {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

impl Service<Context> for Route {
    type Response = Outcome;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outcome, BoxError>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, context: Context) -> Self::Future {
        self.0.call(context)
    }
}

/// A service whose type is forgotten.
trait Boxed: Send + Sync {
    fn boxed(&self) -> Box<dyn Boxed>;
    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>>;
    fn call(&mut self, context: Context) -> BoxFuture<'static, Result<Outcome, BoxError>>;
}

struct Erased<S>(S);

impl<S> Boxed for Erased<S>
where
    S: Service<Context> + Clone + Send + Sync + 'static,
    S::Response: IntoOutcome,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn boxed(&self) -> Box<dyn Boxed> {
        Box::new(Self(self.0.clone()))
    }

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(ready!(self.0.poll_ready(cx)).map_err(Into::into))
    }

    fn call(&mut self, context: Context) -> BoxFuture<'static, Result<Outcome, BoxError>> {
        let answer = self.0.call(context);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(answer.into_outcome()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// A service that calls a function, and is always ready.
struct Calls<F>(Arc<F>);

impl<F> Clone for Calls<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Service<Context> for Calls<F>
where
    F: Fn(Context) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, context: Context) -> Self::Future {
        let run = Arc::clone(&self.0);
        // The function itself may panic: it is called where that is caught.
        Box::pin(async move { Ok(run(context).await) })
    }
}
