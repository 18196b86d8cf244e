//! A job store that fails as it is told, and says what was asked of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kvjob::clock::Timestamp;
use kvjob::job::{
    Beat, Claim, Claims, CronRecord, CronStore, Cursor, Ended, Enqueued, Error, Failure, Fired,
    HistoryQuery, Job, JobId, LaneFilter, LaneSetting, LaneStatus, LaneStore, Lease, Level,
    LogLine, LogQuery, LogStore, NewJob, Outcome, Page, Payload, QuarantineId, Quarantined,
    QuarantinedRecord, Query, QueueStore, Rate, Released, Reschedule, Result, ResultStore,
    Selector, StateStore, Stats, Step, Store,
};
use kvjob::kv::Health;
use tokio::sync::{Semaphore, watch};

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is not made.
    Before(Error),
    /// It is made, and its answer is lost.
    After(Error),
    /// It is made, and its answer waits for a permit.
    Held(Arc<Semaphore>),
}

impl Fault {
    pub(crate) fn hang() -> Self {
        Self::Held(Arc::new(Semaphore::new(0)))
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    faults: Mutex<HashMap<&'static str, (Fault, usize)>>,
    calls: Mutex<HashMap<&'static str, usize>>,
    /// How many leases each heartbeat was for.
    beats: Mutex<Vec<usize>>,
    /// Whether heartbeats find every lease lost.
    pub(crate) lose: AtomicBool,
    /// Where it is to keep from its workers that something happened.
    deaf: Option<watch::Sender<u64>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            calls: Mutex::default(),
            beats: Mutex::default(),
            lose: AtomicBool::new(false),
            deaf: None,
        }
    }

    pub(crate) fn deaf(inner: Arc<dyn Store>) -> Self {
        Self {
            deaf: Some(watch::Sender::new(0)),
            ..Self::new(inner)
        }
    }

    /// Lets the next calls of this name fail.
    pub(crate) fn fail(&self, call: &'static str, times: usize, fault: Fault) {
        self.faults.lock().unwrap().insert(call, (fault, times));
    }

    /// How often it was called.
    pub(crate) fn calls(&self, call: &'static str) -> usize {
        self.calls.lock().unwrap().get(call).copied().unwrap_or(0)
    }

    /// How many leases each heartbeat was for.
    pub(crate) fn beats(&self) -> Vec<usize> {
        self.beats.lock().unwrap().clone()
    }

    /// Makes a call, if it is to be made.
    async fn call<T: Send>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
        let fault = match self.faults.lock().unwrap().get_mut(name) {
            Some((fault, times)) if *times > 0 => {
                *times -= 1;
                Some(fault.clone())
            }
            _ => None,
        };
        match fault {
            None => call.await,
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => call.await.and(Err(error)),
            Some(Fault::Held(permits)) => {
                let answer = call.await;
                permits.acquire().await.unwrap().forget();
                answer
            }
        }
    }
}

#[async_trait]
impl QueueStore for Faulty {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.inner.enqueue(job).await
    }

    async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        self.inner.enqueue_many(jobs).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claims> {
        self.call("claim", self.inner.claim(claim)).await
    }

    async fn heartbeat(&self, leases: &[Lease], extend: Duration) -> Result<Vec<Beat>> {
        self.beats.lock().unwrap().push(leases.len());
        if self.lose.load(Ordering::Relaxed) {
            return Ok(vec![Beat::Lost; leases.len()]);
        }
        self.call("heartbeat", self.inner.heartbeat(leases, extend))
            .await
    }

    async fn complete(&self, lease: &Lease) -> Result<()> {
        self.call("complete", self.inner.complete(lease)).await
    }

    async fn complete_with(&self, lease: &Lease, result: Payload) -> Result<()> {
        self.call("complete", self.inner.complete_with(lease, result))
            .await
    }

    async fn fail(&self, lease: &Lease, failure: Failure) -> Result<Outcome> {
        self.call("fail", self.inner.fail(lease, failure)).await
    }

    async fn snooze(&self, lease: &Lease, until: Timestamp) -> Result<()> {
        self.call("snooze", self.inner.snooze(lease, until)).await
    }

    async fn abandon(&self, lease: &Lease) -> Result<()> {
        self.call("abandon", self.inner.abandon(lease)).await
    }

    async fn expire(&self) -> Result<Vec<JobId>> {
        self.inner.expire().await
    }

    async fn dequeue_next(&self, from: &Selector) -> Result<Option<Job>> {
        self.inner.dequeue_next(from).await
    }

    async fn dequeue(&self, id: JobId) -> Result<Option<Job>> {
        self.inner.dequeue(id).await
    }

    async fn list(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Job>> {
        self.inner.list(limit, cursor).await
    }

    async fn cancel(&self, query: &Query) -> Result<Page<Job>> {
        self.inner.cancel(query).await
    }

    async fn canceled(&self) -> Result<Vec<JobId>> {
        self.call("canceled", self.inner.canceled()).await
    }

    async fn lost(&self, leases: &[Lease]) -> Result<Vec<Lease>> {
        self.call("lost", self.inner.lost(leases)).await
    }

    async fn retry(&self, query: &Query) -> Result<Page<Job>> {
        self.inner.retry(query).await
    }

    async fn purge(&self, query: &Query) -> Result<Page<JobId>> {
        self.inner.purge(query).await
    }

    async fn remove_job(&self, tenant: &str, key: &str) -> Result<Option<Job>> {
        self.inner.remove_job(tenant, key).await
    }

    async fn complete_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        self.inner.complete_jobs(ids).await
    }

    async fn fail_jobs(&self, ids: &[JobId], reason: Option<&str>) -> Result<Vec<Job>> {
        self.inner.fail_jobs(ids, reason).await
    }

    async fn reschedule_jobs(&self, ids: &[JobId], to: Reschedule) -> Result<Vec<Job>> {
        self.inner.reschedule_jobs(ids, to).await
    }

    async fn force_unlock(&self, workers: &[String]) -> Result<Vec<Job>> {
        self.inner.force_unlock(workers).await
    }

    async fn release_quarantined(
        &self,
        id: QuarantineId,
        unreadable: bool,
    ) -> Result<Option<Released>> {
        self.inner.release_quarantined(id, unreadable).await
    }

    async fn remove_quarantined(&self, id: QuarantineId) -> Result<bool> {
        self.inner.remove_quarantined(id).await
    }

    fn activity(&self) -> watch::Receiver<u64> {
        match &self.deaf {
            Some(deaf) => deaf.subscribe(),
            None => self.inner.activity(),
        }
    }
}

