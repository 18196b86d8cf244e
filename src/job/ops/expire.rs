//! Leases that ran out, or whose holder is known to be dead, are taken back.

use async_trait::async_trait;

use super::super::header::{self, Header, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, Entry, View, WorkerRecord};
use super::super::transition::{self, Next};
use super::super::{Error, JobId, Result, place};
use super::{Operation, quarantine};
use crate::clock::Timestamp;
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Leases taken back in one plan.
const PAGE: usize = 64;

/// The error of an attempt whose lease ran out.
pub(in crate::job) const LEASE_EXPIRED: &str = "lease expired";

/// Takes back leases; each counts as a failed attempt.
pub(in crate::job) struct Expire {
    /// Whether incarnations of other processes are dead: only at the start of a store that this
    /// process has alone (rule 7).
    pub(in crate::job) others_are_dead: bool,
}

/// The first page of worker records that an expiry reads.
pub(in crate::job) fn first_scan(keys: &KeySpace) -> Scan {
    Scan::prefix(keys.workers()).limit(PAGE)
}

/// What a sweep came to.
#[derive(Clone, Debug, Default)]
pub(in crate::job) struct Expired {
    pub(in crate::job) ids: Vec<JobId>,
    /// Whether more is left than one plan takes.
    pub(in crate::job) more: bool,
}

#[async_trait]
impl Operation for Expire {
    type Output = Expired;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Expired> {
        let mut expired = Expired::default();
        let mut scan = first_scan(cx.keys);
        loop {
            let (records, all) = view.scan(scan.clone()).await?;
            let last = records
                .last()
                .map(|object| Cursor::after(object.key.clone()));
            // What a scan returned is not yet what a commit compares.
            let keys: Vec<Key> = records.iter().map(|object| object.key.clone()).collect();
            view.load(&keys).await?;
            for record in records {
                self.sweep(cx, view, record, &mut expired).await?;
                if expired.more {
                    return Ok(expired);
                }
            }
            match last {
                Some(last) if !all => scan = scan.after(last),
                _ => return Ok(expired),
            }
        }
    }
}

impl Expire {
    /// Takes back what ran out in one worker record, and rewrites the record in the same commit
    /// (rule 5).
    async fn sweep(
        &self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        object: Object,
        expired: &mut Expired,
    ) -> Result<()> {
        let key = object.key.clone();
        let Some(value) = view.get(&key).await? else {
            return Ok(());
        };
        let read = cx.keys.read_worker(&key).and_then(|(incarnation, slot)| {
            Ok((
                incarnation,
                slot,
                header::decode::<WorkerRecord>(&key, &value)?,
            ))
        });
        let (incarnation, slot, mut record) = match read {
            Ok(read) => read,
            Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => {
                return Ok(());
            }
            Err(error) => {
                view.replace(key, None);
                return quarantine::index(cx, view, &object, &error.to_string());
            }
        };
        let ours = incarnation == cx.incarnation;
        let dead = self.others_are_dead && incarnation.get(..8) != cx.incarnation.get(..8);
        let over = |deadline: Timestamp| dead || deadline.after(cx.max_skew) < cx.now;
        let stepped = cx
            .since_step
            .is_some_and(|since| since.as_micros() < u128::from(record.lease));
        let due: Vec<_> = record
            .entries
            .iter()
            .filter(|entry| over(entry.deadline()))
            .collect();
        if due.is_empty() && !(ours && record.entries.is_empty()) {
            return Ok(());
        }
        if stepped && !dead {
            return Ok(());
        }
        let headers = due.iter().map(|entry| cx.keys.job(entry.id()));
        let queues = due
            .iter()
            .filter_map(|entry| Some(cx.keys.queue(&entry.queue?)));
        let keys: Vec<Key> = headers.chain(queues).collect();
        view.load(&keys).await?;
        let mut kept = Vec::with_capacity(record.entries.len());
        for entry in std::mem::take(&mut record.entries) {
            // Each takes a header, an index key, perhaps a chunk, a log line and a signal; and what
            // its queue exposes then.
            let changes = view.size().0 + entry.queue.map_or(0, |_| 8);
            if !over(entry.deadline()) {
                kept.push(entry);
            } else if expired.ids.len() >= PAGE || changes + 8 > cx.max_changes {
                expired.more = true;
                kept.push(entry);
            } else {
                let holder = (incarnation, slot);
                if !take_back(cx, view, &entry, holder, expired).await? {
                    kept.push(entry);
                    continue;
                }
                view.effect(Effect::Ended {
                    id: entry.id(),
                    epoch: entry.epoch,
                });
            }
        }
        record.entries = kept;
        if record.entries.is_empty() {
            view.replace(key, None);
            if ours {
                view.effect(Effect::SlotRemoved { slot });
            }
        } else {
            view.replace(key, Some(header::encode(&record)?.into()));
        }
        Ok(())
    }
}

/// Takes back a job that still runs under that very lease (rule 5). `false` means: the
/// record keeps it.
async fn take_back(
    cx: &Context<'_>,
    view: &mut View<'_>,
    entry: &Entry,
    (incarnation, slot): ([u8; 16], u64),
    expired: &mut Expired,
) -> Result<bool> {
    let (id, epoch) = (entry.id(), entry.epoch);
    let key = cx.keys.job(id);
    let Some(value) = view.get(&key).await? else {
        return leave(cx, view, entry).await;
    };
    let mut header = match Header::decode(&key, &value) {
        Ok(header) => header,
        Err(error) if *error.kind() == ErrorKind::TooNew => return Ok(false),
        Err(error) => {
            let alone = quarantine::header(cx, view, &key, &value, &error).await?;
            return Ok(alone && leave(cx, view, entry).await?);
        }
    };
    let holds = header.phase == Phase::Running
        && header.epoch == epoch
        && header
            .holder
            .as_ref()
            .is_some_and(|holder| holder.incarnation == incarnation && holder.slot == slot);
    if !holds {
        return Ok(true);
    }
    header.losses = header.losses.saturating_add(1);
    header.epoch += 1;
    let pause = header.backoff.wait(header.attempts, cx.clock.random());
    let next = Next::After(pause);
    match transition::failed(cx, view, id, &mut header, LEASE_EXPIRED, next).await {
        // Its queue is newer software's.
        Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => return Ok(false),
        failed => failed?,
    };
    expired.ids.push(id);
    Ok(true)
}

/// A job that is not there any more, or cannot be read, leaves its queue.
async fn leave(cx: &Context<'_>, view: &mut View<'_>, entry: &Entry) -> Result<bool> {
    if let Some(queue) = entry.queue {
        match place::forget(cx, view, queue, entry.id()).await {
            Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => return Ok(false),
            left => left?,
        }
    }
    Ok(true)
}
