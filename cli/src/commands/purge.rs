//! `kvjob purge`: removes jobs that have ended.

use std::process::ExitCode;

use kvjob::clock::{Clock as _, SystemClock};

use super::bulk::{self, Gone, Words};
use crate::args::{FINAL, Global, Purge};
use crate::error::Result;

pub(super) async fn run(global: &Global, args: &Purge) -> Result<ExitCode> {
    let words = Words {
        done: "purged",
        refused: "only jobs that have ended can be purged; `kvjob cancel` ends one",
    };
    let mut query = args.which.query(&args.state, &FINAL);
    if let Some(age) = args.older_than {
        query = query.ended_before(SystemClock.now().before(age));
    }
    bulk::run(global, &args.which, query, &words, async |jobs, query| {
        let page = jobs.purge(query).await?;
        let gone = page.items.into_iter().map(|id| Gone { id }).collect();
        Ok(bulk::Part {
            items: gone,
            next: page.next,
        })
    })
    .await
}
