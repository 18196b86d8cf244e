//! Asking for jobs, their steps and log lines, page by page.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{JobId, Level, LogLine, State, Step};
use crate::clock::Timestamp;

/// Where a page goes on: opaque, and only for the query that gave it. Prints and reads as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The bytes it was made of; `None` if it was made elsewhere.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let digits = self.0.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        digits
            .chunks(2)
            .map(|pair| {
                let text = std::str::from_utf8(pair).ok()?;
                u8::from_str_radix(text, 16).ok()
            })
            .collect()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Some of the answers, and where the others begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The answers; may be empty although more follow.
    pub items: Vec<T>,
    /// Present if more may follow.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    pub(crate) fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }
}

/// Which jobs are asked for. What is not set matches all.
///
/// ```
/// use kvjob::job::{Query, State};
/// let query = Query::new().states([State::Failed, State::TimedOut]).task("send-mail").limit(50);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub(crate) id: Option<JobId>,
    pub(crate) task: Option<String>,
    pub(crate) states: Vec<State>,
    pub(crate) after: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) ended_before: Option<Timestamp>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<Cursor>,
}

impl Query {
    /// The page size where none is asked for.
    pub const DEFAULT_LIMIT: usize = 100;
    /// The largest page.
    pub const MAX_LIMIT: usize = 10_000;

    /// All jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this job.
    #[must_use]
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// Only jobs of this task.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Only jobs in one of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Only jobs stored at or after this time.
    #[must_use]
    pub fn after(mut self, time: Timestamp) -> Self {
        self.after = Some(time);
        self
    }

    /// Only jobs stored before this time.
    #[must_use]
    pub fn before(mut self, time: Timestamp) -> Self {
        self.before = Some(time);
        self
    }

    /// Only jobs that ended before this time.
    #[must_use]
    pub fn ended_before(mut self, time: Timestamp) -> Self {
        self.ended_before = Some(time);
        self
    }

    /// At most this many in a page: 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The page that begins here.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.cursor = cursor.into();
        self
    }

    pub(crate) fn page_size(&self) -> usize {
        self.limit
            .unwrap_or(Self::DEFAULT_LIMIT)
            .clamp(1, Self::MAX_LIMIT)
    }
}

/// Which log lines are asked for, of one job or of all. What is not set matches all.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub(crate) id: Option<JobId>,
    pub(crate) levels: Vec<Level>,
    pub(crate) after: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) limit: usize,
    pub(crate) cursor: Option<Cursor>,
}

impl LogQuery {
    /// Every line of this job, 100 a page.
    pub fn new(id: JobId) -> Self {
        Self {
            id: Some(id),
            ..Self::of_all_jobs()
        }
    }

    /// Every line of every job, 100 a page.
    pub fn of_all_jobs() -> Self {
        let limit = Query::DEFAULT_LIMIT;
        Self {
            id: None,
            levels: Vec::new(),
            after: None,
            before: None,
            limit,
            cursor: None,
        }
    }

    /// Only lines of these levels.
    #[must_use]
    pub fn levels(mut self, levels: impl IntoIterator<Item = Level>) -> Self {
        self.levels = levels.into_iter().collect();
        self
    }

    /// Whether nothing that is asked for follows this line, either.
    pub(crate) fn is_behind(&self, line: &LogLine) -> bool {
        self.id.is_some() && self.before.is_some_and(|before| line.at >= before)
    }

    pub(crate) fn matches(&self, line: &LogLine) -> bool {
        (self.levels.is_empty() || self.levels.contains(&line.level))
            && self.after.is_none_or(|after| line.at >= after)
            && self.before.is_none_or(|before| line.at < before)
    }
}

/// Which steps of histories are asked for, of one job or of all. What is not set matches all.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub(crate) id: Option<JobId>,
    pub(crate) states: Vec<State>,
    pub(crate) after: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) limit: usize,
    pub(crate) cursor: Option<Cursor>,
}

impl HistoryQuery {
    /// Every step of this job, 100 a page.
    pub fn new(id: JobId) -> Self {
        Self {
            id: Some(id),
            ..Self::of_all_jobs()
        }
    }

    /// Every step of every job, 100 a page.
    pub fn of_all_jobs() -> Self {
        let limit = Query::DEFAULT_LIMIT;
        Self {
            id: None,
            states: Vec::new(),
            after: None,
            before: None,
            limit,
            cursor: None,
        }
    }

    /// Only steps into one of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    pub(crate) fn matches(&self, step: &Step) -> bool {
        (self.states.is_empty() || self.states.contains(&step.state))
            && self.after.is_none_or(|after| step.at >= after)
            && self.before.is_none_or(|before| step.at < before)
    }
}

/// How both are asked for of a time and in pages.
macro_rules! told_in_pages {
    ($query:ident, $told:literal) => {
        impl $query {
            #[doc = concat!("Only ", $told, " at or after this time, if there is one.")]
            #[must_use]
            pub fn after(mut self, time: impl Into<Option<Timestamp>>) -> Self {
                self.after = time.into();
                self
            }

            #[doc = concat!("Only ", $told, " before this time, if there is one.")]
            #[must_use]
            pub fn before(mut self, time: impl Into<Option<Timestamp>>) -> Self {
                self.before = time.into();
                self
            }

            /// At most this many in a page: 1 to [`Query::MAX_LIMIT`].
            #[must_use]
            pub fn limit(mut self, limit: usize) -> Self {
                self.limit = limit.clamp(1, Query::MAX_LIMIT);
                self
            }

            /// The page that begins here.
            #[must_use]
            pub fn cursor(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
                self.cursor = cursor.into();
                self
            }
        }
    };
}

told_in_pages!(LogQuery, "lines written");
told_in_pages!(HistoryQuery, "steps taken");
