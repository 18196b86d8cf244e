//! What may be said to `kvjob cron`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Subcommand, ValueEnum};
use kvjob::clock::Timestamp;
use kvjob::job::KeyMode;

use crate::duration;

/// Add jobs when schedules say so: schedules kept in the store, and those of a crontab.
///
/// Each slot of a schedule, a moment for which it adds a job, has its job once, however many `kvjob
/// cron run` there are. A slot that comes while none is running is missed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob cron add nightly --schedule '0 4 * * *' --task report --fill 1d
  kvjob cron list
  kvjob cron run                                until it is stopped
  kvjob cron run --crontab jobs.crontab")]
pub(crate) struct Cron {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    Add(Box<Add>),
    /// List the schedules in the store, with their last and next slots.
    #[command(after_help = "\
Examples:
  kvjob cron list
  kvjob cron list --json | jq -r '.next[0]'

With --json each schedule is a line of its own: {\"id\", \"schedule\", \"paused\", \"last\", \"next\",
\"added_at\"}. What a program or a crontab brings along has no \"schedule\" here.")]
    List,
    /// Remove schedules from the store; the jobs that they added stay.
    #[command(after_help = "\
Examples:
  kvjob cron remove nightly

What a program or a crontab brings along begins anew when that runs; pause it instead.")]
    Remove(Ids),
    /// Let slots pass without a job, until `kvjob cron resume`.
    #[command(after_help = "\
Examples:
  kvjob cron pause nightly

What a program or a crontab brings along can be paused, too, once it was seen.")]
    Pause(Ids),
    /// Give slots their jobs again; those that passed meanwhile are not made up for.
    #[command(after_help = "\
Examples:
  kvjob cron resume nightly")]
    Resume(Ids),
    Run(Run),
    /// Read a crontab, and list its schedules with their next slots; no store is needed.
    #[command(after_help = "\
Examples:
  kvjob cron check jobs.crontab
  kvjob cron check - --time-zone Europe/Zurich < jobs.crontab

Exit status: 0 it is good; 2 something in it is wrong: its line and column are said.")]
    Check(Crontab),
}

/// Add a schedule to the store, or change the one of this id.
///
/// What it would have added before is not made up for.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("when").required(true), after_help = "\
Examples:
  kvjob cron add nightly --schedule '30 4 * * mon-fri' --task report --time-zone Europe/Zurich
  kvjob cron add tidy --every 10m --jitter 1m
  kvjob cron add backup --schedule '0 2 * * *' --missed once
  kvjob cron add launch --at 2027-01-01T00:00:00Z --payload '{\"to\":\"ada\"}'

The jobs add \"_cron\" to their payload: {\"ts\": the slot, \"backfilled\": whether it was missed}.")]
pub(crate) struct Add {
    /// What the schedule is known by.
    pub(crate) id: String,
    /// Five fields: minute, hour, day of the month, month, day of the week. If both days are
    /// restricted, either matches.
    #[arg(long, group = "when", value_name = "FIELDS")]
    pub(crate) schedule: Option<String>,
    /// At the multiples of this since 1970.
    #[arg(long, group = "when", value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) every: Option<Duration>,
    /// Once, at this time, as in RFC 3339.
    #[arg(long, group = "when", value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// Once, this long from now.
    #[arg(long = "in", group = "when", value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) delay: Option<Duration>,
    /// The time zone of the fields, such as Europe/Zurich [default: UTC].
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// The task of its jobs [default: the id].
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// A JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) payload: String,
    /// What becomes of slots that were missed [default: all with --fill, else skip].
    #[arg(long, value_enum)]
    pub(crate) missed: Option<Missed>,
    /// Missed slots that are older than this are not made up for.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) fill: Option<Duration>,
    /// Let each job wait a while, up to this long, beyond its slot.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub(crate) jitter: Duration,
    /// Lower runs first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i16,
    /// The most attempts.
    #[arg(long, value_name = "N", default_value_t = kvjob::job::DEFAULT_MAX_ATTEMPTS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: u32,
    /// The job key of its jobs: no two of them wait under one key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// What a slot does if a job has the key: it adds none; or the job becomes that of this slot,
    /// and preserves its time unless it waits for a retry [default: unsafe-dedupe].
    #[arg(long, value_name = "MODE", requires = "key", value_parser = super::jobs::key_modes())]
    pub(crate) key_mode: Option<KeyMode>,
    /// The serial queue of its jobs: one of the queue runs at a time, whoever runs them.
    #[arg(long, value_name = "KEY")]
    pub(crate) queue: Option<String>,
}

/// What becomes of slots that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Missed {
    /// Nothing.
    Skip,
    /// The latest has its job.
    Once,
    /// All have their jobs, oldest first.
    All,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ids {
    /// The schedules.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

/// Add the jobs of all schedules as their slots come, until it is stopped.
///
/// It runs no jobs: that is for workers. On a store that one process alone may have open, start
/// `kvjob work` first and this beside it; or `kvjob work --cron`, which does both.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob cron run --store redis://localhost
  kvjob cron run --crontab jobs.crontab --time-zone Europe/Zurich --json

A line of a crontab: min hour date month dow task ?options {json payload}, as in

  30 4 * * 1-5  report  ?id=nightly&fill=1d&max=3  {\"to\":\"ada\"}

Options: id, fill, max, queue, priority, jobKey, jobKeyMode.

With --json each job that was added is a line of its own: {\"schedule\", \"slot\", \"job\", \"new\",
\"done\", \"backfilled\"}, where \"done\" is inserted, replaced or unchanged.

Ctrl-C (or SIGTERM) stops it. Exit status: 130 stopped by a signal; 2 a mistake in the arguments or
the crontab, or the store failed.")]
pub(crate) struct Run {
    /// A file of schedules that run beside those of the store.
    #[arg(long, value_name = "FILE")]
    pub(crate) crontab: Option<PathBuf>,
    /// The time zone of the crontab [default: UTC].
    #[arg(long, value_name = "ZONE", requires = "crontab")]
    pub(crate) time_zone: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Crontab {
    /// The file; - for standard input.
    pub(crate) file: PathBuf,
    /// Its time zone [default: UTC].
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
}
