//! The scheduler of a runtime: gives due slots their jobs when it is told to.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::job::{KvStore, Result};

/// What schedules a runtime is given.
#[derive(Debug, Default)]
pub(super) struct Given(#[cfg(feature = "cron")] pub(super) Vec<crate::cron::Schedule>);

/// A scheduler, which does nothing without the feature `cron`.
#[derive(Debug)]
pub(super) struct Schedules {
    #[cfg(feature = "cron")]
    scheduler: crate::cron::Scheduler,
    #[cfg(feature = "cron")]
    events: tokio::sync::broadcast::Receiver<crate::cron::Event>,
}

#[cfg(feature = "cron")]
impl Schedules {
    pub(super) fn new(store: &KvStore, clock: Arc<dyn Clock>, given: Given) -> Result<Self> {
        let scheduler = crate::cron::Scheduler::builder(Arc::new(store.clone()))
            .clock(clock)
            .schedules(given.0)
            .build()?;
        let events = scheduler.events();
        Ok(Self { scheduler, events })
    }

    /// Gives due slots their jobs. Says whether there were any, and when the next slot comes.
    pub(super) async fn run_due(&mut self) -> Result<(bool, Option<Timestamp>)> {
        use crate::cron::Event;
        use tokio::sync::broadcast::error::TryRecvError;

        let next = self.scheduler.run_once().await?;
        let mut any = false;
        loop {
            match self.events.try_recv() {
                Ok(Event::Scheduled { .. }) | Err(TryRecvError::Lagged(_)) => any = true,
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok((any, next)),
            }
        }
    }
}

#[cfg(not(feature = "cron"))]
#[allow(
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    clippy::unused_async
)] // As with the feature.
impl Schedules {
    pub(super) fn new(_: &KvStore, _: Arc<dyn Clock>, _: Given) -> Result<Self> {
        Ok(Self {})
    }

    pub(super) async fn run_due(&mut self) -> Result<(bool, Option<Timestamp>)> {
        Ok((false, None))
    }
}
