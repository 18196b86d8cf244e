//! Working jobs off, and watching that.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use kvjob::job::Retention;

use crate::duration;

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
\"lease_lost\", \"id\", \"task\", \"attempt\", \"state\", \"error\", \"seconds\"}; with --cron also
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
    /// Also add the jobs of schedules as their slots come: of those kept in the store, see `kvjob
    /// cron add`.
    #[arg(long)]
    pub(crate) cron: bool,
    /// The same, and those of this file, see `kvjob cron run`.
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
