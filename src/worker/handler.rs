//! What a user writes, and what it answers.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::{BoxError, Context};
use crate::clock::Timestamp;
use crate::job::Payload;

/// Runs the jobs of a task.
///
/// Every async function or closure that takes a [`Context`] is one, as long as it answers with
/// something that is [`IntoOutcome`]: an [`Outcome`], nothing, a result as [`Json`], or a `Result`
/// of one of these. Handlers of payloads that are types of yours are [others](super::TaskHandler).
///
/// ```
/// use kvjob::worker::{Context, Handler, Outcome};
///
/// async fn check(context: Context) -> Result<Outcome, kvjob::job::Error> {
///     let number: u32 = context.job().payload.parse()?;
///     Ok(match number {
///         0 => Outcome::Fail("zero is never right".to_owned()),
///         _ => Outcome::Complete,
///     })
/// }
/// # fn is_handler(_: impl Handler) {}
/// # is_handler(check);
/// ```
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt of one job. May be called many times at once.
    async fn handle(&self, context: Context) -> Outcome;
}

#[async_trait]
impl<F, Answer> Handler for F
where
    F: Fn(Context) -> Answer + Send + Sync + 'static,
    Answer: Future<Output: IntoOutcome> + Send,
{
    async fn handle(&self, context: Context) -> Outcome {
        self(context).await.into_outcome()
    }
}

/// How an attempt ended, in the handler's words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The job is done.
    Complete,
    /// The job is done, and this is its result.
    CompleteWith(Payload),
    /// The attempt failed for this reason; another is made after the job's backoff, if it has
    /// one left.
    Retry(String),
    /// As `Retry`, but after this time.
    RetryAfter(String, Duration),
    /// The job failed for this reason, and no attempt will help.
    Fail(String),
    /// The job is to be done later; this attempt is not counted.
    Snooze(Timestamp),
    /// The job is not to be done, for this reason: it ends as canceled.
    Cancel(String),
}

/// What a handler may answer.
pub trait IntoOutcome {
    /// What it means.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// The job is done.
impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Complete
    }
}

/// An error is a [`Retry`](Outcome::Retry), for which the error and its sources are the reason.
/// Texts, the errors of `std` and of `thiserror`, boxed ones and those of `anyhow` will do.
impl<T: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(answer) => answer.into_outcome(),
            Err(error) => Outcome::Retry(reason(&*error.into())),
        }
    }
}

/// The job is done, and this is its result.
impl IntoOutcome for Payload {
    fn into_outcome(self) -> Outcome {
        Outcome::CompleteWith(self)
    }
}

/// The job's result as a value, which is stored as JSON: what a handler answers whose job is
/// waited for, alone or in a `Result`.
///
/// ```
/// use kvjob::worker::{Context, Json};
///
/// async fn count(context: Context) -> kvjob::job::Result<Json<usize>> {
///     let words: Vec<String> = context.job().payload.parse()?;
///     Ok(Json(words.len()))
/// }
/// # fn is_handler(_: impl kvjob::worker::Handler) {}
/// # is_handler(count);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// One that has no JSON fails the job for good: the next attempt would find out the same.
impl<T: Serialize> IntoOutcome for Json<T> {
    fn into_outcome(self) -> Outcome {
        match serde_json::to_string(&self.0) {
            Ok(text) => Outcome::CompleteWith(Payload::trusted(text)),
            Err(error) => Outcome::Fail(format!("the job's result has no JSON: {error}")),
        }
    }
}

/// An error and its sources, in a line: what one of them says again is said once.
pub(super) fn reason(error: &(dyn StdError + 'static)) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !text.is_empty() && !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        source = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_may_answer() {
        assert_eq!(().into_outcome(), Outcome::Complete);
        assert_eq!(Ok::<_, String>(()).into_outcome(), Outcome::Complete);
        assert_eq!(
            Err::<(), _>("no paper").into_outcome(),
            Outcome::Retry("no paper".to_owned())
        );
        let fail = Outcome::Fail("no printer".to_owned());
        assert_eq!(Ok::<_, String>(fail.clone()).into_outcome(), fail);
    }
}
