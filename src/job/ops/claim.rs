//! Taking the next due jobs, with a lease or for good.
//!
//! All claims of a group are planned at once, behind its other operations: one pass over the
//! lanes feeds them all.

use std::collections::{BTreeMap, btree_map};
use std::time::Duration;

use super::super::header::{self, Header, Holder, Phase};
use super::super::keys::{ReadyKey, Waiting};
use super::super::plan::{Context, Effect, Entry, Look, View, WorkerRecord};
use super::super::serial::{Queue, Standing};
use super::super::transition::{self, Why};
use super::super::{Claimed, Claims, Error, Job, JobId, Lease, Result, Selector, State};
use super::{expire, promote, quarantine, set_lanes};
use crate::kv::{ErrorKind, Key, Object};

mod heads;
mod limits;
mod order;

use heads::Heads;

/// A caller who waits for jobs.
#[derive(Clone, Debug)]
pub(in crate::job) struct Wanted {
    pub(in crate::job) selector: Selector,
    pub(in crate::job) max: usize,
    /// How many of them may not be on their last attempt: the last ones.
    pub(in crate::job) ahead: usize,
    pub(in crate::job) mode: Mode,
}

/// What the caller does with them.
#[derive(Clone, Debug)]
pub(in crate::job) enum Mode {
    /// Work on them under a lease.
    Lease { worker: String, lease: Duration },
    /// Take them out for good (`dequeue_next`).
    Take,
}

/// What one caller got.
#[derive(Clone, Debug)]
pub(in crate::job) enum Got {
    Claims(Claims),
    Taken(Vec<Job>),
}

/// Reads, in one trip, what planning these claims begins with, as far as it can be known.
pub(in crate::job) async fn read_ahead(
    cx: &Context<'_>,
    view: &mut View<'_>,
    callers: &[&Wanted],
) -> Result<()> {
    let mut wants: Vec<(&Selector, usize)> = Vec::new();
    for caller in callers {
        match wants
            .iter_mut()
            .find(|(selector, _)| **selector == caller.selector)
        {
            Some((_, total)) => *total += caller.max,
            None => wants.push((&caller.selector, caller.max)),
        }
    }
    let mut scans = heads::first_scans(cx, view, &wants);
    scans.push(promote::first_scan(cx, view));
    if !cx.settings_known {
        scans.push(set_lanes::first_scan(cx.keys));
    }
    if cx.look != Look::Not {
        scans.push(expire::first_scan(cx.keys));
    }
    view.scan_ahead(scans).await
}

/// Plans every claim of a group. The answers stand in the order of the callers.
pub(in crate::job) async fn plan(
    cx: &Context<'_>,
    view: &mut View<'_>,
    callers: &[&Wanted],
) -> Result<Vec<Got>> {
    let next_due = promote::plan(cx, view).await?;
    let mut got: Vec<Option<Got>> = vec![None; callers.len()];
    let mut desk = Desk {
        suspect_out: cx.held.has_suspect(),
        records: BTreeMap::new(),
    };
    for (first, caller) in callers.iter().enumerate() {
        if got.get(first).is_some_and(Option::is_some) {
            continue;
        }
        // Everyone with the same wishes is fed from one pass; what one wants no more of, the next
        // may.
        let alone = !caller.selector.at_most.is_empty();
        let alike: Vec<usize> = (first..callers.len())
            .filter(|index| {
                *index == first
                    || !alone
                        && callers
                            .get(*index)
                            .is_some_and(|one| one.selector == caller.selector)
            })
            .collect();
        let total = alike
            .iter()
            .filter_map(|index| callers.get(*index))
            .map(|one| one.max)
            .sum();
        let also = records(cx, callers);
        let mut heads = Heads::new(cx, view, &caller.selector, total, also).await?;
        let effects = view.effect_count();
        for index in alike {
            let Some(wanted) = callers.get(index) else {
                continue;
            };
            let Served {
                jobs,
                full,
                held_back,
            } = desk.serve(cx, view, wanted, &mut heads).await?;
            let limited_until = heads.limited_until(cx);
            // Who got nothing because the commit is full should come again at once.
            let next_due = if jobs.is_empty() && full {
                Some(cx.now)
            } else {
                next_due.into_iter().chain(limited_until).min()
            };
            if let Some(answer) = got.get_mut(index) {
                *answer = Some(match &wanted.mode {
                    Mode::Take => Got::Taken(jobs.into_iter().map(|taken| taken.job).collect()),
                    Mode::Lease { .. } => Got::Claims(Claims {
                        jobs,
                        next_due,
                        limited_until,
                        held_back,
                    }),
                });
            }
        }
        heads.remember(view);
        // What queues exposed since the lanes were read.
        view.ready_again(effects);
    }
    for open in desk.records.into_values() {
        if open.begun {
            view.replace(open.key, Some(header::encode(&open.record)?.into()));
        }
    }
    Ok(got
        .into_iter()
        .map(|got| got.unwrap_or(Got::Taken(Vec::new())))
        .collect())
}

