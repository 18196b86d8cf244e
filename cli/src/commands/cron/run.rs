//! `kvjob cron run`: a scheduler until it is stopped.

use std::process::ExitCode;

use kvjob::cron::{Control, Event, Schedule, Scheduler};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use super::super::STOPPED;
use super::told::{Added, trouble};
use crate::args::Global;
use crate::args::cron::Run;
use crate::error::{Error, Result};
use crate::output::{self, Out};
use crate::store::{Missing, Opened};

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupts: Signal,
    terminations: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let cannot = |error| Error::caused("could not listen for signals", error);
        Ok(Self {
            interrupts: signal(SignalKind::interrupt()).map_err(cannot)?,
            terminations: signal(SignalKind::terminate()).map_err(cannot)?,
        })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupts.recv() => {}
            _ = self.terminations.recv() => {}
        }
    }

    /// The first stops the scheduler, the second ends the command where it stands.
    async fn stop(mut self, control: Control) {
        self.came().await;
        output::note("stopping; once more ends it at once");
        control.stop();
        self.came().await;
        std::process::exit(STOPPED.into());
    }
}

pub(super) async fn run(global: &Global, args: &Run) -> Result<ExitCode> {
    // Before a store is made: a crontab that is wrong needs none.
    let schedules = match &args.crontab {
        Some(file) => super::read(file, args.time_zone.as_deref())?,
        None => Vec::new(),
    };
    let signals = Signals::listen()?;
    let store = Opened::open(global, Missing::Create).await?;
    let worked = work(global, schedules, &store, signals).await;
    let closed = store.close().await;
    worked?;
    closed?;
    Ok(ExitCode::from(STOPPED))
}

/// Returns when it was stopped by a signal.
async fn work(
    global: &Global,
    of_crontab: Vec<Schedule>,
    store: &Opened,
    by_signal: Signals,
) -> Result<()> {
    let scheduler = Scheduler::builder(store.jobs.clone())
        .schedules(of_crontab)
        .build()?;
    let listening = tokio::spawn(by_signal.stop(scheduler.control()));
    let events = scheduler.events();
    let mut running: JoinHandle<_> = tokio::spawn(scheduler.run());
    let told = tell(global, events).await;
    if told.is_err() {
        // Nobody reads what it says any more.
        running.abort();
    }
    let ended = (&mut running).await;
    listening.abort();
    told?;
    ended.map_err(|error| Error::caused("the scheduler died", error))??;
    Ok(())
}

/// Says what happens until the scheduler has ended.
async fn tell(global: &Global, mut events: broadcast::Receiver<Event>) -> Result<()> {
    let mut out = Out::new();
    loop {
        match events.recv().await {
            Ok(event) => one(global, &event, &mut out)?,
            Err(RecvError::Lagged(missed)) => {
                output::note(&format!(
                    "{missed} events were not told: they came too fast"
                ));
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn one(global: &Global, event: &Event, out: &mut Out) -> Result<()> {
    if let Some(added) = Added::by(event) {
        if global.json {
            out.json_line(&added)?;
        } else {
            out.line(&added.line())?;
        }
        out.flush()?;
    }
    if let Some(trouble) = trouble(event) {
        output::note(&trouble);
    }
    if let Event::Started { schedules } = event {
        let schedules = output::count(*schedules as u64, "schedule");
        output::note(&format!("{schedules} at work"));
    }
    Ok(())
}
