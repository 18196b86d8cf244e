//! The key space: which key holds what. Keys are tuples of [`encoding::tuple`](crate::encoding::tuple).
//!
//! Every key begins with the namespace and the number of its space. A key that is built here is at
//! most 300 bytes long, so that it fits every backend we know (LMDB: 511).
//!
//! | space | then | value |
//! |---|---|---|
//! | job | id | the [header](super::header::Header) |
//! | payload | id | arguments that are too large for the header, as JSON |
//! | payload | id, revision | the same of a job that was replaced under its job key, since then |
//! | ready | tenant, task, hash of the flags, priority, `run_at`, id | a [`Waiting`] |
//! | scheduled | `run_at`, id | a [`Waiting`] |
//! | wait | hash of tenant and queue key, task, hash of the flags, priority, `run_at`, id | a [`Waiting`] |
//! | queue | hash of tenant and queue key | the [record](super::serial::Record) of a serial queue |
//! | worker | incarnation, slot | who holds which jobs |
//! | lane | which of tenant, task and flags are set; tenant, task, hash of the flags | what is set for these lanes |
//! | attention | `ended_at`, id | nothing: failed, canceled and timed-out jobs; [`LATE`]: others that ended late |
//! | unique | hash of tenant and job key | the key in full, the id |
//! | history | id, number of the first step | steps that were spilled from the header |
//! | log | id, time, writer | a log line |
//! | signal | incarnation, id | nothing: cancel requests |
//! | quarantine | a copy of the key, hash of key and value | a record that could not be read |
//! | result | id | a value that is too large for the header, as JSON |
//! | retention | | how far the [sweep](super::ops::sweep) has come |
//! | retention | id | nothing: jobs whose removal was begun |
//! | cron | id of a schedule | how far its slots are settled, and what it says |
//! | format | | the format's version |
//!
//! On a bag the keys of `history` and `log` end behind the id: see [`scheme`](super::scheme).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::scheme::Scheme;
use super::{Error, JobId, Lane, LaneFilter, Result};
use crate::clock::Timestamp;
use crate::encoding::tuple::{DecodeError, Reader, Tuple};
use crate::kv::{self, Key, Object};

/// Longest namespace, in bytes of UTF-8.
pub(crate) const MAX_NAMESPACE: usize = 32;

/// The spaces, by their numbers. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Format = 1,
    Job = 2,
    Payload = 3,
    Ready = 4,
    Scheduled = 5,
    Wait = 6,
    Queue = 7,
    Worker = 8,
    Attention = 9,
    Lane = 10,
    Unique = 11,
    History = 12,
    Log = 13,
    Signal = 14,
    Quarantine = 15,
    Retention = 16,
    Cron = 17,
    Result = 18,
}

impl Space {
    /// Every space there is.
    pub(crate) const ALL: [Self; 18] = [
        Self::Format,
        Self::Job,
        Self::Payload,
        Self::Ready,
        Self::Scheduled,
        Self::Wait,
        Self::Queue,
        Self::Worker,
        Self::Attention,
        Self::Lane,
        Self::Unique,
        Self::History,
        Self::Log,
        Self::Signal,
        Self::Quarantine,
        Self::Retention,
        Self::Cron,
        Self::Result,
    ];
}

/// What stands under the `attention` key of a job that did not end badly, but late.
pub(crate) const LATE: &[u8] = b"late";

/// What stands under a `ready`, `scheduled` or `wait` key: what the header also says, but is needed
/// before the header is read. Nothing at all where it is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The lane and priority of a scheduled job; a ready job's stand in its key, except for the
    /// full text of its flags.
    pub(crate) lane: Lane,
    pub(crate) priority: i16,
    /// Whether the payload has a key of its own, so that a claim can read it along.
    pub(crate) payload_stored: bool,
    /// The hash of its serial queue, so that the queue's record can be read along, too.
    pub(crate) queue: Option<[u8; 16]>,
}

/// Builds and reads the keys of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct KeySpace {
    namespace: Key,
    pub(crate) scheme: Scheme,
}

/// Where a job stands within its lane: the encoded (priority, `run_at`, id), compared as bytes.
pub(crate) type Position = Box<[u8]>;