/// The worker records in which new leases will stand.
fn records(cx: &Context<'_>, callers: &[&Wanted]) -> Vec<Key> {
    let mut slots: Vec<u64> = callers
        .iter()
        .filter_map(|wanted| match &wanted.mode {
            Mode::Lease { worker, .. } => Some(cx.held.slot_for(worker)),
            Mode::Take => None,
        })
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots
        .into_iter()
        .map(|slot| cx.keys.worker(&cx.incarnation, slot))
        .collect()
}

/// What the callers of a group share.
struct Desk {
    /// Whether this process holds a suspect (rule 9).
    suspect_out: bool,
    /// The worker records that get new leases, by worker: one for all callers of a group.
    records: BTreeMap<String, OpenRecord>,
}

/// What one caller got.
struct Served {
    jobs: Vec<Claimed>,
    /// Whether the commit is full.
    full: bool,
    /// Whether it ended before a job on its last attempt.
    held_back: bool,
}

struct OpenRecord {
    key: Key,
    slot: u64,
    record: WorkerRecord,
    begun: bool,
}

impl Desk {
    /// Takes up to `max` jobs for one caller.
    async fn serve(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        wanted: &Wanted,
        heads: &mut Heads<'_>,
    ) -> Result<Served> {
        let mut taken: Vec<Claimed> = Vec::new();
        let (mut alone, mut full, mut held_back) = (false, false, false);
        let at_once = wanted.max.saturating_sub(wanted.ahead);
        let mut passed_over = Vec::new();
        while taken.len() < wanted.max && !alone {
            // Each job takes its header, its index key, perhaps a chunk; the record comes on top.
            if view.size().0 + 8 > cx.max_changes || view.size().1 + (8 << 10) > cx.max_bytes {
                full = true;
                break;
            }
            let Some(entry) = heads.next(cx, view).await? else {
                break;
            };
            let ready = match cx.keys.read_ready(&entry.key) {
                Ok(ready) => ready,
                Err(error) => {
                    heads.skipped(&entry);
                    quarantine::index(cx, view, &entry, &error.to_string())?;
                    continue;
                }
            };
            let (header, queue) = match judge(cx, view, &entry, &ready).await? {
                Verdict::Runs(header, queue) => (*header, queue),
                Verdict::Stale => {
                    heads.skipped(&entry);
                    continue;
                }
                Verdict::LeftAlone => {
                    passed_over.push(entry);
                    continue;
                }
            };
            let leases = matches!(wanted.mode, Mode::Lease { .. });
            let suspect = leases && header.is_suspect();
            if suspect && (self.suspect_out || !taken.is_empty()) {
                // One at a time, and alone (rule 9).
                passed_over.push(entry);
                continue;
            }
            if taken.len() >= at_once && header.attempts.saturating_add(1) >= header.max_attempts {
                passed_over.push(entry);
                held_back = true;
                break;
            }
            let changes = queue.as_ref().map_or(0, Queue::most_changes);
            let most = cx.max_changes.saturating_sub(8 + changes);
            if view.size().0 > most && most > 0 {
                passed_over.push(entry);
                full = true;
                break;
            }
            let took = self.take(cx, view, ready.id, header, &wanted.mode).await;
            if let Some(mut queue) = queue {
                match (&took, leases) {
                    (Ok(_), true) => queue.run(ready.id),
                    _ => queue.leave(ready.id),
                }
                queue.close(cx, view).await?;
            }
            match took {
                Ok(claimed) => {
                    heads.taken(cx, view, &entry);
                    taken.push(claimed);
                    alone = suspect;
                    self.suspect_out |= suspect;
                }
                // Its arguments cannot be read: put it aside, or it would be claimed again and
                // again.
                Err(Error::Store(error)) if *error.kind() == ErrorKind::Corrupt => {
                    heads.skipped(&entry);
                    let key = cx.keys.job(ready.id);
                    if let Some(value) = view.stored(&key) {
                        quarantine::header(cx, view, &key, &value, &error).await?;
                    }
                }
                Err(error) => return Err(error),
            }
            view.remove(entry.key);
        }
        heads.give_back(passed_over);
        Ok(Served {
            jobs: taken,
            full,
            held_back,
        })
    }

