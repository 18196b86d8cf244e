//! The scheduler beside the workers, where there is to be one.

use kvjob::cron::{Control, Event, Schedule, Scheduler};
use kvjob::job;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::commands::events::follow;
use crate::commands::signals::Signals;
use crate::error::{Error, Result};
use crate::store::Opened;

/// A scheduler at work.
pub(super) struct Schedules {
    control: Control,
    events: UnboundedReceiver<Event>,
    scheduler: JoinHandle<job::Result<()>>,
}

impl Schedules {
    /// Starts a scheduler of these schedules and of those in the store. The first signal stops it.
    pub(super) fn start(all: Vec<Schedule>, store: &Opened, signals: &Signals) -> Result<Self> {
        let built = Scheduler::builder(store.jobs.clone()).schedules(all);
        let scheduler = built.build()?;
        let control = scheduler.control();
        let (stopping, stopped) = (signals.stopping(), control.clone());
        tokio::spawn(async move {
            stopping.cancelled().await;
            stopped.stop();
        });
        Ok(Self {
            control,
            events: follow(scheduler.events()),
            scheduler: tokio::spawn(scheduler.run()),
        })
    }

    /// What it tells next; `None` once it has ended.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Stops it, and says what is left to be told, and how it ended.
    pub(super) async fn end(mut self) -> (Vec<Event>, Result<()>) {
        self.control.stop();
        let ended = (&mut self.scheduler).await;
        let mut left = Vec::new();
        while let Some(event) = self.next().await {
            left.push(event);
        }
        let ended = ended.map_err(|error| Error::caused("the scheduler died", error));
        (left, ended.and_then(|ended| Ok(ended?)))
    }
}
