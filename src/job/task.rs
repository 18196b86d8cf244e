//! Tasks whose payload is a type of the user's.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Backoff, DEFAULT_MAX_ATTEMPTS, NewJob, Result};

/// Pins a payload type to the name of its task, so that whoever adds a job and whoever runs it
/// agree on both at compile time: see [`Jobs::add`](super::Jobs::add) and
/// [`Builder::register`](crate::worker::Builder::register). What else it says holds for each job
/// that is added so and does not say otherwise.
///
/// ```
/// use std::time::Duration;
/// use kvjob::job::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendEmail {
///     to: String,
/// }
///
/// impl Task for SendEmail {
///     const NAME: &'static str = "send-email";
///     const MAX_ATTEMPTS: u32 = 5;
///     const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));
/// }
/// ```
///
/// Jobs outlive the program that adds them: a field that is added to such a type needs a default
/// (`#[serde(default)]`) as long as there are jobs without it.
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name of the task.
    const NAME: &'static str;
    /// Lower runs first.
    const PRIORITY: i16 = 0;
    /// The most attempts a job gets, at least 1.
    const MAX_ATTEMPTS: u32 = DEFAULT_MAX_ATTEMPTS;
    /// How long an attempt may take; any time for `None`. A worker applies it also to jobs that
    /// were added by name and say nothing.
    const TIMEOUT: Option<Duration> = None;

    /// How long a job waits after a failed attempt.
    fn backoff() -> Backoff {
        Backoff::default()
    }
}

impl NewJob {
    /// A job of the task that this type is pinned to.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of<T: Task>(task: &T) -> Result<Self> {
        Ok(Self::new(T::NAME, task)?
            .priority(T::PRIORITY)
            .max_attempts(T::MAX_ATTEMPTS)
            .timeout(T::TIMEOUT)
            .backoff(T::backoff()))
    }
}