    /// Takes one waiting job, for good or under a lease.
    async fn take(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        id: JobId,
        mut header: Header,
        mode: &Mode,
    ) -> Result<Claimed> {
        match mode {
            Mode::Take => {
                let epoch = header.epoch;
                let job = transition::to_job(cx, view, id, &header).await?;
                transition::end(cx, view, id, &mut header, Phase::Taken, Why::Nothing).await?;
                let job = Job {
                    state: State::Taken,
                    revision: header.revision,
                    ended_at: Some(cx.now),
                    ..job
                };
                Ok(Claimed {
                    lease: Lease {
                        id,
                        epoch,
                        deadline: cx.now,
                    },
                    job,
                    suspect: header.is_suspect(),
                })
            }
            Mode::Lease { worker, lease } => {
                let suspect = header.is_suspect();
                let open = self.record(cx, view, worker).await?;
                let deadline = cx.now.after(*lease);
                header.phase = Phase::Running;
                header.scheduled = false;
                header.attempts = header.attempts.saturating_add(1);
                header.epoch += 1;
                header.started_at = Some(cx.now.as_micros());
                header.holder = Some(Holder {
                    incarnation: cx.incarnation,
                    slot: open.slot,
                    worker: worker.clone(),
                });
                transition::step(cx, &mut header, State::Running, Why::Nothing);
                let job = transition::to_job(cx, view, id, &header).await?;
                transition::write(cx, view, id, &mut header)?;
                let lease_micros = u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
                open.record.lease = open.record.lease.max(lease_micros);
                open.record.entries.push(Entry {
                    id: *id.as_bytes(),
                    epoch: header.epoch,
                    deadline: deadline.as_micros(),
                    queue: header.queue_hash(),
                });
                open.begun = true;
                let (epoch, slot, worker) = (header.epoch, open.slot, worker.clone());
                view.effect(Effect::Leased {
                    id,
                    epoch,
                    worker,
                    slot,
                    suspect,
                    queue: header.queue_hash().map(|hash| cx.keys.queue(&hash)),
                });
                let job = Job {
                    revision: header.revision,
                    ..job
                };
                Ok(Claimed {
                    lease: Lease {
                        id,
                        epoch,
                        deadline,
                    },
                    job,
                    suspect,
                })
            }
        }
    }

    /// The worker record in which a worker's new leases go, without those that have ended
    /// (rule 6).
    async fn record(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        worker: &str,
    ) -> Result<&mut OpenRecord> {
        // However many a group begins, they stand in one record. Two new workers of a group
        // are both offered the next free slot.
        let mut slot = cx.held.slot_for(worker);
        let mut taken: Vec<u64> = self
            .records
            .iter()
            .filter(|(other, _)| *other != worker)
            .map(|(_, open)| open.slot)
            .collect();
        match self.records.entry(worker.to_owned()) {
            btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            btree_map::Entry::Vacant(place) => {
                let (key, mut record) = loop {
                    if taken.contains(&slot) {
                        slot += 1;
                        continue;
                    }
                    let key = cx.keys.worker(&cx.incarnation, slot);
                    let Some(value) = view.get(&key).await? else {
                        let worker = worker.to_owned();
                        break (
                            key,
                            WorkerRecord {
                                worker,
                                ..WorkerRecord::default()
                            },
                        );
                    };
                    match header::decode(&key, &value) {
                        Ok(record) => break (key, record),
                        // Put aside, and begun anew elsewhere: nobody may be kept from claiming.
                        Err(error) => {
                            let object = Object { key, value };
                            quarantine::index(cx, view, &object, &error.to_string())?;
                            taken.push(slot);
                        }
                    }
                };
                record
                    .entries
                    .retain(|entry| cx.held.holds(entry.id(), entry.epoch));
                Ok(place.insert(OpenRecord {
                    key,
                    slot,
                    record,
                    begun: false,
                }))
            }
        }
    }
}

