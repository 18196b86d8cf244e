//! When what is no longer to be kept is removed: in the background, or now. What a page of it does
//! stands in [`ops::sweep`](crate::job::ops::sweep).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::request::Request;
use super::{KvStore, submit};
use crate::clock::Clock;
use crate::job::ops::sweep::{Part, Sweep};
use crate::job::{Error, Result};

/// From the end of one sweep in the background to the next.
const INTERVAL: Duration = Duration::from_secs(60);

impl KvStore {
    /// Removes now what the policy that the store was opened with
    /// ([`Options::retention`](crate::job::Options::retention)) no longer keeps, and finishes
    /// removals that were cut off, whatever the policy. Returns how many jobs are gone.
    ///
    /// It makes many small commits, between which others get their turn. If it is dropped or
    /// fails half-way, what it removed is gone, and the next sweep goes on from there.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use kvjob::job::{Claim, KvStore, NewJob, Options, QueueStore, Retention};
    /// # use kvjob::kv::Memory;
    /// # use kvjob::testkit::ManualClock;
    /// # let clock = ManualClock::new(0);
    /// let hour = Duration::from_secs(60 * 60);
    /// let options = Options::default().retention(Retention::new().completed(hour));
    /// # let options = options.clock(Arc::new(clock.clone()));
    /// let jobs = KvStore::open(Arc::new(Memory::new()), options).await?;
    /// # jobs.enqueue(NewJob::new("t", &())?).await?;
    /// # let claimed = jobs.claim(Claim::new("w")).await?.jobs.remove(0);
    /// # jobs.complete(&claimed.lease).await?;
    /// assert_eq!(jobs.sweep().await?, 0);
    /// # clock.set_wall(kvjob::clock::Clock::now(&clock).after(3 * hour));
    /// // Some hours later:
    /// assert_eq!(jobs.sweep().await?, 1);
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    pub async fn sweep(&self) -> Result<u64> {
        let mut removed = 0;
        for part in Part::ALL {
            loop {
                let swept = self.run(Sweep(part)).await?;
                removed += swept.removed;
                if !swept.more {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

/// The task that sweeps in the background. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sweeper(AbortHandle);

impl Sweeper {
    /// It must not keep the planner alive, so it has no sender of its own.
    pub(super) fn start(requests: mpsc::WeakSender<Request>, clock: Arc<dyn Clock>) -> Self {
        let task = tokio::spawn(async move {
            loop {
                match sweep(&requests, &*clock).await {
                    Ok(0) => {}
                    Ok(removed) => tracing::debug!(removed, "swept"),
                    Err(Error::Stopped) => return,
                    Err(error) => tracing::warn!("a sweep was cut short: {error}"),
                }
                clock.sleep_until(clock.monotonic() + INTERVAL).await;
            }
        });
        Self(task.abort_handle())
    }

    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One sweep, which rests after each page for as long as the page took.
async fn sweep(requests: &mpsc::WeakSender<Request>, clock: &dyn Clock) -> Result<u64> {
    let mut removed = 0;
    for part in Part::ALL {
        loop {
            let began = clock.monotonic();
            let answer = {
                let requests = requests.upgrade().ok_or(Error::Stopped)?;
                submit(&requests, Sweep(part)).await?
            };
            let swept = answer.await.unwrap_or(Err(Error::Stopped))?;
            removed += swept.removed;
            if !swept.more {
                break;
            }
            let now = clock.monotonic();
            clock.sleep_until(now + now.saturating_sub(began)).await;
        }
    }
    Ok(removed)
}
