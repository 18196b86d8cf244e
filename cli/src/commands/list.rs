//! `kvjob list`: the jobs of a query, page by page.

use std::process::ExitCode;

use kvjob::job::{Job, Query};

use crate::args::{Global, List};
use crate::error::Result;
use crate::output::{self, Out, cut, seconds};
use crate::store::{self, Missing, Opened};

/// How many jobs are asked for at once.
const PAGE: usize = 500;

pub(super) async fn run(global: &Global, args: List) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let mut out = Out::new();
    let listed = list(global, &args, &store, &mut out).await;
    let closed = store.close().await;
    listed?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, args: &List, store: &Opened, out: &mut Out) -> Result<()> {
    let mut query = Query::new().states(args.state.iter().copied());
    if let Some(task) = &args.task {
        query = query.task(task);
    }
    let mut cursor = args.cursor.clone();
    let mut left = if args.all {
        usize::MAX
    } else {
        args.limit.get()
    };
    let mut any = false;
    loop {
        let page = query.clone().limit(left.min(PAGE)).cursor(cursor);
        let page = store.jobs.lookup(&page).await?;
        for job in &page.items {
            if global.json {
                out.json_line(job)?;
            } else {
                if !any {
                    out.line(HEADER)?;
                }
                out.line(&row(job))?;
            }
            any = true;
        }
        out.flush()?;
        left = left.saturating_sub(page.items.len());
        cursor = page.next;
        if cursor.is_none() || left == 0 {
            break;
        }
    }
    if let Some(cursor) = cursor {
        let words = again(args, &cursor.to_string());
        output::note(&format!(
            "there may be more: {}",
            store::command(global, &words)
        ));
    } else if !any && !global.json {
        output::note("no such jobs");
    }
    Ok(())
}

/// The same list from here on.
fn again(args: &List, cursor: &str) -> String {
    let mut words = "list".to_owned();
    for state in &args.state {
        words = format!("{words} --state {state}");
    }
    if let Some(task) = &args.task {
        words = format!("{words} --task '{task}'");
    }
    format!("{words} --limit {} --cursor {cursor}", args.limit)
}

const HEADER: &str =
    "ID                                    STATE      TRIES  PRIO  RUN AT                TASK";

fn row(job: &Job) -> String {
    let tries = format!("{}/{}", job.attempts, job.max_attempts);
    let mut row = format!(
        "{}  {:<9}  {tries:<5}  {:>4}  {:<20}  {}",
        job.id,
        job.state,
        job.priority,
        seconds(job.run_at),
        cut(&job.lane.task, 40),
    );
    if let Some(error) = &job.last_error {
        row = format!("{row}  ({})", cut(error, 60));
    }
    row
}
