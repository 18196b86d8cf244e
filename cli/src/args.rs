//! What may be said on the command line.

pub(crate) mod cron;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser, Subcommand};
use kvjob::clock::Timestamp;
use kvjob::job::{
    Cursor, JobId, KeyMode, LaneFilter, MAX_QUEUE_LIMIT, QuarantineId, Query, Rate, Retention,
    State,
};

use crate::{duration, rate};

/// Works off a file of jobs, and looks at and steers a job store.
#[derive(Debug, Parser)]
#[command(
    name = "kvjob",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "\
Examples:
  kvjob run jobs.jsonl --exec ./do-it.sh        work off a file, 1 job a line
  kvjob enqueue send-mail '{\"to\":\"ada\"}'        add a job
  kvjob work --exec ./do-it.sh                  work off what is added, until stopped
  kvjob watch                                   see what happens
  kvjob list --state failed                     what went wrong
  kvjob show ID                                 one job, its history and its log

Exit status: 0 all is well; 1 some jobs failed, or some of what was named is not there;
2 a mistake in the arguments, or the store failed; 3 `check` found what is not mended;
4 `wait` waited in vain; 130 stopped by a signal.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Where the jobs are kept: SCHEME:PATH, see `kvjob backends`.
    #[arg(long, global = true, env = "KVJOB_STORE", hide_env_values = true)]
    #[arg(value_name = "URL", default_value = crate::store::DEFAULT)]
    pub(crate) store: String,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Work(Work),
    Watch(Watch),
    Enqueue(Enqueue),
    List(List),
    Show(Show),
    Wait(Wait),
    Stats(Stats),
    Retry(Retry),
    Cancel(Cancel),
    Complete(Complete),
    Fail(Fail),
    Reschedule(Reschedule),
    Remove(Remove),
    Unlock(Unlock),
    Purge(Purge),
    Pause(Pause),
    Resume(Resume),
    Limit(Limit),
    Lanes(Lanes),
    Quarantine(Quarantine),
    Check(Check),
    Copy(Copy),
    Dump(Dump),
    Restore(Restore),
    Cron(cron::Cron),
    Backends(Backends),
    /// Kills what a killed kvjob left running; started by kvjob itself.
    #[command(name = crate::exec::GUARD, hide = true)]
    Guard,
}

/// What `kvjob run --help` begins with, as it stands.
const RUN: &str = "\
Work off a file of jobs with a command, until each of them has ended.

A line of the file is a JSON object:

  {\"task\": \"send-mail\", \"payload\": {\"to\": \"ada\"}}

and may also have \"key\", \"queue\" (one of its jobs runs at a time), \"priority\" (lower runs first), \"run_at\" (RFC 3339) and
\"max_attempts\". Blank lines are skipped. A line that is wrong is reported and counted as
failed; the others run.

Each line is a job once: the same file again, also after a crash, adds nothing twice. A line
is known by its \"key\", else by its text and by how many equal lines stand before it. Options
are kept with a job when it is added.

COMMAND is run by `sh -c` for each attempt, with the payload and a line end on its standard
input, and with KVJOB_ID, KVJOB_TASK and KVJOB_ATTEMPT in its environment. An exit status
other than 0 is a failed attempt. What it prints goes to the job's log, the last 64 KiB of an
attempt. Whatever it leaves running when it exits is killed.

Other jobs of the same store run too while there is room.

Ctrl-C (or SIGTERM) finishes what runs and stops; again, and it is killed and given back. The
same command goes on from there.";

/// `kvjob run`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Work off a file of jobs with a command, until each of them has ended",
    long_about = RUN,
    after_help = "\
Examples:
  kvjob run jobs.jsonl --exec 'jq -r .to | xargs ./send-mail.sh'
  kvjob run jobs.jsonl --exec ./do-it.sh -j 16 --timeout 30s --max-attempts 5
  make-jobs | kvjob run - --exec ./do-it.sh --json
  kvjob run jobs.jsonl --exec ./do-it.sh --keep-completed 7d --keep-failed 30d

Exit status: 0 every line's job completed; 1 some failed, or some lines are wrong;
2 a mistake in the arguments, or the store failed; 130 stopped by a signal."
)]
pub(crate) struct Run {
    /// The file, one job a line; - for standard input.
    #[arg(value_name = "JOBS.jsonl")]
    pub(crate) file: PathBuf,
    /// What does a job.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: String,
    /// How many run at a time [default: one a processor].
    #[arg(short = 'j', long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// The most attempts for a job whose line does not say.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: u32,
    /// The wait after a first failed attempt; then it doubles, up to 30s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub(crate) backoff: Duration,
    /// How long an attempt may take; then it is killed and counts as failed [default: any time].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub(crate) timeout: Option<Duration>,
    /// Remove jobs this long after they completed, at once for 0s; a line whose job is gone runs
    /// again [default: keep them].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) keep_completed: Option<Duration>,
    /// Remove jobs this long after they failed, timed out or were canceled [default: keep them].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) keep_failed: Option<Duration>,
}

