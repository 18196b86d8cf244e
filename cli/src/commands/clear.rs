//! `kvjob clear`: clears histories and logs, a page at a time.

use std::process::ExitCode;

use kvjob::job::{Cursor, HistoryQuery, JobId, LogLine, LogQuery, Page, Result as JobResult, Step};

use super::NOT_ALL;
use super::history::JobStep;
use crate::args::{Clear, ClearHistory, ClearLog, Cleared, FINAL, Global};
use crate::error::Result;
use crate::output::{self, Out, counter};
use crate::store::{Missing, Opened};

/// How many are cleared at once.
const PAGE: usize = 500;

pub(super) async fn run(global: &Global, args: &Clear) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let done = match &args.what {
        Cleared::History(args) => history(global, args, &store).await,
        Cleared::Log(args) => log(global, args, &store).await,
    };
    let closed = store.close().await;
    let code = done?;
    closed?;
    Ok(code)
}

async fn history(global: &Global, args: &ClearHistory, store: &Opened) -> Result<ExitCode> {
    let which = &args.which;
    let all = HistoryQuery::of_all_jobs;
    let query = which.id.map_or_else(all, HistoryQuery::new);
    let query = query.states(args.state.iter().copied()).limit(PAGE);
    let query = query.after(which.after).before(which.before());
    let clear = async |cursor| {
        let page = query.clone().cursor(cursor);
        store.jobs.clear_history(&page).await
    };
    let one =
        |out: &mut Out, (job, step): &(JobId, Step)| out.json_line(&JobStep { job: *job, step });
    let cleared = pages(global, "step", clear, one).await?;
    let refused =
        "only the history of a job that has ended can be cleared; `kvjob cancel` ends one";
    judge(store, which.id, cleared, Some(refused)).await
}

async fn log(global: &Global, args: &ClearLog, store: &Opened) -> Result<ExitCode> {
    let which = &args.which;
    let all = LogQuery::of_all_jobs;
    let query = which.id.map_or_else(all, LogQuery::new);
    let query = query.levels(args.level.iter().copied()).limit(PAGE);
    let query = query.after(which.after).before(which.before());
    let clear = async |cursor| {
        let page = query.clone().cursor(cursor);
        store.jobs.clear_logs(&page).await
    };
    let one = |out: &mut Out, line: &LogLine| out.json_line(line);
    let cleared = pages(global, "line", clear, one).await?;
    judge(store, which.id, cleared, None).await
}

/// Clears page after page, and tells what was cleared. Says how much it was.
async fn pages<T>(
    global: &Global,
    what: &str,
    clear: impl AsyncFn(Option<Cursor>) -> JobResult<Page<T>>,
    json: impl Fn(&mut Out, &T) -> Result<()>,
) -> Result<u64> {
    let mut out = Out::new();
    let bar = counter("cleared");
    let (mut cleared, mut cursor) = (0, None);
    loop {
        let page = clear(cursor).await?;
        cleared += page.items.len() as u64;
        bar.set_position(cleared);
        if global.json {
            for item in &page.items {
                json(&mut out, item)?;
            }
            out.flush()?;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    bar.finish_and_clear();
    if !global.json {
        out.line(&format!("cleared: {}", output::count(cleared, what)))?;
    }
    out.flush()?;
    Ok(cleared)
}

/// Where nothing was cleared of a job that was named: says if there is none, or it lives, and for
/// that is `refused`.
async fn judge(
    store: &Opened,
    id: Option<JobId>,
    cleared: u64,
    refused: Option<&str>,
) -> Result<ExitCode> {
    let (Some(id), 0) = (id, cleared) else {
        return Ok(ExitCode::SUCCESS);
    };
    let why = match (store.jobs.get(id).await?, refused) {
        (None, _) => format!("there is no job {id}"),
        (Some(job), Some(refused)) if !FINAL.contains(&job.state) => {
            format!("job {id} is {}: {refused}", job.state)
        }
        (Some(_), _) => return Ok(ExitCode::SUCCESS),
    };
    output::note(&why);
    Ok(ExitCode::from(NOT_ALL))
}