/// What a `ready` key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadyKey {
    pub(crate) tenant: String,
    pub(crate) task: String,
    pub(crate) flags: [u8; 16],
    pub(crate) priority: i16,
    pub(crate) run_at: Timestamp,
    pub(crate) id: JobId,
    /// How many bytes of the key name the lane.
    pub(crate) lane_len: usize,
}

/// What a `wait` key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitKey {
    pub(crate) queue: [u8; 16],
    pub(crate) task: String,
    pub(crate) flags: [u8; 16],
    pub(crate) priority: i16,
    pub(crate) run_at: Timestamp,
    pub(crate) id: JobId,
    /// How many bytes of the key name the queue and the lane.
    pub(crate) lane_len: usize,
}

impl KeySpace {
    pub(crate) fn new(namespace: &str, scheme: Scheme) -> Result<Self> {
        super::new::check_text("namespace", namespace, 1, MAX_NAMESPACE)?;
        Ok(Self {
            namespace: Tuple::new().string(namespace).finish().into(),
            scheme,
        })
    }

    /// The keys of any namespace, without it.
    pub(crate) fn bare(scheme: Scheme) -> Self {
        Self {
            namespace: Key::EMPTY,
            scheme,
        }
    }

    /// The prefix of everything in the namespace.
    pub(crate) fn everything(&self) -> Key {
        self.namespace.clone()
    }

    fn space(&self, space: Space, room: usize) -> Tuple {
        Tuple::after(self.namespace.as_bytes(), room + 2).uint(space as u64)
    }

    fn of_job(&self, space: Space, id: JobId) -> Tuple {
        self.space(space, 40).uuid(id.as_bytes())
    }

    /// The prefix of a space.
    pub(crate) fn prefix(&self, space: Space) -> Key {
        self.space(space, 0).finish().into()
    }

    pub(crate) fn format(&self) -> Key {
        self.prefix(Space::Format)
    }

    pub(crate) fn jobs(&self) -> Key {
        self.prefix(Space::Job)
    }

    pub(crate) fn job(&self, id: JobId) -> Key {
        self.of_job(Space::Job, id).finish().into()
    }

    /// The id in a key of [`job`](Self::job).
    pub(crate) fn job_id(&self, key: &Key) -> Result<JobId> {
        self.read(Space::Job, key, |rest| {
            rest.read_uuid().map(JobId::from_bytes)
        })
    }

    /// The job whose payload, result, history or log lies under a key. What follows the id is not looked
    /// at.
    pub(crate) fn owner(&self, space: Space, key: &Key) -> Result<JobId> {
        let prefix = self.prefix(space);
        let rest = key.as_bytes().strip_prefix(prefix.as_bytes());
        let id = Reader::new(rest.unwrap_or_default()).read_uuid();
        id.map(JobId::from_bytes)
            .map_err(|error| not_ours(key, &error))
    }

    pub(crate) fn payload(&self, id: JobId) -> Key {
        self.of_job(Space::Payload, id).finish().into()
    }

    /// Arguments that came in the place of others. Each have a key of their own, so that whoever
    /// read a header never gets those of another.
    pub(crate) fn payload_since(&self, id: JobId, revision: u64) -> Key {
        self.of_job(Space::Payload, id)
            .uint(revision)
            .finish()
            .into()
    }

    pub(crate) fn result(&self, id: JobId) -> Key {
        self.of_job(Space::Result, id).finish().into()
    }

    pub(crate) fn ready_all(&self) -> Key {
        self.prefix(Space::Ready)
    }

    /// The prefix of a lane in `ready`.
    pub(crate) fn lane(&self, lane: &Lane) -> Key {
        self.space(Space::Ready, lane.tenant.len() + lane.task.len() + 64)
            .string(&lane.tenant)
            .string(&lane.task)
            .uuid(&flags_hash(&lane.flags))
            .finish()
            .into()
    }

    pub(crate) fn position(priority: i16, run_at: Timestamp, id: JobId) -> Position {
        Tuple::after(&[], 32)
            .int(priority.into())
            .int(run_at.as_micros())
            .uuid(id.as_bytes())
            .finish()
            .into()
    }

    /// The priority of the job at a position; the last one if it cannot be read.
    pub(crate) fn priority_at(position: &[u8]) -> i64 {
        Reader::new(position).read_i64().unwrap_or(i64::MAX)
    }

