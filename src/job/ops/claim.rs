//! Taking the next due jobs, with a lease or for good.
//!
//! All claims of a group are planned at once, behind its other operations: one pass over the
//! lanes feeds them all.

use std::time::Duration;

use super::super::header::{self, Header, Holder, Phase};
use super::super::keys::ReadyKey;
use super::super::kv_store::{Context, Effect, Entry, View, WorkerRecord};
use super::super::transition::{self, Why};
use super::super::{Claimed, Claims, Job, JobId, Lease, Result, Selector, State};
use super::{promote, quarantine};
use crate::kv::{ErrorKind, Key, Object};

mod heads;

use heads::Heads;

/// A caller who waits for jobs.
#[derive(Clone, Debug)]
pub(in crate::job) struct Wanted {
    pub(in crate::job) selector: Selector,
    pub(in crate::job) max: usize,
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

/// Plans every claim of a group. The answers stand in the order of the callers.
pub(in crate::job) async fn plan(
    cx: &Context<'_>,
    view: &mut View<'_>,
    callers: &[&Wanted],
) -> Result<Vec<Got>> {
    let next_due = promote::plan(cx, view).await?;
    let mut got: Vec<Option<Got>> = vec![None; callers.len()];
    let mut suspect_out = cx.held.has_suspect();
    for (first, caller) in callers.iter().enumerate() {
        if got.get(first).is_some_and(Option::is_some) {
            continue;
        }
        // Everyone with the same wishes is fed from one pass.
        let alike: Vec<usize> = (first..callers.len())
            .filter(|index| {
                callers
                    .get(*index)
                    .is_some_and(|one| one.selector == caller.selector)
            })
            .collect();
        let total = alike
            .iter()
            .filter_map(|index| callers.get(*index))
            .map(|one| one.max)
            .sum();
        let mut heads = Heads::new(cx, view, &caller.selector, total).await?;
        for index in alike {
            let Some(wanted) = callers.get(index) else {
                continue;
            };
            let (jobs, full) = serve(cx, view, wanted, &mut heads, &mut suspect_out).await?;
            // Who got nothing because the commit is full should come again at once.
            let next_due = if jobs.is_empty() && full {
                Some(cx.now)
            } else {
                next_due
            };
            if let Some(answer) = got.get_mut(index) {
                *answer = Some(match &wanted.mode {
                    Mode::Take => Got::Taken(jobs.into_iter().map(|taken| taken.job).collect()),
                    Mode::Lease { .. } => Got::Claims(Claims { jobs, next_due }),
                });
            }
        }
        heads.remember(view);
    }
    Ok(got
        .into_iter()
        .map(|got| got.unwrap_or(Got::Taken(Vec::new())))
        .collect())
}

/// Takes up to `max` jobs for one caller.
async fn serve(
    cx: &Context<'_>,
    view: &mut View<'_>,
    wanted: &Wanted,
    heads: &mut Heads<'_>,
    suspect_out: &mut bool,
) -> Result<(Vec<Claimed>, bool)> {
    let mut taken: Vec<Claimed> = Vec::new();
    let (mut alone, mut full) = (false, false);
    let mut record: Option<(Key, u64, WorkerRecord)> = None;
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
                quarantine::index(cx, view, &entry, &error.to_string())?;
                continue;
            }
        };
        let (mut header, job_key) = match judge(cx, view, &entry, &ready).await? {
            Verdict::Runs(header, key) => (header, key),
            Verdict::Stale => continue,
            Verdict::LeftAlone => {
                passed_over.push(entry);
                continue;
            }
        };
        let leases = matches!(wanted.mode, Mode::Lease { .. });
        if leases && header.is_suspect() && (*suspect_out || !taken.is_empty()) {
            // One at a time, and alone (rule 9).
            passed_over.push(entry);
            continue;
        }
        view.remove(entry.key.clone());
        alone = leases && header.is_suspect();
        *suspect_out |= alone;
        let claimed = match &wanted.mode {
            Mode::Take => {
                transition::end(cx, view, ready.id, &mut header, Phase::Taken, Why::Nothing)
                    .await?;
                let epoch = header.epoch;
                let job = transition::to_job(cx, view, ready.id, &header).await;
                job.map(|job| Claimed {
                    lease: Lease {
                        id: job.id,
                        epoch,
                        deadline: cx.now,
                    },
                    job,
                })
            }
            Mode::Lease { worker, lease } => {
                let (_, slot, record) = match &mut record {
                    Some(record) => record,
                    None => record.insert(open_record(cx, view, worker, wanted.max).await?),
                };
                record.lease = record.lease.max(micros(*lease));
                begin(cx, view, ready.id, header, worker, *slot, *lease, record).await
            }
        };
        match claimed {
            Ok(claimed) => taken.push(claimed),
            // Its arguments cannot be read: put it aside, or it would be claimed again and again.
            Err(super::super::Error::Store(error)) if *error.kind() == ErrorKind::Corrupt => {
                if let Some(value) = view.stored(&job_key) {
                    quarantine::header(cx, view, &job_key, &value, &error)?;
                }
                if let Some((_, _, record)) = &mut record {
                    record.entries.retain(|entry| entry.id() != ready.id);
                }
            }
            Err(error) => return Err(error),
        }
    }
    heads.give_back(passed_over);
    if let Some((key, slot, record)) = record
        && !record.entries.is_empty()
    {
        for claimed in &taken {
            view.effect(Effect::Leased {
                id: claimed.lease.id,
                epoch: claimed.lease.epoch,
                worker: record.worker.clone(),
                slot,
                suspect: alone,
            });
        }
        view.replace(key, Some(header::encode(&record)?.into()));
    }
    Ok((taken, full))
}

