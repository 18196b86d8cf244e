//! `kvjob queues`: the serial queues, their limits, what runs and what waits in them.

use std::process::ExitCode;

use kvjob::job::QueueStatus;
use serde::Serialize;

use crate::args::{Global, Queues};
use crate::error::Result;
use crate::output::{self, Out, cut};
use crate::store::{Missing, Opened};

#[derive(Serialize)]
struct Overview {
    queues: Vec<QueueStatus>,
    /// Whether there are more queues.
    more: bool,
}

pub(super) async fn run(global: &Global, args: &Queues) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let overview = overview(&store, args).await;
    store.close().await?;
    let overview = overview?;
    let mut out = Out::new();
    if global.json {
        out.json_line(&overview)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    if overview.queues.is_empty() {
        out.line("No job runs or is due in a queue, and none has a limit.")?;
    } else {
        out.line(HEADER)?;
    }
    for status in &overview.queues {
        out.line(&row(status))?;
    }
    if let (Some(_), [status]) = (&args.queue, overview.queues.as_slice()) {
        for (index, id) in status.running.iter().enumerate() {
            let title = if index == 0 { "\nRunning:\n" } else { "" };
            out.line(&format!("{title}  {id}"))?;
        }
    }
    out.flush()?;
    if overview.more {
        output::note("there are more: --limit says how many are shown");
    }
    Ok(ExitCode::SUCCESS)
}

async fn overview(store: &Opened, args: &Queues) -> Result<Overview> {
    if let Some(queue) = &args.queue {
        let tenant = args.tenant.as_deref().unwrap_or_default();
        let status = store.kv().queue_status(tenant, queue).await?;
        return Ok(Overview {
            queues: vec![status],
            more: false,
        });
    }
    let (most, mut queues, mut cursor) = (args.limit.get(), Vec::new(), None);
    loop {
        let page = store.kv().queues(most - queues.len(), cursor).await?;
        queues.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || queues.len() >= most {
            break;
        }
    }
    Ok(Overview {
        queues,
        more: cursor.is_some(),
    })
}

const HEADER: &str =
    "QUEUE                             TENANT            AT A TIME  RUNNING  READY";

fn row(status: &QueueStatus) -> String {
    let more = if status.more { "+" } else { "" };
    let ready = format!("{}{more}", status.ready);
    format!(
        "{:<32}  {:<16}  {:>9}  {:>7}  {ready:>5}",
        cut(&status.queue, 32),
        cut(&status.tenant, 16),
        status.concurrency,
        status.running.len(),
    )
}
