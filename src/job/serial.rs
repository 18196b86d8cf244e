//! Serial queues: at most so many jobs of one queue key run at a time (protocol rule 12).
//!
//! The due jobs of a queue stand in `wait`, but for the best ones of each lane while the queue has
//! room: these are *exposed* in `ready`, where claims find them. So what is blocked costs others
//! nothing. The queue's record says who runs and who is exposed. Every change of the queue rewrites
//! it, and is compared with what it was: of two processes that change a queue at once, one plans
//! again.
//!
//! The doors to a queue are in [`place`](super::place); only they change one.

use serde::{Deserialize, Serialize};

use super::header::{self, Header, Phase};
use super::keys::{KeySpace, ReadyKey, WaitKey, Waiting};
use super::ops::quarantine;
use super::plan::{Context, Effect, View, WorkerRecord};
use super::{JobId, Lane, Result, keys};
use crate::clock::Timestamp;
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Jobs of a queue that run at a time where nobody set another limit.
const DEFAULT_LIMIT: u32 = 1;
/// Lanes of a queue of which a job is exposed.
const MOST_LANES: usize = 32;
/// Jobs of a queue that are exposed, unless it has more lanes: exposing and withdrawing them has
/// to fit into a commit.
const MOST_EXPOSED: usize = 32;

/// What stands under a `queue` key. A queue of which nothing runs or is exposed, and for which no
/// limit was set, has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) tenant: String,
    /// The queue key in full, for its hash is in the key.
    pub(crate) text: String,
    /// Every change of the queue adds one, so that no two states of it have the same record.
    pub(crate) counter: u64,
    pub(crate) limit: Option<u32>,
    /// The jobs that run.
    pub(crate) running: Vec<[u8; 16]>,
    pub(crate) lanes: Vec<QueueLane>,
}

/// The jobs of a queue in one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueLane {
    pub(crate) task: String,
    pub(crate) flags: Vec<String>,
    /// Whether some may stand in `wait`. Where not, none does.
    pub(crate) waits: bool,
    /// Those that stand in `ready`, best first: none in `wait` is better.
    pub(crate) exposed: Vec<Standing>,
}

/// A due job, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) priority: i16,
    pub(crate) run_at: i64,
    pub(crate) id: [u8; 16],
    pub(crate) payload_stored: bool,
}

impl Standing {
    pub(crate) fn of(id: JobId, header: &Header) -> Self {
        Self {
            priority: header.priority,
            run_at: header.run_at,
            id: *id.as_bytes(),
            payload_stored: header.payload_stored(),
        }
    }

    fn run_at(&self) -> Timestamp {
        Timestamp::from_micros(self.run_at)
    }

    fn id(&self) -> JobId {
        JobId::from_bytes(self.id)
    }
}

impl QueueLane {
    fn is(&self, lane: &Lane) -> bool {
        self.task == lane.task && self.flags == lane.flags
    }
}

impl Record {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// How many more may run.
    fn free(&self) -> usize {
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        limit.saturating_sub(self.running.len())
    }

    /// How many jobs are to be exposed of the lane at this index.
    pub(crate) fn quota(&self, index: usize) -> usize {
        if index >= MOST_LANES {
            return 0;
        }
        self.free().min((MOST_EXPOSED / self.lanes.len()).max(1))
    }

    pub(crate) fn runs(&self, id: JobId) -> bool {
        self.running.contains(id.as_bytes())
    }

    pub(crate) fn exposes(&self, id: JobId) -> bool {
        let mut exposed = self.lanes.iter().flat_map(|lane| &lane.exposed);
        exposed.any(|one| one.id == *id.as_bytes())
    }

    /// Whether a job that stands in `wait` in this lane will be found there.
    pub(crate) fn has_waiting(&self, lane: &Lane) -> bool {
        self.lanes.iter().any(|one| one.waits && one.is(lane))
    }

    fn lane(&self, index: usize) -> Lane {
        let lane = self.lanes.get(index);
        Lane {
            tenant: self.tenant.clone(),
            task: lane.map_or_else(String::new, |lane| lane.task.clone()),
            flags: lane.map_or_else(Vec::new, |lane| lane.flags.clone()),
        }
    }

    fn is_empty(&self) -> bool {
        self.limit.is_none() && self.running.is_empty() && self.lanes.is_empty()
    }

    /// The scan that finds the best jobs of a lane in `wait`: the same whoever asks, so that it can
    /// be read ahead.
    fn scan(&self, keys: &KeySpace, hash: &[u8; 16], index: usize) -> Scan {
        let most = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let lane = self.lane(index);
        Scan::prefix(keys.wait_lane(hash, &lane)).limit(most.min(MOST_EXPOSED) + 1)
    }
}

