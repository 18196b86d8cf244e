//! `kvjob work`: works off a store with a command, until it is stopped, and if it is to, adds the
//! jobs of [schedules](schedules).

mod schedules;

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvjob::cron::Schedule;
use kvjob::job::{JobId, State};
use kvjob::worker::{Context, Event, Handler as _, Worker};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::STOPPED;
use super::cron::{self, Added};
use super::events::{follow, trouble};
use super::signals::Signals;
use crate::args::{Global, Work};
use crate::error::{Error, Result};
use crate::exec::{Exec, Guard};
use crate::output::{self, Out, count, cut, lasting};
use crate::store::{Missing, Opened};
use schedules::Schedules;

/// How often the queue is looked at, and how many jobs of it are counted.
const LOOK: Duration = Duration::from_secs(1);
const MOST_COUNTED: usize = 1000;

pub(super) async fn run(global: &Global, args: &Work) -> Result<ExitCode> {
    // Before a store is made: a crontab that is wrong needs none.
    let crontab = match &args.crontab {
        Some(file) => Some(cron::read(file, args.time_zone.as_deref())?),
        None => args.cron.then(Vec::new),
    };
    let line = Line::new();
    let telling = line.clone();
    // From here on a signal stops in good order, also while the store opens.
    let signals = Signals::listen(move |text| telling.note(text))?;
    let store = Opened::hold(global, Missing::Create, args.retention()).await?;
    let worked = work(global, args, crontab, &store, &signals, &line).await;
    line.bar.finish_and_clear();
    let closed = store.close().await;
    let done = worked?;
    closed?;
    let mut out = Out::new();
    if global.json {
        out.json_line(&Told::Stopped(&done))?;
    } else {
        done.print(&mut out)?;
    }
    out.flush()?;
    Ok(match done.given_back {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(STOPPED),
    })
}

async fn work(
    global: &Global,
    args: &Work,
    crontab: Option<Vec<Schedule>>,
    store: &Opened,
    signals: &Signals,
    line: &Line,
) -> Result<Done> {
    let guard = Guard::start()
        .map_err(|error| Error::caused("could not start the process that guards", error))?;
    let processors = std::thread::available_parallelism();
    let concurrency = args.jobs.or(processors.ok()).map_or(1, Into::into);
    let exec = Arc::new(Exec::new(&args.exec, guard));
    let handler = || {
        let exec = exec.clone();
        move |context: Context| {
            let exec = exec.clone();
            async move { exec.handle(context).await }
        }
    };
    let mut builder = Worker::builder(store.jobs.clone())
        .handle_signals(false)
        // What runs is finished, unless a second signal comes.
        .shutdown_grace(Duration::MAX)
        .concurrency(concurrency);
    for task in &args.task {
        builder = builder.handler(task, handler());
    }
    if args.task.is_empty() {
        builder = builder.fallback(handler());
    }
    if let Some(tenant) = &args.tenant {
        builder = builder.tenant(tenant);
    }
    let worker = builder.build()?;
    let control = worker.control();
    let mut schedules = match crontab {
        Some(crontab) => Some(Schedules::start(crontab, store, signals)?),
        None => None,
    };
    let mut scheduling = schedules.is_some();
    signals.stops(&control);
    let mut events = follow(worker.events());
    let mut worker = tokio::spawn(worker.run());
    let mut done = Done::default();
    let begun = Instant::now();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            Some(event) = events.recv() => done.take(global, line, event)?,
            event = next(&mut schedules), if scheduling => {
                scheduling = event.is_some();
                if let Some(event) = event {
                    done.take_of_schedules(global, line, &event)?;
                } else {
                    // By a signal, or because it could not go on: it is told at the end why.
                    control.stop();
                }
            }
            _ = look.tick(), if !line.bar.is_hidden() => line.look(store).await,
            ended = &mut worker => break ended,
        }
        line.show(&done);
    };
    // What it told last is still on its way.
    drain(global, line, &mut done, &mut events).await?;
    let mut planned = Ok(());
    if let Some(schedules) = schedules {
        let (left, ended) = schedules.end().await;
        for event in left {
            done.take_of_schedules(global, line, &event)?;
        }
        planned = ended;
    }
    done.seconds = begun.elapsed().as_secs_f64();
    ended.map_err(|error| Error::caused("the worker died", error))??;
    planned?;
    Ok(done)
}

async fn next(schedules: &mut Option<Schedules>) -> Option<kvjob::cron::Event> {
    schedules.as_mut()?.next().await
}

