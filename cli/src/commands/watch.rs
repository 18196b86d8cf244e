//! `kvjob watch`: shows the queues and what happens to jobs, until it is stopped.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvjob::job::{self, Glance, JobId, Seen, State};
use kvjob::kv::ErrorKind;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{Global, Watch};
use crate::error::{Error, Result};
use crate::output::{self, Out, cut};
use crate::store::{Opened, Watched};

/// How often the queues are counted, and a holder is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How many jobs of each state are counted.
const MOST_COUNTED: usize = 1000;
/// How many tasks are shown.
const MOST_TASKS: usize = 20;
/// Of how many jobs it is remembered what was said last.
const MOST_KNOWN: usize = 10_000;

pub(super) async fn run(global: &Global, args: &Watch) -> Result<ExitCode> {
    let deaf = |error| Error::caused("could not listen for signals", error);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut screen = Screen::new(global, args);
    let watched = tokio::select! {
        watched = watch(global, &mut screen) => watched,
        _ = interrupts.recv() => Ok(()),
        _ = terminations.recv() => Ok(()),
    };
    screen.bar.finish_and_clear();
    watched?;
    Ok(ExitCode::SUCCESS)
}

/// Watches for ever, through whichever process holds the store.
async fn watch(global: &Global, screen: &mut Screen<'_>) -> Result<()> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = Some(Opened::watch(global).await?);
    loop {
        look.tick().await;
        let live = match watched.take() {
            Some(Watched::Live(store)) => Some(store),
            Some(Watched::Idle(store)) => {
                let shown = store.kv().glance(MOST_COUNTED).await;
                // At once, so that it keeps nobody from working.
                store.close().await?;
                screen.queues(shown?)?;
                screen.note("nobody works it off; waiting for one who does");
                None
            }
            None => Opened::watch_held(global).await?,
        };
        if let Some(store) = live {
            screen.bar.set_message("");
            let ended = follow(&store, screen).await;
            // Nothing of ours is under way.
            let _ = store.close().await;
            ended?;
            screen.note("the process that held the store has ended; waiting for another");
        }
    }
}

/// Follows a store until its holder ends.
async fn follow(store: &Opened, screen: &mut Screen<'_>) -> Result<()> {
    let is_over = |error: &job::Error| matches!(error, job::Error::Store(error) if *error.kind() == ErrorKind::Closed);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: BoxStream<'static, job::Result<Seen>> = match store.kv().sightings().await {
        Ok(Some(seen)) => seen,
        Ok(None) => {
            screen.note("this store does not tell of what happens; only its queues are shown");
            futures::stream::pending().boxed()
        }
        Err(error) if is_over(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    loop {
        let failed = tokio::select! {
            seen = seen.next() => match seen {
                Some(Ok(seen)) => screen.seen(seen).map(|()| None)?,
                Some(Err(error)) => Some(error),
                None => return Ok(()),
            },
            _ = look.tick() => match store.kv().glance(MOST_COUNTED).await {
                Ok(glance) => screen.queues(glance).map(|()| None)?,
                Err(error) => Some(error),
            },
        };
        match failed {
            Some(error) if is_over(&error) => return Ok(()),
            // Perhaps the next time.
            Some(error) if error.is_retryable() => {}
            Some(error) => return Err(error.into()),
            None => {}
        }
    }
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    Job {
        id: JobId,
        task: &'a str,
        state: State,
        attempts: u32,
        error: Option<&'a str>,
    },
    Missed,
    Queues(&'a Glance),
}

/// Where it is shown: lines on standard output, and the queues below them where standard error is
/// a terminal.
struct Screen<'a> {
    json: bool,
    task: Option<&'a str>,
    bar: ProgressBar,
    /// What was said last: of the queues, and of each job that has not ended.
    queues: Option<Glance>,
    jobs: HashMap<JobId, (State, u32)>,
}

impl<'a> Screen<'a> {
    fn new(global: &Global, args: &'a Watch) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The template is fixed; without it the default one does.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self {
            json: global.json,
            task: args.task.as_deref(),
            bar,
            queues: None,
            jobs: HashMap::new(),
        }
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    fn tell(&self, told: &Told<'_>, text: &str) -> Result<()> {
        self.bar.suspend(|| {
            let mut out = Out::new();
            if self.json {
                out.json_line(told)?;
            } else {
                out.line(text)?;
            }
            out.flush()
        })
    }

    fn seen(&mut self, seen: Seen) -> Result<()> {
        let Seen::Job {
            id,
            task,
            state,
            attempts,
            error,
        } = seen
        else {
            return self.tell(&Told::Missed, "... some of what happened was not seen");
        };
        if self.task.is_some_and(|wanted| wanted != task) {
            return Ok(());
        }
        // Not every change of a job is one of its state.
        let said = if state.is_final() {
            self.jobs.remove(&id);
            None
        } else {
            if self.jobs.len() >= MOST_KNOWN {
                self.jobs.clear();
            }
            self.jobs.insert(id, (state, attempts))
        };
        if said == Some((state, attempts)) {
            return Ok(());
        }
        let mut text = format!("{id}  {state:<9}  {attempts:>3}  {}", cut(&task, 40));
        // An error of an earlier attempt is no news while the next one runs.
        let error = error.filter(|_| !matches!(state, State::Running | State::Completed));
        if let Some(error) = &error {
            text = format!("{text}  ({})", cut(error, 100));
        }
        let told = Told::Job {
            id,
            task: &task,
            state,
            attempts,
            error: error.as_deref(),
        };
        self.tell(&told, &text)
    }

    fn queues(&mut self, mut glance: Glance) -> Result<()> {
        if let Some(task) = self.task {
            glance.tasks.retain(|known, _| known == task);
        }
        if self.queues.as_ref() != Some(&glance) {
            if self.json || self.bar.is_hidden() {
                self.tell(&Told::Queues(&glance), &in_a_line(&glance))?;
            }
            self.queues = Some(glance);
        }
        if !self.bar.is_hidden()
            && let Some(glance) = &self.queues
        {
            self.bar.set_message(table(glance));
        }
        Ok(())
    }
}

/// A count, and whether there are more.
fn number(glance: &Glance, state: State, count: u64) -> String {
    let more = if glance.cut.contains(&state) { "+" } else { "" };
    format!("{count}{more}")
}

fn in_a_line(glance: &Glance) -> String {
    let mut text = "queues:".to_owned();
    let mut separator = "";
    for (state, count) in glance.states() {
        let count = number(glance, state, count);
        // Writing into a string does not fail.
        let _ = write!(text, "{separator} {count} {state}");
        separator = ",";
    }
    if separator.is_empty() {
        text += " empty";
    }
    text
}

fn table(glance: &Glance) -> String {
    let all = glance.states();
    let states: BTreeSet<State> = all.keys().copied().collect();
    let mut text = format!("{:<24}", "TASK");
    for state in &states {
        // Writing into a string does not fail.
        let _ = write!(text, "  {:>9}", state.as_str().to_uppercase());
    }
    let shown = glance.tasks.iter().take(MOST_TASKS);
    let shown = shown.map(|(task, counts)| (cut(task, 24), counts));
    for (task, counts) in shown.chain([("total".to_owned(), &all)]) {
        let _ = write!(text, "\n{task:<24}");
        for state in &states {
            let count = counts.get(state).copied().unwrap_or(0);
            let _ = write!(text, "  {:>9}", number(glance, *state, count));
        }
    }
    if glance.tasks.len() > MOST_TASKS {
        let _ = write!(text, "\n({} tasks in all)", glance.tasks.len());
    }
    text
}
