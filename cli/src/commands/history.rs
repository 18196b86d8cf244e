//! `kvjob history`: steps of one job or of all, page by page.

use std::process::ExitCode;

use kvjob::job::{HistoryQuery, JobId, Step};
use serde::Serialize;

use super::pages;
use super::show::step_row;
use crate::args::{Global, History};
use crate::error::Result;
use crate::output::Out;
use crate::store::{Missing, Opened};

/// A step, in JSON.
#[derive(Serialize)]
pub(super) struct JobStep<'a> {
    pub(super) job: JobId,
    #[serde(flatten)]
    pub(super) step: &'a Step,
}

pub(super) async fn run(global: &Global, args: History) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let shown = show(global, &args, &store).await;
    let closed = store.close().await;
    shown?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, args: &History, store: &Opened) -> Result<()> {
    let told = &args.told;
    let query = told
        .id
        .map_or_else(HistoryQuery::of_all_jobs, HistoryQuery::new);
    let query = query.states(args.state.iter().copied());
    let query = query.after(told.after).before(told.before);
    let mut words = "history".to_owned();
    for state in &args.state {
        words = format!("{words} --state {state}");
    }
    let ask = async |limit, cursor| {
        let page = query.clone().limit(limit).cursor(cursor);
        store.jobs.lookup_history(&page).await
    };
    let mut last = None;
    let one = |out: &mut Out, (job, step): &(JobId, Step), _| {
        if global.json {
            return out.json_line(&JobStep { job: *job, step });
        }
        if last.replace(*job) != Some(*job) {
            out.line(&job.to_string())?;
        }
        out.line(&step_row(step))
    };
    pages::print(global, &told.pages, ("steps", told.again(&words)), ask, one).await
}