    pub(crate) fn ready(&self, lane: &Lane, priority: i16, run_at: Timestamp, id: JobId) -> Key {
        let lane = self.lane(lane);
        Tuple::after(lane.as_bytes(), 32)
            .int(priority.into())
            .int(run_at.as_micros())
            .uuid(id.as_bytes())
            .finish()
            .into()
    }

    pub(crate) fn read_ready(&self, key: &Key) -> Result<ReadyKey> {
        self.read(Space::Ready, key, |rest| {
            let (tenant, task) = (rest.read_string()?.into(), rest.read_string()?.into());
            let flags = rest.read_uuid()?;
            let (priority, run_at) = (rest.read_i64()?, rest.read_i64()?);
            let id = JobId::from_bytes(rest.read_uuid()?);
            let position = Self::position(
                i16::try_from(priority).unwrap_or(i16::MAX),
                Timestamp::from_micros(run_at),
                id,
            );
            Ok(ReadyKey {
                tenant,
                task,
                flags,
                priority: i16::try_from(priority).unwrap_or(i16::MAX),
                run_at: Timestamp::from_micros(run_at),
                id,
                lane_len: key.len().saturating_sub(position.len()),
            })
        })
    }

    pub(crate) fn scheduled_all(&self) -> Key {
        self.prefix(Space::Scheduled)
    }

    pub(crate) fn scheduled(&self, run_at: Timestamp, id: JobId) -> Key {
        self.space(Space::Scheduled, 32)
            .int(run_at.as_micros())
            .uuid(id.as_bytes())
            .finish()
            .into()
    }

    /// Where the jobs begin that are due later than this: exclusive.
    pub(crate) fn scheduled_after(&self, time: Timestamp) -> Key {
        self.space(Space::Scheduled, 16)
            .int(time.as_micros().saturating_add(1))
            .finish()
            .into()
    }

    pub(crate) fn read_scheduled(&self, key: &Key) -> Result<(Timestamp, JobId)> {
        self.read_time_and_id(Space::Scheduled, key)
    }

    /// Sixteen bytes for a queue key of a tenant.
    pub(crate) fn queue_hash(tenant: &str, key: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(Tuple::new().string(tenant).string(key).finish());
        shortened(hash)
    }

    /// The record of a serial queue.
    pub(crate) fn queue(&self, hash: &[u8; 16]) -> Key {
        self.space(Space::Queue, 20).uuid(hash).finish().into()
    }

    /// The hash in a key of [`queue`](Self::queue).
    pub(crate) fn read_queue(&self, key: &Key) -> Result<[u8; 16]> {
        self.read(Space::Queue, key, |rest| {
            let hash = rest.read_uuid()?;
            Ok(hash)
        })
    }

    /// The prefix of the blocked jobs of a queue.
    pub(crate) fn waits(&self, queue: &[u8; 16]) -> Key {
        self.space(Space::Wait, 20).uuid(queue).finish().into()
    }

    /// The prefix of those of them that belong into this lane. The tenant is the queue's.
    pub(crate) fn wait_lane(&self, queue: &[u8; 16], lane: &Lane) -> Key {
        self.space(Space::Wait, lane.task.len() + 80)
            .uuid(queue)
            .string(&lane.task)
            .uuid(&flags_hash(&lane.flags))
            .finish()
            .into()
    }

    pub(crate) fn wait(
        &self,
        queue: &[u8; 16],
        lane: &Lane,
        priority: i16,
        run_at: Timestamp,
        id: JobId,
    ) -> Key {
        let lane = self.wait_lane(queue, lane);
        let position = Self::position(priority, run_at, id);
        [lane.as_bytes(), &position].concat().into()
    }

    pub(crate) fn read_wait(&self, key: &Key) -> Result<WaitKey> {
        self.read(Space::Wait, key, |rest| {
            let queue = rest.read_uuid()?;
            let (task, flags) = (rest.read_string()?.into(), rest.read_uuid()?);
            let (priority, run_at) = (rest.read_i64()?, rest.read_i64()?);
            let id = JobId::from_bytes(rest.read_uuid()?);
            let priority = i16::try_from(priority).unwrap_or(i16::MAX);
            let run_at = Timestamp::from_micros(run_at);
            let position = Self::position(priority, run_at, id);
            Ok(WaitKey {
                queue,
                task,
                flags,
                priority,
                run_at,
                id,
                lane_len: key.len().saturating_sub(position.len()),
            })
        })
    }

