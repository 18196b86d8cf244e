//! What a user writes, and what it answers.

use std::fmt::Display;

use async_trait::async_trait;

use super::Context;
use crate::clock::Timestamp;

/// Runs the jobs of a task.
///
/// Every async function or closure that takes a [`Context`] is one, as long as it answers with
/// something that is [`IntoOutcome`]: an [`Outcome`], nothing, or a `Result` of either.
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
    /// The attempt failed for this reason; another is made after the job's backoff, if it has
    /// one left.
    Retry(String),
    /// The job failed for this reason, and no attempt will help.
    Fail(String),
    /// The job is to be done later; this attempt is not counted.
    Snooze(Timestamp),
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

/// An error is a [`Retry`](Outcome::Retry), for which its alternate form (`{:#}`) is the reason:
/// error types that can print their causes do so there.
impl<T: IntoOutcome, E: Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(answer) => answer.into_outcome(),
            Err(error) => Outcome::Retry(format!("{error:#}")),
        }
    }
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
