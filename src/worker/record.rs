//! Recording how an attempt ended, and telling so.

use std::time::Duration;

use super::leases::{Held, Why};
use super::shared::{Shared, Verdict, verdict};
use super::{Event, metrics};
use crate::clock::Timestamp;
use crate::job::{Error, Failure, Job, Lease, Payload, Result, Retry, State};
use crate::kv::ErrorKind;

/// How often it is tried where the worker is to leave at once.
const TRIES_WHEN_LEAVING: u32 = 3;

/// What is to be recorded of an attempt.
#[derive(Debug)]
pub(super) enum Ending {
    Complete(Option<Payload>),
    Fail(Failure),
    Snooze(Timestamp),
    GiveBack,
    /// The job is no longer the worker's: nothing.
    Lost,
}

/// Records an ending, again and again while the lease lasts and the store may come back. The
/// answer says why it will not, if it will not.
pub(super) async fn record(
    shared: &Shared,
    job: &Job,
    held: &Held,
    mut ending: Ending,
    elapsed: Duration,
) -> Option<Error> {
    let mut failures = 0;
    let mut unsure = false;
    loop {
        let lease = held.record()?;
        // A store that does not answer holds nobody up for longer than the lease.
        let result = tokio::select! {
            biased;
            _ = held.stronger_than(Why::StopNow) => Ok(None),
            result = submit(shared, &lease, &ending) => result,
        };
        match result {
            Ok(Some(state)) => {
                recorded(shared, job, &ending, state, elapsed);
                return None;
            }
            Ok(None) => {
                lost(shared, job, "its time was up");
                return None;
            }
            Err(Error::LeaseLost { reason, .. }) => {
                // Where completed jobs are not kept, one that completed is gone.
                let gone = matches!(ending, Ending::Complete(_)).then_some(State::Completed);
                match ended_under(shared, &lease, gone).await.filter(|_| unsure) {
                    Some(state) => recorded(shared, job, &ending, state, elapsed),
                    None => lost(shared, job, &reason),
                }
                return None;
            }
            // The next attempt would find out the same.
            Err(error) if matches!(ending, Ending::Complete(Some(_))) && is_refused(&error) => {
                let error = format!("the job's result cannot be stored: {error}");
                ending = Ending::Fail(Failure::new(error).retry(Retry::Never));
                continue;
            }
            Err(error) => {
                failures += 1;
                unsure |= maybe_applied(&error);
                tracing::error!(%error, ?ending, failures, "could not record how the job ended");
                shared.emit(|| Event::RecordFailed {
                    id: job.id,
                    error: error.to_string(),
                });
                match verdict(&error) {
                    Verdict::Over => return Some(error),
                    Verdict::Stuck | Verdict::Refused => return None,
                    Verdict::Passing => {}
                }
            }
        }
        if held.why() == Why::StopNow && failures >= TRIES_WHEN_LEAVING {
            return None;
        }
        let pause = shared.clock.monotonic() + shared.backoff(failures);
        tokio::select! {
            biased;
            () = shared.clock.sleep_until(pause) => {}
            // The lease is lost, or the worker is to leave.
            _ = held.stronger_than(held.why()) => {}
        }
    }
}

/// One try. The answer is what the job became, or nothing if it is no longer the worker's.
async fn submit(shared: &Shared, lease: &Lease, ending: &Ending) -> Result<Option<State>> {
    let store = &shared.store;
    let state = match ending {
        Ending::Complete(result) => {
            match result {
                Some(result) => store.complete_with(lease, result.clone()).await?,
                None => store.complete(lease).await?,
            }
            State::Completed
        }
        Ending::Fail(failure) => store.fail(lease, failure.clone()).await?.state,
        Ending::Snooze(until) => {
            store.snooze(lease, *until).await?;
            // Ready if that time has come, canceled if that was asked for: the store knows.
            ended_under(shared, lease, None)
                .await
                .unwrap_or(State::Scheduled)
        }
        Ending::GiveBack => {
            store.abandon(lease).await?;
            State::Ready
        }
        Ending::Lost => return Ok(None),
    };
    Ok(Some(state))
}

/// What the job became under this very lease: after an answer that was lost, the next one is
/// that the lease is over, because it was ended by the first. `gone` is what a job that is no
/// longer there became.
async fn ended_under(shared: &Shared, lease: &Lease, gone: Option<State>) -> Option<State> {
    let Some(job) = shared.store.get(lease.id).await.ok()? else {
        return gone;
    };
    (job.epoch == lease.epoch && job.state != State::Running).then_some(job.state)
}

/// Whether the store does not take the result, whoever brings it.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::Invalid { .. } => true,
        Error::Store(error) => matches!(error.kind(), ErrorKind::TooLarge { .. }),
        _ => false,
    }
}

fn maybe_applied(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.maybe_applied())
}

fn recorded(shared: &Shared, job: &Job, ending: &Ending, state: State, elapsed: Duration) {
    let id = job.id;
    if matches!(ending, Ending::GiveBack) {
        tracing::info!("given back");
        return shared.emit(|| Event::GivenBack { id });
    }
    let error = match ending {
        Ending::Fail(failure) => Some(failure.error.clone()),
        _ => None,
    };
    if let Some(error) = &error
        && matches!(state, State::Failed | State::TimedOut)
    {
        shared.emit(|| Event::Failed {
            id,
            task: job.lane.task.clone(),
            attempt: job.attempts,
            error: error.clone(),
        });
    }
    metrics::ended(&job.lane.task, state, error.is_some(), elapsed);
    if let Some(error) = &error {
        tracing::warn!(%state, error, ?elapsed, "the attempt failed");
    } else {
        tracing::debug!(%state, ?elapsed, "ended");
    }
    shared.emit(|| Event::Ended {
        id,
        task: job.lane.task.clone(),
        attempt: job.attempts,
        state,
        error,
        elapsed,
    });
}

fn lost(shared: &Shared, job: &Job, reason: &str) {
    tracing::warn!(reason, "lost the job's lease");
    shared.emit(|| Event::LeaseLost { id: job.id });
}
