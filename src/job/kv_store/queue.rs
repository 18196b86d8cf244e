//! [`QueueStore`] of a [`KvStore`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::KvStore;
use super::request::{Request, Waiter};
use super::state::readable;
use crate::clock::Timestamp;
use crate::job::new::check_text;
use crate::job::ops::abandon::Abandon;
use crate::job::ops::cancel::Cancel;
use crate::job::ops::claim::{Got, Mode, Wanted};
use crate::job::ops::complete::Complete;
use crate::job::ops::dequeue::Dequeue;
use crate::job::ops::enqueue::Enqueue;
use crate::job::ops::fail::Fail;
use crate::job::ops::heartbeat::Heartbeat;
use crate::job::ops::purge::{Purge, Purged};
use crate::job::ops::release::{Discard, Release};
use crate::job::ops::retry::RetryJob;
use crate::job::ops::snooze::Snooze;
use crate::job::{
    Beat, Claim, Claims, Cursor, Enqueued, Error, Failure, Job, JobId, Lease, MAX_TASK, NewJob,
    Outcome, Page, Payload, QuarantineId, Query, QueueStore, Released, Reschedule, Result,
    Selector, State,
};
use crate::kv::{self, ErrorKind, Scan};

/// Longest worker name, in bytes of UTF-8.
const MAX_WORKER: usize = 128;
/// What else the commit of a payload or a result may hold: the header and the keys.
const BESIDE_PAYLOAD: usize = 8 << 10;

impl KvStore {
    pub(super) fn enqueue_operation(&self, job: NewJob) -> Result<Enqueue> {
        let job = job.checked(self.max_payload())?;
        Ok(Enqueue {
            id: self.0.ids.next(self.clock()),
            job,
        })
    }

    /// The largest payload, and the largest result.
    fn max_payload(&self) -> usize {
        let limits = self.0.store.limits();
        let most = self.0.options.max_payload.min(limits.value_bytes);
        most.min(limits.commit_bytes.saturating_sub(BESIDE_PAYLOAD))
    }

    async fn claim_from_planner(&self, wanted: Wanted) -> Result<Got> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Claim(wanted, reply)).await?;
        let mut delivery = Delivery {
            answer,
            requests: &self.0.requests,
        };
        (&mut delivery.answer).await.unwrap_or(Err(Error::Stopped))
    }

    /// The jobs of a query that may change, and where the next ones begin.
    async fn targets(
        &self,
        query: &Query,
        wanted: &[State],
    ) -> Result<(Vec<JobId>, Option<Cursor>)> {
        let mut query = query.clone();
        if query.states.is_empty() {
            query.states = wanted.to_vec();
        } else {
            query.states.retain(|state| wanted.contains(state));
            if query.states.is_empty() {
                return Ok((Vec::new(), None));
            }
        }
        let page = self.find(&query).await?;
        Ok((
            page.items.into_iter().map(|(id, _)| id).collect(),
            page.next,
        ))
    }
}

/// The way of a claim's answer to its caller. One who leaves when it was sent but not yet seen
/// gives the leases back, too (protocol rule 6).
struct Delivery<'a> {
    answer: oneshot::Receiver<Result<Got>>,
    requests: &'a mpsc::Sender<Request>,
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.answer.close();
        let Ok(Ok(Got::Claims(claims))) = self.answer.try_recv() else {
            return;
        };
        for claimed in claims.jobs {
            let request = Request::Operation(Waiter::nobody(Abandon(claimed.lease)));
            if let Err(TrySendError::Full(request)) = self.requests.try_send(request)
                && let Ok(runtime) = Handle::try_current()
            {
                let requests = self.requests.clone();
                // If the store is stopped meanwhile, the lease runs out.
                runtime.spawn(async move { drop(requests.send(request).await) });
            }
        }
    }
}

/// For whoever installed a recorder; see [`crate::worker`].
fn count_queued(enqueued: &Enqueued) {
    if enqueued.is_new {
        let task = enqueued.job.lane.task.clone();
        metrics::counter!("kvjob_jobs_queued_total", "task" => task).increment(1);
    }
}

