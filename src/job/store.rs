//! The traits of a job store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Beat, Claim, Claims, CronRecord, Cursor, Ended, Enqueued, Failure, Fired, HistoryQuery, Job,
    JobId, LaneFilter, LaneSetting, LaneStatus, Lease, Level, LogLine, LogQuery, NewJob, Outcome,
    Page, Payload, QuarantineId, Quarantined, QuarantinedRecord, Query, Rate, Released, Reschedule,
    Result, Selector, Stats, Step,
};
use crate::clock::Timestamp;
use crate::kv::Health;

/// Putting jobs in and getting them out, with a lease or without.
///
/// Every operation is durable, as far as the store below was opened to be, once it returned
/// `Ok`. Those that state a lease fail with [`LeaseLost`](super::Error::LeaseLost) and change
/// nothing if it is over.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Stores a job.
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) for names and sizes that cannot be, or what the store
    /// says.
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued>;

    /// Stores jobs, each for itself, in this order and in few commits; the answers stand in the
    /// same order. All are checked before the first is stored.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). Of several jobs the message begins with the one that is
    /// refused, counted from 0, and its task: `jobs[7], of task "send-mail"`. If the store fails
    /// part-way, some jobs may be stored.
    async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>>;

    /// Takes due jobs in the order of priority, `run_at` and id, each for the time of a lease.
    /// An attempt is counted here.
    ///
    /// # Errors
    /// What the store says.
    async fn claim(&self, claim: Claim) -> Result<Claims>;

    /// Extends leases to `extend` from now. The answers stand in the order of the leases.
    ///
    /// # Errors
    /// What the store says.
    async fn heartbeat(&self, leases: &[Lease], extend: Duration) -> Result<Vec<Beat>>;

    /// The job is done.
    ///
    /// # Errors
    /// [`LeaseLost`](super::Error::LeaseLost), or what the store says.
    async fn complete(&self, lease: &Lease) -> Result<()>;

    /// The job is done, with this result, which is stored in the same commit and kept as long as
    /// the job: see [`ResultStore`].
    ///
    /// # Errors
    /// As [`complete`](Self::complete); [`Invalid`](super::Error::Invalid) (`result-too-large`) if
    /// it is larger than a payload may be: nothing was changed then.
    async fn complete_with(&self, lease: &Lease, result: Payload) -> Result<()>;

    /// The attempt failed: the job waits for the next one, or is final.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    async fn fail(&self, lease: &Lease, failure: Failure) -> Result<Outcome>;

    /// The job is to be done later; this attempt is not counted.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    async fn snooze(&self, lease: &Lease, until: Timestamp) -> Result<()>;

    /// The job is given back to wait where it stood; this attempt is not counted.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    async fn abandon(&self, lease: &Lease) -> Result<()>;

    /// Takes back the leases that are past their deadline: each counts as a failed attempt.
    /// Claims do it now and then by themselves. Returns the jobs.
    ///
    /// # Errors
    /// What the store says.
    async fn expire(&self) -> Result<Vec<JobId>>;

    /// Takes the next due job out of the queue for good, without a lease. Two callers never get
    /// the same one; a caller that dies with it has lost it.
    ///
    /// # Errors
    /// What the store says.
    async fn dequeue_next(&self, from: &Selector) -> Result<Option<Job>>;

    /// Takes this job out of the queue for good if it waits.
    ///
    /// # Errors
    /// What the store says.
    async fn dequeue(&self, id: JobId) -> Result<Option<Job>>;

    /// The waiting jobs in the order in which they would be claimed: due ones, then scheduled
    /// ones.
    ///
    /// # Errors
    /// What the store says.
    async fn list(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Job>>;

    /// Calls off the jobs of this query, a page at a time: waiting ones end at once, running ones
    /// are asked to stop. Returns the jobs it changed.
    ///
    /// # Errors
    /// What the store says.
    async fn cancel(&self, query: &Query) -> Result<Page<Job>>;

    /// The jobs that this store has leased to its callers and that were asked to stop since.
    ///
    /// # Errors
    /// What the store says.
    async fn canceled(&self) -> Result<Vec<JobId>>;

    /// Those of these leases, which this store gave to its callers, that are over: as after a
    /// [`force_unlock`](Self::force_unlock). Writes nothing, and reads little where none is; a
    /// [heartbeat](Self::heartbeat) tells, too.
    ///
    /// # Errors
    /// What the store says.
    async fn lost(&self, leases: &[Lease]) -> Result<Vec<Lease>>;

    /// Lets the failed, canceled and timed-out jobs of this query wait again, with all their
    /// attempts, a page at a time. Returns the jobs it changed.
    ///
    /// # Errors
    /// What the store says.
    async fn retry(&self, query: &Query) -> Result<Page<Job>>;

    /// Removes the final jobs of this query with all that belongs to them, a page at a time.
    /// Returns their ids.
    ///
    /// # Errors
    /// What the store says.
    async fn purge(&self, query: &Query) -> Result<Page<JobId>>;

    /// Removes the job that has this job key, or the running one from its key: a job that runs
    /// loses its key and is not tried again, as one that is
    /// [replaced](super::KeyMode::Replace); any other is removed, be it waiting or ended, and only
    /// a [purge](Self::purge) or retention still finds it. Returns the job, removed or running;
    /// `None` if none has the key.
    ///
    /// # Errors
    /// What the store says.
    async fn remove_job(&self, tenant: &str, key: &str) -> Result<Option<Job>>;

    /// Completes these jobs by hand: those that wait and those that ended badly. What runs under a
    /// live lease stays as it is, and so does what is done. Returns the jobs it changed.
    ///
    /// Each job is changed for itself, in this order and in few commits; done again, it changes
    /// nothing more. A lease that has run out is taken back first, as by [`expire`](Self::expire).
    ///
    /// # Errors
    /// What the store says; some jobs may have been changed.
    async fn complete_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>>;

    /// Fails these jobs for good by hand, for this reason or because they were "Manually marked as
    /// failed": those that wait. What runs under a live lease stays as it is, and so does what has
    /// ended. Returns the jobs it changed; as [`complete_jobs`](Self::complete_jobs) otherwise.
    ///
    /// # Errors
    /// As [`complete_jobs`](Self::complete_jobs).
    async fn fail_jobs(&self, ids: &[JobId], reason: Option<&str>) -> Result<Vec<Job>>;

    /// Changes when and how these jobs run: those that wait, and those that ended badly, which
    /// wait again. One of those that is out of attempts gets all of them again, unless `to` says
    /// how many it had. What runs under a live lease stays as it is, and so do what is done, what
    /// is so already, and a job that would have no attempt left. Returns the jobs it changed; as
    /// [`complete_jobs`](Self::complete_jobs) otherwise.
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid): `max-attempts-zero`, `no-attempt-left`; or as
    /// [`complete_jobs`](Self::complete_jobs).
    async fn reschedule_jobs(&self, ids: &[JobId], to: Reschedule) -> Result<Vec<Job>>;

    /// Takes from the workers of these names, in whatever process, the jobs they hold: for workers
    /// that are known to be dead, whose leases last long. A worker that lives after all finds its
    /// leases [lost](Self::lost). The attempt counts, as if the lease had run out, for the job may
    /// be what killed the worker; but the next one is due at once. One that has none left has
    /// failed for good. Returns the jobs it took.
    ///
    /// # Errors
    /// As [`complete_jobs`](Self::complete_jobs).
    async fn force_unlock(&self, workers: &[String]) -> Result<Vec<Job>>;

    /// Puts a record that was put aside back under its key. A job's header becomes a job again:
    /// one that was waiting waits, one that was running waits or has failed for good, one that
    /// had ended counts as ended now; if another job has its job key by now, it has none. What
    /// else belongs to the job was not put aside. `None` if there is no such record.
    ///
    /// One that still cannot be read would be put aside again by whoever meets it next. It is put
    /// back only if `unreadable` ones are wanted, too: then as it is, for other software to read.
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid): `quarantine-key-taken` if something stands under its
    /// key, `quarantine-still-unreadable`; or what the store says. Nothing was changed then.
    async fn release_quarantined(
        &self,
        id: QuarantineId,
        unreadable: bool,
    ) -> Result<Option<Released>>;

    /// Removes a record that was put aside, for good, and nothing else. Says whether it was
    /// there.
    ///
    /// # Errors
    /// What the store says.
    async fn remove_quarantined(&self, id: QuarantineId) -> Result<bool>;

    /// Changes whenever something may have become claimable in a way this process can see. A
    /// hint, which may come without cause.
    fn activity(&self) -> watch::Receiver<u64>;
}

