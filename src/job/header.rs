//! A job's header: the record that says everything about it but the rest of its history, its
//! logs and large arguments. It is the truth; index keys follow from it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

use super::keys::KeySpace;
use super::{Backoff, Error, Job, JobId, Lane, Payload, Result, State, Step};
use crate::clock::Timestamp;
use crate::encoding::record;
use crate::kv::{self, Key};

/// The version of every record of this floor.
pub(crate) const VERSION: u8 = 1;

/// Arguments up to this many bytes stand in the header (protocol rule 3); so does a result that
/// fits into what they leave of it.
pub(crate) const MAX_INLINE: usize = 512;
/// Error texts are cut to this many bytes in the history; the full text goes to the log.
pub(crate) const MAX_REASON: usize = 1024;
/// Steps in the header before older ones spill, and how many then stay.
const MAX_RECENT: usize = 8;
const KEPT_RECENT: usize = 2;
/// Bytes of reasons in the header before older steps spill.
const MAX_RECENT_REASONS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Every write adds one (rule 1).
    pub(crate) revision: u64,
    /// The commit that wrote it last, as far as it may be asked for later (rule 2).
    pub(crate) token: u64,
    /// Changed only by claim, expiry and take-away (rule 1).
    pub(crate) epoch: u64,
    pub(crate) phase: Phase,
    pub(crate) lane: Lane,
    pub(crate) priority: i16,
    pub(crate) run_at: i64,
    /// While it waits: whether it was placed in `scheduled`. It may have been promoted since.
    pub(crate) scheduled: bool,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    /// Leases lost in a row (rule 9).
    pub(crate) losses: u32,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Option<Duration>,
    pub(crate) key: Option<JobKey>,
    /// The key of its serial queue.
    pub(crate) queue: Option<String>,
    pub(crate) holder: Option<Holder>,
    pub(crate) cancel_requested: bool,
    pub(crate) arguments: Arguments,
    /// The value it completed with.
    pub(crate) result: Option<Arguments>,
    /// Where it stands in a distributed trace: W3C trace context.
    pub(crate) traceparent: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) ended_at: Option<i64>,
    pub(crate) history: Recent,
}

/// The state as it is stored: whether a waiting job is scheduled or ready follows from `run_at`
/// (rule 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Waiting,
    Running,
    Completed,
    Failed,
    Canceled,
    TimedOut,
    Taken,
    Removed,
    /// Its satellites are being removed (rule 19); nothing accepts it any more.
    Deleting,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobKey {
    pub(crate) text: String,
    pub(crate) retain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) incarnation: [u8; 16],
    pub(crate) slot: u64,
    pub(crate) worker: String,
}

/// JSON that goes with a job: its arguments, or its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Arguments {
    Inline(String),
    Stored {
        bytes: u64,
    },
    /// As stored ones, of a job that was replaced: under a key with the revision it got then.
    Replaced {
        bytes: u64,
        revision: u64,
    },
}

/// The latest steps; older ones stand in chunks of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    /// The number of the next step.
    pub(crate) next: u32,
    /// Steps below this number may be missing: they were cleared.
    pub(crate) cleared: u32,
    pub(crate) steps: Vec<StoredStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredStep {
    pub(crate) number: u32,
    pub(crate) at: i64,
    pub(crate) state: State,
    pub(crate) attempt: u32,
    /// Which plan wrote it (rule 2).
    pub(crate) token: u64,
    /// It is not told any more; see [`Recent::clear`].
    pub(crate) cleared: bool,
    /// Whether `reason` is an attempt's error.
    pub(crate) is_error: bool,
    pub(crate) reason: Option<String>,
    pub(crate) worker: Option<String>,
}

