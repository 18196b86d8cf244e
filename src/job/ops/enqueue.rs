//! Storing a job, under a job key or without.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::super::header::{self, Arguments, Header, JobKey, MAX_INLINE, Phase, Recent};
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition::{self, Why};
use super::super::{Enqueued, Error, JobId, NewJob, Result, State, place};
use super::Operation;
use crate::kv::{self, Key};

/// Stores a job, or finds the one that has its key (the mode `unsafe_dedupe`).
pub(in crate::job) struct Enqueue {
    pub(in crate::job) id: JobId,
    pub(in crate::job) job: NewJob,
}

/// What stands under a `unique` key: the job key in full, for its hash is in the key, and who
/// has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct Unique {
    pub(in crate::job) tenant: String,
    pub(in crate::job) text: String,
    pub(in crate::job) id: [u8; 16],
}

impl Enqueue {
    fn unique_key(&self, keys: &KeySpace) -> Option<Key> {
        self.job
            .key
            .as_ref()
            .map(|key| keys.unique(&self.job.lane.tenant, &key.text))
    }

    /// The job that has this key already.
    async fn existing(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Enqueued>> {
        let Some(key) = self.unique_key(cx.keys) else {
            return Ok(None);
        };
        let Some(value) = view.get(&key).await? else {
            return Ok(None);
        };
        let unique: Unique = header::decode(&key, &value)?;
        let text = self.job.key.as_ref().map(|key| key.text.as_str());
        if Some(unique.text.as_str()) != text || unique.tenant != self.job.lane.tenant {
            let message = format!(
                "the job keys {:?} and {:?} have the same hash: choose another key",
                unique.text,
                text.unwrap_or_default()
            );
            return Err(Error::invalid("job-key-collision", message));
        }
        let id = JobId::from_bytes(unique.id);
        let Some(mut header) = transition::read(cx, view, id).await? else {
            // Its job is gone: the key is free.
            return Ok(None);
        };
        // A job that has ended stays as it is.
        if matches!(
            header.phase,
            Phase::Waiting | Phase::Running | Phase::Failed
        ) {
            transition::write(cx, view, id, &mut header)?;
        }
        let job = transition::to_job(cx, view, id, &header).await?;
        Ok(Some(Enqueued { job, is_new: false }))
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
        if let Some(existing) = self.existing(cx, view).await? {
            return Ok(existing);
        }
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
        let mut header = Header {
            revision: 1,
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
        };
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
        Ok(Enqueued { job, is_new: true })
    }
}

/// What stands under the key of a job that has one and keeps it: until it is done, or, if that
/// was asked for, until it is removed.
pub(in crate::job) fn kept_key(id: JobId, header: &Header) -> Option<Unique> {
    let key = header.key.as_ref()?;
    let kept = match header.phase {
        Phase::Completed | Phase::Taken => key.retain,
        Phase::Deleting => false,
        _ => true,
    };
    kept.then(|| Unique {
        tenant: header.lane.tenant.clone(),
        text: key.text.clone(),
        id: *id.as_bytes(),
    })
}

/// Frees a job's key, if the key is still this job's.
pub(in crate::job) async fn free_key(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    let Some(key) = &header.key else {
        return Ok(());
    };
    let key = cx.keys.unique(&header.lane.tenant, &key.text);
    if let Some(value) = view.get(&key).await? {
        let unique: kv::Result<Unique> = header::decode(&key, &value);
        if unique.is_ok_and(|unique| unique.id == *id.as_bytes()) {
            view.replace(key, None);
        }
    }
    Ok(())
}

/// Lets a job that comes back have its key again: `false` if it belongs to another job now.
pub(in crate::job) async fn take_key(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<bool> {
    let freed = match header.phase {
        Phase::Completed | Phase::Taken => header.key.as_ref().is_some_and(|key| !key.retain),
        phase => phase == Phase::Deleting,
    };
    let Some(new) = header.key.as_ref().filter(|_| !freed) else {
        return Ok(true);
    };
    let tenant = &header.lane.tenant;
    let key = cx.keys.unique(tenant, &new.text);
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
    let unique = Unique {
        tenant: tenant.clone(),
        text: new.text.clone(),
        id: *id.as_bytes(),
    };
    view.replace(key, Some(header::encode(&unique)?.into()));
    Ok(true)
}