    pub(crate) fn attention_all(&self) -> Key {
        self.prefix(Space::Attention)
    }

    pub(crate) fn attention(&self, ended_at: Timestamp, id: JobId) -> Key {
        self.space(Space::Attention, 32)
            .int(ended_at.as_micros())
            .uuid(id.as_bytes())
            .finish()
            .into()
    }

    pub(crate) fn read_attention(&self, key: &Key) -> Result<(Timestamp, JobId)> {
        self.read_time_and_id(Space::Attention, key)
    }

    pub(crate) fn workers(&self) -> Key {
        self.prefix(Space::Worker)
    }

    /// The prefix of the records of one incarnation.
    pub(crate) fn workers_of(&self, incarnation: &[u8; 16]) -> Key {
        self.space(Space::Worker, 20)
            .uuid(incarnation)
            .finish()
            .into()
    }

    pub(crate) fn worker(&self, incarnation: &[u8; 16], slot: u64) -> Key {
        self.space(Space::Worker, 32)
            .uuid(incarnation)
            .uint(slot)
            .finish()
            .into()
    }

    pub(crate) fn read_worker(&self, key: &Key) -> Result<([u8; 16], u64)> {
        self.read(Space::Worker, key, |rest| {
            Ok((rest.read_uuid()?, rest.read_u64()?))
        })
    }

    pub(crate) fn lane_settings(&self) -> Key {
        self.prefix(Space::Lane)
    }

    /// What is set for these lanes.
    pub(crate) fn lane_setting(&self, lanes: &LaneFilter) -> Key {
        let LaneFilter {
            tenant,
            task,
            flags,
        } = lanes;
        let set = [tenant.is_some(), task.is_some(), flags.is_some()];
        let kind = set
            .iter()
            .rev()
            .fold(0, |kind, set| kind << 1 | u64::from(*set));
        self.space(Space::Lane, 256)
            .uint(kind)
            .string(tenant.as_deref().unwrap_or_default())
            .string(task.as_deref().unwrap_or_default())
            .uuid(&flags_hash(flags.as_deref().unwrap_or_default()))
            .finish()
            .into()
    }

    /// The lanes that a key of [`lane_setting`](Self::lane_setting) is for, whose flags, if it is
    /// for some only, are these.
    pub(crate) fn read_lane_setting(&self, key: &Key, flags: &[String]) -> Result<LaneFilter> {
        let (kind, tenant, task) = self.read(Space::Lane, key, |rest| {
            let kind = rest.read_u64()?;
            let (tenant, task) = (rest.read_string()?, rest.read_string()?);
            rest.read_uuid()?;
            Ok((kind, tenant.into_owned(), task.into_owned()))
        })?;
        let lanes = LaneFilter {
            tenant: (kind & 1 != 0).then_some(tenant),
            task: (kind & 2 != 0).then_some(task),
            flags: (kind & 4 != 0).then(|| flags.to_vec()),
        };
        if self.lane_setting(&lanes) != *key {
            return Err(not_ours(key, &"its record has other flags"));
        }
        Ok(lanes)
    }

    pub(crate) fn unique(&self, tenant: &str, key: &str) -> Key {
        let mut hash = Sha256::new();
        hash.update(Tuple::new().string(tenant).string(key).finish());
        self.space(Space::Unique, 20)
            .uuid(&shortened(hash))
            .finish()
            .into()
    }

    pub(crate) fn histories(&self, id: JobId) -> Key {
        self.of_job(Space::History, id).finish().into()
    }

    /// A chunk of steps, the first of which has this number.
    pub(crate) fn history(&self, id: JobId, first: u32, body: &[u8]) -> Object {
        let suffix = Tuple::new().uint(first.into()).finish();
        self.scheme.object(self.histories(id), &suffix, body)
    }

