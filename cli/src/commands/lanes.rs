//! `kvjob pause`, `resume` and `limit`, which set something for lanes, and `kvjob lanes`, which
//! shows what is set and what waits.

use std::process::ExitCode;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{LaneFilter, LaneSetting, LaneStatus};
use serde::Serialize;

use crate::args::{Global, Lanes, Limit, WhichLanes};
use crate::error::Result;
use crate::output::{self, Out, cut, lasting, printable, seconds};
use crate::rate;
use crate::store::{Missing, Opened};

/// How much is asked for at once.
const PAGE: usize = 500;

#[derive(Serialize)]
struct Changed<'a> {
    lanes: &'a LaneFilter,
    changed: bool,
}

#[derive(Serialize)]
struct ChangedQueue<'a> {
    queue: &'a str,
    tenant: &'a str,
    concurrency: u32,
    changed: bool,
}

#[derive(Serialize)]
struct Overview {
    settings: Vec<LaneSetting>,
    lanes: Vec<LaneStatus>,
    /// Whether there are more lanes.
    more: bool,
}

pub(super) async fn pause(global: &Global, which: &WhichLanes) -> Result<ExitCode> {
    let lanes = which.filter();
    let store = Opened::open(global, Missing::Refuse).await?;
    let paused = store.jobs.pause(&lanes).await;
    store.close().await?;
    let changed = paused?;
    if !changed {
        output::note(&format!("already paused: {}", describe(&lanes)));
    }
    answer(global, &lanes, changed, "paused")
}

pub(super) async fn resume(global: &Global, which: &WhichLanes) -> Result<ExitCode> {
    let lanes = which.filter();
    let store = Opened::open(global, Missing::Refuse).await?;
    let resumed = async {
        let changed = store.jobs.resume(&lanes).await?;
        Ok::<_, crate::error::Error>((changed, settings(&store).await?))
    };
    let resumed = resumed.await;
    store.close().await?;
    let (changed, set) = resumed?;
    if !changed {
        output::note(&format!("was not paused: {}", describe(&lanes)));
    }
    for setting in set.iter().filter(|set| set.paused_at.is_some()) {
        if overlap(&setting.lanes, &lanes) {
            output::note(&format!("still paused: {}", describe(&setting.lanes)));
        }
    }
    answer(global, &lanes, changed, "resumed")
}

pub(super) async fn limit(global: &Global, args: &Limit) -> Result<ExitCode> {
    if let Some(queue) = &args.queue {
        let tenant = args.which.tenant.as_deref().unwrap_or_default();
        return limit_queue(global, queue, tenant, args.concurrency.unwrap_or(1)).await;
    }
    let lanes = args.which.filter();
    let rate = args.rate.map(|rate| match args.burst {
        Some(burst) => rate.burst(burst),
        None => rate,
    });
    let store = Opened::open(global, Missing::Refuse).await?;
    let limited = store.jobs.limit(&lanes, rate).await;
    store.close().await?;
    let changed = limited?;
    let done = rate.map_or("not limited".to_owned(), |rate| {
        format!("limited to {}", rate::show(&rate))
    });
    if !changed {
        output::note(&format!("already {done}: {}", describe(&lanes)));
    }
    answer(global, &lanes, changed, &done)
}

