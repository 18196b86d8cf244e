//! What is kept of cron schedules: seeing one for the first time, defining, pausing and removing
//! it, and the one commit that settles a slot and adds its job.

use async_trait::async_trait;

use super::super::cron::Stored;
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, View};
use super::super::{CronRecord, Error, Fired, Result};
use super::enqueue::Enqueue;
use super::{Operation, quarantine};
use crate::clock::Timestamp;
use crate::kv::{ErrorKind, Key};

/// Keeps a schedule, if it is not kept yet. Its slots up to now are settled then: nobody misses
/// what came before a schedule was. With a definition it says this from now on.
pub(in crate::job) struct Keep {
    pub(in crate::job) id: String,
    pub(in crate::job) definition: Option<String>,
}

/// Settles a slot, and those before it, and adds its job: once, however many try.
pub(in crate::job) struct Fire {
    pub(in crate::job) id: String,
    /// Of the record that the slot was found by.
    pub(in crate::job) revision: u64,
    pub(in crate::job) slot: Timestamp,
    pub(in crate::job) enqueue: Enqueue,
}

/// Lets the slots of a schedule pass without a job, or no longer.
pub(in crate::job) struct Pause {
    pub(in crate::job) id: String,
    pub(in crate::job) paused: bool,
}

/// Forgets a schedule. Says whether there was one.
pub(in crate::job) struct Remove {
    pub(in crate::job) id: String,
}

/// What is kept of this schedule. What cannot be read is put aside (protocol rule 20).
async fn read(cx: &Context<'_>, view: &mut View<'_>, key: &Key) -> Result<Option<Stored>> {
    let Some(value) = view.get(key).await? else {
        return Ok(None);
    };
    match Stored::decode(key, &value) {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if *error.kind() == ErrorKind::Corrupt => {
            quarantine::header(cx, view, key, &value, &error).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes what has changed, on the condition that nobody else did meanwhile.
fn write(view: &mut View<'_>, key: Key, id: &str, stored: &mut Stored) -> Result<CronRecord> {
    stored.revision += 1;
    view.replace(key, Some(stored.encode()?.into()));
    Ok(stored.to_record(id))
}

#[async_trait]
impl Operation for Keep {
    /// What is kept now, and whether it is new.
    type Output = (CronRecord, bool);

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.cron(&self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<(CronRecord, bool)> {
        let (key, now) = (cx.keys.cron(&self.id), cx.now.as_micros());
        let found = read(cx, view, &key).await?;
        let is_new = found.is_none();
        let mut stored = match found {
            None => Stored {
                revision: 0,
                definition: self.definition.clone(),
                added_at: now,
                settled: now,
                last_slot: None,
                paused: false,
            },
            Some(stored) if self.definition.is_none() || self.definition == stored.definition => {
                return Ok((stored.to_record(&self.id), false));
            }
            Some(stored) if stored.definition.is_none() => {
                let message = format!(
                    "the schedule {:?} is one that a program brings along: choose another id, or remove it first if that program is gone",
                    self.id
                );
                return Err(Error::invalid("cron-of-program", message));
            }
            Some(stored) => Stored {
                definition: self.definition.clone(),
                added_at: now,
                settled: stored.settled.max(now),
                ..stored
            },
        };
        view.effect(Effect::Crons);
        Ok((write(view, key, &self.id, &mut stored)?, is_new))
    }
}

#[async_trait]
impl Operation for Fire {
    type Output = Fired;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        let mut reads = vec![keys.cron(&self.id)];
        reads.extend(self.enqueue.reads(keys));
        reads
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Fired> {
        let key = cx.keys.cron(&self.id);
        let Some(mut stored) = read(cx, view, &key).await? else {
            return Ok(Fired::Outdated(None));
        };
        let slot = self.slot.as_micros();
        if stored.revision != self.revision || stored.paused || slot <= stored.settled {
            return Ok(Fired::Outdated(Some(stored.to_record(&self.id))));
        }
        stored.settled = slot;
        stored.last_slot = Some(slot);
        let record = write(view, key, &self.id, &mut stored)?;
        let enqueued = Box::new(self.enqueue.plan(cx, view).await?);
        Ok(Fired::Added { enqueued, record })
    }
}

#[async_trait]
impl Operation for Pause {
    type Output = Option<CronRecord>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.cron(&self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Option<CronRecord>> {
        let key = cx.keys.cron(&self.id);
        let Some(mut stored) = read(cx, view, &key).await? else {
            return Ok(None);
        };
        if stored.paused == self.paused {
            return Ok(Some(stored.to_record(&self.id)));
        }
        stored.paused = self.paused;
        if !self.paused {
            stored.settled = stored.settled.max(cx.now.as_micros());
        }
        view.effect(Effect::Crons);
        write(view, key, &self.id, &mut stored).map(Some)
    }
}

#[async_trait]
impl Operation for Remove {
    type Output = bool;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.cron(&self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<bool> {
        let key = cx.keys.cron(&self.id);
        let found = read(cx, view, &key).await?.is_some();
        if found {
            view.replace(key, None);
            view.effect(Effect::Crons);
        }
        Ok(found)
    }
}