impl Run {
    /// How long jobs are kept while this runs.
    pub(crate) fn retention(&self) -> Retention {
        Retention::new()
            .completed(self.keep_completed)
            .failed(self.keep_failed)
    }
}

/// Work off the jobs of a store with a command, until stopped.
///
/// COMMAND is run as by `kvjob run`: by `sh -c` for each attempt, with the payload and a line end on
/// its standard input, and the job's id, task and attempt in its environment. An exit status other
/// than 0 is a failed attempt. The other commands look at the store and steer it
/// meanwhile, also where one process alone may have it open.
///
/// Ctrl-C (or SIGTERM) finishes what runs and stops; again, and it is killed and given back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob work --exec ./do-it.sh -j 8
  kvjob work --exec ./send-mail.sh --task send-mail --task send-sms
  kvjob work --exec ./do-it.sh --tenant acme
  kvjob work --exec ./do-it.sh --crontab jobs.crontab
  kvjob work --exec ./do-it.sh --keep-completed 7d --json >> work.jsonl

With --json each event is a line of its own: {\"event\": \"started\" or \"ended\" or \"given_back\" or
\"lease_lost\", \"id\", \"task\", \"attempt\", \"state\", \"error\", \"seconds\"}; with --crontab also
{\"event\": \"scheduled\", \"schedule\", \"slot\", \"job\", \"new\", \"done\", \"backfilled\"}; the last line is
the summary: {\"event\": \"stopped\", ...}.

Exit status: 0 stopped, and all that ran is finished; 2 a mistake in the arguments, or the store
failed; 130 stopped at once, and what ran is given back.")]
pub(crate) struct Work {
    /// What does a job.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: String,
    /// How many run at a time [default: one a processor].
    #[arg(short = 'j', long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Only jobs of this task; may be given several times [default: of all].
    #[arg(long)]
    pub(crate) task: Vec<String>,
    /// Only jobs of this tenant; '' for those without one [default: of all].
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Also add the jobs of schedules as their slots come: those of this file, see `kvjob cron run`,
    /// and those kept in the store.
    #[arg(long, value_name = "FILE")]
    pub(crate) crontab: Option<PathBuf>,
    /// The time zone of the crontab [default: UTC].
    #[arg(long, value_name = "ZONE", requires = "crontab")]
    pub(crate) time_zone: Option<String>,
    /// Remove jobs this long after they completed, at once for 0s [default: keep them].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) keep_completed: Option<Duration>,
    /// Remove jobs this long after they failed, timed out or were canceled [default: keep them].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) keep_failed: Option<Duration>,
}

impl Work {
    /// How long jobs are kept while this works.
    pub(crate) fn retention(&self) -> Retention {
        Retention::new()
            .completed(self.keep_completed)
            .failed(self.keep_failed)
    }
}

/// Watch the queues and what happens to jobs, until stopped.
///
/// Each job that starts, ends or is to be tried again is a line; below them, on a terminal, stands
/// how many jobs wait, run and ended badly, by task, once a second; elsewhere these counts are a line
/// whenever they change. At most 1000 jobs of a state are counted: a + says that there are more.
///
/// A store that one process alone may have open is watched through the one that works it off. While
/// none does, its queues are shown once, and that one is waited for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob watch
  kvjob watch --task send-mail
  kvjob watch --json | jq -c 'select(.state == \"failed\")'

With --json a job is {\"event\": \"job\", \"id\", \"task\", \"state\", \"attempts\", \"error\"}, and counts are
{\"event\": \"queues\", \"tasks\": {TASK: {STATE: N}}, \"cut\": [STATE]}, where \"cut\" names the states of
which there are more.")]
pub(crate) struct Watch {
    /// Only jobs of this task.
    #[arg(long)]
    pub(crate) task: Option<String>,
}

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
    /// At most this many.
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) limit: NonZeroUsize,
    /// However many there are.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Go on where a list ended; it says how.
    #[arg(long)]
    pub(crate) cursor: Option<Cursor>,
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

/// Mark jobs as completed by hand.
///
/// Waiting, failed, timed-out and canceled ones. What runs is left alone, unless its lease has run
/// out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob complete 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob list --state failed --json | jq -r .id | xargs kvjob complete

With --json each job that was changed is a line of its own.")]
pub(crate) struct Complete {
    /// The jobs.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<JobId>,
}

/// Mark waiting jobs as failed for good by hand.
///
/// What runs is left alone, unless its lease has run out. `kvjob retry` lets them run after all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob fail 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90 --reason 'the account is closed'

With --json each job that was changed is a line of its own.")]
pub(crate) struct Fail {
    /// The jobs.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<JobId>,
    /// What is kept as its error [default: Manually marked as failed].
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// Change when and how jobs run; what is not said stays as it is.
///
/// Waiting jobs, and failed, timed-out and canceled ones, which wait again: out of attempts they get
/// all of them, unless --attempts says otherwise. What runs is left alone, unless its lease has run
/// out.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true), after_help = "\
Examples:
  kvjob reschedule 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90 --in 0s      run it now
  kvjob reschedule ID --in 2h --priority -10
  kvjob reschedule ID --max-attempts 50

With --json each job that was changed is a line of its own.")]
pub(crate) struct Reschedule {
    /// The jobs.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<JobId>,
    /// Not before this time, as in RFC 3339: 2026-11-21T08:30:00Z.
    #[arg(long, visible_alias = "at", value_name = "TIME", group = "what")]
    pub(crate) run_at: Option<Timestamp>,
    /// Not before this long from now.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse, group = "what")]
    #[arg(conflicts_with = "run_at")]
    pub(crate) delay: Option<Duration>,
    /// Lower runs first.
    #[arg(long, allow_negative_numbers = true, group = "what")]
    pub(crate) priority: Option<i16>,
    /// As if this many attempts had been made.
    #[arg(long, value_name = "N", group = "what")]
    pub(crate) attempts: Option<u32>,
    /// The most attempts.
    #[arg(long, value_name = "N", group = "what")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: Option<u32>,
}

/// Remove jobs by their job keys.
///
/// A running one loses its key and is not tried again. Of any other, only its history is left, until
/// it is purged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob remove --key sync/acct-1

With --json each job is a line of its own; its state says whether it was removed or runs.")]
pub(crate) struct Remove {
    /// The key; may be given more than once.
    #[arg(long = "key", required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// Whose keys they are [default: those of no tenant].
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) tenant: String,
}

/// Take jobs from workers that are known to be dead, so that others run them at once.
///
/// A worker that lives after all finds that its jobs are no longer its own. The attempt counts, for
/// the job may be what killed the worker; a job on its last one has failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob unlock worker-7

With --json each job that was taken is a line of its own.")]
pub(crate) struct Unlock {
    /// The names of the workers, as `kvjob show` tells them.
    #[arg(required = true, value_name = "WORKER")]
    pub(crate) workers: Vec<String>,
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

A purged job is forgotten: `kvjob run` would run its line again.")]
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

/// Which lanes something is set for.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("lanes").required(true).multiple(true))]
pub(crate) struct WhichLanes {
    /// Jobs of this task.
    #[arg(group = "lanes")]
    pub(crate) task: Option<String>,
    /// Jobs of this tenant; '' for those without one.
    #[arg(long, group = "lanes")]
    pub(crate) tenant: Option<String>,
    /// Jobs with exactly these flags; '' for those without any.
    #[arg(long, group = "lanes", value_name = "FLAG,...")]
    pub(crate) flags: Option<String>,
    /// All jobs.
    #[arg(long, group = "lanes", conflicts_with_all = ["task", "tenant", "flags"])]
    pub(crate) all: bool,
}

impl WhichLanes {
    pub(crate) fn filter(&self) -> LaneFilter {
        let flags = self.flags.as_ref().map(|flags| {
            let flags = flags.split(',').filter(|flag| !flag.is_empty());
            flags.map(str::to_owned).collect()
        });
        LaneFilter {
            tenant: self.tenant.clone(),
            task: self.task.clone(),
            flags,
        }
    }
}

/// Let no more jobs of a task, or of a tenant, begin.
///
/// Those that run go on. New ones may be added; they wait until `kvjob resume` with the same words.
/// Workers hear of it at once, or within a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob pause send-mail
  kvjob pause --tenant acme
  kvjob pause send-mail --tenant acme
  kvjob pause --all

`kvjob lanes` shows what is paused. With --json: {\"lanes\", \"changed\"}.")]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) which: WhichLanes,
}

/// Let jobs begin again that `kvjob pause` with the same words holds back.
///
/// What is paused by other words, too, stays paused: `resume send-mail` ends no `pause --all`. It
/// is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob resume send-mail
  kvjob resume --all

With --json: {\"lanes\", \"changed\"}.")]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) which: WhichLanes,
}

