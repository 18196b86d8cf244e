//! Storing a job, under a job key or without.
//!
//! A job key's record names the one job that has it. Every keyed add writes that record or the
//! header it names, and compares both, so that no two of them can each find the key free.

use async_trait::async_trait;

use super::super::header::{self, Arguments, Header, JobKey, MAX_INLINE, Phase, Recent};
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::retention::End;
use super::super::transition::{self, Why};
use super::super::unique::{self, Unique};
use super::super::{Done, Enqueued, Error, JobId, KeyMode, NewJob, Result, State, place};
use super::Operation;
use crate::kv::Key;

/// What the history says of a job that a keyed add replaced.
const REPLACED: &str = "replaced under its key";
/// Of one whose key went to another.
const SUPERSEDED: &str = "its key went to a new job";

/// Stores a job; if another has its key, as the [mode](KeyMode) says.
pub(in crate::job) struct Enqueue {
    pub(in crate::job) id: JobId,
    pub(in crate::job) job: NewJob,
}

impl Enqueue {
    fn unique_key(&self, keys: &KeySpace) -> Option<Key> {
        self.job
            .key
            .as_ref()
            .map(|key| keys.unique(&self.job.lane.tenant, &key.text))
    }

    /// The job that has this key already, and keeps it.
    async fn existing(
        &self,
        cx: &Context<'_>,
        view: &mut View<'_>,
    ) -> Result<Option<(JobId, Header)>> {
        let (Some(at), Some(wanted)) = (self.unique_key(cx.keys), &self.job.key) else {
            return Ok(None);
        };
        find(cx, view, &at, &self.job.lane.tenant, &wanted.text).await
    }

    /// The job as it begins, with arguments that were put where they belong.
    fn header(&self, cx: &Context<'_>, arguments: Arguments) -> Header {
        let job = &self.job;
        Header {
            revision: 1,
            token: cx.token,
            epoch: 0,
            phase: Phase::Waiting,
            lane: job.lane.clone(),
            priority: job.priority,
            run_at: job.run_at.unwrap_or(cx.now).as_micros(),
            scheduled: false,
            attempts: 0,
            max_attempts: job.max_attempts,
            losses: 0,
            backoff: job.backoff.clone(),
            timeout: job.timeout,
            key: job.key.as_ref().map(|key| JobKey {
                text: key.text.clone(),
                retain: key.retain,
            }),
            queue: job.queue.clone(),
            holder: None,
            cancel_requested: false,
            arguments,
            result: None,
            traceparent: job.traceparent.clone(),
            created_at: cx.now.as_micros(),
            started_at: None,
            ended_at: None,
            history: Recent::default(),
        }
    }

