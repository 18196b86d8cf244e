//! A job to be stored.

use std::time::Duration;

use serde::Serialize;

use super::{Backoff, Error, KeyMode, Lane, Payload, Result};
use crate::clock::Timestamp;

/// Longest task name, in bytes of UTF-8.
pub const MAX_TASK: usize = 128;
/// Longest tenant, in bytes of UTF-8.
pub const MAX_TENANT: usize = 64;
/// Longest job key, in bytes of UTF-8.
pub const MAX_KEY: usize = 512;
/// Longest queue key, in bytes of UTF-8.
pub const MAX_QUEUE: usize = 128;
/// The highest limit of a queue: jobs of it that run at a time.
pub const MAX_QUEUE_LIMIT: u32 = 1024;
/// Most flags of a job.
pub const MAX_FLAGS: usize = 16;
/// Longest flag, in bytes of UTF-8.
pub const MAX_FLAG: usize = 64;
/// Attempts a job gets where it does not say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 25;

/// A job to be stored: a task, its arguments, and what else is known.
///
/// ```
/// use kvjob::job::NewJob;
/// let job = NewJob::new("send-mail", &["ada@example.org"])?.priority(-5).max_attempts(3);
/// # Ok::<(), kvjob::job::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(crate) lane: Lane,
    pub(crate) payload: Payload,
    pub(crate) priority: i16,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Option<Duration>,
    pub(crate) key: Option<NewKey>,
    pub(crate) key_mode: Option<KeyMode>,
    pub(crate) traceparent: Option<String>,
    pub(crate) queue: Option<String>,
}

/// A job key to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub(crate) text: String,
    pub(crate) retain: bool,
}

impl NewJob {
    /// A job for this task with the JSON of `payload`.
    ///
    /// # Errors
    /// As [`Payload::of`]. Names and sizes are checked when it is enqueued.
    pub fn new<T: Serialize + ?Sized>(task: impl Into<String>, payload: &T) -> Result<Self> {
        Ok(Self::with_payload(task, Payload::of(payload)?))
    }

    /// A job for this task with this payload.
    pub fn with_payload(task: impl Into<String>, payload: Payload) -> Self {
        Self {
            lane: Lane {
                task: task.into(),
                ..Lane::default()
            },
            payload,
            priority: 0,
            run_at: None,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            backoff: Backoff::default(),
            timeout: None,
            key: None,
            key_mode: None,
            traceparent: None,
            queue: None,
        }
    }

    /// Lower runs first; 0 where not said.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this time; at once where not said.
    #[must_use]
    pub fn run_at(mut self, run_at: impl Into<Option<Timestamp>>) -> Self {
        self.run_at = run_at.into();
        self
    }

