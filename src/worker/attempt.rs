//! One attempt of one job: running its handler, interrupting it, and what its end means.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::leases::{Held, Why};
use super::record::{self, Ending};
use super::shared::{Shared, Work};
use super::{Context, Event, Outcome};
use crate::job::{Error, Failure, Job, Retry};

/// Runs an attempt and records how it ended. The answer says why the store will not come back, if
/// it will not.
pub(super) async fn run(shared: Arc<Shared>, job: Job, held: Held) -> Option<Error> {
    let (elapsed, ending) = match shared.handler(&job.lane.task).map(|found| &found.work) {
        Some(Work::Each(route)) if held.why() < Why::StopNow => {
            started(&shared, &job);
            let started = shared.clock.monotonic();
            let timeout = shared.timeout(&job);
            let context = Context::new(job.clone(), Arc::clone(&shared), held.token().clone());
            let running = Box::pin(AssertUnwindSafe(route.run(context)).catch_unwind());
            let patience = patience(&shared, &held, (started, timeout));
            let answer = follow(running, patience).await;
            let elapsed = shared.clock.monotonic().saturating_sub(started);
            // Whatever it said, what counts is whether the job was still its own when it said so.
            let ending = meaning(answer, held.why(), timeout);
            tell(&shared, &job, &ending, elapsed);
            (elapsed, ending)
        }
        // It came too late to be begun, or is of a task that was not asked for.
        _ => (Duration::ZERO, Ending::GiveBack),
    };
    record::record(&shared, &job, &held, ending, elapsed).await
}

/// What a handler answered: nothing if it was dropped, what it said if it panicked.
pub(super) type Answer<T> = Option<Result<T, String>>;
/// A handler under way.
pub(super) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, Panic>> + Send + 'a>>;
type Panic = Box<dyn Any + Send>;

/// Says that a handler begins.
pub(super) fn started(shared: &Shared, job: &Job) {
    tracing::debug!(id = %job.id, "started");
    shared.emit(|| Event::Started {
        id: job.id,
        task: job.lane.task.clone(),
        attempt: job.attempts,
    });
}

/// Follows a handler until it returns or its time is over; then it may say a last word.
pub(super) async fn follow<T>(
    mut running: Running<'_, T>,
    over: impl Future<Output = ()>,
) -> Answer<T> {
    let answer = tokio::select! {
        biased;
        () = over => tokio::select! {
            biased;
            answer = &mut running => Some(answer),
            () = std::future::ready(()) => None,
        },
        answer = &mut running => Some(answer),
    };
    // A panic in what the handler leaves behind must not cost the record of its end.
    if catch_unwind(AssertUnwindSafe(|| drop(running))).is_err() {
        tracing::error!("the handler panicked while it was dropped");
    }
    answer.map(|answer| answer.map_err(|panic| message(&*panic).to_owned()))
}

/// Tells the handler of a job to stop when its time is up, and returns when it need not be waited
/// for any longer, for this job.
pub(super) async fn patience(
    shared: &Shared,
    held: &Held,
    (started, timeout): (Duration, Option<Duration>),
) {
    let mut why = Why::No;
    let mut limit = timeout.map(|timeout| started.checked_add(timeout).unwrap_or(Duration::MAX));
    loop {
        tokio::select! {
            biased;
            stronger = held.stronger_than(why) => why = stronger,
            () = shared.sleep_until(limit) => {
                if why > Why::Stopping {
                    return;
                }
                why = Why::TimedOut;
                held.raise(why);
                limit = None;
            }
        }
        if why >= Why::StopNow {
            return;
        }
        if why == Why::Stopping {
            continue;
        }
        let grace = shared.clock.monotonic().checked_add(shared.grace);
        limit = limit.into_iter().chain(grace).min();
    }
}

/// What is to be recorded.
pub(super) fn meaning(answer: Answer<Outcome>, why: Why, timeout: Option<Duration>) -> Ending {
    let error = match (answer, why) {
        (_, Why::Lost) => return Ending::Lost,
        (Some(Ok(Outcome::Complete)), _) => return Ending::Complete(None),
        (Some(Ok(Outcome::CompleteWith(result))), _) => return Ending::Complete(Some(result)),
        (Some(Ok(Outcome::Fail(error))), _) => {
            return Ending::Fail(Failure::new(error).retry(Retry::Never));
        }
        (Some(Ok(Outcome::Cancel(reason))), _) => return Ending::Fail(Failure::canceled(reason)),
        (Some(Ok(Outcome::Snooze(until))), _) => return Ending::Snooze(until),
        (Some(Err(panic)), _) => Some(format!("panicked: {panic}")),
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
pub(super) fn tell(shared: &Shared, job: &Job, ending: &Ending, elapsed: Duration) {
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
