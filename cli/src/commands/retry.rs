//! `kvjob retry`: lets jobs that ended badly run again.

use std::process::ExitCode;

use super::bulk::{self, Words};
use crate::args::{Global, REVIVABLE, Retry};
use crate::error::Result;

pub(super) async fn run(global: &Global, args: &Retry) -> Result<ExitCode> {
    let words = Words {
        done: "retried",
        refused: "only failed, timed-out and canceled jobs can be retried",
    };
    let query = args.which.query(&args.state, &REVIVABLE);
    bulk::run(global, &args.which, query, &words, async |jobs, query| {
        Ok(jobs.retry(query).await?.into())
    })
    .await
}
