//! The claim loop: takes as many jobs as there are free slots, starts them, and sleeps until
//! something may be due.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

use super::batch::Batch;
use super::control::Stop;
use super::leases::{Held, Why};
use super::prefetch::Prefetched;
use super::shared::{Shared, Verdict, changed, verdict};
use super::{Event, attempt, batch, cancel, heartbeat, metrics, signals};
use crate::clock::Timestamp;
use crate::job::{Claim, Claimed, Claims, Error, Job, Result};

/// How often in a row a worker that runs once may fail to reach the store.
const TRIES_ONCE: u32 = 5;
/// How soon to look again where the store says that more is due than it could see to in one go.
/// Not at once, for its clock may only be a little behind.
const OVERDUE: Duration = Duration::from_millis(1);

/// When a worker stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Stopped,
    NothingDue,
}

/// Claims and runs jobs and keeps their leases alive, until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, until: Until) -> Result<()> {
    let span = tracing::info_span!("worker", name = shared.name);
    let worker = || shared.name.clone();
    shared.emit(|| Event::WorkerStarted { worker: worker() });
    let mut silent = Silent(Some(shared.clone()));
    let mut work = Loop::new(shared.clone(), until);
    let result = async {
        tokio::select! {
            // However much work there is, it does not keep these from their turn.
            biased;
            never = heartbeat::keep(&shared) => match never {},
            never = cancel::listen(&shared) => match never {},
            never = signals::listen(&shared) => match never {},
            result = work.run() => result,
        }
    }
    .instrument(span)
    .await;
    silent.0 = None;
    shared.emit(|| Event::WorkerStopped {
        worker: worker(),
        error: result.as_ref().err().map(ToString::to_string),
    });
    result
}

/// A run that was dropped, or panicked, does not go unheard either.
struct Silent(Option<Arc<Shared>>);

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let error = "its run was dropped before it had ended";
            tracing::warn!(name = shared.name, "a worker has stopped: {error}");
            shared.emit(|| Event::WorkerStopped {
                worker: shared.name.clone(),
                error: Some(error.to_owned()),
            });
        }
    }
}

/// A claim under way.
struct Claiming {
    answer: BoxFuture<'static, Result<Claims>>,
    /// When it was asked, in monotonic time: the leases count from here.
    asked: Duration,
    /// Whether nothing ran when it was asked.
    idle: bool,
}

struct Loop {
    shared: Arc<Shared>,
    until: Until,
    /// The attempts under way. Dropped, it aborts them.
    tasks: JoinSet<Option<Error>>,
    /// Jobs that wait for a free slot; none do where there is one.
    prefetched: Prefetched,
    claiming: Option<Claiming>,
    /// When to claim next, in monotonic time, if nothing happens before.
    next: Duration,
    /// Whether the last claim left a job that was not to be claimed ahead.
    held_back: bool,
    /// Claims that failed in a row.
    failures: u32,
    /// Why to end, once nothing runs any more.
    end: Option<Result<()>>,
    /// When the tokens of what runs fire, once it was asked to stop; in monotonic time.
    patient_until: Option<Duration>,
}

impl Loop {
    fn new(shared: Arc<Shared>, until: Until) -> Self {
        Self {
            shared,
            until,
            tasks: JoinSet::new(),
            prefetched: Prefetched::default(),
            claiming: None,
            next: Duration::ZERO,
            held_back: false,
            failures: 0,
            end: None,
            patient_until: None,
        }
    }