/// A queue that is being changed; [`close`](Self::close) makes it so.
#[derive(Debug)]
pub(crate) struct Queue {
    hash: [u8; 16],
    record: Record,
    changed: bool,
    /// Jobs that came to it, with the index of their lane.
    new: Vec<(usize, Standing)>,
}

/// Where a job of a queue stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stood {
    Wait,
    Ready,
    Elsewhere,
}

impl Queue {
    /// The queue of this hash. Reads its record.
    ///
    /// # Errors
    /// `TooNew`, or what the store says.
    pub(crate) async fn open(
        cx: &Context<'_>,
        view: &mut View<'_>,
        hash: [u8; 16],
    ) -> Result<Self> {
        let key = cx.keys.queue(&hash);
        let record = match view.get(&key).await? {
            None => {
                let counter = cx.token;
                Record {
                    counter,
                    ..Record::default()
                }
            }
            Some(value) => match header::decode(&key, &value) {
                Ok(record) => record,
                Err(error) if *error.kind() == ErrorKind::TooNew => return Err(error.into()),
                Err(error) => {
                    quarantine::put_aside(cx, view, &key, &value, &error.to_string())?;
                    return Self::rebuild(cx, view, hash).await;
                }
            },
        };
        Ok(Self {
            hash,
            record,
            changed: false,
            new: Vec::new(),
        })
    }

    /// The queue of this hash, whose record is of no use: who runs and who waits is found anew.
    pub(crate) async fn rebuild(
        cx: &Context<'_>,
        view: &mut View<'_>,
        hash: [u8; 16],
    ) -> Result<Self> {
        Ok(Self {
            hash,
            record: rebuilt(cx, view, hash).await?,
            changed: true,
            new: Vec::new(),
        })
    }