/// Sets how many jobs of a serial queue run at a time.
async fn limit_queue(
    global: &Global,
    queue: &str,
    tenant: &str,
    concurrency: u32,
) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let limited = store.kv().limit_queue(tenant, queue, concurrency).await;
    store.close().await?;
    let changed = limited?;
    let of = match tenant {
        "" => String::new(),
        tenant => format!(" of tenant {}", printable(tenant, false)),
    };
    let done = format!("limited to {concurrency} at a time");
    let queue_of = format!("queue {}{of}", printable(queue, false));
    let mut out = Out::new();
    if global.json {
        out.json_line(&ChangedQueue {
            queue,
            tenant,
            concurrency,
            changed,
        })?;
    } else if changed {
        out.line(&format!("{done}: {queue_of}"))?;
    }
    out.flush()?;
    if !changed {
        output::note(&format!("already {done}: {queue_of}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(global: &Global, lanes: &LaneFilter, changed: bool, done: &str) -> Result<ExitCode> {
    let mut out = Out::new();
    if global.json {
        out.json_line(&Changed { lanes, changed })?;
    } else if changed {
        out.line(&format!("{done}: {}", describe(lanes)))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(global: &Global, args: &Lanes) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let overview = overview(&store, args.limit.get()).await;
    store.close().await?;
    let overview = overview?;
    let mut out = Out::new();
    if global.json {
        out.json_line(&overview)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    if overview.lanes.is_empty() {
        out.line("No job is due.")?;
    } else {
        out.line(HEADER)?;
    }
    for status in &overview.lanes {
        out.line(&row(status))?;
    }
    if overview.more {
        output::note("there are more: --limit says how many are shown");
    }
    if !overview.settings.is_empty() {
        out.line("\nSet:")?;
    }
    for setting in &overview.settings {
        let says = says(setting).join(", ");
        out.line(&format!("  {}: {says}", describe(&setting.lanes)))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn overview(store: &Opened, most: usize) -> Result<Overview> {
    let settings = settings(store).await?;
    let (mut lanes, mut cursor) = (Vec::new(), None);
    loop {
        let left = most.saturating_sub(lanes.len()).min(PAGE);
        let page = store.jobs.lanes(left, cursor).await?;
        lanes.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || lanes.len() >= most {
            break;
        }
    }
    Ok(Overview {
        settings,
        lanes,
        more: cursor.is_some(),
    })
}

/// Everything that is set.
pub(super) async fn settings(store: &Opened) -> Result<Vec<LaneSetting>> {
    let (mut settings, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.jobs.lane_settings(PAGE, cursor).await?;
        settings.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(settings);
        }
    }
}

/// Which lanes these are, in words.
pub(super) fn describe(lanes: &LaneFilter) -> String {
    let task = match &lanes.task {
        Some(task) => format!("task {}", printable(task, false)),
        None => "all tasks".to_owned(),
    };
    let tenant = match lanes.tenant.as_deref() {
        Some("") => " without a tenant".to_owned(),
        Some(tenant) => format!(" of tenant {}", printable(tenant, false)),
        None => String::new(),
    };
    let flags = match lanes.flags.as_deref() {
        Some([]) => " without flags".to_owned(),
        Some(flags) => format!(" with flags {}", printable(&flags.join(","), false)),
        None => String::new(),
    };
    task + &tenant + &flags
}

fn says(setting: &LaneSetting) -> Vec<String> {
    let paused = setting.paused_at;
    let paused = paused.map(|at| format!("paused since {}", seconds(at)));
    let limited = setting.rate.as_ref().map(rate::show);
    paused.into_iter().chain(limited).collect()
}

/// Whether a lane may be meant by both.
fn overlap(one: &LaneFilter, other: &LaneFilter) -> bool {
    fn may<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.zip(other).is_none_or(|(one, other)| one == other)
    }
    may(one.task.as_ref(), other.task.as_ref())
        && may(one.tenant.as_ref(), other.tenant.as_ref())
        && may(one.flags.as_ref(), other.flags.as_ref())
}

const HEADER: &str =
    "TASK                      TENANT            READY  WAITING FOR   FLAGS             SET";

fn row(status: &LaneStatus) -> String {
    let more = if status.more { "+" } else { "" };
    let ready = format!("{}{more}", status.ready);
    let waits = lasting(SystemClock.now().since(status.next_run_at));
    let mut set: Vec<String> = status.rates.iter().map(rate::show).collect();
    if status.paused {
        set.insert(0, "paused".to_owned());
    }
    let row = format!(
        "{:<24}  {:<16}  {ready:>5}  {waits:<12}  {:<16}  {}",
        cut(&status.lane.task, 24),
        cut(&status.lane.tenant, 16),
        cut(&status.lane.flags.join(","), 16),
        set.join(", "),
    );
    row.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_described_in_words() {
        let all = LaneFilter::all();
        assert_eq!(describe(&all), "all tasks");
        let mail = all.clone().task("mail");
        assert_eq!(
            describe(&mail.clone().tenant("acme")),
            "task mail of tenant acme"
        );
        assert_eq!(
            describe(&all.clone().tenant("")),
            "all tasks without a tenant"
        );
        assert_eq!(
            describe(&mail.flags(["a", "b"])),
            "task mail with flags a,b"
        );
    }

    #[test]
    fn what_may_mean_the_same_lane_overlaps() {
        let all = LaneFilter::all();
        let (mail, acme) = (all.clone().task("mail"), all.clone().tenant("acme"));
        assert!(overlap(&all, &mail) && overlap(&mail, &acme));
        assert!(!overlap(&mail, &all.task("other")));
    }
}