impl Header {
    /// Reads the header under `key`.
    pub(crate) fn decode(key: &Key, value: &[u8]) -> kv::Result<Self> {
        decode(key, value)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    pub(crate) fn run_at(&self) -> Timestamp {
        Timestamp::from_micros(self.run_at)
    }

    pub(crate) fn state(&self, now: Timestamp) -> State {
        match self.phase {
            Phase::Waiting if self.run_at() > now => State::Scheduled,
            Phase::Waiting => State::Ready,
            Phase::Running => State::Running,
            Phase::Completed => State::Completed,
            Phase::Failed => State::Failed,
            Phase::Canceled => State::Canceled,
            Phase::TimedOut => State::TimedOut,
            Phase::Taken => State::Taken,
            Phase::Removed | Phase::Deleting => State::Removed,
        }
    }

    /// Whether it lost its lease twice in a row (rule 9).
    pub(crate) fn is_suspect(&self) -> bool {
        self.losses >= 2
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        let failed = self.history.last_error();
        failed.and_then(|step| step.reason.as_deref())
    }

    /// The job as its users see it. Arguments and a result with a key of their own are passed in.
    pub(crate) fn to_job(
        &self,
        id: JobId,
        payload: Option<&[u8]>,
        result: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Job> {
        Ok(Job {
            id,
            lane: self.lane.clone(),
            payload: self.arguments.read("payload", id, payload)?,
            result: self.to_result(id, result)?,
            state: self.state(now),
            priority: self.priority,
            run_at: self.run_at(),
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            backoff: self.backoff.clone(),
            timeout: self.timeout,
            key: self.key.as_ref().map(|key| key.text.clone()),
            traceparent: self.traceparent.clone(),
            queue: self.queue.clone(),
            last_error: self.last_error().map(ToOwned::to_owned),
            worker: self.holder.as_ref().map(|holder| holder.worker.clone()),
            cancel_requested: self.cancel_requested,
            created_at: Timestamp::from_micros(self.created_at),
            started_at: self.started_at.map(Timestamp::from_micros),
            ended_at: self.ended_at.map(Timestamp::from_micros),
            revision: self.revision,
            epoch: self.epoch,
        })
    }

    /// The value it completed with, if it has one. One with a key of its own is passed in.
    pub(crate) fn to_result(&self, id: JobId, stored: Option<&[u8]>) -> Result<Option<Payload>> {
        let result = self.result.as_ref();
        result
            .map(|result| result.read("result", id, stored))
            .transpose()
    }

    /// How many bytes of arguments have a key of their own.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.arguments.stored_bytes().unwrap_or(0)
    }

    /// The hash of its serial queue.
    pub(crate) fn queue_hash(&self) -> Option<[u8; 16]> {
        let text = self.queue.as_ref()?;
        Some(KeySpace::queue_hash(&self.lane.tenant, text))
    }

    /// Whether the arguments stand under a key that the id alone tells.
    pub(crate) fn payload_stored(&self) -> bool {
        matches!(self.arguments, Arguments::Stored { .. })
    }

    /// How many bytes of the result have a key of their own.
    pub(crate) fn result_bytes(&self) -> u64 {
        let result = self.result.as_ref();
        result.and_then(Arguments::stored_bytes).unwrap_or(0)
    }

    pub(crate) fn result_stored(&self) -> bool {
        let result = self.result.as_ref();
        result.and_then(Arguments::stored_bytes).is_some()
    }

    /// How many bytes a result may have to stand in the header, too (rule 3).
    pub(crate) fn room_for_result(&self) -> usize {
        match &self.arguments {
            Arguments::Inline(text) => MAX_INLINE.saturating_sub(text.len()),
            Arguments::Stored { .. } | Arguments::Replaced { .. } => MAX_INLINE,
        }
    }

    /// The key of the arguments, if they have one of their own.
    pub(crate) fn payload_key(&self, keys: &KeySpace, id: JobId) -> Option<Key> {
        match self.arguments {
            Arguments::Inline(_) => None,
            Arguments::Stored { .. } => Some(keys.payload(id)),
            Arguments::Replaced { revision, .. } => Some(keys.payload_since(id, revision)),
        }
    }
}

impl Arguments {
    /// How many bytes have a key of their own, if they do.
    fn stored_bytes(&self) -> Option<u64> {
        match self {
            Self::Stored { bytes } | Self::Replaced { bytes, .. } => Some(*bytes),
            Self::Inline(_) => None,
        }
    }

    /// The JSON; what has a key of its own is passed in.
    fn read(&self, what: &str, id: JobId, stored: Option<&[u8]>) -> Result<Payload> {
        let text = match (self, stored) {
            (Self::Inline(text), _) => text.clone(),
            (Self::Stored { bytes } | Self::Replaced { bytes, .. }, Some(stored))
                if stored.len() as u64 == *bytes =>
            {
                let text = std::str::from_utf8(stored).map_err(|error| {
                    corrupt(format!("the {what} of job {id} is not UTF-8: {error}"))
                })?;
                text.to_owned()
            }
            (Self::Stored { bytes } | Self::Replaced { bytes, .. }, stored) => {
                let found = stored.map_or("nothing".to_owned(), |found| {
                    format!("{} bytes", found.len())
                });
                return Err(corrupt(format!(
                    "the {what} of job {id} should have {bytes} bytes, its key holds {found}"
                ))
                .into());
            }
        };
        Ok(Payload::trusted(text))
    }
}

impl Recent {
    /// Whether the job may have steps in chunks of their own.
    pub(crate) fn has_spilled(&self) -> bool {
        self.next as usize != self.steps.len()
    }

