//! The loop that gives slots their jobs: knows the schedules, sleeps until the next slot, and asks
//! the store to settle it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{broadcast, watch};

use super::builder::Builder;
use super::slots::{MISSED_AFTER, Slot};
use super::{Event, Schedule};
use crate::clock::{Clock, Timestamp};
use crate::job::{self, CronRecord, Error, Fired, Result};
use crate::kv::ErrorKind;

/// Slots of a schedule that are settled before the others get their turn.
const MOST_AT_ONCE: usize = 64;
/// Records read at once.
const PAGE: usize = 256;
/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(5);

/// Gives the slots of schedules their jobs. Made by a [`Builder`].
pub struct Scheduler {
    store: Arc<dyn job::Store>,
    clock: Arc<dyn Clock>,
    refresh: Duration,
    /// Those that the program brought along.
    program: Vec<Arc<Schedule>>,
    /// All there are, by id.
    live: BTreeMap<String, Live>,
    /// Those in the store that cannot be read, by id, with the revision that was told of.
    unread: BTreeMap<String, u64>,
    /// When what is in the store is to be read again, in monotonic time.
    look_at: Duration,
    changes: watch::Receiver<u64>,
    events: broadcast::Sender<Event>,
    stop: watch::Sender<bool>,
    began: bool,
    started: bool,
}

/// A schedule, and what is known of it.
struct Live {
    schedule: Arc<Schedule>,
    record: CronRecord,
    /// The slot that was waited for.
    expected: Option<Timestamp>,
    /// What was told to be settled although it is to come.
    premature: Option<Timestamp>,
    /// Not before this monotonic time is it tried again.
    not_before: Duration,
}

/// Stops a [`Scheduler`], from anywhere. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct Control(watch::Sender<bool>);

impl Control {
    /// Finish the slots under way and return from [`run`](Scheduler::run).
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Scheduler {
    /// A scheduler that adds its jobs to this store.
    pub fn builder(store: Arc<dyn job::Store>) -> Builder {
        Builder::new(store)
    }

    pub(super) fn new(
        store: Arc<dyn job::Store>,
        clock: Arc<dyn Clock>,
        refresh: Duration,
        program: Vec<Arc<Schedule>>,
        events: broadcast::Sender<Event>,
        stop: watch::Sender<bool>,
    ) -> Self {
        let changes = store.cron_changes();
        Self {
            store,
            clock,
            refresh,
            program,
            live: BTreeMap::new(),
            unread: BTreeMap::new(),
            look_at: Duration::ZERO,
            changes,
            events,
            stop,
            began: false,
            started: false,
        }
    }

    /// What stops it, from anywhere, also before it runs.
    pub fn control(&self) -> Control {
        Control(self.stop.clone())
    }

    /// What happens from now on. A listener that falls more than 1024 events behind is told
    /// [how many it missed](broadcast::error::RecvError::Lagged) and goes on; it never holds up
    /// the scheduler.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Adds the jobs of all slots as they come, until it is stopped by its [`Control`]. A store
    /// that is out of reach is asked again until it is back. Dropping the future loses nothing: a
    /// slot that was under way is settled with its job, or not at all.
    ///
    /// # Errors
    /// [`Stopped`](Error::Stopped) or [`Closed`](ErrorKind::Closed) if the store will not come
    /// back.
    pub async fn run(mut self) -> Result<()> {
        let mut stop = self.stop.subscribe();
        loop {
            if *stop.borrow_and_update() {
                return Ok(());
            }
            match self.round().await {
                Ok(true) => continue,
                Err(error) if is_over(&error) => return Err(error),
                // Any other failure was told.
                Ok(false) | Err(_) => {}
            }
            let wake = self.wake();
            tokio::select! {
                () = self.clock.sleep_until(wake) => {}
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.look_at = Duration::ZERO,
                    // Nobody is there to tell any more.
                    Err(_) => self.clock.sleep_until(wake).await,
                },
                _ = stop.changed() => {}
            }
        }
    }