    /// The most attempts it gets, at least 1; 25 where not said.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// How long it waits after a failed attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long an attempt may take; any time where not said.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// A job key: no two jobs of this tenant wait under one key. What becomes of this job if
    /// another has the key says the [mode](Self::key_mode). The key is free again when its job
    /// completes.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(NewKey {
            text: key.into(),
            retain: false,
        });
        self
    }

    /// As [`key`](Self::key), but the key stays taken until the job is purged.
    #[must_use]
    pub fn retained_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(NewKey {
            text: key.into(),
            retain: true,
        });
        self
    }

    /// What becomes of this job if another has its key; [`KeyMode::UnsafeDedupe`] where not said.
    #[must_use]
    pub fn key_mode(mut self, mode: KeyMode) -> Self {
        self.key_mode = Some(mode);
        self
    }

    /// Where it stands in a distributed trace: the `traceparent` of
    /// [W3C trace context](https://www.w3.org/TR/trace-context/#traceparent-header), such as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. It is handed on to whoever runs
    /// the job.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<Option<String>>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// A serial queue: of the jobs of this tenant with this queue key one runs at a time,
    /// whichever process claims them, or as many as
    /// [`limit_queue`](crate::job::KvStore::limit_queue) says. They run in the order of any lane;
    /// while one waits for its retry the next one runs.
    ///
    /// A queue is meant for jobs of a few tasks and sets of flags. Of more than 32 of them, those
    /// that came last wait for the others.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// A tenant of its own: claims may ask for one tenant's jobs, job keys are a tenant's own.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.lane.tenant = tenant.into();
        self
    }

    /// A flag: claims may forbid flags.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.lane.flags.push(flag.into());
        self
    }

    /// Checks names and sizes and brings the flags in order.
    pub(crate) fn checked(mut self, max_payload: usize) -> Result<Self> {
        check_text("task", &self.lane.task, 1, MAX_TASK)?;
        check_text("tenant", &self.lane.tenant, 0, MAX_TENANT)?;
        self.lane.flags.sort();
        self.lane.flags.dedup();
        if self.lane.flags.len() > MAX_FLAGS {
            let count = self.lane.flags.len();
            return Err(Error::invalid(
                "too-many-flags",
                format!("{count} flags are more than the {MAX_FLAGS} a job may have"),
            ));
        }
        for flag in &self.lane.flags {
            check_text("flag", flag, 1, MAX_FLAG)?;
        }
        if let Some(key) = &self.key {
            check_text("job key", &key.text, 1, MAX_KEY)?;
        } else if let Some(mode) = self.key_mode {
            let message = format!("the mode {mode} says nothing without a job key: give it one");
            return Err(Error::invalid("key-mode-without-key", message));
        }
        if let Some(traceparent) = &self.traceparent
            && !is_traceparent(traceparent)
        {
            let start: String = traceparent.chars().take(64).collect();
            return Err(Error::invalid(
                "bad-traceparent",
                format!("{start:?} is no traceparent such as 00-<32 hex digits>-<16>-01"),
            ));
        }
        if let Some(queue) = &self.queue {
            check_queue(queue)?;
        }
        if self.max_attempts == 0 {
            return Err(Error::invalid(
                "max-attempts-zero",
                "max_attempts must be at least 1",
            ));
        }
        let size = self.payload.as_str().len();
        if size > max_payload {
            return Err(Error::invalid(
                "payload-too-large",
                format!(
                    "a payload of {size} bytes is over the limit of {max_payload}: store it elsewhere and enqueue where it is"
                ),
            ));
        }
        Ok(self)
    }
}

/// Whether it is a `traceparent` as W3C trace context has it in version 00: four fields of lower-case
/// hexadecimal digits, of which neither the trace nor the parent is all zeros.
fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = fields.as_slice() else {
        return false;
    };
    let is_hex = |field: &str, digits| {
        field.len() == digits
            && field
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |field: &str, digits| is_hex(field, digits) && field.bytes().any(|b| b != b'0');
    is_hex(version, 2)
        && *version != "ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2)
}

/// Refuses what cannot be a queue key.
pub(crate) fn check_queue(queue: &str) -> Result<()> {
    if queue.len() > MAX_QUEUE {
        let start: String = queue.chars().take(24).collect();
        let message = format!(
            "queue key {start:?}... of {} bytes is over the limit of {MAX_QUEUE}",
            queue.len()
        );
        return Err(Error::invalid("queue-key-too-long", message));
    }
    check_text("queue key", queue, 1, MAX_QUEUE)
}

/// Refuses texts that are too short, too long, or hold control characters.
pub(crate) fn check_text(what: &str, text: &str, shortest: usize, longest: usize) -> Result<()> {
    let complain = |code, problem: String| Err(Error::invalid(code, format!("{what} {problem}")));
    if text.len() < shortest {
        return complain("empty-name", "must not be empty".to_owned());
    }
    if text.len() > longest {
        let start: String = text.chars().take(24).collect();
        return complain(
            "name-too-long",
            format!(
                "{start:?}... of {} bytes is over the limit of {longest}",
                text.len()
            ),
        );
    }
    if text.chars().any(char::is_control) {
        return complain(
            "control-character",
            format!("{text:?} holds a control character"),
        );
    }
    Ok(())
}