/// Asking for jobs and their history.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// A job by its id, or `None`.
    ///
    /// # Errors
    /// [`Corrupt`](crate::kv::ErrorKind::Corrupt) or [`TooNew`](crate::kv::ErrorKind::TooNew) if
    /// it cannot be read, or what the store says.
    async fn get(&self, id: JobId) -> Result<Option<Job>>;

    /// The jobs of a query, a page at a time, in the order in which they were stored; a query
    /// for failed, canceled or timed-out ones only, in the order in which they ended.
    ///
    /// # Errors
    /// What the store says.
    async fn lookup(&self, query: &Query) -> Result<Page<Job>>;

    /// A job's steps, oldest first; none if there is no such job. At the cost of the answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn history(&self, id: JobId) -> Result<Vec<Step>>;

    /// Steps of one job or of all, a page at a time: one job after the other in the order in which
    /// they were stored, each from its first step on. A page may be empty although more follow.
    /// Of all jobs, those that cannot be read are left out and warned of.
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) (`bad-cursor`), or as [`get`](Self::get) for one job.
    async fn lookup_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>>;

    /// Clears the steps of this query, a page at a time, from the histories of jobs that have
    /// ended: those of a job that waits or runs stay. Returns the steps it cleared, each once;
    /// done again, it clears nothing more. A page may be empty although more follow.
    ///
    /// All else stays as it is: the job with its last error, and the numbers of the steps that are
    /// left. A job that is retried goes on counting from there. Of all jobs, those that cannot be
    /// read are left out and warned of.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// use kvjob::clock::{Clock, SystemClock};
    /// use kvjob::job::{HistoryQuery, KvStore, Options, StateStore};
    /// # let jobs = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
    /// let a_month_ago = SystemClock.now().before(Duration::from_secs(30 * 24 * 60 * 60));
    /// let mut query = HistoryQuery::of_all_jobs().before(a_month_ago);
    /// loop {
    ///     let page = jobs.clear_history(&query).await?;
    ///     println!("cleared {} steps", page.items.len());
    ///     let Some(next) = page.next else { break };
    ///     query = query.cursor(next);
    /// }
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`lookup_history`](Self::lookup_history); some steps may have been cleared.
    async fn clear_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>>;

    /// How many jobs are in which state, by task: counted one by one, a page at a time.
    ///
    /// # Errors
    /// What the store says.
    async fn stats(&self) -> Result<Stats>;

    /// Records that could not be read and were put aside, a page at a time.
    ///
    /// # Errors
    /// What the store says.
    async fn quarantine(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Quarantined>>;

    /// A record that was put aside, with its bytes, or `None`.
    ///
    /// # Errors
    /// What the store says.
    async fn quarantined(&self, id: QuarantineId) -> Result<Option<QuarantinedRecord>>;
}

