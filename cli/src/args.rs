//! What may be said on the command line.

mod by_hand;
mod clear;
pub(crate) mod cron;
mod jobs;
mod lanes;
mod store;
mod working;

use clap::{Parser, Subcommand};

pub(crate) use by_hand::{Complete, Fail, Remove, Reschedule, Unlock};
pub(crate) use clear::{Clear, ClearHistory, ClearLog, Cleared};
pub(crate) use jobs::{
    ACTIVE, Cancel, Enqueue, FINAL, History, List, Log, Pages, Purge, REVIVABLE, Retry, Show,
    Stats, Wait, Which,
};
pub(crate) use lanes::{Lanes, Limit, Pause, Queues, Resume, WhichLanes};
pub(crate) use store::{Action, Backends, Check, Copy, Dump, Quarantine, Restore};
pub(crate) use working::{Run, Watch, Work};

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
    History(History),
    Log(Log),
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
    Clear(Clear),
    Pause(Pause),
    Resume(Resume),
    Limit(Limit),
    Lanes(Lanes),
    Queues(Queues),
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
        for (what, kind) in [("history", "--state=failed"), ("log", "--level=debug")] {
            let is_fine = |args: &[&str]| {
                let args = [&["kvjob", "clear", what], args].concat();
                Args::try_parse_from(args).is_ok()
            };
            assert!(!is_fine(&[]));
            assert!(is_fine(&["--all"]) && !is_fine(&["--all", "--older-than", "7d"]));
            assert!(is_fine(&[kind]) && !is_fine(&["--all", kind]));
            assert!(is_fine(&["--after", "2026-11-20T08:00:00Z"]));
            let before = ["--before", "2026-11-20T08:00:00Z"];
            assert!(is_fine(&before) && !is_fine(&[&before[..], &["--older-than", "7d"]].concat()));
        }
        for command in ["complete", "fail", "reschedule", "remove", "unlock"] {
            assert!(Args::try_parse_from(["kvjob", command]).is_err());
        }
        let id = "0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90";
        assert!(Args::try_parse_from(["kvjob", "reschedule", id]).is_err());
        assert!(Args::try_parse_from(["kvjob", "reschedule", id, "--in", "0s"]).is_ok());
    }
}
