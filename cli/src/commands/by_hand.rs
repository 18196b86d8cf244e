//! `kvjob complete`, `fail`, `reschedule`, `remove` and `unlock`: what is done to jobs by hand that
//! are named, by their ids, their keys or their workers.

use std::collections::HashSet;
use std::process::ExitCode;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{self, Job, JobId};

use super::NOT_ALL;
use crate::args::{Complete, Fail, Global, Remove, Reschedule, Unlock};
use crate::error::Result;
use crate::output::{self, Out};
use crate::store::{Missing, Opened};

/// What came of it: the jobs that were changed, and why others were not.
type Answer = (Vec<Job>, Vec<String>);

pub(super) async fn complete(global: &Global, args: &Complete) -> Result<ExitCode> {
    run(global, "completed", async |jobs| {
        let changed = jobs.complete_jobs(&args.ids).await?;
        let refused = "only waiting, failed, timed-out and canceled jobs can be completed";
        explained(jobs, &args.ids, changed, refused).await
    })
    .await
}

pub(super) async fn fail(global: &Global, args: &Fail) -> Result<ExitCode> {
    run(global, "failed", async |jobs| {
        let changed = jobs.fail_jobs(&args.ids, args.reason.as_deref()).await?;
        let refused = "only waiting jobs can be failed";
        explained(jobs, &args.ids, changed, refused).await
    })
    .await
}

pub(super) async fn reschedule(global: &Global, args: &Reschedule) -> Result<ExitCode> {
    let run_at = args
        .run_at
        .or_else(|| args.delay.map(|delay| SystemClock.now().after(delay)));
    let to = job::Reschedule::new()
        .run_at(run_at)
        .priority(args.priority)
        .attempts(args.attempts)
        .max_attempts(args.max_attempts);
    run(global, "rescheduled", async |jobs| {
        let changed = jobs.reschedule_jobs(&args.ids, to.clone()).await?;
        let refused = "it is so already, or has no attempt left, or it runs or is done";
        explained(jobs, &args.ids, changed, refused).await
    })
    .await
}

pub(super) async fn remove(global: &Global, args: &Remove) -> Result<ExitCode> {
    run(global, "removed", async |jobs| {
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        for key in &args.keys {
            match jobs.remove_job(&args.tenant, key).await? {
                Some(job) => {
                    if !job.state.is_final() {
                        output::note(&format!(
                            "job {} is {}: it lost its key and is not tried again",
                            job.id, job.state
                        ));
                    }
                    changed.push(job);
                }
                None => missing.push(format!("no job has the key {key:?}")),
            }
        }
        Ok((changed, missing))
    })
    .await
}

pub(super) async fn unlock(global: &Global, args: &Unlock) -> Result<ExitCode> {
    run(global, "unlocked", async |jobs| {
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        for worker in &args.workers {
            let taken = jobs.force_unlock(std::slice::from_ref(worker)).await?;
            if taken.is_empty() {
                missing.push(format!("no worker of the name {worker:?} holds a job"));
            }
            changed.extend(taken);
        }
        Ok((changed, missing))
    })
    .await
}

/// Why those of the named jobs were not changed that were not.
async fn explained(
    jobs: &dyn job::Store,
    ids: &[JobId],
    changed: Vec<Job>,
    refused: &str,
) -> Result<Answer> {
    let mut done: HashSet<JobId> = changed.iter().map(|job| job.id).collect();
    let mut reasons = Vec::new();
    for id in ids {
        // One that is named twice is told of once.
        if done.insert(*id) {
            reasons.push(match jobs.get(*id).await? {
                Some(job) => format!("job {id} is {}: {refused}", job.state),
                None => format!("there is no job {id}"),
            });
        }
    }
    Ok((changed, reasons))
}

async fn run(
    global: &Global,
    done: &str,
    change: impl AsyncFnOnce(&dyn job::Store) -> Result<Answer>,
) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let answer = change(&*store.jobs).await;
    let closed = store.close().await;
    let (changed, reasons) = answer?;
    let mut out = Out::new();
    if global.json {
        for job in &changed {
            out.json_line(job)?;
        }
    } else {
        let count = output::count(changed.len() as u64, "job");
        out.line(&format!("{done}: {count}"))?;
    }
    out.flush()?;
    closed?;
    for reason in &reasons {
        output::note(reason);
    }
    Ok(if reasons.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL)
    })
}