/// Let only so many jobs of a task, or of a tenant, begin in some time; or of a serial queue run at
/// a time.
///
/// With --rate one after the other at even intervals, and with --burst after a quiet time that many
/// at once. Each process that runs jobs keeps to the rate for itself.
///
/// With --concurrency so many of a queue, in all processes together; what runs goes on.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("to").required(true), after_help = "\
Examples:
  kvjob limit send-mail --rate 10/s
  kvjob limit send-mail --rate 100/min --burst 20
  kvjob limit --tenant acme --rate 1/5s
  kvjob limit send-mail --none
  kvjob limit --queue printers --concurrency 3
  kvjob limit --queue printers --none                   one at a time again

With --json: {\"lanes\", \"changed\"}, or of a queue {\"queue\", \"tenant\", \"concurrency\", \"changed\"}.")]
pub(crate) struct Limit {
    #[command(flatten)]
    pub(crate) which: WhichLanes,
    /// Jobs with this queue key, of the tenant or of none.
    #[arg(long, group = "lanes", value_name = "KEY")]
    #[arg(conflicts_with_all = ["task", "flags", "all", "rate"])]
    pub(crate) queue: Option<String>,
    /// How many jobs in what time.
    #[arg(long, group = "to", value_parser = rate::parse)]
    pub(crate) rate: Option<Rate>,
    /// How many may begin at once after a quiet time [default: 1].
    #[arg(long, value_name = "N", requires = "rate", conflicts_with = "none")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst: Option<u32>,
    /// How many jobs of the queue run at a time [default: 1].
    #[arg(long, group = "to", value_name = "N", requires = "queue")]
    #[arg(conflicts_with_all = ["task", "flags", "all"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_QUEUE_LIMIT)))]
    pub(crate) concurrency: Option<u32>,
    /// No limit any more; of a queue one at a time.
    #[arg(long, group = "to")]
    pub(crate) none: bool,
}

