//! Adding jobs, looking at them, and what is done to many at once.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::ArgGroup;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use kvjob::clock::Timestamp;
use kvjob::job::{Cursor, JobId, KeyMode, Level, Query, State};

use crate::duration;

/// Add a job, and print its id.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob enqueue send-mail '{\"to\":\"ada\"}'
  kvjob enqueue report --in 2h --max-attempts 5
  kvjob enqueue sync '\"acct-1\"' --key sync/acct-1     not twice while one is waiting
  kvjob enqueue digest '[1,2]' --key digest --key-mode replace --in 5m
  kvjob enqueue sync '\"acct-1\"' --queue acct-1        not while another of that queue runs
  generate-payload | kvjob enqueue resize -")]
pub(crate) struct Enqueue {
    /// What kind of job it is.
    pub(crate) task: String,
    /// JSON; - reads it from standard input.
    #[arg(default_value = "null", allow_negative_numbers = true)]
    pub(crate) payload: String,
    /// A job key: no two jobs wait under one key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// What becomes of a job that has the key: it stays as it is, and its id is printed; or this
    /// one takes its place, and preserves its time unless it waits for a retry. If it runs or has
    /// failed, it then only loses its key.
    #[arg(long, value_name = "MODE", requires = "key", value_parser = key_modes())]
    #[arg(default_value = "unsafe-dedupe")]
    pub(crate) key_mode: KeyMode,
    /// Keep the key taken after the job has completed, until it is purged.
    #[arg(long, requires = "key")]
    pub(crate) retain: bool,
    /// Of the jobs with this queue key one runs at a time, whoever runs them.
    #[arg(long, value_name = "KEY")]
    pub(crate) queue: Option<String>,
    /// Lower runs first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i16,
    /// Not before this time, as in RFC 3339: 2026-11-21T08:30:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<Timestamp>,
    /// Not before this long from now.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse)]
    #[arg(conflicts_with = "run_at")]
    pub(crate) delay: Option<Duration>,
    /// Whose job it is; its key is this tenant's own.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// A flag, which workers may refuse; may be given more than once.
    #[arg(long = "flag", value_name = "FLAG", value_delimiter = ',')]
    pub(crate) flags: Vec<String>,
    /// The most attempts.
    #[arg(long, value_name = "N", default_value_t = kvjob::job::DEFAULT_MAX_ATTEMPTS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: u32,
    /// How long an attempt may take [default: any time].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub(crate) timeout: Option<Duration>,
    /// The wait after a first failed attempt; then it doubles, up to 30s (or to itself) [default:
    /// from seconds at first to 6 hours after the tenth].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) backoff: Option<Duration>,
}

/// List jobs, in the order in which they were added.
///
/// If only failed, canceled or timed-out ones are asked for: in the order in which they ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob list --state failed,timed_out
  kvjob list --task send-mail --all
  kvjob list --all --json | jq -r 'select(.attempts > 1) | .id'

With --json each job is a line of its own.")]
pub(crate) struct List {
    /// Only jobs in this state; may be given more than once.
    #[arg(long, value_parser = states(&State::ALL), value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    /// Only jobs of this task.
    #[arg(long)]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) pages: Pages,
}

/// How much of an answer is wanted that comes page by page.
#[derive(Debug, clap::Args)]
pub(crate) struct Pages {
    /// At most this many.
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) limit: NonZeroUsize,
    /// However many there are.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Go on where an answer ended; it says how.
    #[arg(long)]
    pub(crate) cursor: Option<Cursor>,
}

/// Of which job and of what time something is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Told {
    /// Only of this job.
    pub(crate) id: Option<JobId>,
    /// Only from this time on, such as 2026-11-20T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) after: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) pages: Pages,
}

impl Told {
    /// These words, and what asks for the same job and time again.
    pub(crate) fn again(&self, words: &str) -> String {
        let mut words = words.to_owned();
        if let Some(id) = self.id {
            words = format!("{words} {id}");
        }
        if let Some(after) = self.after {
            words = format!("{words} --after {after}");
        }
        if let Some(before) = self.before {
            words = format!("{words} --before {before}");
        }
        words
    }
}

/// Show which steps jobs took: of one job, or of all, one after the other.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob history --state failed --after 2026-11-20T00:00:00Z
  kvjob history ID
  kvjob history --all --json | jq -r 'select(.reason) | .job'

With --json each step is a line of its own, with its \"job\".")]
pub(crate) struct History {
    /// Only steps into this state; may be given more than once.
    #[arg(long, value_parser = states(&STEPS), value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// Show what jobs logged: of one job, or of all, one after the other.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob log --level warn,error
  kvjob log ID --all
  kvjob log --after 2026-11-20T08:00:00Z --json

With --json each line is a line of its own, with its \"job\".")]
pub(crate) struct Log {
    /// Only lines of this level; may be given more than once.
    #[arg(long, value_parser = levels(), value_delimiter = ',')]
    pub(crate) level: Vec<Level>,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// Show one job: its fields, its history and its log.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob show 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob show ID --json | jq -r '.logs[].message'

With --json it is one object: {\"job\", \"history\", \"logs\"}.")]
pub(crate) struct Show {
    /// The job.
    pub(crate) id: JobId,
}