    /// The queue of this header's job, if it has one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn of(
        cx: &Context<'_>,
        view: &mut View<'_>,
        header: &Header,
    ) -> Result<Option<Self>> {
        let Some(text) = &header.queue else {
            return Ok(None);
        };
        let hash = KeySpace::queue_hash(&header.lane.tenant, text);
        let mut queue = Self::open(cx, view, hash).await?;
        queue.name(&header.lane.tenant, text);
        Ok(Some(queue))
    }

    /// Says which queue key it is: a new record does not know.
    pub(crate) fn name(&mut self, tenant: &str, text: &str) {
        if self.record.text.is_empty() {
            tenant.clone_into(&mut self.record.tenant);
            text.clone_into(&mut self.record.text);
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn limit(&mut self, limit: u32) {
        self.record.limit = (limit != DEFAULT_LIMIT).then_some(limit);
        self.changed = true;
    }

    /// Whether it exposes a job at another place than this one.
    pub(crate) fn exposes_elsewhere(&self, ready: &ReadyKey) -> bool {
        let exposed = self.record.lanes.iter().flat_map(|lane| &lane.exposed);
        let mut of_job = exposed.filter(|job| job.id() == ready.id);
        of_job.any(|job| (job.priority, job.run_at()) != (ready.priority, ready.run_at))
    }

    /// A due job comes, which stands nowhere else.
    pub(crate) fn insert(&mut self, lane: &Lane, job: Standing) {
        self.changed = true;
        let known = self.record.lanes.iter().position(|one| one.is(lane));
        let index = known.unwrap_or_else(|| {
            self.record.lanes.push(QueueLane {
                task: lane.task.clone(),
                flags: lane.flags.clone(),
                ..QueueLane::default()
            });
            self.record.lanes.len() - 1
        });
        let lane = self.record.lanes.get(index);
        if lane.is_none_or(|lane| !lane.exposed.contains(&job)) {
            self.new.push((index, job));
        }
    }

    /// A job leaves it, wherever it stood; the caller removes its index key.
    pub(crate) fn leave(&mut self, id: JobId) {
        self.changed = true;
        for lane in &mut self.record.lanes {
            lane.exposed.retain(|one| one.id != *id.as_bytes());
        }
        self.record.running.retain(|one| one != id.as_bytes());
    }

    /// A job runs.
    pub(crate) fn run(&mut self, id: JobId) {
        self.leave(id);
        self.record.running.push(*id.as_bytes());
    }

    /// Lets go whom this is not true of.
    pub(crate) fn retain(&mut self, keep: impl Fn(JobId) -> bool) {
        let keep = |id: &[u8; 16]| keep(JobId::from_bytes(*id));
        self.record.running.retain(keep);
        for lane in &mut self.record.lanes {
            lane.exposed.retain(|one| keep(&one.id));
        }
        self.changed = true;
    }

    /// Where a job stands in `wait`, if it is blocked.
    pub(crate) fn wait_key(&self, keys: &KeySpace, lane: &Lane, job: Standing) -> Key {
        keys.wait(&self.hash, lane, job.priority, job.run_at(), job.id())
    }

    /// How many changes it takes at most to let one job run: the others that are exposed may have
    /// to go back.
    pub(crate) fn most_changes(&self) -> usize {
        let exposed = self.record.lanes.iter().map(|lane| lane.exposed.len());
        2 + 2 * exposed.sum::<usize>()
    }

    /// The commit holds only if the queue is as it was read.
    pub(crate) fn check(&self, cx: &Context<'_>, view: &mut View<'_>) {
        view.check(cx.keys.queue(&self.hash));
    }

    /// Exposes and withdraws jobs, until those in `ready` are the ones that belong there, and
    /// writes the record.
    pub(crate) async fn close(mut self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        loop {
            self.settle(cx, view).await?;
            let lanes = self.record.lanes.len();
            let used = |lane: &QueueLane| lane.waits || !lane.exposed.is_empty();
            self.record.lanes.retain(used);
            if self.record.lanes.len() == lanes {
                break;
            }
        }
        self.record.counter = self.record.counter.wrapping_add(1);
        let after = if self.record.is_empty() {
            None
        } else {
            Some(header::encode(&self.record)?.into())
        };
        view.replace(cx.keys.queue(&self.hash), after);
        Ok(())
    }

    async fn settle(&mut self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let lanes = 0..self.record.lanes.len();
        // Nobody knows where the lanes of a queue are whose tenant is not known.
        let quota = |index| match self.record.text.as_str() {
            "" => 0,
            _ => self.record.quota(index),
        };
        let quotas: Vec<usize> = lanes.clone().map(quota).collect();
        let lacks = |(lane, quota): (&QueueLane, &usize)| lane.waits && lane.exposed.len() < *quota;
        let lacks: Vec<bool> = self.record.lanes.iter().zip(&quotas).map(lacks).collect();
        let scans = lanes
            .zip(&lacks)
            .filter(|(_, lacks)| **lacks)
            .map(|(index, _)| self.record.scan(cx.keys, &self.hash, index))
            .collect();
        let mut pages = view.scan_many(scans).await?.into_iter();
        let new = std::mem::take(&mut self.new);
        for (index, (quota, lacks)) in quotas.into_iter().zip(lacks).enumerate() {
            let (page, all) = if lacks {
                pages.next().unwrap_or((Vec::new(), true))
            } else {
                (Vec::new(), true)
            };
            let lane = self.record.lane(index);
            let Some(stored) = self.record.lanes.get_mut(index) else {
                continue;
            };
            let exposed = std::mem::take(&mut stored.exposed);
            let mut jobs: Vec<(Standing, Stood)> =
                exposed.into_iter().map(|job| (job, Stood::Ready)).collect();
            let mine = new.iter().filter(|(at, _)| *at == index);
            jobs.extend(mine.map(|(_, job)| (*job, Stood::Elsewhere)));
            stored.waits &= !lacks || !all;
            for object in page {
                match cx.keys.read_wait(&object.key) {
                    Ok(job) => jobs.push((job.standing(&object), Stood::Wait)),
                    Err(error) => quarantine::index(cx, view, &object, &error.to_string())?,
                }
            }
            jobs.sort_unstable();
            jobs.dedup_by_key(|(job, _)| job.id);
            for (place, (job, from)) in jobs.into_iter().enumerate() {
                if place < quota {
                    stored.exposed.push(job);
                    expose(cx, view, &self.hash, &lane, job, from)?;
                } else {
                    stored.waits = true;
                    withdraw(cx, view, &self.hash, &lane, job, from)?;
                }
            }
        }
        Ok(())
    }
}

fn expose(
    cx: &Context<'_>,
    view: &mut View<'_>,
    hash: &[u8; 16],
    lane: &Lane,
    job: Standing,
    from: Stood,
) -> Result<()> {
    let (at, id) = (job.run_at(), job.id());
    match from {
        Stood::Ready => return Ok(()),
        Stood::Wait => view.remove(cx.keys.wait(hash, lane, job.priority, at, id)),
        Stood::Elsewhere => {}
    }
    let prefix = cx.keys.lane(lane);
    let position = KeySpace::position(job.priority, at, id);
    let key = [prefix.as_bytes(), &position].concat();
    view.put_new(key.into(), header::encode(&entry(hash, lane, job))?);
    view.effect(Effect::Ready {
        prefix,
        lane: lane.clone(),
        position,
    });
    Ok(())
}

fn withdraw(
    cx: &Context<'_>,
    view: &mut View<'_>,
    hash: &[u8; 16],
    lane: &Lane,
    job: Standing,
    from: Stood,
) -> Result<()> {
    let (at, id) = (job.run_at(), job.id());
    match from {
        Stood::Wait => return Ok(()),
        Stood::Ready => view.remove(cx.keys.ready(lane, job.priority, at, id)),
        Stood::Elsewhere => {}
    }
    let key = cx.keys.wait(hash, lane, job.priority, at, id);
    view.put(key, header::encode(&entry(hash, lane, job))?);
    Ok(())
}

/// What stands under a job's key in `wait`, and in `ready` when it is exposed.
fn entry(hash: &[u8; 16], lane: &Lane, job: Standing) -> Waiting {
    Waiting {
        lane: Lane {
            flags: lane.flags.clone(),
            ..Lane::default()
        },
        payload_stored: job.payload_stored,
        queue: Some(*hash),
        ..Waiting::default()
    }
}

/// Reads ahead what follows when jobs of these queues end, in one trip. Their records were loaded.
pub(crate) async fn read_ahead(
    keys: &KeySpace,
    view: &mut View<'_>,
    records: &[Key],
) -> Result<()> {
    let mut scans = Vec::new();
    for key in records {
        let (Ok(hash), Some(value)) = (keys.read_queue(key), view.stored(key)) else {
            continue;
        };
        let Ok(record) = header::decode::<Record>(key, &value) else {
            continue;
        };
        let lanes = record.lanes.iter().enumerate().take(MOST_LANES);
        let waiting = lanes.filter(|(_, lane)| lane.waits);
        scans.extend(waiting.map(|(index, _)| record.scan(keys, &hash, index)));
    }
    view.scan_ahead(scans).await
}

/// The record of a queue whose record cannot be read: who runs stands in the worker records, who
/// waits in `wait`. Who is exposed nobody knows; claims find out.
async fn rebuilt(cx: &Context<'_>, view: &mut View<'_>, hash: [u8; 16]) -> Result<Record> {
    let mut record = Record {
        counter: cx.token,
        ..Record::default()
    };
    let mut scan = Scan::prefix(cx.keys.workers());
    loop {
        let (objects, all) = view.scan(scan.clone()).await?;
        for object in &objects {
            let Ok(worker) = header::decode::<WorkerRecord>(&object.key, &object.value) else {
                continue;
            };
            for lease in worker.entries {
                let of_queue = lease.queue == Some(hash);
                if of_queue && let Some(header) = known(cx, view, lease.id()).await? {
                    record.learn(&header);
                    if header.phase == Phase::Running && header.epoch == lease.epoch {
                        record.running.push(lease.id);
                    }
                }
            }
        }
        match objects.last() {
            Some(last) if !all => scan = scan.after(Cursor::after(last.key.clone())),
            _ => break,
        }
    }
    let mut scan = Scan::prefix(cx.keys.waits(&hash)).limit(1);
    loop {
        let (objects, _) = view.scan(scan.clone()).await?;
        let Some(first) = objects.first() else {
            return Ok(record);
        };
        let Ok(wait) = cx.keys.read_wait(&first.key) else {
            scan = scan.after(Cursor::after(first.key.clone()));
            continue;
        };
        if let Some(header) = known(cx, view, wait.id).await? {
            record.learn(&header);
        }
        record.lanes.push(QueueLane {
            task: wait.task,
            flags: header::decode_or_default::<Waiting>(first).lane.flags,
            waits: true,
            exposed: Vec::new(),
        });
        let lane = first.key.as_bytes().get(..wait.lane_len);
        scan = scan.after(keys::behind(lane.unwrap_or_default()));
    }
}

impl Record {
    fn learn(&mut self, header: &Header) {
        if let (true, Some(text)) = (self.text.is_empty(), &header.queue) {
            self.tenant.clone_from(&header.lane.tenant);
            self.text.clone_from(text);
        }
    }
}

/// A header that can be read.
async fn known(cx: &Context<'_>, view: &mut View<'_>, id: JobId) -> Result<Option<Header>> {
    let key = cx.keys.job(id);
    let value = view.get(&key).await?;
    Ok(value.and_then(|value| Header::decode(&key, &value).ok()))
}

impl WaitKey {
    pub(crate) fn standing(&self, object: &Object) -> Standing {
        Standing {
            priority: self.priority,
            run_at: self.run_at.as_micros(),
            id: *self.id.as_bytes(),
            payload_stored: header::decode_or_default::<Waiting>(object).payload_stored,
        }
    }
}
