//! One attempt of one job: running its handler, interrupting it, and what its end means.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::leases::{Held, Why};
use super::record::{self, Ending};
use super::shared::Shared;
use super::{Context, Event, Outcome, Route};
use crate::job::{Error, Failure, Job, Retry};

/// Runs an attempt and records how it ended. The answer says why the store will not come back, if
/// it will not.
pub(super) async fn run(shared: Arc<Shared>, job: Job, held: Held) -> Option<Error> {
    let (elapsed, ending) = match shared.handler(&job.lane.task) {
        Some(handler) if held.why() < Why::StopNow => {
            tracing::debug!("started");
            shared.emit(|| Event::Started {
                id: job.id,
                task: job.lane.task.clone(),
                attempt: job.attempts,
            });
            let started = shared.clock.monotonic();
            let timeout = job.timeout.or(handler.timeout).or(shared.timeout);
            let attempt = (started, timeout);
            let (answer, why) = handle(&shared, &handler.route, &job, &held, attempt).await;
            let elapsed = shared.clock.monotonic().saturating_sub(started);
            let ending = meaning(answer, why, timeout);
            tell(&shared, &job, &ending, elapsed);
            (elapsed, ending)
        }
        // It came too late to be begun, or is of a task that was not asked for.
        _ => (Duration::ZERO, Ending::GiveBack),
    };
    record::record(&shared, &job, &held, ending, elapsed).await
}

/// What a handler answered: nothing if it was dropped, an error if it panicked.
type Answer = Option<Result<Outcome, Panic>>;
type Panic = Box<dyn Any + Send>;
type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Panic>> + Send + 'a>>;

/// Runs the handler until it returns or has to be dropped, and says why it was to stop.
async fn handle(
    shared: &Arc<Shared>,
    route: &Route,
    job: &Job,
    held: &Held,
    (started, timeout): (Duration, Option<Duration>),
) -> (Answer, Why) {
    let context = Context::new(job.clone(), Arc::clone(shared), held.token().clone());
    let mut running: Running<'_> = Box::pin(AssertUnwindSafe(route.run(context)).catch_unwind());
    let mut why = Why::No;
    let mut limit = timeout.map(|timeout| started.checked_add(timeout).unwrap_or(Duration::MAX));
    let answer = loop {
        tokio::select! {
            biased;
            stronger = held.stronger_than(why) => why = stronger,
            answer = &mut running => break Some(answer),
            () = shared.sleep_until(limit) => {
                if why > Why::Stopping {
                    break None;
                }
                why = Why::TimedOut;
                held.raise(why);
                limit = None;
            }
        }
        if why >= Why::StopNow {
            break last_word(&mut running).await;
        }
        if why == Why::Stopping {
            continue;
        }
        let grace = shared.clock.monotonic().checked_add(shared.grace);
        limit = limit.into_iter().chain(grace).min();
    };
    // A panic in what the handler leaves behind must not cost the record of its end.
    if catch_unwind(AssertUnwindSafe(|| drop(running))).is_err() {
        tracing::error!("the handler panicked while it was dropped");
    }
    // Whatever it said, what counts is whether the job was still its own when it said so.
    (answer, why.max(held.why()))
}

/// Polls a handler once more, whose token just fired.
async fn last_word(running: &mut Running<'_>) -> Answer {
    tokio::select! {
        biased;
        answer = running => Some(answer),
        () = std::future::ready(()) => None,
    }
}

/// What is to be recorded.
fn meaning(answer: Answer, why: Why, timeout: Option<Duration>) -> Ending {
    let error = match (answer, why) {
        (_, Why::Lost) => return Ending::Lost,
        (Some(Ok(Outcome::Complete)), _) => return Ending::Complete(None),
        (Some(Ok(Outcome::CompleteWith(result))), _) => return Ending::Complete(Some(result)),
        (Some(Ok(Outcome::Fail(error))), _) => {
            return Ending::Fail(Failure::new(error).retry(Retry::Never));
        }
        (Some(Ok(Outcome::Cancel(reason))), _) => return Ending::Fail(Failure::canceled(reason)),
        (Some(Ok(Outcome::Snooze(until))), _) => return Ending::Snooze(until),
        (Some(Err(panic)), _) => Some(format!("panicked: {}", message(&*panic))),
        (Some(Ok(Outcome::Retry(_) | Outcome::RetryAfter(..))), Why::Stopping)
        | (_, Why::StopNow) => return Ending::GiveBack,
        (Some(Ok(Outcome::RetryAfter(error, after))), Why::No) => {
            return Ending::Fail(Failure::new(error).retry(Retry::After(after)));
        }
        (Some(Ok(Outcome::Retry(error) | Outcome::RetryAfter(error, _))), _) => Some(error),
        (None, _) => None,
    };
    Ending::Fail(match why {
        Why::TimedOut => {
            let timeout = timeout.unwrap_or_default();
            let error = error.unwrap_or_else(|| "the handler did not stop and was dropped".into());
            Failure::timed_out(format!("timed out after {timeout:?}: {error}"))
        }
        Why::Canceled => {
            let error = error.unwrap_or_else(|| "the handler did not stop and was dropped".into());
            Failure::new(format!("canceled: {error}"))
        }
        Why::No | Why::Stopping | Why::StopNow | Why::Lost => {
            Failure::new(error.unwrap_or_default())
        }
    })
}

/// Says what the handler made of it, before it is recorded.
fn tell(shared: &Shared, job: &Job, ending: &Ending, elapsed: Duration) {
    let (id, task, attempt) = (job.id, &job.lane.task, job.attempts);
    match ending {
        Ending::Complete(_) | Ending::Snooze(_) => shared.emit(|| Event::Succeeded {
            id,
            task: task.clone(),
            attempt,
            elapsed,
        }),
        Ending::Fail(failure) => shared.emit(|| Event::Errored {
            id,
            task: task.clone(),
            attempt,
            error: failure.error.clone(),
            elapsed,
        }),
        Ending::GiveBack | Ending::Lost => {}
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("with something that is not text")
}
