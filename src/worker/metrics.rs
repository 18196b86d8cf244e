//! What workers count and time, through the [`metrics`](::metrics) facade: who installs a
//! recorder gets it. Named as Prometheus does: <https://prometheus.io/docs/practices/naming/>.

use std::time::Duration;

use ::metrics::{counter, histogram};

use crate::clock::Timestamp;
use crate::job::{Job, State};

/// A job was claimed.
pub(super) fn claimed(job: &Job) {
    let task = &job.lane.task;
    counter!("kvjob_jobs_claimed_total", "task" => task.clone()).increment(1);
    let waited = since_due(job);
    histogram!("kvjob_job_pickup_seconds", "task" => task.clone()).record(waited);
}

/// How long a job had been due when it was claimed.
fn since_due(job: &Job) -> Duration {
    let due: Timestamp = job.run_at.max(job.created_at);
    job.started_at
        .map_or(Duration::ZERO, |started| started.since(due))
}

/// The end of an attempt was recorded.
pub(super) fn ended(task: &str, state: State, is_error: bool, elapsed: Duration) {
    let name = match state {
        State::Completed => "kvjob_jobs_completed_total",
        State::Failed => "kvjob_jobs_failed_total",
        State::Canceled => "kvjob_jobs_canceled_total",
        State::TimedOut => "kvjob_jobs_timed_out_total",
        _ if is_error => "kvjob_jobs_retried_total",
        _ => "kvjob_jobs_snoozed_total",
    };
    counter!(name, "task" => task.to_owned()).increment(1);
    histogram!("kvjob_job_duration_seconds", "task" => task.to_owned()).record(elapsed);
}
