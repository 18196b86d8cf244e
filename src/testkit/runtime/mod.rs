//! Handlers and schedules under virtual time.
//!
//! | file | what lives there |
//! |---|---|
//! | `builder` | how a runtime is put together |
//! | `driver` | what works off jobs and moves time, in a thread of its own |
//! | `handlers` | which handlers run, and which of them wait for time |
//! | `schedules` | the scheduler, where there is one |

mod builder;
mod driver;
mod handlers;
mod schedules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use builder::RuntimeBuilder;

pub(super) use handlers::Sleeping;

use self::driver::Command;
use super::ManualClock;
use crate::clock::{Clock as _, Timestamp};
use crate::job::{Error, JobId, Jobs, KvStore, Result, State};

/// Runs handlers and schedules for a test, under a time that stands still until the test moves it:
/// what takes a week is tested in a moment, and nothing sleeps.
///
/// It is a real [`Worker`](crate::worker::Worker), a real scheduler and a real [`KvStore`] in
/// memory, and takes handlers and schedules as these do.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use kvjob::job::{State, Task};
/// use kvjob::testkit::Runtime;
/// use kvjob::worker::Attempt;
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendEmail {
///     to: String,
/// }
///
/// impl Task for SendEmail {
///     const NAME: &'static str = "send-email";
/// }
///
/// /// Its server is busy at first.
/// async fn send(_: SendEmail, Attempt(attempt): Attempt) -> Result<(), &'static str> {
///     if attempt == 1 { Err("busy") } else { Ok(()) }
/// }
///
/// let mut test = Runtime::builder().worker(|worker| worker.register(send)).build().await?;
/// test.jobs().add(SendEmail { to: "ada@example.org".to_owned() }).await?;
///
/// let ran = test.run_due().await?;
/// assert_eq!((ran[0].state, ran[0].error.as_deref()), (State::Scheduled, Some("busy")));
///
/// // The next attempt comes by itself, when its time has come.
/// let ran = test.advance(Duration::from_secs(60)).await?;
/// assert_eq!((ran[0].state, ran[0].attempt), (State::Completed, 2));
/// # Ok(())
/// # }
/// ```
///
/// # What may be relied on
///
/// - Jobs run within [`run_due`](Self::run_due) and [`advance`](Self::advance) only, and slots of
///   schedules get their jobs there; time moves within `advance` only, and there in steps: to the
///   next moment at which something is due, until that is worked off.
/// - Whatever a test does between two calls, all of it is done at one moment.
/// - With a concurrency of 1, as it is where not said otherwise, the same test with the same
///   [seed](RuntimeBuilder::seed) runs the same each time, to the last id and the last jitter. With
///   more, the order of what happens at one moment is not promised.
///
/// # Handlers that wait
///
/// - **For time**, by [`Context::sleep`](crate::worker::Context::sleep) or the
///   [clock](crate::worker::Context::clock): their jobs are running when `run_due` returns, and go
///   on when `advance` comes to the end of the wait. Meanwhile leases are extended, and time-outs
///   and requests to stop reach them, as ever. To hang for ever, sleep for [`Duration::MAX`].
/// - **For anything else**, such as a server or a blocking task: they are waited for, and time
///   stands still. One that waits for another by such means, or for its token alone, waits in vain:
///   after a minute of real time that is an error, which says so. What waits for its token should
///   wait for time, too, as with `select!`.
/// - By `tokio::time`: that is the system's time, and waited for as anything else is.
///
/// Handlers run in a tokio runtime with a single thread of their own, which ends with this.
pub struct Runtime {
    store: KvStore,
    clock: ManualClock,
    /// Closed to end the thread.
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// An attempt that ended, and what came of it; printed in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// When it ended.
    pub at: Timestamp,
    /// The job.
    pub id: JobId,
    /// Its task.
    pub task: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What the job became: final, or scheduled or ready for another attempt.
    pub state: State,
    /// Why the attempt failed, if it did.
    pub error: Option<String>,
    /// How long the handler took, in the test's time.
    pub elapsed: Duration,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, task, attempt, state) = (self.at, &self.task, self.attempt, self.state);
        write!(f, "{at} {task} (attempt {attempt}): {state}")?;
        match &self.error {
            Some(error) => write!(f, ", {error}"),
            None => Ok(()),
        }
    }
}

impl Runtime {
    /// Puts one together. It needs at least one handler.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// Adds jobs, and asks for them and their results: it derefs to the store. Whoever waits for a
    /// job that has not ended waits until the test runs it.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(Arc::new(self.store.clone()))
    }

    /// The job store.
    pub fn store(&self) -> &KvStore {
        &self.store
    }

    /// The clock. Moved by hand, it jumps: what was due in between comes late then, as after a
    /// machine was asleep, and handlers that wait for time go on at once.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The test's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Gives due slots their jobs and works off all jobs that are due, those that are added
    /// meanwhile included, while time stands still. Returns the attempts that ended, in order.
    /// Handlers that [wait for time](Self#handlers-that-wait) go on waiting.
    ///
    /// # Errors
    /// What ended the worker or kept the scheduler from its work;
    /// [`Invalid`](Error::Invalid) (`handler-waits`) for a handler that does not come to an end in
    /// a minute of real time.
    pub async fn run_due(&mut self) -> Result<Vec<Ran>> {
        self.ask(Duration::ZERO).await
    }

    /// Works off what is due, as [`run_due`](Self::run_due); then moves time to the next moment
    /// at which something is due, and so on, until this much time has passed. So retries, jobs for
    /// later, slots and what handlers wait for come in their order and at their own times. Returns
    /// the attempts that ended.
    ///
    /// # Errors
    /// As [`run_due`](Self::run_due). Time stands then where it was.
    pub async fn advance(&mut self, by: Duration) -> Result<Vec<Ran>> {
        self.ask(by).await
    }

    async fn ask(&mut self, by: Duration) -> Result<Vec<Ran>> {
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or(Error::Stopped)?;
        let command = Command { by, reply };
        commands.send(command).map_err(|_| Error::Stopped)?;
        // It is dropped unanswered only where the thread is gone.
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Drop for Runtime {
    /// What runs is dropped where it waits; a handler that blocks its thread is waited for.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("store", &self.store)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