    async fn run(&mut self) -> Result<()> {
        let mut stop = self.shared.stop.subscribe();
        let mut concurrency = self.shared.concurrency.subscribe();
        let mut activity = self.shared.store.activity();
        loop {
            concurrency.mark_unchanged();
            let asked_to = *stop.borrow_and_update();
            if asked_to == Stop::Now {
                self.shared.leases.raise_all(Why::StopNow);
            }
            if asked_to >= Stop::Finish && self.end.is_none() {
                self.finish(Ok(()));
                let now = self.shared.clock.monotonic();
                self.patient_until = now.checked_add(self.shared.shutdown_grace);
            }
            self.fill();
            // To leave at once, a claim under way is dropped: its jobs go back by themselves.
            let may_leave = self.claiming.is_none() || asked_to == Stop::Now;
            if self.tasks.is_empty()
                && may_leave
                && let Some(end) = self.end.take()
            {
                return end;
            }

            let (at_once, ahead) = self.wanted();
            let may_claim = self.end.is_none()
                && self.claiming.is_none()
                && at_once + ahead > 0
                && self.shared.has_places();
            // What the last claim had to leave can be had now.
            let freed = self.shared.places.freed() || self.held_back && at_once > 0;
            let freed = freed && self.failures == 0;
            if may_claim && (freed || self.next <= self.shared.clock.monotonic()) {
                activity.mark_unchanged();
                self.claim();
                continue;
            }
            let wake = may_claim.then_some(self.next);
            let listen = may_claim && self.failures == 0;
            // What is due is seen to in a fixed order, so that a test's run is the same each time.
            // Nobody starves: all of it is looked at above, in every round.
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    self.ended(ended);
                    while let Some(ended) = self.tasks.try_join_next() {
                        self.ended(ended);
                    }
                }
                (claimed, asked, idle) = answer(&mut self.claiming) => {
                    self.claiming = None;
                    match claimed {
                        Ok(claims) => self.claimed(claims, asked, idle),
                        Err(error) => self.claim_failed(error),
                    }
                }
                () = changed(&mut activity), if listen => self.next = Duration::ZERO,
                () = self.shared.sleep_until(wake) => {}
                () = self.shared.sleep_until(self.patient_until) => {
                    self.patient_until = None;
                    self.shared.leases.raise_all(Why::Stopping);
                }
                _ = stop.changed() => {}
                _ = concurrency.changed() => {
                    if self.failures == 0 {
                        self.next = Duration::ZERO;
                    }
                }
            }
        }
    }

    /// How many slots are free.
    fn free(&self) -> usize {
        let concurrency = *self.shared.concurrency.borrow();
        concurrency.saturating_sub(self.tasks.len())
    }

    /// How many jobs to claim: to begin at once, and ahead.
    fn wanted(&self) -> (usize, usize) {
        self.prefetched.wanted(self.free(), self.shared.prefetch)
    }

    /// Asks for as many jobs as there are free slots, and some to begin later.
    fn claim(&mut self) {
        let shared = &self.shared;
        let (at_once, ahead) = self.wanted();
        let max = at_once + ahead;
        shared.emit(|| Event::ClaimStarted { max });
        let claim = Claim::new(&shared.name).max(max).ahead(ahead);
        let claim = claim.lease(shared.lease);
        self.held_back = false;
        shared.places.forget_freed();
        let claim = shared
            .selector()
            .map(|from| claim.selector(shared.places.narrow(from)));
        let store = shared.store.clone();
        self.claiming = Some(Claiming {
            answer: Box::pin(async move { store.claim(claim?).await }),
            asked: shared.clock.monotonic(),
            idle: self.tasks.is_empty(),
        });
    }

    fn claimed(&mut self, claims: Claims, asked: Duration, idle: bool) {
        self.failures = 0;
        self.held_back = claims.held_back;
        if claims.jobs.is_empty() {
            self.shared.emit(|| Event::ClaimEmpty);
            self.next = self.when_due(claims.next_due);
            let overdue = claims
                .next_due
                .is_some_and(|due| due <= self.shared.clock.now());
            if self.until == Until::NothingDue && self.tasks.is_empty() {
                // What ended since the claim was asked may have added jobs.
                if !idle {
                    self.next = Duration::ZERO;
                } else if self.end.is_none() && !overdue && claims.limited_until.is_none() {
                    self.finish(Ok(()));
                }
            }
            return;
        }
        let jobs = claims.jobs.len();
        self.shared.emit(|| Event::Claimed { jobs });
        // More may be due: only an empty answer says that nothing is.
        self.next = Duration::ZERO;
        for claimed in claims.jobs {
            self.take(claimed, asked);
        }
        self.fill();
        for (job, held) in self.prefetched.hasty() {
            held.raise(Why::StopNow);
            self.start(job, held);
        }
    }

    fn take(&mut self, claimed: Claimed, asked: Duration) {
        let Claimed {
            job,
            lease,
            suspect,
        } = claimed;
        metrics::claimed(&job);
        let shared = &self.shared;
        let deadline = asked.saturating_add(shared.lease);
        let place = shared.places.take(&job.lane.task);
        let held = shared.leases.hold(lease, deadline, place, suspect);
        if self.end.is_some() || deadline <= shared.clock.monotonic() {
            held.raise(Why::StopNow);
        }
        self.prefetched.push(job, held);
    }

    /// Begins what waits, as far as there are free slots; gives it back if the worker is to end.
    fn fill(&mut self) {
        if self.end.is_some() {
            for (job, held) in self.prefetched.all() {
                held.raise(Why::StopNow);
                self.start(job, held);
            }
        }
        while self.free() > 0 {
            // One whose deadline has come is not begun (protocol rule 8).
            self.shared.leases.lapse(self.shared.clock.monotonic());
            let Some((job, held)) = self.prefetched.next() else {
                return;
            };
            match self.shared.batch(&job.lane.task).cloned() {
                Some(batch) => self.start_batch(batch, job, held),
                None => self.start(job, held),
            }
        }
    }

    /// Runs an attempt, or gives its job back if it is not to be begun any more.
    fn start(&mut self, job: Job, held: Held) {
        let shared = self.shared.clone();
        let span = shared.span(&job);
        self.tasks
            .spawn(attempt::run(shared, job, held).instrument(span));
    }

    /// Runs a job and others of its task in one call of their handler.
    fn start_batch(&mut self, batch: Arc<Batch>, job: Job, held: Held) {
        let others = if held.is_alone() { 1 } else { batch.max() };
        let others = others.saturating_sub(1);
        let mut others = self.prefetched.of_task(&job.lane.task, others);
        // They are one call, and have one place.
        for (_, held) in &mut others {
            held.leave_place();
        }
        let jobs = std::iter::once((job, held)).chain(others).collect();
        let batch = batch::run(self.shared.clone(), batch, jobs);
        self.tasks.spawn(batch.in_current_span());
    }

    fn claim_failed(&mut self, error: Error) {
        self.failures = self.failures.saturating_add(1);
        tracing::error!(%error, failures = self.failures, "could not claim jobs");
        self.shared.emit(|| Event::ClaimFailed {
            error: error.to_string(),
        });
        let once = (self.until == Until::NothingDue).then_some(TRIES_ONCE);
        let most = self.shared.max_store_errors.or(once);
        let tries_over = most.is_some_and(|most| self.failures >= most);
        if tries_over || matches!(verdict(&error), Verdict::Refused | Verdict::Over) {
            self.fail(error);
        }
        self.next = self.shared.clock.monotonic() + self.shared.backoff(self.failures);
    }

    /// An attempt is over, and with what it left its slot.
    fn ended(&mut self, ended: Result<Option<Error>, JoinError>) {
        match ended {
            Ok(None) => {}
            Ok(Some(error)) => self.fail(error),
            // Handlers' panics are caught before; the job's lease will end.
            Err(error) => tracing::error!(%error, "a job's attempt could not be followed"),
        }
        if self.until == Until::NothingDue && self.tasks.is_empty() && self.failures == 0 {
            self.next = Duration::ZERO;
        }
    }

    /// The store will not come back: end with this once nothing runs.
    fn fail(&mut self, error: Error) {
        if !matches!(self.end, Some(Err(_))) {
            self.finish(Err(error));
        }
    }

    /// Claims no more, and ends with this once nothing runs.
    fn finish(&mut self, end: Result<()>) {
        if self.end.is_none() {
            self.shared.emit(|| Event::WorkerStopping {
                worker: self.shared.name.clone(),
            });
        }
        self.end = Some(end);
    }

    /// When to look again: when the next scheduled job is due, but not later than a poll.
    fn when_due(&self, next_due: Option<Timestamp>) -> Duration {
        let shared = &self.shared;
        let due = next_due.map(|due| due.since(shared.clock.now()).max(OVERDUE));
        let wait = due.unwrap_or(shared.idle_poll).min(shared.idle_poll);
        shared.clock.monotonic().saturating_add(wait)
    }
}

/// The answer to the claim under way; never if there is none.
async fn answer(claiming: &mut Option<Claiming>) -> (Result<Claims>, Duration, bool) {
    match claiming {
        Some(claiming) => ((&mut claiming.answer).await, claiming.asked, claiming.idle),
        None => std::future::pending().await,
    }
}
