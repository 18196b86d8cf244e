//! `kvjob run`: works off a file of jobs with a command.
//!
//! Four things go on at once. A thread reads the file ([`lines`]); the worker runs what is in
//! the store; signals stop it ([`signals`]); and the loop here enqueues what was read and follows
//! what the worker tells, until every job of the file has ended. The [`Tracker`] knows which ones
//! have not.

mod intake;
mod lines;
mod progress;
mod summary;
mod tracker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kvjob::job::{self, Backoff};
use kvjob::worker::{Control, Event, Worker};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::events::{follow, trouble};
use super::signals::Signals;
use super::{NOT_ALL, STOPPED};
use crate::args::{Global, Run};
use crate::error::{Error, Result};
use crate::exec::{Exec, Guard};
use crate::output::Out;
use crate::store::{Missing, Opened};
use intake::Intake;
use lines::Read;
use progress::Progress;
use summary::Summary;
use tracker::Tracker;

/// The longest wait between two attempts, if the first one is not longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How often to look whether jobs ended in another way than by this worker.
const LOOK: Duration = Duration::from_secs(1);
/// How long a worker may take to leave once the store has failed.
const LEAVE: Duration = Duration::from_secs(5);

/// The first wait, then doubling.
pub(super) fn backoff(base: Duration) -> Backoff {
    Backoff::Exponential {
        base,
        max: LONGEST_BACKOFF.max(base),
    }
}

pub(super) async fn run(global: &Global, args: Run) -> Result<ExitCode> {
    // Before a store is made: a file that is not there needs none.
    let read = lines::start(&args.file)?;
    let progress = Progress::new();
    // From here on a signal stops in good order, also while the store opens.
    let telling = progress.clone();
    let signals = Signals::listen(move |text| telling.note(text))?;
    let store = Opened::hold(global, Missing::Create, args.retention()).await?;
    let started = Instant::now();
    let worked = Working::start(&args, &store, &signals, progress.clone());
    let worked = match worked {
        Ok(working) => {
            working
                .work(read, Intake::new(&args), &store, &signals)
                .await
        }
        Err(error) => Err(error),
    };
    progress.finish();
    let closed = store.close().await;
    let tracker = worked?;
    closed?;

    let stopped = signals.stopped() && !tracker.is_done();
    let summary = Summary::new(&tracker, started.elapsed(), stopped);
    let mut out = Out::new();
    if global.json {
        out.json_line(&summary)?;
    } else {
        summary.print(&mut out, global)?;
    }
    out.flush()?;
    Ok(match (stopped, summary.all_completed()) {
        (true, _) => ExitCode::from(STOPPED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(NOT_ALL),
    })
}

/// A worker at work, and what is known of the jobs of the file.
struct Working {
    worker: JoinHandle<job::Result<()>>,
    control: Control,
    events: mpsc::UnboundedReceiver<Event>,
    tracker: Tracker,
    progress: Progress,
    /// The last trouble that was told, which is not told again and again.
    told: String,
}

impl Working {
    fn start(args: &Run, store: &Opened, signals: &Signals, progress: Progress) -> Result<Self> {
        let guard = Guard::start()
            .map_err(|error| Error::caused("could not start the process that guards", error))?;
        let processors = std::thread::available_parallelism();
        let concurrency = args.jobs.or(processors.ok()).map_or(1, Into::into);
        let worker = Worker::builder(store.jobs.clone())
            .handle_signals(false)
            // What runs is finished, unless a second signal comes.
            .shutdown_grace(Duration::MAX)
            .concurrency(concurrency)
            .fallback(Exec::new(&args.exec, guard))
            .build()?;
        let control = worker.control();
        signals.stops(&control);
        let events = follow(worker.events());
        Ok(Self {
            worker: tokio::spawn(worker.run()),
            control,
            events,
            tracker: Tracker::default(),
            progress,
            told: String::new(),
        })
    }

    /// Enqueues what is read and follows what becomes of it, to the end.
    async fn work(
        mut self,
        read: Read,
        intake: Intake,
        store: &Opened,
        signals: &Signals,
    ) -> Result<Tracker> {
        let followed = self.follow(read, intake, store, signals).await;
        if let Err(error) = followed {
            self.control.stop_now();
            // The store failed, or cannot be trusted to answer: what it failed with is the news.
            if !self.worker.is_finished() {
                let _ = timeout(LEAVE, &mut self.worker).await;
                self.worker.abort();
            }
            return Err(error.advice(
                "What was stored is not lost: once the cause is gone, the same command goes on.",
            ));
        }
        Ok(self.tracker)
    }

    async fn follow(
        &mut self,
        mut read: Read,
        mut intake: Intake,
        store: &Opened,
        signals: &Signals,
    ) -> Result<()> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut broken = None;
        loop {
            if self.tracker.is_done() || broken.is_some() {
                self.control.stop();
            }
            let reading = !self.tracker.read_all && !signals.stopped();
            // While jobs are enqueued no event is looked at, so none comes before its job.
            tokio::select! {
                batch = read.batches.recv(), if reading => match batch {
                    Some(Ok(lines)) => {
                        let jobs = &*store.jobs;
                        intake.take(lines, jobs, &mut self.tracker, &self.progress).await?;
                    }
                    Some(Err(error)) => {
                        let message = format!("could not read on in {}", read.name);
                        broken = Some(Error::caused(message, error));
                        self.tracker.read_to_the_end();
                    }
                    None => self.tracker.read_to_the_end(),
                },
                Some(event) = self.events.recv() => self.event(event),
                _ = look.tick() => self.tracker.look(&*store.jobs).await?,
                ended = &mut self.worker => {
                    // What it told last is still on its way.
                    while let Some(event) = self.events.recv().await {
                        self.event(event);
                    }
                    ended.map_err(|error| Error::caused("the worker died", error))??;
                    return broken.map_or(Ok(()), Err);
                }
            }
            self.progress.show(&self.tracker);
        }
    }

    fn event(&mut self, event: Event) {
        if let Some(trouble) = trouble(&event)
            && trouble != self.told
        {
            self.progress.note(&trouble);
            self.told = trouble;
        }
        self.tracker.event(event);
    }
}
