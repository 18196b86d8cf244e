//! How a runtime is put together.

use std::fmt;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::{self, Plan};
use super::schedules::Given;
use super::{ManualClock, Runtime};
use crate::clock::Timestamp;
use crate::job::{Error, Result};
use crate::kv::{self, ErrorKind};
use crate::worker;

/// How long a handler may wait for something other than time, in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts a [`Runtime`] together.
#[must_use = "a builder does nothing until it is built"]
pub struct RuntimeBuilder {
    seed: u64,
    starts_at: Option<Timestamp>,
    worker: Box<dyn FnOnce(worker::Builder) -> worker::Builder + Send>,
    schedules: Given,
    patience: Duration,
}

impl RuntimeBuilder {
    pub(super) fn new() -> Self {
        Self {
            seed: 0,
            starts_at: None,
            worker: Box::new(|worker| worker),
            schedules: Given::default(),
            patience: PATIENCE,
        }
    }

    /// Handlers, what they share, and options, as they are given to a real worker; so the function
    /// that puts together the one of the program will do:
    ///
    /// ```
    /// use kvjob::testkit::Runtime;
    /// use kvjob::worker::{Builder, Context};
    ///
    /// /// What our workers run, wherever they are.
    /// fn handlers(worker: Builder) -> Builder {
    ///     worker.handler("greet", |_: Context| async {})
    /// }
    /// # async fn example() -> kvjob::job::Result<()> {
    /// let mut test = Runtime::builder().worker(handlers).build().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// May be said several times. The clock is the test's, whatever is said here, and signals are
    /// not listened to.
    pub fn worker(
        mut self,
        worker: impl FnOnce(worker::Builder) -> worker::Builder + Send + 'static,
    ) -> Self {
        let before = self.worker;
        self.worker = Box::new(move |builder| worker(before(builder)));
        self
    }

    /// The schedules of a [crontab](crate::cron::parse). Their slots count from the start.
    ///
    /// # Errors
    /// What is wrong in it, with line and column.
    #[cfg(feature = "cron")]
    pub fn crontab(mut self, text: &str) -> Result<Self, crate::cron::CrontabError> {
        self.schedules.0.extend(crate::cron::parse(text)?);
        Ok(self)
    }

    /// A schedule. Its slots count from the start.
    #[cfg(feature = "cron")]
    pub fn schedule(mut self, schedule: crate::cron::Schedule) -> Self {
        self.schedules.0.push(schedule);
        self
    }

    /// What ids and jitter follow from; 0 where not said.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The time at the start; 2026-01-01T00:00:00Z, a Thursday, where not said.
    pub fn starts_at(mut self, time: Timestamp) -> Self {
        self.starts_at = Some(time);
        self
    }

    #[cfg(test)]
    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The runtime.
    ///
    /// # Errors
    /// What a [worker](worker::Builder::build) or a scheduler says that cannot be, such as
    /// `no-handler`, `missing-data` or `duplicate-schedule`.
    pub async fn build(self) -> Result<Runtime> {
        let clock = match self.starts_at {
            Some(time) => ManualClock::at(time, self.seed),
            None => ManualClock::new(self.seed),
        };
        let plan = Plan {
            clock: clock.clone(),
            worker: self.worker,
            schedules: self.schedules,
            patience: self.patience,
        };
        let (ready, started) = oneshot::channel();
        // What is traced is seen by whoever sees what this thread traces.
        let traces = tracing::dispatcher::get_default(Clone::clone);
        let thread = thread::Builder::new()
            .name("kvjob-testkit".to_owned())
            .spawn(move || {
                tracing::dispatcher::with_default(&traces, || driver::run(plan, ready));
            })
            .map_err(|error| failed("start a thread", &error))?;
        let (store, commands) = started.await.unwrap_or(Err(Error::Stopped))?;
        Ok(Runtime {
            store,
            clock,
            commands: Some(commands),
            thread: Some(thread),
        })
    }
}

/// The system did not give what it was asked for.
pub(super) fn failed(what: &str, error: &std::io::Error) -> Error {
    let message = format!("the system could not {what} for a test: {error}");
    kv::Error::new(ErrorKind::Backend, message).into()
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("seed", &self.seed)
            .field("starts_at", &self.starts_at)
            .field("schedules", &self.schedules)
            .finish_non_exhaustive()
    }
}
