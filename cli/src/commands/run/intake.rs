//! Enqueueing lines, and reporting those that cannot be.

use std::time::Duration;

use kvjob::job::{self, Backoff, Enqueued, NewJob};
use kvjob::kv::ErrorKind;
use tokio::time::sleep;

use super::backoff;
use super::progress::Progress;
use super::tracker::{Added, Tracker};
use crate::args::Run;
use crate::error::Result;
use crate::jobs_file::{Keyed, Line, Problem};

/// How often a store that says it is busy is asked again.
const TRIES: u32 = 6;
/// The first wait between these; then it doubles.
const WAIT: Duration = Duration::from_millis(100);

/// Turns lines into jobs.
pub(super) struct Intake {
    /// What messages call the file.
    name: String,
    max_attempts: u32,
    backoff: Backoff,
    timeout: Option<Duration>,
    /// Whether it was told that options do not reach jobs that are there.
    told: bool,
}

impl Intake {
    pub(super) fn new(args: &Run) -> Self {
        Self {
            name: args.file.display().to_string(),
            max_attempts: args.max_attempts,
            backoff: backoff(args.backoff),
            timeout: args.timeout,
            told: false,
        }
    }

    /// Enqueues a batch of lines, each once: a line that was enqueued before, by this run or
    /// another, finds its job there.
    pub(super) async fn take(
        &mut self,
        lines: Vec<Line>,
        store: &dyn job::Store,
        tracker: &mut Tracker,
        progress: &Progress,
    ) -> Result<()> {
        let mut batch = Vec::with_capacity(lines.len());
        for line in lines {
            match line.job {
                Ok(keyed) => batch.push((line.number, keyed)),
                Err(problem) => self.report(line.number, &problem, tracker, progress),
            }
        }
        let jobs = batch.iter().map(|(_, keyed)| self.job(keyed)).collect();
        match enqueue(store, jobs).await {
            Ok(all) => {
                for ((number, keyed), enqueued) in batch.iter().zip(&all) {
                    self.enqueued(*number, keyed, enqueued, tracker, progress);
                }
            }
            // One that cannot be stored keeps the others of its batch out: each by itself.
            Err(error) if is_about_a_job(&error) => {
                for (number, keyed) in &batch {
                    match enqueue(store, vec![self.job(keyed)]).await {
                        Ok(all) => {
                            for enqueued in &all {
                                self.enqueued(*number, keyed, enqueued, tracker, progress);
                            }
                        }
                        Err(error) if is_about_a_job(&error) => {
                            let what = error.to_string();
                            self.report(*number, &Problem { column: 0, what }, tracker, progress);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn job(&self, keyed: &Keyed) -> NewJob {
        let line = &keyed.job;
        let job = NewJob::with_payload(line.task.clone(), line.payload.clone())
            .priority(line.priority)
            .run_at(line.run_at)
            .max_attempts(line.max_attempts.unwrap_or(self.max_attempts))
            .backoff(self.backoff.clone())
            .timeout(self.timeout)
            .retained_key(keyed.key.clone());
        match &line.queue {
            Some(queue) => job.queue(queue),
            None => job,
        }
    }

    fn report(&self, number: u64, problem: &Problem, tracker: &mut Tracker, progress: &Progress) {
        let place = match problem.column {
            0 => format!("{}:{number}", self.name),
            column => format!("{}:{number}:{column}", self.name),
        };
        progress.note(&format!("{place}: {}", problem.what));
        tracker.bad_line();
    }

    fn enqueued(
        &mut self,
        number: u64,
        keyed: &Keyed,
        enqueued: &Enqueued,
        tracker: &mut Tracker,
        progress: &Progress,
    ) {
        let (line, job) = (&keyed.job, &enqueued.job);
        let added = tracker.added(enqueued, line.key.is_some());
        let differs = job.lane.task != line.task || job.payload != line.payload;
        if added != Added::New && differs {
            progress.note(&format!(
                "{}:{number}: its key {:?} is that of job {} with another task or payload: \
                 that job counts, this line is left out",
                self.name, keyed.key, job.id
            ));
        }
        let most = line.max_attempts.unwrap_or(self.max_attempts);
        let options = (job.timeout, job.max_attempts, &job.backoff);
        let kept = added == Added::Before && !job.state.is_final();
        if kept && !self.told && options != (self.timeout, most, &self.backoff) {
            self.told = true;
            progress.note(
                "some jobs were added before with another --timeout, --max-attempts or --backoff, \
                 and keep it",
            );
        }
    }
}

/// Whether it is the job that is at fault, and not the store.
fn is_about_a_job(error: &job::Error) -> bool {
    match error {
        job::Error::Invalid { .. } => true,
        // The job that has its key may be the one that cannot be read.
        job::Error::Store(error) => matches!(
            error.kind(),
            ErrorKind::TooLarge { .. } | ErrorKind::Corrupt | ErrorKind::TooNew
        ),
        _ => false,
    }
}

/// Enqueues, again if the store is busy, or if its answer was lost: thanks to the keys it may be
/// done twice.
async fn enqueue(store: &dyn job::Store, jobs: Vec<NewJob>) -> job::Result<Vec<Enqueued>> {
    let mut wait = WAIT;
    for _ in 1..TRIES {
        match store.enqueue_many(jobs.clone()).await {
            Err(error) if is_passing(&error) => sleep(wait).await,
            answer => return answer,
        }
        wait *= 2;
    }
    store.enqueue_many(jobs).await
}

fn is_passing(error: &job::Error) -> bool {
    let lost = matches!(error, job::Error::Store(error) if error.maybe_applied());
    lost || error.is_retryable()
}
