//! Changing jobs by hand.

use std::time::Duration;

use clap::ArgGroup;
use kvjob::clock::Timestamp;
use kvjob::job::JobId;

use crate::duration;

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
/// A worker that lives after all finds within seconds that its jobs are no longer its own, and ends
/// them. The attempt counts, for the job may be what killed the worker; a job on its last one has
/// failed.
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
