//! Handlers of tasks whose payload is a type of the user's.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower_layer::Layer;
use tower_service::Service;

use super::Context;
use super::extract::{FromContext, Need};
use super::handler::{IntoOutcome, Outcome, reason};
use super::route::{BoxError, Route};
use crate::job::Task;

/// Runs the jobs of a task whose payload is a type of yours. Given to
/// [`Builder::register`](super::Builder::register), which learns from it which task that is.
///
/// Every async function or closure is one whose first argument is a [`Task`], and up to eight
/// others [can be had from the context](FromContext), as long as it answers with something that
/// is [`IntoOutcome`]:
///
/// ```
/// use kvjob::job::Task;
/// use kvjob::worker::{Attempt, Context, Data, Json};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Resize { image: String, width: u32 }
///
/// impl Task for Resize {
///     const NAME: &'static str = "resize";
/// }
///
/// struct Images;
///
/// async fn resize(
///     job: Resize,
///     images: Data<Images>,
///     Attempt(attempt): Attempt,
///     context: Context,
/// ) -> Result<Json<usize>, std::io::Error> {
///     context.progress(1, 2, "halfway").await.map_err(std::io::Error::other)?;
///     Ok(Json(4096))
/// }
/// # fn example(store: std::sync::Arc<dyn kvjob::job::Store>) {
/// let worker = kvjob::worker::Worker::builder(store).data(Images).register(resize).build();
/// # drop(worker);
/// # }
/// ```
///
/// A payload that is not what the type says fails its job for good, with what is wrong and where:
/// no attempt would help.
///
/// A function whose first argument is no task is no such handler:
///
/// ```compile_fail,E0277
/// # fn example(builder: kvjob::worker::Builder) {
/// async fn resize(image: String) {}
/// builder.register(resize);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler of a typed task",
    note = "it must be an async function whose first argument implements `Task`, whose others \
            implement `FromContext`, and whose answer implements `IntoOutcome`"
)]
pub trait TaskHandler<Args>: Sized {
    /// What it runs.
    type Task: Task;

    /// What the worker must have been given for it.
    fn needs() -> Vec<Need>;

    /// The service that runs it.
    fn into_route(self) -> Route;

    /// The same with a tower layer around it, such as a limit of its own. The layer that is added
    /// last sees an attempt first.
    fn layer<L>(self, layer: L) -> Layered<Self, L, Args>
    where
        L: Layer<Route>,
        L::Service: Service<Context, Response: IntoOutcome, Error: Into<BoxError>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        Layered {
            handler: self,
            layer,
            args: PhantomData,
        }
    }
}

/// A handler with a layer around it; made by [`TaskHandler::layer`].
pub struct Layered<H, L, Args> {
    handler: H,
    layer: L,
    args: PhantomData<fn(Args)>,
}

impl<H, L, Args> fmt::Debug for Layered<H, L, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

impl<H, L, Args> TaskHandler<Args> for Layered<H, L, Args>
where
    H: TaskHandler<Args>,
    L: Layer<Route>,
    L::Service: Service<Context, Response: IntoOutcome, Error: Into<BoxError>, Future: Send>,
    L::Service: Clone + Send + Sync + 'static,
{
    type Task = H::Task;

    fn needs() -> Vec<Need> {
        H::needs()
    }

    fn into_route(self) -> Route {
        Route::new(self.layer.layer(self.handler.into_route()))
    }
}

/// The payload of the attempt's job, or what is to be recorded where it is none.
pub(super) fn payload<T: Task>(context: &Context) -> Result<T, Outcome> {
    let payload = context.job().payload.parse();
    payload.map_err(|error| Outcome::Fail(reason(&error)))
}

macro_rules! task_handler {
    ($($arg:ident)*) => {
        impl<F, T, Answer, $($arg,)*> TaskHandler<(T, $($arg,)*)> for F
        where
            F: Fn(T, $($arg,)*) -> Answer + Send + Sync + 'static,
            Answer: Future<Output: IntoOutcome> + Send + 'static,
            T: Task,
            $($arg: FromContext,)*
        {
            type Task = T;

            fn needs() -> Vec<Need> {
                let needs: Vec<Option<Need>> = vec![$($arg::needs(),)*];
                needs.into_iter().flatten().collect()
            }

            fn into_route(self) -> Route {
                let handler = Arc::new(self);
                Route::of(move |context| {
                    let handler = Arc::clone(&handler);
                    Box::pin(async move {
                        let task = match payload(&context) {
                            Ok(task) => task,
                            Err(outcome) => return outcome,
                        };
                        $(
                            #[allow(non_snake_case)]
                            let $arg = match $arg::from_context(&context) {
                                Ok(arg) => arg,
                                Err(error) => return Outcome::Retry(reason(&error)),
                            };
                        )*
                        handler(task, $($arg,)*).await.into_outcome()
                    })
                })
            }
        }
    };
}

task_handler!();
task_handler!(A);
task_handler!(A B);
task_handler!(A B C);
task_handler!(A B C D);
task_handler!(A B C D E);
task_handler!(A B C D E G);
task_handler!(A B C D E G H);
task_handler!(A B C D E G H I);