/// Steering lanes: what is set for some of them holds for all lanes that the filter means, also
/// for those that get their first job later.
///
/// Settings concern what is taken from a lane by [`claim`](QueueStore::claim) and
/// [`dequeue_next`](QueueStore::dequeue_next): jobs that run go on, and one that is named
/// ([`dequeue`](QueueStore::dequeue), [`cancel`](QueueStore::cancel)) is found as ever. They hold
/// for this store at once, and for other processes on the same data as soon as they hear of it, or
/// within a second where the store below cannot tell them. Every process keeps all of them in
/// memory: they are meant for tasks and tenants by the hundred.
#[async_trait]
pub trait LaneStore: Send + Sync {
    /// Takes nothing from these lanes until they are resumed, however many jobs are waiting there,
    /// and at no cost to claims from others. Says whether this filter was not paused before.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// use kvjob::job::{Claim, KvStore, LaneFilter, LaneStore, NewJob, Options, QueueStore};
    /// # let jobs = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
    /// jobs.enqueue(NewJob::new("send-mail", "ada")?).await?;
    /// jobs.pause(&LaneFilter::all().task("send-mail")).await?;
    /// assert!(jobs.claim(Claim::new("worker-1")).await?.jobs.is_empty());
    /// jobs.resume(&LaneFilter::all().task("send-mail")).await?;
    /// assert_eq!(jobs.claim(Claim::new("worker-1")).await?.jobs.len(), 1);
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) for names that cannot be, or what the store says.
    async fn pause(&self, lanes: &LaneFilter) -> Result<bool>;

    /// Takes back what [`pause`](Self::pause) did with the same filter, and wakes whoever waits
    /// for jobs. A lane that another filter pauses, too, stays paused. Says whether this filter was
    /// paused.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn resume(&self, lanes: &LaneFilter) -> Result<bool>;

    /// Lets each process take jobs from these lanes, all of them together, at most at this rate;
    /// `None` for as many as it likes. A lane that several filters limit is under all of those
    /// limits. Says whether that is a change.
    ///
    /// A claim that finds jobs held back says [until when](super::Claims::limited_until).
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) (`rate-zero`, `rate-without-time`), or as
    /// [`pause`](Self::pause).
    async fn limit(&self, lanes: &LaneFilter, rate: Option<Rate>) -> Result<bool>;

    /// What is set, a page at a time.
    ///
    /// # Errors
    /// What the store says.
    async fn lane_settings(
        &self,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<LaneSetting>>;

    /// The lanes that have due jobs, a page at a time: by tenant, then by task. Jobs that became due
    /// since the last claim are not seen yet.
    ///
    /// # Errors
    /// What the store says.
    async fn lanes(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<LaneStatus>>;
}

/// Writing and reading a job's log.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Adds a line to a job's log. It rides along with the store's next commit, is stored within
    /// 100 ms if there is none, and before any operation of this store that is called later.
    ///
    /// # Errors
    /// [`Stopped`](super::Error::Stopped), or
    /// [`Invalid`](super::Error::Invalid) (`log-line-too-large`).
    async fn log(
        &self,
        id: JobId,
        level: Level,
        message: String,
        fields: BTreeMap<String, String>,
    ) -> Result<()>;

    /// The lines of a job's log, oldest first, a page at a time; or of those of all jobs, one job
    /// after the other in the order in which they were stored. Such a page may be empty although
    /// more follow, and leaves out, and warns of, what cannot be read.
    ///
    /// # Errors
    /// What the store says.
    async fn logs(&self, query: &LogQuery) -> Result<Page<LogLine>>;

    /// Removes the lines of this query, a page at a time, whatever their jobs do meanwhile; also
    /// those that were logged before and wait to be stored, but not those that wait in other
    /// processes. Returns the lines it removed; done again, it removes nothing more. Where two
    /// processes remove the same line at the same time, both may return it. Pages are as those of
    /// [`logs`](Self::logs).
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) (`bad-cursor`), or as [`logs`](Self::logs); some lines
    /// may have been removed.
    async fn clear_logs(&self, query: &LogQuery) -> Result<Page<LogLine>>;
}