/// Show which jobs are due by task, tenant and flags, and what is paused or limited.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob lanes
  kvjob lanes --json | jq '.lanes[] | select(.paused)'

With --json it is one object: {\"settings\", \"lanes\", \"more\"}. Up to 1000 jobs of a lane are
counted.")]
pub(crate) struct Lanes {
    /// At most this many lanes.
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) limit: NonZeroUsize,
}

/// Look at everything stored, and report what is not as it must be.
///
/// Every job must stand in exactly one place, and its header, its entries, worker records, history,
/// arguments, log and key must agree. Without --repair nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob check
  kvjob check --repair
  kvjob check --json | jq -r 'select(.damage) | .job'

With --json each finding is a line of its own: {\"damage\", \"key\", \"job\", \"message\", \"mended\",
\"action\"}; the last line has the counts.

Exit status: 0 nothing was found, or all of it was mended; 3 something was found and not mended;
2 a mistake in the arguments, or the store failed.")]
pub(crate) struct Check {
    /// Mend what can be mended: entries are built again from the jobs' headers; what cannot be
    /// read, or belongs to no job, is put aside.
    #[arg(long)]
    pub(crate) repair: bool,
}

/// What `kvjob copy --help` begins with, as it stands.
const COPY: &str = "\
Copy a whole job store to another place: another backend, another file, another namespace.

Everything travels as it is: waiting jobs and those that have ended, histories and logs, what was
put aside, and leases, so that a job that runs at the source runs at the target until its lease
is over.

Stop the workers of both sides first. A store of one process is held while it is copied; if one
on a server is changed meanwhile, the copy fails and says so. (The source is read twice and must
be the same, then the target is read back and its digest compared.)

A copy that was cut off is no job store: the other commands refuse it. The same command again
goes on where it was.

A target that already holds jobs is refused. With --overwrite it is made like the source: what
is only there is removed for good, what is the same is not written again.";

/// `kvjob copy`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Copy a whole job store to another place",
    long_about = COPY,
    after_help = "\
Examples:
  kvjob copy --from redb:jobs.redb --to sqlite:jobs.db
  kvjob copy --from 'redb:jobs.redb?namespace=shop' --to 'redb:jobs.redb?namespace=test'
  kvjob copy --from redb:jobs.redb --to redb:/backup/jobs.redb --overwrite    bring it up to date

The digest is that of the records: job stores that hold the same have the same, wherever they
are. With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\",
\"digest\"}."
)]
pub(crate) struct Copy {
    /// The job store that is copied.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Where it goes; made if it is not there.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Make a target that holds jobs like the source: what is only there is lost.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Write a whole job store to a file.
///
/// The file is complete, synced and read back before it has its name. As with `kvjob copy`, stop
/// the workers of a store on a server first: if it changes meanwhile, there is no dump.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob dump jobs.kvjob
  kvjob dump - | gzip > jobs.kvjob.gz

With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\", \"digest\"}.
If the dump goes to standard output, this goes to standard error.")]
pub(crate) struct Dump {
    /// The file; - for standard output.
    pub(crate) file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Make a job store of a file that `kvjob dump` wrote, in any backend.
///
/// The file is read to its end first, so that one that is cut off or damaged changes nothing.
/// (Standard input is read once: if it fails on the way, what is there is no job store, and the
/// other commands refuse it until a whole dump was restored.) A store that already holds jobs is
/// refused, or with --overwrite made like the dump.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob restore jobs.kvjob --store sqlite:jobs.db
  gunzip < jobs.kvjob.gz | kvjob restore -

With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\", \"digest\"}.")]
pub(crate) struct Restore {
    /// The file; - for standard input.
    pub(crate) file: PathBuf,
    /// Make a store that holds jobs like the dump: what is only there is lost.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Look at records that could not be read and were put aside, and put them back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob quarantine list
  kvjob quarantine show 3fa94c01d5b7e682
  kvjob quarantine release 3fa94c01d5b7e682      once it can be read, or its payload again
  kvjob quarantine remove 3fa94c01d5b7e682

What else belongs to a job, its payload, log and older history, is never put aside: it is there
when the job comes back.")]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List the records, by the keys they stood under.
    #[command(after_help = "\
Examples:
  kvjob quarantine list
  kvjob quarantine list --json | jq -r .reason

With --json each record is a line of its own: {\"id\", \"key\", \"reason\", \"at\", \"bytes\"}.")]
    List,
    /// Show one record with its bytes.
    #[command(after_help = "\
