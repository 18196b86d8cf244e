//! `kvjob stats`: counts, and what was put aside.

use std::collections::BTreeSet;
use std::process::ExitCode;

use kvjob::job::{LaneSetting, State, Stats};
use serde::Serialize;

use super::lanes;
use crate::args::Global;
use crate::error::Result;
use crate::output::{Out, cut, printable};
use crate::store::{self, Missing, Opened};

/// How many records that could not be read are named.
const NAMED: usize = 10;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    stats: &'a Stats,
    paused: &'a [LaneSetting],
}

pub(super) async fn run(global: &Global) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let mut out = Out::new();
    let told = tell(global, &store, &mut out).await;
    let closed = store.close().await;
    told?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn tell(global: &Global, store: &Opened, out: &mut Out) -> Result<()> {
    let stats = store.jobs.stats().await?;
    let mut paused = lanes::settings(store).await?;
    paused.retain(|setting| setting.paused_at.is_some());
    if global.json {
        out.json_line(&Answer {
            stats: &stats,
            paused: &paused,
        })?;
        return out.flush();
    }
    table(out, &stats)?;
    for setting in &paused {
        out.line(&format!("\nPaused: {}", lanes::describe(&setting.lanes)))?;
    }
    if stats.quarantined > 0 {
        out.line(&format!(
            "\nPut aside because it could not be read: {}",
            stats.quarantined
        ))?;
        let page = store.jobs.quarantine(NAMED, None).await?;
        for record in &page.items {
            let (key, reason) = (
                printable(&record.key, false),
                printable(&record.reason, false),
            );
            out.line(&format!("  {key}: {reason}"))?;
        }
        if page.next.is_some() {
            out.line("  ...")?;
        }
        let list = store::command(global, "quarantine list");
        out.line(&format!(
            "  `{list}` names them; they can be shown, released and removed."
        ))?;
    }
    if stats.unreadable > 0 {
        out.line(&format!(
            "\nCannot be read, and will be put aside when a worker comes to it: {}",
            stats.unreadable
        ))?;
    }
    if stats.too_new > 0 {
        out.line(&format!(
            "\nWritten by a newer kvjob and left alone: {}",
            stats.too_new
        ))?;
    }
    for warning in store.jobs.health().await?.warnings {
        out.line(&format!("\nWarning: {}", printable(&warning, false)))?;
    }
    out.flush()
}

fn table(out: &mut Out, stats: &Stats) -> Result<()> {
    // Only columns that say something.
    let used: BTreeSet<State> = stats.states.keys().copied().collect();
    let longest = stats.tasks.keys().map(|task| task.chars().count()).max();
    let width = longest.unwrap_or(0).clamp(5, 40);
    let mut header = format!("{:<width$}  {:>9}", "TASK", "TOTAL");
    for state in &used {
        header = format!("{header}  {:>9}", state.as_str().to_uppercase());
    }
    out.line(&header)?;
    for (task, states) in &stats.tasks {
        let mut row = format!(
            "{:<width$}  {:>9}",
            cut(task, 40),
            states.values().sum::<u64>()
        );
        for state in &used {
            row = format!("{row}  {:>9}", states.get(state).copied().unwrap_or(0));
        }
        out.line(&row)?;
    }
    let mut total = format!("{:<width$}  {:>9}", "total", stats.total);
    for count in stats.states.values() {
        total = format!("{total}  {count:>9}");
    }
    out.line(&total)
}
