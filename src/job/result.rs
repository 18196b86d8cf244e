//! How a job ended.

use serde::{Deserialize, Serialize};

use super::{Error, Job, JobId, Payload, Result, State};

/// How a job ended, as [`wait`](super::ResultStore::wait) tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// The job.
    pub id: JobId,
    /// How: a final state.
    pub state: State,
    /// The value it completed with, if it has one.
    pub result: Option<Payload>,
    /// Why it failed, timed out or was canceled, where somebody said so; cut to 1 KiB.
    pub error: Option<String>,
}

impl Ended {
    /// The value it completed with, as a `T`. A job that completed without one has `null`.
    ///
    /// ```no_run
    /// # async fn example(jobs: kvjob::job::KvStore, id: kvjob::job::JobId) -> kvjob::job::Result<()> {
    /// use std::time::Duration;
    /// use kvjob::job::ResultStore as _;
    ///
    /// let pages: u32 = jobs.wait(id, Duration::from_secs(30)).await?.value()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): `job-not-completed` if it ended in another way, with its
    /// error; `payload-mismatch` if the value is not a `T`.
    pub fn value<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        if self.state != State::Completed {
            let (id, state) = (self.id, self.state);
            let reason = self.error.as_deref().unwrap_or("nobody said why");
            let message = format!("job {id} has no value, for it is {state}: {reason}");
            return Err(Error::invalid("job-not-completed", message));
        }
        match &self.result {
            Some(result) => result.parse(),
            None => Payload::default().parse(),
        }
    }

    /// How this job ended, if it did.
    pub(crate) fn of(job: Job) -> Option<Self> {
        if !job.state.is_final() {
            return None;
        }
        let bad = matches!(job.state, State::Failed | State::Canceled | State::TimedOut);
        Some(Self {
            id: job.id,
            state: job.state,
            result: job.result,
            error: job.last_error.filter(|_| bad),
        })
    }

    /// It was there and is not any more.
    pub(crate) fn removed(id: JobId) -> Self {
        Self {
            id,
            state: State::Removed,
            result: None,
            error: None,
        }
    }
}
