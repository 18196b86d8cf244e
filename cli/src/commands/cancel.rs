//! `kvjob cancel`: calls off jobs.

use std::process::ExitCode;

use super::bulk::{self, Words};
use crate::args::{ACTIVE, Cancel, Global};
use crate::error::Result;

pub(super) async fn run(global: &Global, args: &Cancel) -> Result<ExitCode> {
    let words = Words {
        done: "canceled",
        refused: "only waiting and running jobs can be canceled",
    };
    let query = args.which.query(&args.state, &ACTIVE);
    bulk::run(global, &args.which, query, &words, async |jobs, query| {
        Ok(jobs.cancel(query).await?.into())
    })
    .await
}
