//! `kvjob list`: the jobs of a query, page by page.

use std::process::ExitCode;

use kvjob::job::{Job, Query};

use super::pages;
use crate::args::{Global, List};
use crate::error::Result;
use crate::output::{cut, seconds};
use crate::store::{Missing, Opened};

pub(super) async fn run(global: &Global, args: List) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let listed = list(global, &args, &store).await;
    let closed = store.close().await;
    listed?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, args: &List, store: &Opened) -> Result<()> {
    let mut query = Query::new().states(args.state.iter().copied());
    let mut words = "list".to_owned();
    for state in &args.state {
        words = format!("{words} --state {state}");
    }
    if let Some(task) = &args.task {
        query = query.task(task);
        words = format!("{words} --task '{task}'");
    }
    let ask = async |limit, cursor| {
        let page = query.clone().limit(limit).cursor(cursor);
        store.jobs.lookup(&page).await
    };
    pages::print(
        global,
        &args.pages,
        ("jobs", words),
        ask,
        |out, job, is_first| {
            if global.json {
                return out.json_line(job);
            }
            if is_first {
                out.line(HEADER)?;
            }
            out.line(&row(job))
        },
    )
    .await
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