/// The answers for jobs of these tasks, or the first error, which says of several whose it is.
fn which<T>(tasks: &[String], answers: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let name = |index, task: &str| {
        let task: String = task.chars().take(MAX_TASK).collect();
        format!("jobs[{index}], of task {task:?}")
    };
    let mut answered = Vec::with_capacity(tasks.len());
    for (index, (task, answer)) in tasks.iter().zip(answers).enumerate() {
        answered.push(answer.map_err(|error| match error {
            error if tasks.len() == 1 => error,
            Error::Invalid { code, message } => {
                Error::invalid(code, format!("{}: {message}", name(index, task)))
            }
            Error::Store(error) if is_about_a_record(&error) => {
                error.context(name(index, task)).into()
            }
            error => error,
        })?);
    }
    Ok(answered)
}

/// Whether it tells of one job's records, and not of the store.
fn is_about_a_record(error: &kv::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TooLarge { .. } | ErrorKind::Corrupt | ErrorKind::TooNew
    )
}

fn check_lease(lease: Duration) -> Result<()> {
    if lease.is_zero() {
        return Err(Error::invalid(
            "lease-zero",
            "a lease must last longer than nothing",
        ));
    }
    Ok(())
}

#[async_trait]
impl QueueStore for KvStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        let operation = self.enqueue_operation(job)?;
        let enqueued = self.run(operation).await?;
        count_queued(&enqueued);
        Ok(enqueued)
    }

    async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        let tasks: Vec<String> = jobs.iter().map(|job| job.lane.task.clone()).collect();
        let operations = jobs.into_iter().map(|job| self.enqueue_operation(job));
        let operations: Vec<Enqueue> = which(&tasks, operations)?;
        let enqueued = which(&tasks, self.run_each(operations).await?)?;
        enqueued.iter().for_each(count_queued);
        Ok(enqueued)
    }

    async fn claim(&self, claim: Claim) -> Result<Claims> {
        check_text("worker", &claim.worker, 1, MAX_WORKER)?;
        check_lease(claim.lease)?;
        let Claim {
            worker,
            max,
            ahead,
            lease,
            selector,
        } = claim;
        if max == 0 {
            return Ok(Claims::default());
        }
        let mode = Mode::Lease { worker, lease };
        match self
            .claim_from_planner(Wanted {
                selector,
                max,
                ahead,
                mode,
            })
            .await?
        {
            Got::Claims(claims) => Ok(claims),
            Got::Taken(_) => Ok(Claims::default()),
        }
    }

    async fn heartbeat(&self, leases: &[Lease], extend: Duration) -> Result<Vec<Beat>> {
        check_lease(extend)?;
        let mut beats = Vec::with_capacity(leases.len());
        for part in leases.chunks(64) {
            let leases = part.to_vec();
            beats.extend(self.run(Heartbeat { leases, extend }).await?);
        }
        Ok(beats)
    }

    async fn complete(&self, lease: &Lease) -> Result<()> {
        self.run(Complete {
            lease: lease.clone(),
            result: None,
        })
        .await
    }

    async fn complete_with(&self, lease: &Lease, result: Payload) -> Result<()> {
        let (size, most) = (result.as_str().len(), self.max_payload());
        if size > most {
            return Err(Error::invalid(
                "result-too-large",
                format!(
                    "a result of {size} bytes is over the limit of {most}: store it elsewhere and answer where it is"
                ),
            ));
        }
        self.run(Complete {
            lease: lease.clone(),
            result: Some(result),
        })
        .await
    }

    async fn fail(&self, lease: &Lease, failure: Failure) -> Result<Outcome> {
        self.run(Fail {
            lease: lease.clone(),
            failure,
        })
        .await
    }

    async fn snooze(&self, lease: &Lease, until: Timestamp) -> Result<()> {
        self.run(Snooze {
            lease: lease.clone(),
            until,
        })
        .await
    }

    async fn abandon(&self, lease: &Lease) -> Result<()> {
        self.run(Abandon(lease.clone())).await
    }

    async fn expire(&self) -> Result<Vec<JobId>> {
        self.expire_all(false).await
    }

    async fn dequeue_next(&self, from: &Selector) -> Result<Option<Job>> {
        let wanted = Wanted {
            selector: from.clone(),
            max: 1,
            ahead: 0,
            mode: Mode::Take,
        };
        match self.claim_from_planner(wanted).await? {
            Got::Taken(jobs) => Ok(jobs.into_iter().next()),
            Got::Claims(_) => Ok(None),
        }
    }

    async fn dequeue(&self, id: JobId) -> Result<Option<Job>> {
        self.run(Dequeue(id)).await
    }

    async fn list(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Job>> {
        self.list_waiting(limit, cursor).await
    }

    async fn cancel(&self, query: &Query) -> Result<Page<Job>> {
        let active = [State::Scheduled, State::Ready, State::Running];
        let (ids, next) = self.targets(query, &active).await?;
        let states: Arc<[State]> = match &*query.states {
            [] => active.into(),
            states => states.into(),
        };
        let cancel = |id| Cancel {
            id,
            states: Arc::clone(&states),
        };
        let jobs = self.run_each(ids.into_iter().map(cancel).collect()).await?;
        let jobs = readable(jobs)?;
        Ok(Page::new(jobs.into_iter().flatten().collect(), next))
    }

    async fn canceled(&self) -> Result<Vec<JobId>> {
        let prefix = self.0.keys.signals(&self.0.incarnation);
        let mut ids = Vec::new();
        let mut scan = Scan::prefix(prefix.clone()).keys_only();
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for object in &page.objects {
                ids.push(self.0.keys.signal_id(&object.key)?);
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(ids),
            }
        }
    }

    async fn lost(&self, leases: &[Lease]) -> Result<Vec<Lease>> {
        self.lost_leases(leases).await
    }

    async fn retry(&self, query: &Query) -> Result<Page<Job>> {
        let ended = [State::Failed, State::Canceled, State::TimedOut];
        let (ids, next) = self.targets(query, &ended).await?;
        let jobs = self
            .run_each(ids.into_iter().map(RetryJob).collect())
            .await?;
        let jobs = readable(jobs)?;
        Ok(Page::new(jobs.into_iter().flatten().collect(), next))
    }

    async fn purge(&self, query: &Query) -> Result<Page<JobId>> {
        let all_final: Vec<State> = State::ALL
            .into_iter()
            .filter(|state| state.is_final())
            .collect();
        let (ids, next) = self.targets(query, &all_final).await?;
        let states: Arc<[State]> = match &*query.states {
            [] => all_final.into(),
            states => states.into(),
        };
        let purge = |id| Purge {
            id,
            states: Arc::clone(&states),
            ended_before: query.ended_before,
        };
        let mut gone = Vec::with_capacity(ids.len());
        let mut left = ids;
        while !left.is_empty() {
            let outcomes = self
                .run_all(left.iter().copied().map(purge).collect())
                .await?;
            let mut partly = Vec::new();
            for (id, outcome) in left.into_iter().zip(outcomes) {
                match outcome {
                    Purged::Whole => gone.push(id),
                    Purged::Partly => partly.push(id),
                    Purged::Nothing => {}
                }
            }
            left = partly;
        }
        gone.sort_unstable();
        Ok(Page::new(gone, next))
    }

    async fn remove_job(&self, tenant: &str, key: &str) -> Result<Option<Job>> {
        self.remove_by_key(tenant, key).await
    }

    async fn complete_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        self.complete_by_hand(ids).await
    }

    async fn fail_jobs(&self, ids: &[JobId], reason: Option<&str>) -> Result<Vec<Job>> {
        self.fail_by_hand(ids, reason).await
    }

    async fn reschedule_jobs(&self, ids: &[JobId], to: Reschedule) -> Result<Vec<Job>> {
        self.reschedule_by_hand(ids, to).await
    }

    async fn force_unlock(&self, workers: &[String]) -> Result<Vec<Job>> {
        self.unlock_by_hand(workers).await
    }

    async fn release_quarantined(
        &self,
        id: QuarantineId,
        unreadable: bool,
    ) -> Result<Option<Released>> {
        match self.find_quarantined(id).await? {
            Some((at, _)) => self.run(Release { at, id, unreadable }).await,
            None => Ok(None),
        }
    }

    async fn remove_quarantined(&self, id: QuarantineId) -> Result<bool> {
        match self.find_quarantined(id).await? {
            Some((at, _)) => self.run(Discard { at, id }).await,
            None => Ok(false),
        }
    }

    fn activity(&self) -> watch::Receiver<u64> {
        self.0.activity.subscribe()
    }
}