    /// Adds the jobs of all slots that have come, and returns when the next one comes: for tests,
    /// and for programs that have their own idea of time.
    ///
    /// # Errors
    /// What the store says. The other schedules had their jobs then.
    pub async fn run_once(&mut self) -> Result<Option<Timestamp>> {
        self.look_at = Duration::ZERO;
        for live in self.live.values_mut() {
            live.not_before = Duration::ZERO;
        }
        while self.round().await? {}
        let now = self.clock.now();
        let live = self.live.values().filter(|live| !live.record.paused);
        Ok(live
            .filter_map(|live| live.schedule.next(&live.record, now))
            .min())
    }

    /// One look around. Says whether there is more to do at once.
    async fn round(&mut self) -> Result<bool> {
        if !self.began {
            self.began = true;
            let schedules = self.program.len();
            self.tell(Event::Starting { schedules });
        }
        if self.look_at <= self.clock.monotonic() {
            self.look_at = self
                .clock
                .monotonic()
                .saturating_add(RETRY.min(self.refresh));
            if let Err(error) = self.look().await {
                self.failed(None, &error);
                return Err(error);
            }
            self.look_at = self.clock.monotonic().saturating_add(self.refresh);
        }
        let more = self.fire().await?;
        if !more && !self.started {
            self.started = true;
            let schedules = self.live.len();
            self.tell(Event::Started { schedules });
        }
        Ok(more)
    }

