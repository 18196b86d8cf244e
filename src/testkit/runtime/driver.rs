//! What works off jobs and moves time: a thread with a tokio runtime of its own.
//!
//! All that a test runs lives in that one thread, so that tokio knows when nothing can go on by
//! itself: the thread is about to park then. If every handler waits for time, nothing will happen
//! until time moves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::builder::failed;
use super::handlers::Handlers;
use super::schedules::{Given, Schedules};
use super::{ManualClock, Ran};
use crate::clock::{Clock as _, Timestamp};
use crate::job::{Error, KvStore, Options, Result};
use crate::kv::Memory;
use crate::worker::{self, Control, Event, Worker};

/// How often a worker looks for jobs that nothing told it about; there are none.
const IDLE_POLL: Duration = Duration::from_secs(86_400);

/// Work off what is due, and move time this far.
pub(super) struct Command {
    pub(super) by: Duration,
    pub(super) reply: oneshot::Sender<Result<Vec<Ran>>>,
}

/// What a runtime is to be made of.
pub(super) struct Plan {
    pub(super) clock: ManualClock,
    pub(super) worker: Box<dyn FnOnce(worker::Builder) -> worker::Builder + Send>,
    pub(super) schedules: Given,
    /// How long a handler may wait for something other than time, in real time, while nothing at
    /// all happens.
    pub(super) patience: Duration,
}

type Started = (KvStore, mpsc::UnboundedSender<Command>);

/// Obeys commands until nobody can give any more.
pub(super) fn run(plan: Plan, ready: oneshot::Sender<Result<Started>>) {
    let parks = Arc::new(Notify::new());
    let parked = Arc::clone(&parks);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || parked.notify_waiters())
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Where nobody wants it any more, there is nothing to tell.
            let _ = ready.send(Err(failed("make a tokio runtime", &error)));
            return;
        }
    };
    runtime.block_on(async {
        let (store, mut driver) = match Driver::start(plan, parks).await {
            Ok(started) => started,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let (commands, mut received) = mpsc::unbounded_channel();
        if ready.send(Ok((store, commands))).is_err() {
            return;
        }
        while let Some(Command { by, reply }) = received.recv().await {
            let done = driver.advance(by).await;
            // Who no longer waits for the answer gets it with the next one.
            if let Err(Ok(ran)) = reply.send(done.map(|()| std::mem::take(&mut driver.ran))) {
                driver.ran = ran;
            }
        }
    });
}

struct Driver {
    clock: ManualClock,
    schedules: Schedules,
    control: Control,
    /// How many jobs the worker is to run at a time.
    concurrency: usize,
    working: JoinHandle<Result<()>>,
    /// Why the worker ended, once it has.
    over: Option<Error>,
    events: broadcast::Receiver<Event>,
    handlers: Handlers,
    parks: Arc<Notify>,
    patience: Duration,
    ran: Vec<Ran>,
}

impl Driver {
    async fn start(plan: Plan, parks: Arc<Notify>) -> Result<(KvStore, Self)> {
        let clock = Arc::new(plan.clock.clone());
        let options = Options::default().clock(clock.clone());
        let store = KvStore::open(Arc::new(Memory::new()), options).await?;
        let handlers = Handlers::default();
        let builder = Worker::builder(Arc::new(store.clone())).name("test");
        let worker = (plan.worker)(builder)
            .clock(clock.clone())
            .handle_signals(false)
            .idle_poll(IDLE_POLL)
            .layer(handlers.clone())
            .build()?;
        let control = worker.control();
        let concurrency = control.concurrency();
        control.resize(0);
        let schedules = Schedules::new(&store, clock, plan.schedules)?;
        let mut driver = Self {
            clock: plan.clock,
            schedules,
            control,
            concurrency,
            events: worker.events(),
            working: tokio::spawn(worker.run()),
            over: None,
            handlers,
            parks,
            patience: plan.patience,
            ran: Vec::new(),
        };
        // From now on their slots count.
        driver.schedules.run_due().await?;
        driver.settle().await?;
        Ok((store, driver))
    }

    /// Moves time this far, from one moment at which something is due to the next.
    async fn advance(&mut self, by: Duration) -> Result<()> {
        self.control.resize(self.concurrency);
        let done = self.step_through(by).await;
        self.control.resize(0);
        done
    }

    async fn step_through(&mut self, by: Duration) -> Result<()> {
        let end = self.clock.monotonic().saturating_add(by);
        loop {
            let next_slot = self.work_off().await?;
            let now = self.clock.monotonic();
            let until = |slot: Timestamp| now.saturating_add(slot.since(self.clock.now()));
            let due = next_slot.map(until).into_iter();
            let next = due.chain(self.clock.next_deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.clock.advance(end.saturating_sub(now));
                return Ok(());
            };
            self.clock.advance(next.saturating_sub(now));
        }
    }

    /// Works off all that is due at this moment. Says when the next slot comes.
    async fn work_off(&mut self) -> Result<Option<Timestamp>> {
        loop {
            self.settle().await?;
            // Handlers may have added schedules, paused or removed them.
            let (any, next) = self.schedules.run_due().await?;
            if !any {
                return Ok(next);
            }
        }
    }

    /// Returns when nothing can happen any more unless time moves.
    async fn settle(&mut self) -> Result<()> {
        loop {
            let parks = Arc::clone(&self.parks);
            self.until(parks.notified()).await?;
            if self.handlers.busy().is_none() {
                return Ok(());
            }
            let (handlers, patience) = (self.handlers.clone(), self.patience);
            let moves = async {
                tokio::select! {
                    () = handlers.moved() => true,
                    () = tokio::time::sleep(patience) => false,
                }
            };
            if !self.until(moves).await? {
                return Err(self.stuck());
            }
        }
    }

    /// What this future says. Meanwhile keeps what ends.
    async fn until<T>(&mut self, future: impl Future<Output = T>) -> Result<T> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                ended = &mut self.working => {
                    // Nothing stops it, and the panics of handlers are caught before.
                    let error = ended.ok().and_then(Result::err).unwrap_or(Error::Stopped);
                    return Err(self.over.insert(error).clone());
                }
                event = self.events.recv() => self.note(event)?,
                done = &mut future => return Ok(done),
            }
        }
    }

    /// Keeps what tells of an end.
    fn note(&mut self, event: Result<Event, RecvError>) -> Result<()> {
        match event {
            Ok(Event::Ended {
                id,
                task,
                attempt,
                state,
                error,
                elapsed,
            }) => {
                let at = self.clock.now();
                self.ran.push(Ran {
                    at,
                    id,
                    task,
                    attempt,
                    state,
                    error,
                    elapsed,
                });
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(RecvError::Closed) => Err(Error::Stopped),
            Err(RecvError::Lagged(missed)) => Err(Error::invalid(
                "events-missed",
                format!("{missed} events of the worker were missed: nobody knows what ran"),
            )),
        }
    }

    fn stuck(&self) -> Error {
        let what = self.handlers.busy().unwrap_or_default();
        let patience = self.patience;
        Error::invalid(
            "handler-waits",
            format!(
                "the handler {what}, has waited for {patience:?} for something that did not come: \
                 if it waits for time, let it do so by `Context::sleep`"
            ),
        )
    }
}