/// What is to be done with an entry of `ready`.
enum Verdict {
    /// It is to run, and leaves its queue's exposed jobs.
    Runs(Box<Header>, Option<Queue>),
    Stale,
    LeftAlone,
}

/// Holds the entry against its header, which is the truth.
async fn judge(
    cx: &Context<'_>,
    view: &mut View<'_>,
    entry: &Object,
    ready: &ReadyKey,
) -> Result<Verdict> {
    let key = cx.keys.job(ready.id);
    let Some(value) = view.get(&key).await? else {
        tracing::warn!(job = %ready.id, "a lane named a job that is not there");
        return drop_entry(cx, view, entry, ready).await;
    };
    match Header::decode(&key, &value) {
        Ok(header)
            if header.phase == Phase::Waiting
                && header.priority == ready.priority
                && header.run_at() == ready.run_at =>
        {
            exposed(cx, view, entry, ready, header).await
        }
        Ok(_) => {
            // Whoever puts it back changes the header, so that one of the two commits fails.
            view.check(key);
            drop_entry(cx, view, entry, ready).await
        }
        Err(error) if *error.kind() == ErrorKind::TooNew => {
            tracing::warn!(job = %ready.id, "left alone: {error}");
            Ok(Verdict::LeftAlone)
        }
        Err(error) => {
            if !quarantine::header(cx, view, &key, &value, &error).await? {
                // The next claim sees what was hidden.
                return Ok(Verdict::LeftAlone);
            }
            drop_entry(cx, view, entry, ready).await
        }
    }
}

/// An entry that leads to no job goes, and does not keep its queue from serving the next one.
async fn drop_entry(
    cx: &Context<'_>,
    view: &mut View<'_>,
    entry: &Object,
    ready: &ReadyKey,
) -> Result<Verdict> {
    if let Some(hash) = header::decode_or_default::<Waiting>(entry).queue {
        match Queue::open(cx, view, hash).await {
            Ok(mut queue) => {
                // It may run, or stand elsewhere by now.
                if queue.record().exposes(ready.id) && !queue.exposes_elsewhere(ready) {
                    queue.leave(ready.id);
                }
                queue.close(cx, view).await?;
            }
            Err(error) if is_too_new(&error) => return Ok(Verdict::LeftAlone),
            Err(error) => return Err(error),
        }
    }
    view.remove(entry.key.clone());
    Ok(Verdict::Stale)
}

/// A job of a serial queue runs if the queue's record exposes it.
async fn exposed(
    cx: &Context<'_>,
    view: &mut View<'_>,
    entry: &Object,
    ready: &ReadyKey,
    header: Header,
) -> Result<Verdict> {
    let mut queue = match Queue::of(cx, view, &header).await {
        Ok(None) => return Ok(Verdict::Runs(Box::new(header), None)),
        Ok(Some(queue)) => queue,
        Err(error) if is_too_new(&error) => {
            tracing::warn!(job = %ready.id, "left alone: {error}");
            return Ok(Verdict::LeftAlone);
        }
        Err(error) => return Err(error),
    };
    if queue.record().exposes(ready.id) {
        return Ok(Verdict::Runs(Box::new(header), Some(queue)));
    }
    // It was withdrawn, by others or by a claim before this one. If it waits nowhere, the queue
    // has forgotten it, and learns of it again.
    view.remove(entry.key.clone());
    view.check(cx.keys.job(ready.id));
    let standing = Standing::of(ready.id, &header);
    let wait = queue.wait_key(cx.keys, &header.lane, standing);
    if view.get(&wait).await?.is_none() {
        queue.insert(&header.lane, standing);
    }
    queue.check(cx, view);
    queue.close(cx, view).await?;
    Ok(Verdict::Stale)
}

fn is_too_new(error: &Error) -> bool {
    matches!(error, Error::Store(error) if *error.kind() == ErrorKind::TooNew)
}
