//! Leases that ran out, or whose holder is known to be dead, are taken back.
//!
//! Whoever says that the holder is dead, the clock or somebody by hand, the attempt counts: a job
//! that kills or hangs its worker must not be tried for ever.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::header::{self, Header, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, Entry, View, WorkerRecord};
use super::super::transition::{self, Next};
use super::super::{Error, Job, JobId, Result, place};
use super::{Operation, quarantine};
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Leases taken back in one plan.
const PAGE: usize = 64;

/// The error of an attempt whose lease ran out.
pub(in crate::job) const LEASE_EXPIRED: &str = "lease expired";
/// The error of an attempt whose lease was taken from its worker by hand.
const UNLOCKED: &str = "taken from its worker by hand";

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
    /// The jobs as they are now, where leases were taken from workers by name.
    pub(in crate::job) jobs: Vec<Job>,
    /// Whether more is left than one plan takes.
    pub(in crate::job) more: bool,
}

/// Which leases are taken back.
#[derive(Clone, Debug)]
pub(in crate::job) enum Taken {
    /// Those past their deadline.
    Overdue,
    /// Those, and all of incarnations of other processes.
    OfTheDead,
    /// Those of workers of these names, whose jobs are due again at once.
    Of(Arc<[String]>),
}

impl Taken {
    /// Whether this lease is one of them.
    fn takes(
        &self,
        cx: &Context<'_>,
        incarnation: &[u8; 16],
        record: &WorkerRecord,
        entry: &Entry,
    ) -> bool {
        match self {
            Self::OfTheDead if incarnation.get(..8) != cx.incarnation.get(..8) => true,
            Self::OfTheDead | Self::Overdue => is_overdue(cx, record, entry),
            Self::Of(workers) => workers.contains(&record.worker),
        }
    }

    /// The error of the attempt, and when the next one may be made.
    fn verdict(&self, cx: &Context<'_>, header: &Header) -> (&'static str, Duration) {
        if let Self::Of(_) = self {
            return (UNLOCKED, Duration::ZERO);
        }
        let pause = header.backoff.wait(header.attempts, cx.clock.random());
        (LEASE_EXPIRED, pause)
    }
}

/// Whether a lease is past its deadline for certain (rule 8).
fn is_overdue(cx: &Context<'_>, record: &WorkerRecord, entry: &Entry) -> bool {
    let stepped = cx
        .since_step
        .is_some_and(|since| since.as_micros() < u128::from(record.lease));
    !stepped && entry.deadline().after(cx.max_skew) < cx.now
}

#[async_trait]
impl Operation for Expire {
    type Output = Expired;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Expired> {
        let taken = if self.others_are_dead {
            Taken::OfTheDead
        } else {
            Taken::Overdue
        };
        sweep(cx, view, &taken).await
    }
}

/// Takes back leases, as many as one plan may.
pub(in crate::job) async fn sweep(
    cx: &Context<'_>,
    view: &mut View<'_>,
    taken: &Taken,
) -> Result<Expired> {
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
            sweep_record(cx, view, record, taken, &mut expired).await?;
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

/// Takes back leases of one worker record, and rewrites the record in the same commit (rule 5).
async fn sweep_record(
    cx: &Context<'_>,
    view: &mut View<'_>,
    object: Object,
    taken: &Taken,
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
    let is_due =
        |record: &WorkerRecord, entry: &Entry| taken.takes(cx, &incarnation, record, entry);
    let due: Vec<_> = record
        .entries
        .iter()
        .filter(|entry| is_due(&record, entry))
        .collect();
    if due.is_empty() && !(ours && record.entries.is_empty()) {
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
        // Each takes a header, an index key, perhaps a chunk, a log line and a signal; and what its
        // queue exposes then.
        let changes = view.size().0 + entry.queue.map_or(0, |_| 8);
        if !is_due(&record, &entry) {
            kept.push(entry);
        } else if expired.ids.len() >= PAGE || changes + 8 > cx.max_changes {
            expired.more = true;
            kept.push(entry);
        } else {
            let holder = (incarnation, slot);
            if !take_back(cx, view, &entry, holder, taken, expired).await? {
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

/// Takes back a job that still runs under that very lease (rule 5). `false` means: the
/// record keeps it.
async fn take_back(
    cx: &Context<'_>,
    view: &mut View<'_>,
    entry: &Entry,
    (incarnation, slot): ([u8; 16], u64),
    taken: &Taken,
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
    match end_lease(cx, view, id, &mut header, taken).await {
        // Its queue is newer software's.
        Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => return Ok(false),
        ended => ended?,
    }
    expired.ids.push(id);
    if matches!(taken, Taken::Of(_)) {
        match transition::to_job(cx, view, id, &header).await {
            Ok(job) => expired.jobs.push(job),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => tracing::warn!("left out: {error}"),
        }
    }
    Ok(true)
}

/// Takes a running job from its holder: the attempt counts, and the epoch moves, so that whoever
/// still works on it finds its lease lost.
async fn end_lease(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
    taken: &Taken,
) -> Result<()> {
    header.losses = header.losses.saturating_add(1);
    header.epoch += 1;
    let (error, pause) = taken.verdict(cx, header);
    transition::failed(cx, view, id, header, error, Next::After(pause)).await?;
    Ok(())
}

/// The header of a job that nobody holds, for who changes jobs by hand. One whose lease has run out
/// is taken back first. `None` if there is no such job, or it runs under a live lease.
pub(in crate::job) async fn unheld(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
) -> Result<Option<Header>> {
    let Some(mut header) = transition::read(cx, view, id).await? else {
        return Ok(None);
    };
    if header.phase != Phase::Running {
        return Ok(Some(header));
    }
    let Some(holder) = header.holder.clone() else {
        return Ok(None);
    };
    let key = cx.keys.worker(&holder.incarnation, holder.slot);
    let Some(value) = view.get(&key).await? else {
        return Ok(None);
    };
    let mut record: WorkerRecord = match header::decode(&key, &value) {
        Ok(record) => record,
        // An expiry sees to it, or newer software.
        Err(error) if error.is_retryable() => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    let epoch = header.epoch;
    let is_its_own = |entry: &Entry| entry.id() == id && entry.epoch == epoch;
    let overdue = |entry: &Entry| is_its_own(entry) && is_overdue(cx, &record, entry);
    if !record.entries.iter().any(overdue) {
        return Ok(None);
    }
    record.entries.retain(|entry| !is_its_own(entry));
    view.replace(key, Some(header::encode(&record)?.into()));
    view.effect(Effect::Ended { id, epoch });
    end_lease(cx, view, id, &mut header, &Taken::Overdue).await?;
    Ok(Some(header))
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
