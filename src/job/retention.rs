//! How long jobs are kept after they ended (protocol rule 19). What removes them is
//! [`ops::sweep`](super::ops::sweep).

use std::time::Duration;

use super::JobId;
use super::header::{Header, Phase};
use super::keys::{KeySpace, LATE};
use crate::clock::Timestamp;
use crate::kv::Key;

/// How much later than its id's time a job may end and still be found by the walk through the
/// ids. One that ends later gets an `attention` entry instead.
pub(crate) const WALK_WAITS: Duration = Duration::from_secs(60 * 60);

/// How long jobs are kept after they ended, before they are removed with all that belongs to
/// them. Nothing is removed unless this says so.
///
/// No job is removed earlier than [`SHORTEST`](Self::SHORTEST) after it ended, but for one case:
/// `completed` of zero removes a job in the very commit that completes it.
///
/// A job is removed by the first process that finds it old enough: where several share a store,
/// the shortest of their times counts.
///
/// ```
/// use std::time::Duration;
/// use kvjob::job::{Options, Retention};
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// let options = Options::default().retention(Retention::new().completed(DAY).failed(30 * DAY));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub(crate) completed: Option<Duration>,
    pub(crate) failed: Option<Duration>,
}

impl Retention {
    /// The shortest time a job that ended is kept. Whoever lost the answer to the operation that
    /// ended it finds out from its header what became of it (protocol rule 2), and no commit may
    /// take longer than this to be applied.
    pub const SHORTEST: Duration = Duration::from_secs(5 * 60);

    /// All jobs are kept for ever.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long completed jobs are kept, and those that were taken out of the queue without a
    /// lease. Zero removes a job when it completes; its job key is then free, also a retained one.
    #[must_use]
    pub fn completed(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.completed = time.into();
        self
    }

    /// How long failed, canceled and timed-out jobs are kept. One that is retried has not ended.
    #[must_use]
    pub fn failed(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.failed = time.into();
        self
    }

    /// Whether a job is removed in the commit that completes it.
    pub(crate) fn removes_at_once(self) -> bool {
        self.completed == Some(Duration::ZERO)
    }

    /// Whether anything is ever removed.
    pub(crate) fn removes(self) -> bool {
        self.completed.is_some() || self.failed.is_some()
    }
}

/// The two kinds of ends, which are kept for times of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Completed, taken or removed.
    Done,
    /// Failed, canceled or timed out: somebody may look for it.
    Bad,
}

impl End {
    /// How a job ended; `None` if it did not, or is being removed.
    pub(crate) fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Waiting | Phase::Running | Phase::Deleting => None,
            Phase::Completed | Phase::Taken | Phase::Removed => Some(Self::Done),
            Phase::Failed | Phase::Canceled | Phase::TimedOut => Some(Self::Bad),
        }
    }
}

/// The `attention` entry that a job with this header has: every one that ended badly, and every
/// one that ended later than the walk through the ids waits for it.
pub(crate) fn attention(
    keys: &KeySpace,
    id: JobId,
    header: &Header,
) -> Option<(Key, &'static [u8])> {
    let ended_at = Timestamp::from_micros(header.ended_at?);
    let value = match End::of(header.phase)? {
        End::Bad => &[],
        End::Done if ended_at.since(id.time()) > WALK_WAITS => LATE,
        End::Done => return None,
    };
    Some((keys.attention(ended_at, id), value))
}
