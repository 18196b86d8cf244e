//! The steps that several operations share: reading and writing a header, ending a job, letting it
//! wait again.

use std::time::Duration;

use super::header::{self, Header, MAX_REASON, Phase, StoredStep, shortened};
use super::log::Level;
use super::plan::{Context, Effect, View};
use super::{Error, Job, JobId, Lease, Outcome, Result, State, place, retention, unique};
use crate::clock::Timestamp;
use crate::kv;

/// Adds a step to a job's history; the caller writes the header.
pub(crate) fn step(cx: &Context<'_>, header: &mut Header, state: State, why: Why<'_>) {
    let (reason, is_error) = match why {
        Why::Nothing => (None, false),
        Why::Note(note) => (Some(shortened(note, MAX_REASON)), false),
        Why::Error(error) => (Some(shortened(error, MAX_REASON)), true),
    };
    let worker = match (state, why) {
        (State::Running, Why::Nothing) => {
            header.holder.as_ref().map(|holder| holder.worker.clone())
        }
        _ => None,
    };
    header.history.steps.push(StoredStep {
        number: header.history.next,
        at: cx.now.as_micros(),
        state,
        attempt: header.attempts,
        token: cx.token,
        cleared: false,
        is_error,
        reason,
        worker,
    });
    header.history.next = header.history.next.saturating_add(1);
}

/// What a step says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why<'a> {
    Nothing,
    Note(&'a str),
    Error(&'a str),
}

/// Reads a job's header; `None` if there is none, or nothing but its removal is left to do.
pub(crate) async fn read(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
) -> Result<Option<Header>> {
    let key = cx.keys.job(id);
    match view.get(&key).await? {
        Some(value) => {
            let header = Header::decode(&key, &value)?;
            Ok((header.phase != Phase::Deleting).then_some(header))
        }
        None => Ok(None),
    }
}

/// Writes a header that was read before; steps that no longer fit go to a chunk (rule 3).
pub(crate) fn write(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
) -> Result<()> {
    header.revision += 1;
    header.token = cx.token;
    // On a bag a commit takes one chunk of a job; what does not spill now does with the next.
    if !view.writes(&cx.keys.histories(id)) {
        let spilled = header.history.spill();
        if let Some(first) = spilled.first() {
            let chunk = header::encode(&spilled)?;
            view.append(cx.keys.history(id, first.number, &chunk));
        }
    }
    view.replace(cx.keys.job(id), Some(header.encode()?.into()));
    Ok(())
}

/// The job as its users see it, with its arguments and its result.
pub(crate) async fn to_job(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<Job> {
    let payload = match header.payload_key(cx.keys, id) {
        None => None,
        Some(key) => {
            let stored = view.get(&key).await?;
            if stored.is_none() && !view.is_still(&cx.keys.job(id)).await? {
                let message = format!("job {id} was replaced or removed while it was read");
                return Err(kv::Error::new(kv::ErrorKind::Conflict, message).into());
            }
            stored
        }
    };
    let result = if header.result_stored() {
        view.get(&cx.keys.result(id)).await?
    } else {
        None
    };
    header.to_job(id, payload.as_deref(), result.as_deref(), cx.now)
}

/// The header of a job whose lease the caller states (rule 1).
pub(crate) async fn leased(cx: &Context<'_>, view: &mut View<'_>, lease: &Lease) -> Result<Header> {
    let lost = |reason: String| Error::LeaseLost {
        id: lease.id,
        epoch: lease.epoch,
        reason,
    };
    let Some(header) = read(cx, view, lease.id).await? else {
        return Err(lost("there is no such job".to_owned()));
    };
    if header.epoch != lease.epoch {
        return Err(lost(format!("the job is at epoch {}", header.epoch)));
    }
    if header.phase != Phase::Running {
        return Err(lost(format!("the job is {}", header.state(cx.now))));
    }
    Ok(header)
}

/// Ends a lease: the job does not run any more. The caller says what it becomes.
pub(crate) async fn release(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
) -> Result<()> {
    place::release(cx, view, id, header).await?;
    if let Some(holder) = header.holder.take()
        && header.cancel_requested
    {
        view.remove(cx.keys.signal(&holder.incarnation, id));
    }
    view.effect(Effect::Ended {
        id,
        epoch: header.epoch,
    });
    Ok(())
}

/// Makes a job final and writes it.
pub(crate) async fn end(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
    phase: Phase,
    why: Why<'_>,
) -> Result<()> {
    header.phase = phase;
    header.scheduled = false;
    header.cancel_requested = false;
    header.ended_at = Some(cx.now.as_micros());
    if let Some((entry, value)) = retention::attention(cx.keys, id, header) {
        view.put(entry, value);
    }
    // A key is free again when its job is done, unless it was asked to be retained; one of a job
    // that failed stays taken, for the job may be retried.
    if header.key.is_some() && unique::kept(id, header).is_none() {
        unique::free(cx, view, id, header).await?;
    }
    step(cx, header, header.state(cx.now), why);
    write(cx, view, id, header)
}

/// Lets a job wait until `run_at` and writes it.
pub(crate) async fn wait(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
    run_at: Timestamp,
    why: Why<'_>,
) -> Result<()> {
    header.phase = Phase::Waiting;
    header.run_at = run_at.as_micros();
    header.ended_at = None;
    place::place(cx, view, id, header).await?;
    step(cx, header, header.state(cx.now), why);
    write(cx, view, id, header)
}

/// Writes an error in full to the job's log, if it is cut where it stands otherwise.
pub(crate) fn log_error(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    error: &str,
) -> Result<()> {
    if error.len() > MAX_REASON {
        let line = super::log::StoredLine {
            level: Level::Error,
            message: error.to_owned(),
            fields: std::collections::BTreeMap::new(),
        };
        let (at, writer) = cx.log_stamp();
        view.append(cx.keys.log(id, at, writer, &header::encode(&line)?));
    }
    Ok(())
}

/// Takes a job that ended badly out of the list of those, for it comes back, or ends otherwise.
pub(crate) fn forget_end(cx: &Context<'_>, view: &mut View<'_>, id: JobId, header: &Header) {
    if let Some((entry, _)) = retention::attention(cx.keys, id, header) {
        view.remove(entry);
    }
}

/// A failed attempt: what follows it is `next`, unless the job was asked to stop.
pub(crate) async fn failed(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
    error: &str,
    next: Next,
) -> Result<Outcome> {
    release(cx, view, id, header).await?;
    log_error(cx, view, id, error)?;
    if header.cancel_requested {
        end(cx, view, id, header, Phase::Canceled, Why::Error(error)).await?;
    } else {
        match next {
            Next::After(pause) if header.attempts < header.max_attempts => {
                let run_at = cx.now.after(pause);
                wait(cx, view, id, header, run_at, Why::Error(error)).await?;
            }
            Next::Final(phase) => end(cx, view, id, header, phase, Why::Error(error)).await?,
            Next::After(_) => {
                end(cx, view, id, header, Phase::Failed, Why::Error(error)).await?;
            }
        }
    }
    let waits = header.phase == Phase::Waiting;
    Ok(Outcome {
        state: header.state(cx.now),
        run_at: waits.then(|| header.run_at()),
    })
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Another one after this time, if there is one left; else it failed.
    After(Duration),
    /// The end.
    Final(Phase),
}