    async fn insert(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Enqueued> {
        let (id, job) = (self.id, &self.job);
        let text = job.payload.as_str();
        let arguments = if text.len() <= MAX_INLINE {
            Arguments::Inline(text.to_owned())
        } else {
            view.put_new(cx.keys.payload(id), text.to_owned());
            Arguments::Stored {
                bytes: text.len() as u64,
            }
        };
        let mut header = self.header(cx, arguments);
        transition::step(cx, &mut header, State::Created, Why::Nothing);
        place::place(cx, view, id, &mut header).await?;
        view.create(cx.keys.job(id), header.encode()?);
        if let (Some(key), Some(new)) = (self.unique_key(cx.keys), &job.key) {
            let unique = Unique {
                tenant: job.lane.tenant.clone(),
                text: new.text.clone(),
                id: *id.as_bytes(),
            };
            view.replace(key, Some(header::encode(&unique)?.into()));
        }
        let stored = header.payload_stored().then_some(text.as_bytes());
        let job = header
            .to_job(id, stored, None, cx.now)
            .map_err(|error| match error {
                // What was just built does read back.
                Error::Store(error) => Error::Store(error.context("storing a new job")),
                error => error,
            })?;
        Ok(Enqueued::new(job, Done::Inserted))
    }

    /// The waiting job becomes the new one: all its fields are new, its id, its epoch and its
    /// history stay.
    async fn replace(
        &self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        id: JobId,
        old: Header,
    ) -> Result<Enqueued> {
        place::unplace(cx, view, id, &old).await?;
        if let Some(payload) = old.payload_key(cx.keys, id) {
            view.remove(payload);
        }
        let text = self.job.payload.as_str();
        let arguments = if text.len() <= MAX_INLINE {
            Arguments::Inline(text.to_owned())
        } else {
            let revision = old.revision + 1;
            view.put_new(cx.keys.payload_since(id, revision), text.to_owned());
            let bytes = text.len() as u64;
            Arguments::Replaced { bytes, revision }
        };
        let keeps_run_at = self.job.key_mode == Some(KeyMode::PreserveRunAt) && old.attempts == 0;
        let kept = keeps_run_at.then_some(old.run_at);
        let mut header = Header {
            revision: old.revision,
            epoch: old.epoch,
            created_at: old.created_at,
            history: old.history,
            ..self.header(cx, arguments)
        };
        header.run_at = kept.unwrap_or(header.run_at);
        header.history.clear_errors();
        place::place(cx, view, id, &mut header).await?;
        let state = header.state(cx.now);
        transition::step(cx, &mut header, state, Why::Note(REPLACED));
        transition::write(cx, view, id, &mut header)?;
        let job = transition::to_job(cx, view, id, &header).await?;
        Ok(Enqueued::new(job, Done::Replaced))
    }
}

#[async_trait]
impl Operation for Enqueue {
    type Output = Enqueued;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        let queue = self.job.queue.as_ref().map(|queue| {
            let hash = KeySpace::queue_hash(&self.job.lane.tenant, queue);
            keys.queue(&hash)
        });
        self.unique_key(keys).into_iter().chain(queue).collect()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Enqueued> {
        let Some((id, mut header)) = self.existing(cx, view).await? else {
            return self.insert(cx, view).await;
        };
        // A retained key belongs to its job until that is purged, whatever is asked for.
        let is_done = End::of(header.phase) == Some(End::Done);
        match self.job.key_mode.unwrap_or_default() {
            KeyMode::Replace | KeyMode::PreserveRunAt if header.phase == Phase::Waiting => {
                self.replace(cx, view, id, header).await
            }
            KeyMode::Replace | KeyMode::PreserveRunAt if !is_done => {
                lose_key(cx, view, id, &mut header, SUPERSEDED)?;
                self.insert(cx, view).await
            }
            _ => {
                if !is_done {
                    // No step: nothing happened to the job, and a key may be asked for without end.
                    transition::write(cx, view, id, &mut header)?;
                }
                let job = transition::to_job(cx, view, id, &header).await?;
                Ok(Enqueued::new(job, Done::Unchanged))
            }
        }
    }
}

/// The job that has a job key, and keeps it; `at` is the key's record.
pub(in crate::job) async fn find(
    cx: &Context<'_>,
    view: &mut View<'_>,
    at: &Key,
    tenant: &str,
    text: &str,
) -> Result<Option<(JobId, Header)>> {
    let Some(value) = view.get(at).await? else {
        return Ok(None);
    };
    let unique: Unique = header::decode(at, &value)?;
    if unique.text != text || unique.tenant != tenant {
        let message = format!(
            "the job keys {:?} and {text:?} have the same hash: choose another key",
            unique.text,
        );
        return Err(Error::invalid("job-key-collision", message));
    }
    let id = JobId::from_bytes(unique.id);
    // If its job is gone, or does not have it any more, the key is free.
    let header = transition::read(cx, view, id).await?;
    let header = header.filter(|header| unique::kept(id, header).as_ref() == Some(&unique));
    Ok(header.map(|header| (id, header)))
}

/// Takes its key from a job that does not wait. One that runs is not tried again: at its next
/// failure it has failed for good. Its lease stays as it is (rule 1). The key's record is the
/// caller's.
pub(in crate::job) fn lose_key(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
    note: &str,
) -> Result<()> {
    header.key = None;
    if header.phase == Phase::Running {
        header.max_attempts = header.attempts.max(1);
    }
    let state = header.state(cx.now);
    transition::step(cx, header, state, Why::Note(note));
    transition::write(cx, view, id, header)
}

/// Lets a job that comes back have its key again: `false` if it belongs to another job now.
pub(in crate::job) async fn take_key(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<bool> {
    let Some(mine) = unique::kept(id, header) else {
        return Ok(true);
    };
    let key = cx.keys.unique(&mine.tenant, &mine.text);
    if let Some(value) = view.get(&key).await? {
        let Ok(unique) = header::decode::<Unique>(&key, &value) else {
            return Ok(false);
        };
        let owner = JobId::from_bytes(unique.id);
        if owner != id {
            match transition::read(cx, view, owner).await {
                Ok(None) => {}
                Err(error) if error.is_retryable() => return Err(error),
                Ok(Some(_)) | Err(_) => return Ok(false),
            }
        }
    }
    view.replace(key, Some(header::encode(&mine)?.into()));
    Ok(true)
}
