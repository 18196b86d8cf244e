//! A record that was put aside goes back to its place, or for good.
//!
//! The header of a job is worth nothing without the index entries that lead to it: they were
//! dropped when it was put aside, or soon after. So a job that can be read again is placed anew.

use std::time::Duration;

use async_trait::async_trait;

use super::super::cron;
use super::super::header::{self, Header, Phase, StoredStep};
use super::super::keys::{KeySpace, Space};
use super::super::log::StoredLine;
use super::super::plan::{Context, Effect, View, WorkerRecord};
use super::super::scheme::Scheme;
use super::super::transition::{self, Next, Why};
use super::super::unique::Unique;
use super::super::{Error, JobId, QuarantineId, Released, Result, serial};
use super::Operation;
use super::enqueue;
use super::quarantine::Record;
use super::set_lanes;
use crate::kv::{Key, Object};

const RELEASED: &str = "released from quarantine";
const RELEASED_WITHOUT_KEY: &str =
    "released from quarantine without its key, which another job has";

/// Puts a record back under its key, if the key is free. `None` if it is not in quarantine.
pub(in crate::job) struct Release {
    /// Where it was found.
    pub(in crate::job) at: Key,
    pub(in crate::job) id: QuarantineId,
    /// Whether also one that would only be put aside again.
    pub(in crate::job) unreadable: bool,
}

/// Removes a record from quarantine for good. Says whether it was there.
pub(in crate::job) struct Discard {
    pub(in crate::job) at: Key,
    pub(in crate::job) id: QuarantineId,
}

/// The record that was found there, if it still is.
async fn find(view: &mut View<'_>, at: &Key, id: QuarantineId) -> Result<Option<Record>> {
    let value = view.get(at).await?;
    let record = value.map(|value| {
        Record::read(&Object {
            key: at.clone(),
            value,
        })
    });
    Ok(record.filter(|record| record.id() == id))
}

/// Takes a record that was found out of quarantine. On a bag it may be there twice, put aside at
/// different times.
fn leave(cx: &Context<'_>, view: &mut View<'_>, at: Key) {
    match cx.keys.scheme {
        Scheme::UniqueKeys => view.replace(at, None),
        Scheme::Bag => view.remove(at),
    }
}

#[async_trait]
impl Operation for Discard {
    type Output = bool;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        vec![self.at.clone()]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<bool> {
        let found = find(view, &self.at, self.id).await?.is_some();
        if found {
            leave(cx, view, self.at.clone());
        }
        Ok(found)
    }
}

#[async_trait]
impl Operation for Release {
    type Output = Option<Released>;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        vec![self.at.clone()]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<Released>> {
        let Some(record) = find(view, &self.at, self.id).await? else {
            return Ok(None);
        };
        let key = Key::from(record.key.as_slice());
        let is_itself = key == self.at;
        let key = cx.keys.here(&key);
        if is_itself {
            let message = format!(
                "{} is an entry of the quarantine that cannot be read itself: nobody knows where it belongs",
                self.id
            );
            return Err(Error::invalid("quarantine-still-unreadable", message));
        }
        // On a bag the objects of a history or a log share a key.
        let shares_key = cx.keys.scheme == Scheme::Bag
            && matches!(cx.keys.space_of(&key), Some(Space::History | Space::Log));
        if !shares_key && view.get(&key).await?.is_some() {
            if view.read_again(&self.at).await?.is_empty() {
                // Between the two reads somebody else released it.
                return Ok(None);
            }
            let message = format!(
                "{} cannot be released: another record stands under its key {key}",
                self.id
            );
            return Err(Error::invalid("quarantine-key-taken", message));
        }
        let object = Object::new(key, record.value.clone());
        let job = match readable(cx, view, &object).await {
            Ok(Some((id, mut header))) => {
                back(cx, view, id, &mut header).await?;
                transition::to_job(cx, view, id, &header).await.ok()
            }
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) if !self.unreadable => {
                let message = format!(
                    "{} still cannot be read, and would be put aside again: {error}",
                    self.id
                );
                return Err(Error::invalid("quarantine-still-unreadable", message));
            }
            Ok(None) | Err(_) => {
                if shares_key {
                    view.put(object.key, object.value);
                } else {
                    view.replace(object.key, Some(object.value));
                }
                None
            }
        };
        leave(cx, view, self.at.clone());
        Ok(Some(Released {
            record: record.to_quarantined(),
            job,
        }))
    }
}

/// Whether whoever meets the record under this key will be able to read it; of a header, with the
/// payload that belongs to it.
async fn readable(
    cx: &Context<'_>,
    view: &mut View<'_>,
    object: &Object,
) -> Result<Option<(JobId, Header)>> {
    let (key, value) = (&object.key, &object.value);
    match cx.keys.space_of(key) {
        Some(Space::Job) => {
            let id = cx.keys.job_id(key)?;
            let header = Header::decode(key, value)?;
            transition::to_job(cx, view, id, &header).await?;
            return Ok(Some((id, header)));
        }
        Some(Space::Ready) => drop(cx.keys.read_ready(key)?),
        Some(Space::Scheduled) => drop(cx.keys.read_scheduled(key)?),
        Some(Space::Attention) => drop(cx.keys.read_attention(key)?),
        Some(Space::Worker) => {
            cx.keys.read_worker(key)?;
            header::decode::<WorkerRecord>(key, value)?;
        }
        Some(Space::Lane) => drop(set_lanes::read(cx.keys, object)?),
        Some(Space::Unique) => drop(header::decode::<Unique>(key, value)?),
        Some(Space::Wait) => drop(cx.keys.read_wait(key)?),
        Some(Space::Queue) => {
            cx.keys.read_queue(key)?;
            header::decode::<serial::Record>(key, value)?;
        }
        Some(Space::History) => {
            let id = cx.keys.owner(Space::History, key)?;
            let chunk = cx.keys.read_history(id, object)?;
            header::decode::<Vec<StoredStep>>(key, chunk)?;
        }
        Some(Space::Log) => {
            let id = cx.keys.owner(Space::Log, key)?;
            let (_, _, line) = cx.keys.read_log(id, object)?;
            header::decode::<StoredLine>(key, line)?;
        }
        Some(Space::Cron) => {
            cx.keys.cron_id(key)?;
            cron::Stored::decode(key, value)?;
        }
        _ => {}
    }
    Ok(None)
}

/// Puts a job back as it stood, with all that leads to it.
async fn back(cx: &Context<'_>, view: &mut View<'_>, id: JobId, header: &mut Header) -> Result<()> {
    let mut note = RELEASED;
    if !enqueue::take_key(cx, view, id, header).await? {
        header.key = None;
        note = RELEASED_WITHOUT_KEY;
    }
    match header.phase {
        Phase::Waiting => {
            let run_at = header.run_at();
            transition::wait(cx, view, id, header, run_at, Why::Note(note)).await
        }
        // Nobody watches over its lease any more: it is taken back, as if it had run out.
        Phase::Running => {
            let epoch = header.epoch;
            view.effect(Effect::Ended { id, epoch });
            header.epoch += 1;
            let next = Next::After(Duration::ZERO);
            transition::failed(cx, view, id, header, note, next).await?;
            Ok(())
        }
        Phase::Deleting => {
            view.put(cx.keys.removal(id), Vec::new());
            transition::write(cx, view, id, header)
        }
        // It counts as ended now, for the sweep may have passed the time when it did.
        phase => transition::end(cx, view, id, header, phase, Why::Note(note)).await,
    }
}