/// What is to be done with an entry of `ready`.
enum Verdict {
    Runs(Header, Key),
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
        view.remove(entry.key.clone());
        return Ok(Verdict::Stale);
    };
    match Header::decode(&key, &value) {
        Ok(header)
            if header.phase == Phase::Waiting
                && header.priority == ready.priority
                && header.run_at() == ready.run_at =>
        {
            Ok(Verdict::Runs(header, key))
        }
        Ok(_) => {
            // Whoever puts it back changes the header, so that one of the two commits fails.
            view.check(key);
            view.remove(entry.key.clone());
            Ok(Verdict::Stale)
        }
        Err(error) if *error.kind() == ErrorKind::TooNew => {
            tracing::warn!(job = %ready.id, "left alone: {error}");
            Ok(Verdict::LeftAlone)
        }
        Err(error) => {
            quarantine::header(cx, view, &key, &value, &error)?;
            view.remove(entry.key.clone());
            Ok(Verdict::Stale)
        }
    }
}

/// The worker record in which new leases go, without those that have ended (rule 6).
async fn open_record(
    cx: &Context<'_>,
    view: &mut View<'_>,
    worker: &str,
    leases: usize,
) -> Result<(Key, u64, WorkerRecord)> {
    let slot = cx.held.slot_for(worker, leases);
    let key = cx.keys.worker(&cx.incarnation, slot);
    let mut record = match view.get(&key).await? {
        Some(value) => header::decode(&key, &value)?,
        None => WorkerRecord {
            worker: worker.to_owned(),
            ..WorkerRecord::default()
        },
    };
    let begun: Vec<(JobId, u64)> = view.leased().collect();
    record.entries.retain(|entry| {
        cx.held.holds(entry.id(), entry.epoch) || begun.contains(&(entry.id(), entry.epoch))
    });
    Ok((key, slot, record))
}

/// Begins an attempt under a lease.
#[expect(clippy::too_many_arguments)]
async fn begin(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    mut header: Header,
    worker: &str,
    slot: u64,
    lease: Duration,
    record: &mut WorkerRecord,
) -> Result<Claimed> {
    let deadline = cx.now.after(lease);
    header.phase = Phase::Running;
    header.scheduled = false;
    header.attempts = header.attempts.saturating_add(1);
    header.epoch += 1;
    header.started_at = Some(cx.now.as_micros());
    header.holder = Some(Holder {
        incarnation: cx.incarnation,
        slot,
        worker: worker.to_owned(),
    });
    transition::step(cx, &mut header, State::Running, Why::Nothing);
    let job = transition::to_job(cx, view, id, &header).await?;
    transition::write(cx, view, id, &mut header)?;
    record.entries.push(Entry {
        id: *id.as_bytes(),
        epoch: header.epoch,
        deadline: deadline.as_micros(),
    });
    let job = Job {
        revision: header.revision,
        ..job
    };
    Ok(Claimed {
        lease: Lease {
            id,
            epoch: header.epoch,
            deadline,
        },
        job,
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