    fn last_error(&self) -> Option<&StoredStep> {
        self.steps.iter().rev().find(|step| step.is_error)
    }

    /// What failed before is no longer the job's last error; the reasons stay in the steps.
    pub(crate) fn clear_errors(&mut self) {
        for step in &mut self.steps {
            step.is_error = false;
            if step.cleared {
                step.reason = None;
            }
        }
    }

    /// Clears those steps of these numbers that are told here, and returns them.
    ///
    /// Each leaves its place, which says which commit took the step, for somebody may still want
    /// to know whether it landed (rule 2), and why the job failed last. That goes when the
    /// steps spill.
    pub(crate) fn clear(&mut self, numbers: &BTreeSet<u32>) -> Vec<StoredStep> {
        let last_error = self.last_error().map(|step| step.number);
        let mut cleared = Vec::new();
        for step in &mut self.steps {
            if step.cleared || !numbers.contains(&step.number) {
                continue;
            }
            cleared.push(step.clone());
            step.cleared = true;
            step.worker = None;
            if Some(step.number) != last_error {
                step.is_error = false;
                step.reason = None;
            }
        }
        cleared
    }

    /// Takes out what no longer fits beside the latest steps (rule 3). The latest error stays, so
    /// that a job's last error is in its header.
    pub(crate) fn spill(&mut self) -> Vec<StoredStep> {
        let reasons: usize = self
            .steps
            .iter()
            .map(|step| step.reason.as_ref().map_or(0, String::len))
            .sum();
        let fits = self.steps.len() <= MAX_RECENT && reasons <= MAX_RECENT_REASONS;
        if fits || self.steps.len() <= KEPT_RECENT {
            return Vec::new();
        }
        let last_error = self.last_error().map(|step| step.number);
        let kept_from = self.steps.len().saturating_sub(KEPT_RECENT);
        let (mut spilled, mut kept) = (Vec::new(), Vec::new());
        for (index, step) in self.steps.drain(..).enumerate() {
            if index >= kept_from || Some(step.number) == last_error {
                kept.push(step);
            } else if !step.cleared {
                spilled.push(step);
            }
        }
        self.steps = kept;
        spilled
    }
}

impl StoredStep {
    pub(crate) fn to_step(&self) -> Step {
        Step {
            number: self.number,
            at: Timestamp::from_micros(self.at),
            state: self.state,
            attempt: self.attempt,
            reason: self.reason.clone(),
            worker: self.worker.clone(),
        }
    }
}

/// At most `most` bytes of a text, cut between characters, and marked where cut.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut cut = most.saturating_sub(MARK.len());
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{MARK}", text.get(..cut).unwrap_or_default())
}

/// A record of this floor.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    record::encode(VERSION, value).map_err(|error| {
        Error::Store(
            kv::Error::new(
                kv::ErrorKind::Unsupported,
                format!("cannot write a record: {error}"),
            )
            .with_source(error),
        )
    })
}

/// Reads a record of this floor: `Corrupt` or `TooNew` with its key where that fails.
pub(crate) fn decode<T: DeserializeOwned>(key: &Key, value: &[u8]) -> kv::Result<T> {
    record::open(value, VERSION)
        .and_then(|(_, body)| body.decode())
        .map_err(|error| {
            let kind = match error {
                record::DecodeError::TooNew { .. } => kv::ErrorKind::TooNew,
                _ => kv::ErrorKind::Corrupt,
            };
            kv::Error::new(kind, format!("reading the record under {key}: {error}"))
                .with_source(error)
        })
}

/// Reads a record that is only a hint: what cannot be read, or is empty, is the default.
pub(crate) fn decode_or_default<T: DeserializeOwned + Default>(object: &kv::Object) -> T {
    if object.value.is_empty() {
        return T::default();
    }
    decode(&object.key, &object.value).unwrap_or_default()
}

fn corrupt(message: String) -> kv::Error {
    kv::Error::new(kv::ErrorKind::Corrupt, message)
}
