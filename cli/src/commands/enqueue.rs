//! `kvjob enqueue`: adds a job.

use std::io::Read as _;
use std::process::ExitCode;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{Done, Job, NewJob, Payload};
use serde::Serialize;

use super::run::backoff;
use crate::args::{Enqueue, Global};
use crate::error::{Error, Result};
use crate::output::{self, Out};
use crate::store::{Missing, Opened};

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    new: bool,
    done: &'a str,
    job: &'a Job,
}

pub(super) async fn run(global: &Global, args: Enqueue) -> Result<ExitCode> {
    let job = new_job(args)?;
    let store = Opened::open(global, Missing::Create).await?;
    let enqueued = store.jobs.enqueue(job).await;
    let closed = store.close().await;
    let enqueued = enqueued?;

    let mut out = Out::new();
    let id = enqueued.job.id.to_string();
    if global.json {
        out.json_line(&Answer {
            id,
            new: enqueued.is_new,
            done: enqueued.done.as_str(),
            job: &enqueued.job,
        })?;
    } else {
        out.line(&id)?;
        let state = enqueued.job.state;
        match enqueued.done {
            Done::Unchanged => output::note(&format!(
                "the key is taken: this job was there, and is {state}"
            )),
            Done::Replaced => output::note("this job had the key, and was replaced"),
            _ => {}
        }
    }
    out.flush()?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

fn new_job(args: Enqueue) -> Result<NewJob> {
    let payload = match args.payload.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Error::caused("could not read the payload", error))?;
            text.trim().to_owned()
        }
        text => text.to_owned(),
    };
    let payload = Payload::from_json(payload).map_err(|error| {
        Error::from(error).advice(r#"A text as JSON has quotes of its own: '"text"'."#)
    })?;
    let run_at = args
        .run_at
        .or_else(|| args.delay.map(|delay| SystemClock.now().after(delay)));
    let job = NewJob::with_payload(args.task, payload)
        .priority(args.priority)
        .run_at(run_at)
        .max_attempts(args.max_attempts)
        .timeout(args.timeout);
    let job = match args.tenant {
        Some(tenant) => job.tenant(tenant),
        None => job,
    };
    let job = args.flags.into_iter().fold(job, NewJob::flag);
    let job = match args.backoff {
        Some(base) => job.backoff(backoff(base)),
        None => job,
    };
    let job = match args.queue {
        Some(queue) => job.queue(queue),
        None => job,
    };
    Ok(match args.key {
        Some(key) if args.retain => job.retained_key(key).key_mode(args.key_mode),
        Some(key) => job.key(key).key_mode(args.key_mode),
        None => job,
    })
}