/// How jobs ended, for those who wait for it.
#[async_trait]
pub trait ResultStore: Send + Sync {
    /// The value a job completed with. `None` if it has none, has not completed, or is not there.
    ///
    /// # Errors
    /// As [`get`](StateStore::get).
    async fn result(&self, id: JobId) -> Result<Option<Payload>>;

    /// Waits until a job has ended, in whichever process, but no longer than `timeout`, and says
    /// how. One that has ended already is answered at once.
    ///
    /// A job that is removed meanwhile ends as [`Removed`](super::State::Removed): so does, where
    /// completed jobs are not kept at all, one that completes.
    ///
    /// # Errors
    /// [`UnknownJob`](super::Error::UnknownJob) if there is no such job,
    /// [`WaitTimedOut`](super::Error::WaitTimedOut) if it has not ended by then, which changes
    /// nothing for it; or what the store says, if trying again would not help.
    async fn wait(&self, id: JobId, timeout: Duration) -> Result<Ended>;
}

/// Keeping cron schedules: how far their slots are settled, and what those say that were added at
/// run time. What a schedule says is text to the store; the floor above knows what it means.
#[async_trait]
pub trait CronStore: Send + Sync {
    /// What is kept, by id, a page at a time.
    ///
    /// # Errors
    /// What the store says.
    async fn crons(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<CronRecord>>;

    /// What is kept of this schedule, or `None`.
    ///
    /// # Errors
    /// [`Corrupt`](crate::kv::ErrorKind::Corrupt) or [`TooNew`](crate::kv::ErrorKind::TooNew) if
    /// it cannot be read, or what the store says.
    async fn cron(&self, id: &str) -> Result<Option<CronRecord>>;

    /// Keeps a schedule: its slots up to now are settled then. With a definition, one that is
    /// kept already says this from now on, and its slots up to now are settled; without, it stays
    /// as it is. Returns what is kept, and whether it is new.
    ///
    /// # Errors
    /// [`Invalid`](super::Error::Invalid) for an id or a definition that cannot be, or
    /// `cron-of-program` for a definition of one that was kept without; or what the store says.
    async fn keep_cron(&self, id: &str, definition: Option<String>) -> Result<(CronRecord, bool)>;

    /// Settles the slots of a schedule up to this one and adds the job of it, in one commit; so
    /// that of all who try, in any process, one does it. Nothing is done if the schedule has
    /// changed since the caller read it, is paused, or has settled the slot.
    ///
    /// # Errors
    /// As [`enqueue`](QueueStore::enqueue).
    async fn fire_cron(&self, record: &CronRecord, slot: Timestamp, job: NewJob) -> Result<Fired>;

    /// Lets the slots of a schedule pass without a job from now on. Returns what is kept, or
    /// `None` if nothing is.
    ///
    /// # Errors
    /// What the store says.
    async fn pause_cron(&self, id: &str) -> Result<Option<CronRecord>>;

    /// Gives the slots of a schedule their jobs again. Those that passed meanwhile are settled.
    ///
    /// # Errors
    /// What the store says.
    async fn resume_cron(&self, id: &str) -> Result<Option<CronRecord>>;

    /// Forgets a schedule; jobs that it added stay. Says whether it was there.
    ///
    /// # Errors
    /// What the store says.
    async fn remove_cron(&self, id: &str) -> Result<bool>;

    /// Changes whenever what is kept may have changed in a way this process can see. A hint,
    /// which may come without cause.
    fn cron_changes(&self) -> watch::Receiver<u64>;
}

/// A job store: all of the above, and its own life.
#[async_trait]
pub trait Store:
    QueueStore + LaneStore + StateStore + LogStore + ResultStore + CronStore + Debug + 'static
{
    /// What the store below is called, such as `redb`.
    fn name(&self) -> &str;

    /// Gets ready: checks the format and, where this process alone has the store, takes back
    /// the leases of dead ones. Calling it again changes nothing.
    ///
    /// # Errors
    /// [`TooNew`](crate::kv::ErrorKind::TooNew) for a format from the future, or what the store
    /// says.
    async fn start(&self) -> Result<()>;

    /// Finishes what was begun and stores what was logged; afterwards changes answer
    /// [`Stopped`](super::Error::Stopped). The store below goes on: it may have other users.
    /// Calling it again changes nothing.
    ///
    /// # Errors
    /// What the store says.
    async fn stop(&self) -> Result<()>;

    /// Removes every job of this namespace, with all that belongs to them, and nothing else.
    ///
    /// # Errors
    /// What the store says.
    async fn clear(&self) -> Result<()>;

    /// What would surprise a user.
    ///
    /// # Errors
    /// What the store says.
    async fn health(&self) -> Result<Health>;
}