    /// The record in a chunk of a job's history.
    pub(crate) fn read_history<'o>(&self, id: JobId, object: &'o Object) -> Result<&'o [u8]> {
        let read = self
            .scheme
            .read(&self.histories(id), object, Reader::read_u64);
        match read {
            Ok((_, body)) => Ok(body),
            Err(error) => Err(not_ours(&object.key, &error)),
        }
    }

    /// A chunk of a job's history with another record, at the same place.
    pub(crate) fn same_history(&self, id: JobId, object: &Object, body: &[u8]) -> Result<Object> {
        let prefix = self.histories(id);
        let read = self.scheme.read(&prefix, object, Reader::read_u64);
        let (first, _) = read.map_err(|error| not_ours(&object.key, &error))?;
        let suffix = Tuple::new().uint(first).finish();
        Ok(self.scheme.object(prefix, &suffix, body))
    }

    pub(crate) fn logs(&self, id: JobId) -> Key {
        self.of_job(Space::Log, id).finish().into()
    }

    /// A log line. The writer tells apart what several processes write in the same microsecond;
    /// each of them uses a microsecond once.
    pub(crate) fn log(&self, id: JobId, at: Timestamp, writer: u64, body: &[u8]) -> Object {
        let suffix = Tuple::new().int(at.as_micros()).uint(writer).finish();
        self.scheme.object(self.logs(id), &suffix, body)
    }

    /// Where the log of a job begins that was written at or after this time, and, with a writer,
    /// behind its line of that time.
    pub(crate) fn log_after(&self, id: JobId, at: Timestamp, writer: Option<u64>) -> kv::Cursor {
        let mut suffix = Tuple::new().int(at.as_micros());
        if let Some(writer) = writer {
            suffix = suffix.uint(writer);
        }
        // On a bag the body follows, and no body is above 0xff.
        let mut suffix = suffix.finish();
        if writer.is_some() {
            suffix.push(0xff);
        }
        self.scheme.cursor(self.logs(id), &suffix)
    }

    /// Time, writer and record of a line of a job's log.
    pub(crate) fn read_log<'o>(
        &self,
        id: JobId,
        object: &'o Object,
    ) -> Result<(Timestamp, u64, &'o [u8])> {
        let read = self.scheme.read(&self.logs(id), object, |suffix| {
            Ok((suffix.read_i64()?, suffix.read_u64()?))
        });
        match read {
            Ok(((at, writer), body)) => Ok((Timestamp::from_micros(at), writer, body)),
            Err(error) => Err(not_ours(&object.key, &error)),
        }
    }

    pub(crate) fn signals(&self, incarnation: &[u8; 16]) -> Key {
        self.space(Space::Signal, 20)
            .uuid(incarnation)
            .finish()
            .into()
    }

    pub(crate) fn signal(&self, incarnation: &[u8; 16], id: JobId) -> Key {
        self.space(Space::Signal, 40)
            .uuid(incarnation)
            .uuid(id.as_bytes())
            .finish()
            .into()
    }

    /// The job a signal is about.
    pub(crate) fn signal_id(&self, key: &Key) -> Result<JobId> {
        self.read(Space::Signal, key, |rest| {
            rest.read_uuid()?;
            rest.read_uuid().map(JobId::from_bytes)
        })
    }

    pub(crate) fn quarantines(&self) -> Key {
        self.prefix(Space::Quarantine)
    }

    /// Where this record of this key is put aside. The namespace is not repeated, so that the key
    /// stays short. The hash tells apart what was found under one key at different times, or, on
    /// a bag, at once.
    pub(crate) fn quarantine(&self, key: &Key, hash: u64) -> Key {
        let key = self.quarantines_of(key);
        Tuple::after(key.as_bytes(), 9).uint(hash).finish().into()
    }

    /// The prefix of what was put aside of a key, and of others that begin with it: see
    /// [`is_of`](Self::is_of).
    pub(crate) fn quarantines_of(&self, key: &Key) -> Key {
        let rest = behind_namespace(key);
        self.space(Space::Quarantine, rest.len() + 16)
            .bytes(rest)
            .finish()
            .into()
    }

    /// The key in this namespace of a record that was put aside under a key of the namespace its
    /// job store was in then: it may have been copied to this one since.
    pub(crate) fn here(&self, key: &Key) -> Key {
        [self.namespace.as_bytes(), behind_namespace(key)]
            .concat()
            .into()
    }

    /// Whether a key has this prefix, which ends with bytes, as elements, and not only as bytes:
    /// those that do come first.
    pub(crate) fn is_of(prefix: &Key, key: &Key) -> bool {
        let rest = key.as_bytes().strip_prefix(prefix.as_bytes());
        rest.is_some_and(|rest| rest.first() != Some(&0xff))
    }

    /// How far the sweep has come.
    pub(crate) fn retention(&self) -> Key {
        self.prefix(Space::Retention)
    }

    /// Says that the removal of this job was begun.
    pub(crate) fn removal(&self, id: JobId) -> Key {
        self.of_job(Space::Retention, id).finish().into()
    }

    /// The id in a key of [`removal`](Self::removal).
    pub(crate) fn removal_id(&self, key: &Key) -> Result<JobId> {
        self.read(Space::Retention, key, |rest| {
            rest.read_uuid().map(JobId::from_bytes)
        })
    }

    /// What is kept of a cron schedule.
    pub(crate) fn cron(&self, id: &str) -> Key {
        let key = self.space(Space::Cron, id.len() + 2);
        key.string(id).finish().into()
    }

    /// The id in a key of [`cron`](Self::cron).
    pub(crate) fn cron_id(&self, key: &Key) -> Result<String> {
        self.read(Space::Cron, key, |rest| rest.read_string().map(Into::into))
    }

    /// Which of our spaces a key is in.
    pub(crate) fn space_of(&self, key: &Key) -> Option<Space> {
        let rest = key.as_bytes().strip_prefix(self.namespace.as_bytes())?;
        let number = Reader::new(rest).read_u64().ok()?;
        Space::ALL.into_iter().find(|space| *space as u64 == number)
    }

    fn read_time_and_id(&self, space: Space, key: &Key) -> Result<(Timestamp, JobId)> {
        self.read(space, key, |rest| {
            let time = Timestamp::from_micros(rest.read_i64()?);
            Ok((time, JobId::from_bytes(rest.read_uuid()?)))
        })
    }

    fn read<T>(
        &self,
        space: Space,
        key: &Key,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T> {
        let corrupt = |reason: &dyn std::fmt::Display| not_ours(key, reason);
        let prefix = self.prefix(space);
        let rest = key.as_bytes().strip_prefix(prefix.as_bytes());
        let rest = rest.ok_or_else(|| corrupt(&"it lies in another space"))?;
        let mut reader = Reader::new(rest);
        let value = read(&mut reader).map_err(|error| corrupt(&error))?;
        reader.finish().map_err(|error| corrupt(&error))?;
        Ok(value)
    }
}

