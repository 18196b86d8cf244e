//! When and how jobs are to run instead.

use super::{Error, Result};
use crate::clock::Timestamp;

/// When and how jobs are to run instead; what is not set stays as it is.
///
/// ```
/// use kvjob::job::Reschedule;
/// let sooner = Reschedule::new().priority(-10).attempts(0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reschedule {
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) priority: Option<i16>,
    pub(crate) attempts: Option<u32>,
    pub(crate) max_attempts: Option<u32>,
}

impl Reschedule {
    /// Nothing is changed, but that jobs that ended badly wait again.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not before this time.
    #[must_use]
    pub fn run_at(mut self, run_at: impl Into<Option<Timestamp>>) -> Self {
        self.run_at = run_at.into();
        self
    }

    /// Lower runs first.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Option<i16>>) -> Self {
        self.priority = priority.into();
        self
    }

    /// As if this many attempts had been made.
    #[must_use]
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// The most attempts a job gets, at least 1.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: impl Into<Option<u32>>) -> Self {
        self.max_attempts = max_attempts.into();
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.max_attempts == Some(0) {
            return Err(Error::invalid(
                "max-attempts-zero",
                "max_attempts must be at least 1",
            ));
        }
        if let (Some(attempts), Some(most)) = (self.attempts, self.max_attempts)
            && attempts >= most
        {
            let message = format!(
                "after {attempts} attempts of at most {most} none is left: raise max_attempts"
            );
            return Err(Error::invalid("no-attempt-left", message));
        }
        Ok(())
    }
}