#[async_trait]
impl LaneStore for Faulty {
    async fn pause(&self, lanes: &LaneFilter) -> Result<bool> {
        self.inner.pause(lanes).await
    }

    async fn resume(&self, lanes: &LaneFilter) -> Result<bool> {
        self.inner.resume(lanes).await
    }

    async fn limit(&self, lanes: &LaneFilter, rate: Option<Rate>) -> Result<bool> {
        self.inner.limit(lanes, rate).await
    }

    async fn lane_settings(
        &self,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<LaneSetting>> {
        self.inner.lane_settings(limit, cursor).await
    }

    async fn lanes(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<LaneStatus>> {
        self.inner.lanes(limit, cursor).await
    }
}

#[async_trait]
impl StateStore for Faulty {
    async fn get(&self, id: JobId) -> Result<Option<Job>> {
        self.inner.get(id).await
    }

    async fn lookup(&self, query: &Query) -> Result<Page<Job>> {
        self.inner.lookup(query).await
    }

    async fn history(&self, id: JobId) -> Result<Vec<Step>> {
        self.inner.history(id).await
    }

    async fn lookup_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>> {
        self.inner.lookup_history(query).await
    }

    async fn clear_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>> {
        self.inner.clear_history(query).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.inner.stats().await
    }

    async fn quarantine(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Quarantined>> {
        self.inner.quarantine(limit, cursor).await
    }

    async fn quarantined(&self, id: QuarantineId) -> Result<Option<QuarantinedRecord>> {
        self.inner.quarantined(id).await
    }
}

#[async_trait]
impl LogStore for Faulty {
    async fn log(
        &self,
        id: JobId,
        level: Level,
        message: String,
        fields: BTreeMap<String, String>,
    ) -> Result<()> {
        self.inner.log(id, level, message, fields).await
    }

    async fn logs(&self, query: &LogQuery) -> Result<Page<LogLine>> {
        self.inner.logs(query).await
    }

    async fn clear_logs(&self, query: &LogQuery) -> Result<Page<LogLine>> {
        self.inner.clear_logs(query).await
    }
}

#[async_trait]
impl ResultStore for Faulty {
    async fn result(&self, id: JobId) -> Result<Option<Payload>> {
        self.inner.result(id).await
    }

    async fn wait(&self, id: JobId, timeout: Duration) -> Result<Ended> {
        self.inner.wait(id, timeout).await
    }
}

#[async_trait]
impl CronStore for Faulty {
    async fn crons(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<CronRecord>> {
        self.inner.crons(limit, cursor).await
    }

    async fn cron(&self, id: &str) -> Result<Option<CronRecord>> {
        self.inner.cron(id).await
    }

    async fn keep_cron(&self, id: &str, definition: Option<String>) -> Result<(CronRecord, bool)> {
        self.inner.keep_cron(id, definition).await
    }

    async fn fire_cron(&self, record: &CronRecord, slot: Timestamp, job: NewJob) -> Result<Fired> {
        self.inner.fire_cron(record, slot, job).await
    }

    async fn pause_cron(&self, id: &str) -> Result<Option<CronRecord>> {
        self.inner.pause_cron(id).await
    }

    async fn resume_cron(&self, id: &str) -> Result<Option<CronRecord>> {
        self.inner.resume_cron(id).await
    }

    async fn remove_cron(&self, id: &str) -> Result<bool> {
        self.inner.remove_cron(id).await
    }

    fn cron_changes(&self) -> watch::Receiver<u64> {
        self.inner.cron_changes()
    }
}

#[async_trait]
impl Store for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.inner.stop().await
    }

    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }
}