Examples:
  kvjob quarantine show 3fa94c01d5b7e682
  kvjob quarantine show ID --json | jq -r .raw_value | xxd -r -p > record

With --json, \"raw_key\" and \"raw_value\" are in hexadecimal digits.")]
    Show {
        /// The record.
        id: QuarantineId,
    },
    /// Put records back under their keys, if these are free; a job waits, or has ended, as before.
    #[command(after_help = "\
Examples:
  kvjob quarantine release 3fa94c01d5b7e682
  kvjob quarantine release ID --unreadable       for other software to read

A job that was running lost its lease, and one that had ended counts as ended now.

With --json each record that was released is a line of its own: {\"record\", \"job\"}.")]
    Release {
        /// The records.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<QuarantineId>,
        /// Also what still cannot be read, as it is.
        #[arg(long)]
        unreadable: bool,
    },
    /// Remove records for good.
    #[command(after_help = "\
Examples:
  kvjob quarantine remove 3fa94c01d5b7e682

With --json each record that was removed is a line of its own: {\"id\"}.")]
    Remove {
        /// The records.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<QuarantineId>,
    },
}

/// List what a store can be, and how its URL looks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob backends
  kvjob list --store redb:/var/lib/app/jobs.redb
  KVJOB_STORE=redb:jobs.redb kvjob stats")]
