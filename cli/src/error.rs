//! Why the command could not do what it was asked: the one place that says so.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use kvjob::{job, kv};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, its causes, and what to do about it.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    advice: Option<String>,
    closed_pipe: bool,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            advice: None,
            closed_pipe: false,
        }
    }

    /// What was attempted, and why it failed.
    pub(crate) fn caused(
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(message)
        }
    }

    /// What the caller may do.
    #[must_use]
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Our output is read by nobody any more.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }
}

impl fmt::Display for Error {
    /// The message, its causes and, on a line of its own, the advice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut said = self.message.clone();
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            let text = error.to_string();
            // Errors that wrap others often repeat what those say.
            if !text.is_empty() && !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

impl From<job::Error> for Error {
    fn from(error: job::Error) -> Self {
        Self::caused("", error.clone()).lifted().advised(&error)
    }
}

impl Error {
    /// With what to do about this cause, where a command of ours helps.
    #[must_use]
    pub(crate) fn advised(self, cause: &job::Error) -> Self {
        let job::Error::Copy { code, .. } = cause else {
            return self;
        };
        match *code {
            "copy-unfinished" => self.advice(
                "The same `kvjob copy` or `kvjob restore` again finishes it, and so does one from another source.",
            ),
            "target-not-empty" => self.advice(
                "--overwrite makes it like the source, and what is only there is lost; `kvjob dump` saves it first.",
            ),
            _ => self,
        }
    }
}

impl From<kv::Error> for Error {
    fn from(error: kv::Error) -> Self {
        Self::caused("", error).lifted()
    }
}

impl Error {
    /// The cause's own text as the message, so that it does not begin with nothing.
    fn lifted(mut self) -> Self {
        if let Some(source) = &self.source {
            self.message = source.to_string();
        }
        self
    }
}

/// Only writing to standard output is turned into an error without being told what was done.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            closed_pipe,
            ..Self::caused("could not write to standard output", error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_follow_the_message_and_the_advice_stands_alone() {
        let cause = kv::Error::new(kv::ErrorKind::Backend, "open x.redb")
            .with_source(io::Error::other("disk on fire"));
        let error = Error::caused("could not open the store", cause).advice("Call for help.");
        assert_eq!(
            error.to_string(),
            "could not open the store: open x.redb: disk on fire\n  Call for help."
        );
    }

    #[test]
    fn what_a_wrapper_repeats_is_said_once() {
        let inner = kv::Error::new(kv::ErrorKind::Closed, "the store closed itself");
        let error = Error::from(job::Error::from(inner));
        assert_eq!(error.to_string(), "the store closed itself");
    }
}
