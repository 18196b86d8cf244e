//! `kvjob show`: one job, its history and its log.

use std::process::ExitCode;

use kvjob::job::{Backoff, Job, LogLine, LogQuery, Step};

use super::NOT_ALL;
use crate::args::{Global, Show};
use crate::error::Result;
use crate::output::{self, Out, lasting, printable};
use crate::store::{self, Missing, Opened};

/// How many log lines are asked for at once: each may be as long as a command's output.
const PAGE: usize = 20;

pub(super) async fn run(global: &Global, args: &Show) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let mut out = Out::new();
    let shown = show(global, args, &store, &mut out).await;
    let closed = store.close().await;
    let code = shown?;
    closed?;
    Ok(code)
}

async fn show(global: &Global, args: &Show, store: &Opened, out: &mut Out) -> Result<ExitCode> {
    let Some(job) = store.jobs.get(args.id).await? else {
        let list = store::command(global, "list");
        let missing = format!(
            "there is no job {}\n  `{list}` shows those that are there.",
            args.id
        );
        output::note(&missing);
        return Ok(ExitCode::from(NOT_ALL));
    };
    let history = store.jobs.history(args.id).await?;
    if global.json {
        out.text(r#"{"job":"#)?;
        out.json(&job)?;
        out.text(r#","history":"#)?;
        out.json(&history)?;
        out.text(r#","logs":["#)?;
    } else {
        fields(out, &job)?;
        out.line("\nHistory")?;
        for step in &history {
            out.line(&step_row(step))?;
        }
    }
    let mut any = false;
    let mut query = LogQuery::new(args.id).limit(PAGE);
    loop {
        let page = store.jobs.logs(&query).await?;
        for line in &page.items {
            if global.json {
                out.text(if any { "," } else { "" })?;
                out.json(line)?;
            } else {
                out.text(if any { "" } else { "\nLog\n" })?;
                log_line(out, line)?;
            }
            any = true;
        }
        out.flush()?;
        match page.next {
            Some(next) => query = query.cursor(next),
            None => break,
        }
    }
    if global.json {
        out.line("]}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn fields(out: &mut Out, job: &Job) -> Result<()> {
    let mut field = |name: &str, value: String| {
        let value = printable(&value, false);
        out.line(&format!("{:<13}{value}", format!("{name}:")))
    };
    field("id", job.id.to_string())?;
    field("task", job.lane.task.clone())?;
    if !job.lane.tenant.is_empty() {
        field("tenant", job.lane.tenant.clone())?;
    }
    if !job.lane.flags.is_empty() {
        field("flags", job.lane.flags.join(", "))?;
    }
    let asked = if job.cancel_requested {
        ", asked to stop"
    } else {
        ""
    };
    field("state", format!("{}{asked}", job.state))?;
    field(
        "attempts",
        format!("{} of {}", job.attempts, job.max_attempts),
    )?;
    if let Some(error) = &job.last_error {
        field("last error", error.clone())?;
    }
    if let Some(worker) = &job.worker {
        field("worker", worker.clone())?;
    }
    field("priority", job.priority.to_string())?;
    if let Some(key) = &job.key {
        field("key", key.clone())?;
    }
    if let Some(queue) = &job.queue {
        field("queue", queue.clone())?;
    }
    field("backoff", backoff(&job.backoff))?;
    if let Some(timeout) = job.timeout {
        field("timeout", lasting(timeout))?;
    }
    field("created at", job.created_at.to_string())?;
    field("run at", job.run_at.to_string())?;
    if let Some(started) = job.started_at {
        field("started at", started.to_string())?;
        if let Some(ended) = job.ended_at {
            field(
                "ended at",
                format!("{ended} (after {})", lasting(ended.since(started))),
            )?;
        }
    } else if let Some(ended) = job.ended_at {
        field("ended at", ended.to_string())?;
    }
    if let Some(traceparent) = &job.traceparent {
        field("traceparent", traceparent.clone())?;
    }
    field("payload", job.payload.as_str().to_owned())?;
    match &job.result {
        Some(result) => field("result", result.as_str().to_owned()),
        None => Ok(()),
    }
}

fn backoff(backoff: &Backoff) -> String {
    let to = |base: &std::time::Duration, max: &std::time::Duration, how: &str| {
        format!("{}, {how} up to {}", lasting(*base), lasting(*max))
    };
    match backoff {
        Backoff::Default => "growing from 2.7 s to 6 h".to_owned(),
        Backoff::Fixed { wait } => lasting(*wait),
        Backoff::Linear { step, max } => to(step, max, "growing by as much"),
        Backoff::Exponential { base, max } => to(base, max, "doubling"),
        Backoff::FullJitter { base, max } => to(base, max, "doubling, any part of it"),
        Backoff::EqualJitter { base, max } => to(base, max, "doubling, half or more of it"),
        other => format!("{other:?}"),
    }
}

pub(super) fn step_row(step: &Step) -> String {
    let mut row = format!("  {:<27}  {:<9}", step.at.to_string(), step.state);
    if step.attempt > 0 {
        row = format!("{row}  attempt {}", step.attempt);
    }
    if let Some(worker) = &step.worker {
        row = format!("{row}  by {}", printable(worker, false));
    }
    if let Some(reason) = &step.reason {
        row = format!("{row}  {}", printable(reason, false));
    }
    row.trim_end().to_owned()
}

pub(super) fn log_line(out: &mut Out, line: &LogLine) -> Result<()> {
    out.line(&format!("  {} {}", line.at, line.level))?;
    for (name, value) in &line.fields {
        let (name, value) = (printable(name, false), printable(value, false));
        out.line(&format!("    {name}: {value}"))?;
    }
    for text in printable(&line.message, true).lines() {
        out.line(&format!("    {text}"))?;
    }
    Ok(())
}