async fn drain(
    global: &Global,
    line: &Line,
    done: &mut Done,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Result<()> {
    while let Some(event) = events.recv().await {
        done.take(global, line, event)?;
    }
    Ok(())
}

/// What was done so far.
#[derive(Debug, Default, Serialize)]
struct Done {
    completed: u64,
    /// For good, timed out ones included.
    failed: u64,
    canceled: u64,
    /// Attempts after which another one follows.
    retried: u64,
    given_back: u64,
    lost: u64,
    /// Slots that this process settled.
    scheduled: u64,
    seconds: f64,
    #[serde(skip)]
    running: HashSet<JobId>,
    /// The last trouble that was told, which is not told again and again.
    #[serde(skip)]
    told: String,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    Started {
        id: JobId,
        task: &'a str,
        attempt: u32,
    },
    Ended {
        id: JobId,
        task: &'a str,
        attempt: u32,
        state: State,
        error: Option<&'a str>,
        seconds: f64,
    },
    GivenBack {
        id: JobId,
    },
    LeaseLost {
        id: JobId,
    },
    Scheduled(Added<'a>),
    Stopped(&'a Done),
}

impl Done {
    fn take(&mut self, global: &Global, line: &Line, event: Event) -> Result<()> {
        if let Some(trouble) = trouble(&event)
            && trouble != self.told
        {
            line.note(&trouble);
            self.told = trouble;
        }
        if global.json
            && let Some(told) = told(&event)
        {
            let mut out = Out::new();
            out.json_line(&told)?;
            out.flush()?;
        }
        match event {
            Event::Started { id, .. } => {
                self.running.insert(id);
            }
            Event::LeaseLost { id } => {
                self.running.remove(&id);
                self.lost += 1;
            }
            Event::GivenBack { id } => {
                self.running.remove(&id);
                self.given_back += 1;
            }
            Event::Ended {
                id,
                task,
                attempt,
                state,
                error,
                ..
            } => {
                self.running.remove(&id);
                match state {
                    State::Completed => self.completed += 1,
                    State::Canceled => self.canceled += 1,
                    State::Failed | State::TimedOut => self.failed += 1,
                    _ => self.retried += 1,
                }
                if let (false, Some(error)) = (global.json, error) {
                    let task = cut(&task, 40);
                    let error = cut(&error, 200);
                    line.note(&format!("job {id} ({task}), attempt {attempt}: {error}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_of_schedules(
        &mut self,
        global: &Global,
        line: &Line,
        event: &kvjob::cron::Event,
    ) -> Result<()> {
        if let Some(trouble) = cron::trouble(event) {
            line.note(&trouble);
        }
        if let Some(added) = Added::by(event) {
            self.scheduled += 1;
            if global.json {
                let mut out = Out::new();
                out.json_line(&Told::Scheduled(added))?;
                out.flush()?;
            }
        }
        Ok(())
    }

    fn print(&self, out: &mut Out) -> Result<()> {
        let ended = self.completed + self.failed + self.canceled;
        let mut text = format!(
            "{}: {} completed, {} failed",
            count(ended, "job"),
            self.completed,
            self.failed
        );
        for (number, what) in [
            (self.canceled, "canceled"),
            (self.retried, "to be tried again"),
            (self.given_back, "given back"),
            (self.lost, "lost to another worker"),
            (self.scheduled, "added by schedules"),
        ] {
            if number > 0 {
                text = format!("{text}, {number} {what}");
            }
        }
        let took = lasting(Duration::from_secs_f64(self.seconds));
        out.line(&format!("{text}; {took}"))
    }
}

fn told(event: &Event) -> Option<Told<'_>> {
    Some(match event {
        Event::Started { id, task, attempt } => Told::Started {
            id: *id,
            task,
            attempt: *attempt,
        },
        Event::Ended {
            id,
            task,
            attempt,
            state,
            error,
            elapsed,
        } => Told::Ended {
            id: *id,
            task,
            attempt: *attempt,
            state: *state,
            error: error.as_deref(),
            seconds: elapsed.as_secs_f64(),
        },
        Event::GivenBack { id } => Told::GivenBack { id: *id },
        Event::LeaseLost { id } => Told::LeaseLost { id: *id },
        _ => return None,
    })
}

/// The line on a terminal. Clones are the same.
#[derive(Clone)]
struct Line {
    bar: ProgressBar,
}

impl Line {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The template is fixed; without it the default one does.
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {msg}{prefix}") {
            bar.set_style(style);
        }
        bar.set_message("opening the store");
        Self { bar }
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    fn show(&self, done: &Done) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_message(format!(
            "{} running, {} ok, {} failed",
            done.running.len(),
            done.completed,
            done.failed
        ));
    }

    /// Shows how many jobs wait.
    async fn look(&self, store: &Opened) {
        // One that cannot be had now may be the next time; the worker says what is wrong.
        let Ok(glance) = store.kv().glance(MOST_COUNTED).await else {
            return;
        };
        let states = glance.states();
        let number = |state: State| {
            let more = if glance.cut.contains(&state) { "+" } else { "" };
            format!("{}{more}", states.get(&state).copied().unwrap_or(0))
        };
        let (ready, scheduled) = (number(State::Ready), number(State::Scheduled));
        self.bar
            .set_prefix(format!("; {ready} ready, {scheduled} scheduled"));
    }
}