    /// Reads what is in the store, and sees to it that all schedules of the program are kept there.
    async fn look(&mut self) -> Result<()> {
        self.changes.mark_unchanged();
        let mut records = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.store.crons(PAGE, cursor).await?;
            let page_records = page.items.into_iter();
            records.extend(page_records.map(|record| (record.id.clone(), record)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut live = BTreeMap::new();
        for schedule in self.program.clone() {
            let id = schedule.known_as().to_owned();
            let record = match records.remove(&id) {
                Some(record) => record,
                None => match self.store.keep_cron(&id, None).await {
                    Ok((record, _)) => record,
                    Err(error) if is_of_one(&error) => {
                        self.failed(Some(&id), &error);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let before = self.live.remove(&id);
            live.insert(id, Live::new(schedule, record, before));
        }
        for (id, record) in records {
            let before = self.live.remove(&id);
            // What it says is read once.
            let known = before
                .as_ref()
                .filter(|before| before.record.definition == record.definition)
                .map(|before| Arc::clone(&before.schedule));
            let schedule = match known {
                Some(schedule) => schedule,
                None => match Schedule::kept(&record) {
                    Ok(Some(schedule)) => Arc::new(schedule),
                    Ok(None) => continue,
                    Err(error) => {
                        if self.unread.insert(id.clone(), record.revision) != Some(record.revision)
                        {
                            self.failed(Some(&id), &error);
                        }
                        continue;
                    }
                },
            };
            live.insert(id, Live::new(schedule, record, before));
        }
        self.live = live;
        Ok(())
    }

    /// Settles the slots that have come. Says whether there may be more.
    async fn fire(&mut self) -> Result<bool> {
        let mut live = std::mem::take(&mut self.live);
        let this = &*self;
        let fired = join_all(live.values_mut().map(|live| this.fire_one(live))).await;
        let mut more = false;
        let (mut failure, mut gone) = (None, Vec::new());
        for (id, fired) in live.keys().zip(fired) {
            match fired {
                Ok(After::Done) => {}
                Ok(After::More) => more = true,
                Ok(After::Gone) => gone.push(id.clone()),
                Err(error) => {
                    this.failed(Some(id), &error);
                    // That the store is over is worse than anything else.
                    if failure.is_none() || is_over(&error) {
                        failure = Some(error);
                    }
                }
            }
        }
        for id in gone {
            live.remove(&id);
            self.look_at = Duration::ZERO;
            more = true;
        }
        self.live = live;
        match failure {
            Some(error) => Err(error),
            None => Ok(more),
        }
    }

    async fn fire_one(&self, live: &mut Live) -> Result<After> {
        if live.record.paused || live.not_before > self.clock.monotonic() {
            return Ok(After::Done);
        }
        let now = self.clock.now();
        self.compare(live, now);
        let slots = live.schedule.known(&live.record).due(now, MOST_AT_ONCE);
        if let Some(first) = slots.first().filter(|slot| slot.backfilled) {
            self.tell(Event::Backfill {
                id: live.record.id.clone(),
                slot: first.at,
            });
        }
        let after = if slots.len() < MOST_AT_ONCE {
            After::Done
        } else {
            After::More
        };
        for slot in slots {
            match self.settle(live, slot).await {
                Ok(None) => {}
                Ok(Some(other)) => return Ok(other),
                Err(error) => {
                    live.not_before = self.clock.monotonic().saturating_add(RETRY);
                    return Err(error);
                }
            }
        }
        live.expected = live.schedule.next(&live.record, now);
        Ok(after)
    }

    /// Gives a slot its job, unless another scheduler did, or it is not to have one any more.
    async fn settle(&self, live: &mut Live, slot: Slot) -> Result<Option<After>> {
        let job = live.schedule.job(slot)?;
        match self.store.fire_cron(&live.record, slot.at, job).await? {
            Fired::Added { enqueued, record } => {
                live.record = record;
                let (job, id) = (enqueued.job.id, live.record.id.clone());
                tracing::debug!(schedule = id, slot = %slot.at, job = %job, "a slot has its job");
                self.tell(Event::Scheduled {
                    id,
                    slot: slot.at,
                    job,
                    done: enqueued.done,
                    backfilled: slot.backfilled,
                });
                Ok(None)
            }
            Fired::Outdated(Some(record)) if record.definition == live.record.definition => {
                live.record = record;
                Ok(Some(After::More))
            }
            // It says something else now, or is gone.
            Fired::Outdated(_) => Ok(Some(After::Gone)),
        }
    }

    /// Tells where the clock and what is kept disagree.
    fn compare(&self, live: &mut Live, now: Timestamp) {
        let (id, settled) = (&live.record.id, live.record.settled);
        if settled > now.after(MISSED_AFTER) && live.premature != Some(settled) {
            live.premature = Some(settled);
            tracing::warn!(schedule = id, %settled, "the clock stands before a slot that is settled");
            self.tell(Event::Premature {
                id: id.clone(),
                settled,
            });
        }
        if let Some(slot) = live.expected.take()
            && slot > settled
            && now.since(slot) > MISSED_AFTER
        {
            let by = now.since(slot);
            tracing::warn!(schedule = id, %slot, ?by, "a slot has no job yet");
            self.tell(Event::Overdue {
                id: id.clone(),
                slot,
                by,
            });
        }
    }

    /// When to look around again, in monotonic time, if nothing happens before.
    fn wake(&self) -> Duration {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let live = self.live.values().filter(|live| !live.record.paused);
        let slots = live.filter_map(|live| {
            if live.not_before > monotonic {
                return Some(live.not_before);
            }
            Some(monotonic.saturating_add(live.expected?.since(now)))
        });
        slots.fold(self.look_at, Duration::min)
    }

    fn failed(&self, id: Option<&str>, error: &Error) {
        tracing::error!(schedule = id, %error, "a scheduler could not do its work");
        self.tell(Event::Failed {
            id: id.map(ToOwned::to_owned),
            error: error.to_string(),
        });
    }

    fn tell(&self, event: Event) {
        // Nobody need listen.
        let _ = self.events.send(event);
    }
}

/// What is to follow for a schedule.
enum After {
    Done,
    More,
    /// It is not what it was.
    Gone,
}

impl Live {
    fn new(schedule: Arc<Schedule>, record: CronRecord, before: Option<Self>) -> Self {
        match before {
            Some(before) if Arc::ptr_eq(&before.schedule, &schedule) => Self {
                schedule,
                record,
                ..before
            },
            _ => Self {
                schedule,
                record,
                expected: None,
                premature: None,
                not_before: Duration::ZERO,
            },
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("store", &self.store)
            .field("refresh", &self.refresh)
            .field("schedules", &self.program.len())
            .finish_non_exhaustive()
    }
}

/// Whether the store will not come back.
fn is_over(error: &Error) -> bool {
    match error {
        Error::Stopped => true,
        Error::Store(error) => matches!(error.kind(), ErrorKind::Closed),
        _ => false,
    }
}

/// Whether it concerns one record, and no other.
fn is_of_one(error: &Error) -> bool {
    match error {
        Error::Invalid { .. } => true,
        Error::Store(error) => matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooNew),
        _ => false,
    }
}