pub(crate) struct Backends {}

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
fn key_modes() -> impl TypedValueParser<Value = KeyMode> {
    let names = [
        PossibleValue::new("replace"),
        PossibleValue::new("preserve-run-at").alias("preserve_run_at"),
        PossibleValue::new("unsafe-dedupe").alias("unsafe_dedupe"),
    ];
    PossibleValuesParser::new(names).try_map(|name: String| name.replace('-', "_").parse())
}

/// Reads one of these states.
fn states(known: &'static [State]) -> impl TypedValueParser<Value = State> {
    let names = known.iter().map(|state| {
        let name = PossibleValue::new(state.as_str());
        match state {
            State::TimedOut => name.alias("timed-out"),
            _ => name,
        }
    });
    PossibleValuesParser::new(names).try_map(|name: String| {
        let name = name.replace('-', "_");
        let found = State::ALL.into_iter().find(|state| state.as_str() == name);
        found.ok_or("unknown state")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn nothing_is_changed_without_saying_what() {
        for command in ["retry", "cancel", "purge"] {
            assert!(Args::try_parse_from(["kvjob", command]).is_err());
            assert!(Args::try_parse_from(["kvjob", command, "--all"]).is_ok());
            assert!(Args::try_parse_from(["kvjob", command, "--task", "t"]).is_ok());
            assert!(Args::try_parse_from(["kvjob", command, "--all", "--task", "t"]).is_err());
        }
        assert!(Args::try_parse_from(["kvjob", "purge", "--older-than", "7d"]).is_ok());
        assert!(Args::try_parse_from(["kvjob", "purge", "--state", "ready"]).is_err());
        for command in ["complete", "fail", "reschedule", "remove", "unlock"] {
            assert!(Args::try_parse_from(["kvjob", command]).is_err());
        }
        let id = "0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90";
        assert!(Args::try_parse_from(["kvjob", "reschedule", id]).is_err());
        assert!(Args::try_parse_from(["kvjob", "reschedule", id, "--in", "0s"]).is_ok());
    }
}
