//! How a scheduler is put together.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::{CrontabError, Schedule, Scheduler, parse};
use crate::clock::{Clock, SystemClock};
use crate::job::{self, Error};

/// How far a listener may fall behind.
const EVENTS: usize = 1024;
/// How often what is kept in the store is read again where nothing told that it changed.
const REFRESH: Duration = Duration::from_secs(10);
const SHORTEST_REFRESH: Duration = Duration::from_millis(10);

/// Puts a [`Scheduler`] together.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    store: Arc<dyn job::Store>,
    clock: Arc<dyn Clock>,
    refresh: Duration,
    schedules: Vec<Schedule>,
}

impl Builder {
    pub(super) fn new(store: Arc<dyn job::Store>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock),
            refresh: REFRESH,
            schedules: Vec::new(),
        }
    }

    /// The schedules of a [crontab](parse).
    ///
    /// # Errors
    /// What is wrong in it, with line and column.
    pub fn crontab(self, text: &str) -> Result<Self, CrontabError> {
        Ok(self.schedules(parse(text)?))
    }

    /// A schedule.
    pub fn schedule(self, schedule: Schedule) -> Self {
        self.schedules([schedule])
    }

    /// Some schedules.
    pub fn schedules(mut self, schedules: impl IntoIterator<Item = Schedule>) -> Self {
        self.schedules.extend(schedules);
        self
    }

    /// The clock: the system's where not said. It should be the store's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long a schedule that another process added, paused or removed may go unseen, at least
    /// 10 ms; 10 s where not said. Where the store can tell of it, it is seen at once. It is also
    /// how long a step of the wall clock may go unseen.
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.refresh = refresh;
        self
    }

    /// The scheduler.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): `duplicate-schedule` for two schedules with one id,
    /// `refresh-too-short`, or what a schedule says that cannot be.
    pub fn build(self) -> job::Result<Scheduler> {
        if self.refresh < SHORTEST_REFRESH {
            let (refresh, least) = (self.refresh, SHORTEST_REFRESH);
            let message = format!("a refresh of {refresh:?} is under the {least:?} it needs");
            return Err(Error::invalid("refresh-too-short", message));
        }
        let mut ids = HashSet::new();
        for schedule in &self.schedules {
            schedule.check()?;
            let id = schedule.known_as();
            if !ids.insert(id) {
                let message = format!("two schedules have the id {id:?}: give one of them another");
                return Err(Error::invalid("duplicate-schedule", message));
            }
        }
        Ok(Scheduler::new(
            self.store,
            self.clock,
            self.refresh,
            self.schedules.into_iter().map(Arc::new).collect(),
            broadcast::Sender::new(EVENTS),
            watch::Sender::new(false),
        ))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("refresh", &self.refresh)
            .field("schedules", &self.schedules.len())
            .finish_non_exhaustive()
    }
}