fn not_ours(key: &Key, reason: &dyn std::fmt::Display) -> Error {
    let message = format!("under the key {key} is not what kvjob writes there: {reason}");
    Error::Store(kv::Error::new(kv::ErrorKind::Corrupt, message))
}

/// A key without its namespace, whichever that is.
fn behind_namespace(key: &Key) -> &[u8] {
    let mut reader = Reader::new(key.as_bytes());
    match reader.read_string() {
        Ok(_) => reader.rest(),
        Err(_) => key.as_bytes(),
    }
}

/// Behind every key that begins with `prefix`: no element of a tuple begins with 0xff.
pub(crate) fn behind(prefix: &[u8]) -> kv::Cursor {
    let mut key = prefix.to_vec();
    key.push(0xff);
    kv::Cursor::after(key)
}

/// Sixteen bytes for a set of flags; zeros for none.
pub(crate) fn flags_hash(flags: &[String]) -> [u8; 16] {
    if flags.is_empty() {
        return [0; 16];
    }
    let mut text = Tuple::new();
    for flag in flags {
        text = text.string(flag);
    }
    let mut hash = Sha256::new();
    hash.update(text.finish());
    shortened(hash)
}

fn shortened(hash: Sha256) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(task: &str, flags: &[&str]) -> Lane {
        Lane {
            tenant: String::new(),
            task: task.to_owned(),
            flags: flags.iter().map(ToString::to_string).collect(),
        }
    }

    fn id(n: u8) -> JobId {
        JobId::from_bytes([n; 16])
    }

    #[test]
    fn the_longest_keys_fit_every_backend() {
        let keys = KeySpace::new(&"n".repeat(MAX_NAMESPACE), Scheme::UniqueKeys).unwrap();
        let lane = Lane {
            tenant: "t".repeat(64),
            task: "k".repeat(128),
            flags: vec!["f".into()],
        };
        let ready = keys.ready(&lane, i16::MIN, Timestamp::MAX, id(0));
        assert!(ready.len() <= 300, "{}", ready.len());
        assert!(keys.quarantine(&ready, u64::MAX).len() <= 400);
        let wait = keys.wait(&[0xff; 16], &lane, i16::MIN, Timestamp::MAX, id(0));
        assert!(wait.len() <= 300, "{}", wait.len());
    }

    #[test]
    fn a_ready_key_reads_back_and_names_its_lane() {
        let keys = KeySpace::new("n", Scheme::UniqueKeys).unwrap();
        let lane = lane("mail", &["slow"]);
        let run_at = Timestamp::from_micros(-7);
        let key = keys.ready(&lane, -3, run_at, id(9));
        let read = keys.read_ready(&key).unwrap();
        assert_eq!((read.priority, read.run_at, read.id), (-3, run_at, id(9)));
        assert_eq!((&*read.task, read.flags), ("mail", flags_hash(&lane.flags)));
        assert_eq!(
            &key.as_bytes()[..read.lane_len],
            keys.lane(&lane).as_bytes()
        );
        assert_eq!(
            &key.as_bytes()[read.lane_len..],
            &*KeySpace::position(-3, run_at, id(9))
        );
    }

    #[test]
    fn a_wait_key_reads_back_and_ends_as_the_ready_key_does() {
        let keys = KeySpace::new("n", Scheme::UniqueKeys).unwrap();
        let (lane, run_at) = (lane("mail", &["slow"]), Timestamp::from_micros(-7));
        let key = keys.wait(&[3; 16], &lane, -3, run_at, id(9));
        let read = keys.read_wait(&key).unwrap();
        assert_eq!((read.priority, read.run_at, read.id), (-3, run_at, id(9)));
        assert_eq!((&*read.task, read.queue), ("mail", [3; 16]));
        let prefix = keys.wait_lane(&[3; 16], &lane);
        assert_eq!(&key.as_bytes()[..read.lane_len], prefix.as_bytes());
        let ready = keys.ready(&lane, -3, run_at, id(9));
        let behind = ready.as_bytes().strip_prefix(keys.lane(&lane).as_bytes());
        assert_eq!(Some(&key.as_bytes()[read.lane_len..]), behind);
    }

    #[test]
    fn ready_keys_sort_by_priority_then_time_then_id() {
        let keys = KeySpace::new("n", Scheme::UniqueKeys).unwrap();
        let lane = lane("mail", &[]);
        let at = Timestamp::from_micros;
        let mut order = [
            (i16::MIN, at(5), id(1)),
            (-1, at(5), id(1)),
            (0, at(-5), id(9)),
            (0, at(5), id(1)),
            (0, at(5), id(2)),
            (0, at(300), id(0)),
            (i16::MAX, at(0), id(0)),
        ];
        let built: Vec<Key> = order
            .iter()
            .map(|(p, t, i)| keys.ready(&lane, *p, *t, *i))
            .collect();
        assert!(built.is_sorted());
        order.sort_by_key(|(p, t, i)| KeySpace::position(*p, *t, *i));
        assert!(order.is_sorted());
    }

    #[test]
    fn no_lane_is_a_prefix_of_another() {
        let keys = KeySpace::new("n", Scheme::UniqueKeys).unwrap();
        let lanes = [
            lane("a", &[]),
            lane("a", &["x"]),
            lane("ab", &[]),
            lane("b", &[]),
        ];
        for one in &lanes {
            for other in lanes.iter().filter(|other| *other != one) {
                assert!(!keys.lane(one).starts_with(&keys.lane(other)));
            }
        }
    }

    #[test]
    fn what_was_put_aside_in_another_namespace_belongs_to_this_one() {
        let new = |namespace| KeySpace::new(namespace, Scheme::UniqueKeys).unwrap();
        let (there, here) = (new("there"), new("here"));
        let key = there.job(id(9));
        assert_eq!(here.here(&key), here.job(id(9)));
        assert_eq!(there.here(&key), key);
        assert_eq!(
            here.quarantine(&key, 7),
            here.quarantine(&here.job(id(9)), 7)
        );
    }

    #[test]
    fn a_foreign_key_is_corrupt_not_a_panic() {
        let keys = KeySpace::new("n", Scheme::UniqueKeys).unwrap();
        for foreign in [
            keys.job(id(1)),
            keys.ready_all(),
            Key::EMPTY,
            Key::from(b"\xff\xff"),
        ] {
            assert!(keys.read_ready(&foreign).is_err());
        }
    }
}
