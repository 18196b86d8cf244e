//! What may be said to `kvjob clear`.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use kvjob::clock::{Clock as _, SystemClock, Timestamp};
use kvjob::job::{JobId, Level, State};

use super::jobs::{STEPS, levels, states};
use crate::duration;

/// Clear what is told of jobs, their history or their log; the jobs stay.
///
/// Look first: `kvjob history` and `kvjob log` show what is meant by the same words.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob clear log --level debug,info --older-than 7d
  kvjob clear history --older-than 30d

To remove jobs with all that belongs to them, see `kvjob purge`.")]
pub(crate) struct Clear {
    #[command(subcommand)]
    pub(crate) what: Cleared,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cleared {
    History(ClearHistory),
    Log(ClearLog),
}

/// Clear the steps of jobs that have ended: of one job, or of all.
///
/// Something must be said of them. A job that waits or runs keeps its history; the last error of a
/// job stays, too.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
#[command(
    override_usage = "kvjob clear history [ID] [OPTIONS]",
    after_help = "\
Examples:
  kvjob clear history --older-than 30d
  kvjob clear history --state running,ready --older-than 1d
  kvjob clear history 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90

With --json each step that was cleared is a line of its own, with its \"job\"."
)]
pub(crate) struct ClearHistory {
    #[command(flatten)]
    pub(crate) which: WhichTold,
    /// Steps into this state; may be given more than once.
    #[arg(long, group = "which", value_parser = states(&STEPS), value_delimiter = ',')]
    #[arg(conflicts_with = "all")]
    pub(crate) state: Vec<State>,
}

/// Remove log lines: of one job, or of all, whether they have ended or not.
///
/// Something must be said of them.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
#[command(
    override_usage = "kvjob clear log [ID] [OPTIONS]",
    after_help = "\
Examples:
  kvjob clear log --level debug,info --older-than 7d
  kvjob clear log 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90
  kvjob clear log --after 2026-11-20T08:00:00Z --before 2026-11-20T09:00:00Z

With --json each line that was removed is a line of its own, with its \"job\"."
)]
pub(crate) struct ClearLog {
    #[command(flatten)]
    pub(crate) which: WhichTold,
    /// Lines of this level; may be given more than once.
    #[arg(long, group = "which", value_parser = levels(), value_delimiter = ',')]
    #[arg(conflicts_with = "all")]
    pub(crate) level: Vec<Level>,
}

/// What selects steps or lines. What is not said matches all, but something must be said.
#[derive(Debug, clap::Args)]
pub(crate) struct WhichTold {
    /// Those of this job.
    #[arg(group = "which")]
    pub(crate) id: Option<JobId>,
    /// Those from this time on, such as 2026-11-20T08:00:00Z.
    #[arg(long, group = "which", value_name = "TIME")]
    pub(crate) after: Option<Timestamp>,
    /// Those before this time.
    #[arg(long, group = "which", value_name = "TIME")]
    before: Option<Timestamp>,
    /// Those from longer ago than this.
    #[arg(long, group = "which", value_name = "DURATION", value_parser = duration::parse)]
    #[arg(conflicts_with = "before")]
    older_than: Option<Duration>,
    /// All there are.
    #[arg(long, group = "which")]
    #[arg(conflicts_with_all = ["id", "after", "before", "older_than"])]
    all: bool,
}

impl WhichTold {
    /// The time before which they are.
    pub(crate) fn before(&self) -> Option<Timestamp> {
        let age = self.older_than.map(|age| SystemClock.now().before(age));
        self.before.or(age)
    }
}