/// Wait until a job has ended, and print the value it completed with.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob wait 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob wait ID --timeout 30s | jq .pages
  kvjob wait ID --json

The value is JSON; a job that completed without one prints nothing. With --json it is one object:
{\"id\", \"state\", \"result\", \"error\"}.

Exit status: 0 the job completed; 1 it ended otherwise, or there is no such job; 4 it had not
ended in time, and goes on; 2 a mistake in the arguments, or the store failed.")]
pub(crate) struct Wait {
    /// The job.
    pub(crate) id: JobId,
    /// How long to wait [default: as long as it takes].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
}

/// Count the jobs by state and task, and report what could not be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob stats
  kvjob stats --json | jq .states.failed")]
pub(crate) struct Stats {}

/// Let failed, timed-out and canceled jobs run again, with all their attempts.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true), after_help = "\
Examples:
  kvjob retry 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob retry --state failed --task send-mail
  kvjob retry --all

With --json each job that was changed is a line of its own.")]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Those in this state; may be given more than once.
    #[arg(long, group = "which", value_parser = states(&REVIVABLE), value_delimiter = ',')]
    pub(crate) state: Vec<State>,
}

/// Call off jobs: waiting ones end at once, running ones are asked to stop.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true), after_help = "\
Examples:
  kvjob cancel 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob cancel --state scheduled --task report
  kvjob cancel --all

With --json each job that was changed is a line of its own.")]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Those in this state; may be given more than once.
    #[arg(long, group = "which", value_parser = states(&ACTIVE), value_delimiter = ',')]
    pub(crate) state: Vec<State>,
}

/// Remove jobs that have ended, with their history, payload and log.
///
/// Waiting and running jobs are never removed: cancel them first.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true), after_help = "\
Examples:
  kvjob purge --state completed --older-than 7d  what completed more than a week ago
  kvjob purge 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob purge --all                             everything that has ended

With --json each job that was removed is a line of its own: {\"id\"}.

A purged job is forgotten: `kvjob run` would run its line again. `kvjob clear` clears histories and
logs alone.")]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Those in this state; may be given more than once.
    #[arg(long, group = "which", value_parser = states(&FINAL), value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    /// Those that ended longer ago than this.
    #[arg(long, group = "which", value_name = "DURATION", value_parser = duration::parse)]
    #[arg(conflicts_with = "ids")]
    pub(crate) older_than: Option<Duration>,
}

/// What selects jobs for a change. What is not said matches all, but something must be said.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// These jobs.
    #[arg(value_name = "ID", group = "which", conflicts_with_all = ["state", "task", "all"])]
    pub(crate) ids: Vec<JobId>,
    /// Those of this task.
    #[arg(long, group = "which")]
    pub(crate) task: Option<String>,
    /// All for which it can be done.
    #[arg(long, group = "which", conflicts_with_all = ["state", "task"])]
    pub(crate) all: bool,
}

impl Which {
    /// The query for what was selected otherwise than by id, in one of these states.
    pub(crate) fn query(&self, asked: &[State], otherwise: &[State]) -> Query {
        let states = if asked.is_empty() { otherwise } else { asked };
        let query = Query::new().states(states.iter().copied());
        match &self.task {
            Some(task) => query.task(task),
            None => query,
        }
    }
}

/// What a step may lead to.
pub(super) const STEPS: [State; 10] = [
    State::Created,
    State::Scheduled,
    State::Ready,
    State::Running,
    State::Completed,
    State::Failed,
    State::Canceled,
    State::TimedOut,
    State::Taken,
    State::Removed,
];

/// What can be retried.
pub(crate) const REVIVABLE: [State; 3] = [State::Failed, State::TimedOut, State::Canceled];

/// What can be canceled.
pub(crate) const ACTIVE: [State; 3] = [State::Scheduled, State::Ready, State::Running];

/// What can be purged.
pub(crate) const FINAL: [State; 6] = [
    State::Completed,
    State::Failed,
    State::Canceled,
    State::TimedOut,
    State::Taken,
    State::Removed,
];

/// Reads a key mode.
pub(super) fn key_modes() -> impl TypedValueParser<Value = KeyMode> {
    let names = [
        PossibleValue::new("replace"),
        PossibleValue::new("preserve-run-at").alias("preserve_run_at"),
        PossibleValue::new("unsafe-dedupe").alias("unsafe_dedupe"),
    ];
    PossibleValuesParser::new(names).try_map(|name: String| name.replace('-', "_").parse())
}

/// Reads a level.
pub(super) fn levels() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["debug", "info", "warn", "error"]).try_map(|name: String| {
        let all = [Level::Debug, Level::Info, Level::Warn, Level::Error];
        let found = all.into_iter().find(|level| level.to_string() == name);
        found.ok_or("unknown level")
    })
}

/// Reads one of these states.
pub(super) fn states(known: &'static [State]) -> impl TypedValueParser<Value = State> {
    let names = known.iter().map(|state| {
        let name = PossibleValue::new(state.as_str());
        match state {
            State::TimedOut => name.alias("timed-out"),
            _ => name,
        }
    });
    PossibleValuesParser::new(names).try_map(|name: String| {
        let name = name.replace('-', "_");
        let found = known.iter().find(|state| state.as_str() == name);
        found.copied().ok_or("unknown state")
    })
}
