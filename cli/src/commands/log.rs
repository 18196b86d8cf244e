//! `kvjob log`: log lines of one job or of all, page by page.

use std::process::ExitCode;

use kvjob::job::{LogLine, LogQuery};

use super::pages;
use super::show::log_line;
use crate::args::{Global, Log};
use crate::error::Result;
use crate::output::Out;
use crate::store::{Missing, Opened};

pub(super) async fn run(global: &Global, args: Log) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let shown = show(global, &args, &store).await;
    let closed = store.close().await;
    shown?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, args: &Log, store: &Opened) -> Result<()> {
    let told = &args.told;
    let query = told.id.map_or_else(LogQuery::of_all_jobs, LogQuery::new);
    let query = query.levels(args.level.iter().copied());
    let query = query.after(told.after).before(told.before);
    let mut words = "log".to_owned();
    for level in &args.level {
        words = format!("{words} --level {level}");
    }
    let ask = async |limit, cursor| {
        let page = query.clone().limit(limit).cursor(cursor);
        store.jobs.logs(&page).await
    };
    let mut last = None;
    let one = |out: &mut Out, line: &LogLine, _| {
        if global.json {
            return out.json_line(line);
        }
        if last.replace(line.job) != Some(line.job) {
            out.line(&line.job.to_string())?;
        }
        log_line(out, line)
    };
    pages::print(global, &told.pages, ("lines", told.again(&words)), ask, one).await
}
