//! What is set for lanes and queues.

use std::num::NonZeroUsize;

use clap::ArgGroup;
use kvjob::job::{LaneFilter, MAX_QUEUE_LIMIT, Rate};

use crate::rate;

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

`kvjob lanes` and `kvjob queues` show what is set.
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

/// Show the queues in which jobs run or are due, and how many of each may run at a time.
///
/// With a queue key that queue alone, also one without jobs, and the jobs of it that run. The order
/// of many queues means nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob queues
  kvjob queues printers --tenant acme
  kvjob queues --json | jq '.queues[] | select(.ready > 100)'

`kvjob limit --queue` sets how many may run. With --json it is one object: {\"queues\", \"more\"},
each queue with the ids of the jobs that run. Up to 1000 jobs of a queue are counted.")]
pub(crate) struct Queues {
    /// The queue with this key, of the tenant or of none.
    #[arg(value_name = "KEY")]
    pub(crate) queue: Option<String>,
    /// The tenant of the queue.
    #[arg(long, requires = "queue")]
    pub(crate) tenant: Option<String>,
    /// At most this many queues.
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) limit: NonZeroUsize,
}
