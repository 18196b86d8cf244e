//! A job store under a manual clock, and a look at the raw keys below it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use kvjob::clock::{Clock, Timestamp};
use kvjob::encoding::tuple::Tuple;
use kvjob::job::{
    Claim, Claimed, Enqueued, Job, JobId, KvStore, NewJob, Options, QueueStore as _, State,
    StateStore as _, Store as _,
};
use kvjob::kv::wrap::{Faulty, Odds};
use kvjob::kv::{self, Change, Object, Scan};
use kvjob::testkit::ManualClock;
use tempfile::TempDir;

/// How long a test may hang before it fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a job store is opened in vain where calls fail by themselves.
const TRIES_UNDER_FAULTS: usize = 100;

/// A job store, the store below it, and its clock.
pub struct Fixture {
    /// The job store, in the namespace `kvjob`.
    pub jobs: KvStore,
    /// The store below.
    pub store: Arc<dyn kv::Store>,
    /// The clock; time moves by it alone.
    pub clock: ManualClock,
    jobs_clock: Arc<dyn Clock>,
    /// How often it is tried to open the job store.
    tries: usize,
    again: Option<Open>,
    directory: Option<TempDir>,
}

/// Opens a store's data, the first time and again.
type Open = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn kv::Store>> + Send + Sync>;

/// The spaces of the key space, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The format record.
    Format = 1,
    /// Headers.
    Job = 2,
    /// Large arguments.
    Payload = 3,
    /// Jobs that may be claimed.
    Ready = 4,
    /// Jobs for later.
    Scheduled = 5,
    /// Jobs that are blocked in serial queues.
    Wait = 6,
    /// Serial queues.
    Queue = 7,
    /// Leases.
    Worker = 8,
    /// Jobs that ended badly.
    Attention = 9,
    /// What is set for lanes.
    Lane = 10,
    /// Job keys.
    Unique = 11,
    /// Older history.
    History = 12,
    /// Log lines.
    Log = 13,
    /// Cancel requests.
    Signal = 14,
    /// Records that could not be read.
    Quarantine = 15,
    /// How far sweeps have come, and removals that were begun.
    Retention = 16,
    /// Cron schedules.
    Cron = 17,
    /// Large results.
    Result = 18,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// On this store, whose data is gone with it.
    pub async fn on(store: Arc<dyn kv::Store>, directory: Option<TempDir>) -> Self {
        let clock = ManualClock::new(7);
        let jobs_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        Self {
            jobs: open_jobs(&store, &jobs_clock, 1).await,
            store,
            clock,
            jobs_clock,
            tries: 1,
            again: None,
            directory,
        }
    }

    /// On the store that `open` opens, again and again, over what is in the directory.
    pub async fn kept(
        directory: Option<TempDir>,
        open: impl Fn() -> Arc<dyn kv::Store> + Send + Sync + 'static,
    ) -> Self {
        let open = move || future::ready(open()).boxed();
        Self {
            directory,
            ..Self::served(open).await
        }
    }

    /// On the store that `open` opens, again and again, over what is in its server.
    pub async fn served(
        open: impl Fn() -> BoxFuture<'static, Arc<dyn kv::Store>> + Send + Sync + 'static,
    ) -> Self {
        let fixture = Self::on(open().await, None).await;
        Self {
            again: Some(Box::new(open)),
            ..fixture
        }
    }

    /// The same over its store, whose calls fail by themselves so often, in other ways for each
    /// seed. Nobody sleeps on its clock, so that what is tried again takes no time.
    pub async fn under_faults(self, on_reads: Odds, on_writes: Odds, seed: u64) -> Self {
        self.jobs.stop().await.unwrap();
        let store = self.store;
        let below: Open = match self.again {
            Some(open) => {
                store.stop().await.unwrap();
                open
            }
            None => Box::new(move || future::ready(Arc::clone(&store)).boxed()),
        };
        let opened = AtomicU64::new(0);
        let open = move || {
            let seed = seed ^ opened.fetch_add(1, Ordering::Relaxed);
            let faulty = move |below| {
                let faulty = Faulty::new(below, seed);
                Arc::new(faulty.on_reads(on_reads).on_writes(on_writes)) as Arc<dyn kv::Store>
            };
            below().map(faulty).boxed()
        };
        let (store, clock) = (open().await, ManualClock::new(7));
        let jobs_clock: Arc<dyn Clock> = Arc::new(Sleepless(clock.clone()));
        Self {
            jobs: open_jobs(&store, &jobs_clock, TRIES_UNDER_FAULTS).await,
            store,
            clock,
            jobs_clock,
            tries: TRIES_UNDER_FAULTS,
            again: Some(Box::new(open)),
            directory: self.directory,
        }
    }

    /// Stops the job store, and the store below where its data outlives it, and opens both again.
    pub async fn reopen(&mut self) {
        self.jobs.stop().await.unwrap();
        if let Some(open) = &self.again {
            self.store.stop().await.unwrap();
            self.store = open().await;
        }
        self.jobs = self.another().await;
    }

    /// The options the job store was opened with.
    pub fn options(&self) -> Options {
        options(&self.jobs_clock)
    }

    /// Another job store over the same store, as a second process would have.
    pub async fn another(&self) -> KvStore {
        open_jobs(&self.store, &self.jobs_clock, self.tries).await
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time this many seconds from now.
    pub fn in_seconds(&self, seconds: u64) -> Timestamp {
        self.now().after(Duration::from_secs(seconds))
    }

    /// Moves the clock by seconds.
    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Enqueues a job of a task with the payload `null`.
    pub async fn add(&self, task: &str) -> Job {
        self.enqueue(NewJob::new(task, &()).unwrap()).await.job
    }

    /// Enqueues.
    pub async fn enqueue(&self, job: NewJob) -> Enqueued {
        self.jobs.enqueue(job).await.unwrap()
    }

    /// Claims up to `max` jobs for a minute.
    pub async fn claim(&self, max: usize) -> Vec<Claimed> {
        self.jobs.claim(a_minute().max(max)).await.unwrap().jobs
    }

    /// Claims as many jobs as are due, in as many claims as the store's commits are small.
    pub async fn claim_all(&self) -> Vec<Claimed> {
        let mut jobs = Vec::new();
        loop {
            let more = self.claim(Claim::MOST).await;
            if more.is_empty() {
                return jobs;
            }
            jobs.extend(more);
        }
    }

    /// The largest payload this store takes, in bytes.
    pub fn largest_payload(&self) -> usize {
        let commit = self.store.limits().commit_bytes - (8 << 10);
        commit.min(1 << 20)
    }

    /// Claims the one job that must be due.
    pub async fn claim_one(&self) -> Claimed {
        let mut jobs = self.claim(1).await;
        assert_eq!(jobs.len(), 1, "a job should be due");
        jobs.remove(0)
    }

    /// A job that must be there.
    pub async fn job(&self, id: JobId) -> Job {
        self.jobs.get(id).await.unwrap().unwrap()
    }

    /// The states of a job's history, oldest first; its numbers must be unbroken.
    pub async fn states(&self, id: JobId) -> Vec<State> {
        let steps = self.jobs.history(id).await.unwrap();
        for (expected, step) in steps.iter().enumerate() {
            assert_eq!(step.number as usize, expected, "the history has a gap");
        }
        steps.iter().map(|step| step.state).collect()
    }

    /// The ids of the waiting jobs in claim order, read in pages of one.
    pub async fn listed(&self) -> Vec<JobId> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.jobs.list(1, cursor).await.unwrap();
            assert!(page.items.len() <= 1);
            ids.extend(page.items.iter().map(|job| job.id));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    }

    /// Everything under a prefix of the store below.
    pub async fn raw(&self, prefix: Vec<u8>) -> Vec<Object> {
        let mut scan = Scan::prefix(prefix);
        let mut objects = Vec::new();
        loop {
            let page = self.store.scan(scan.clone()).await.unwrap();
            objects.extend(page.objects);
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return objects,
            }
        }
    }

    /// Everything in one space of the namespace `kvjob`.
    pub async fn space(&self, space: Space) -> Vec<Object> {
        self.raw(Self::prefix(space)).await
    }

    /// The prefix of a space in the namespace `kvjob`.
    pub fn prefix(space: Space) -> Vec<u8> {
        Tuple::new().string("kvjob").uint(space as u64).finish()
    }

    /// The key of a job's record in a space that is ordered by id.
    pub fn key(space: Space, id: JobId) -> Vec<u8> {
        Tuple::new()
            .string("kvjob")
            .uint(space as u64)
            .uuid(id.as_bytes())
            .finish()
    }

    /// Puts bytes in the place of a record, of all that are under its key on a bag.
    pub async fn overwrite(&self, key: Vec<u8>, value: &[u8]) {
        self.forget(key.clone()).await;
        self.put(key, value).await;
    }

    /// Puts bytes under a key, on a bag beside what is there.
    pub async fn put(&self, key: Vec<u8>, value: &[u8]) {
        let object = Object::new(key, value.to_vec());
        self.store.set(object).await.unwrap();
    }

    /// Removes what is under a key.
    pub async fn forget(&self, key: Vec<u8>) {
        let atomic = self.store.atomic().unwrap();
        atomic.commit(vec![Change::remove(key)]).await.unwrap();
    }
}

async fn open_jobs(
    store: &Arc<dyn kv::Store>,
    clock: &Arc<dyn Clock>,
    most_tries: usize,
) -> KvStore {
    for _ in 1..most_tries {
        if let Ok(opened) = KvStore::open(Arc::clone(store), options(clock)).await {
            return opened;
        }
    }
    let opened = KvStore::open(Arc::clone(store), options(clock)).await;
    opened.unwrap()
}

/// Leases run out at their deadline on every store, be it shared or not.
fn options(clock: &Arc<dyn Clock>) -> Options {
    Options::default()
        .clock(Arc::clone(clock))
        .max_skew(Duration::ZERO)
}

/// A clock on which sleeping takes no time: whoever sleeps lets the others run once.
#[derive(Debug)]
struct Sleepless(ManualClock);

#[async_trait]
impl Clock for Sleepless {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    async fn sleep_until(&self, _deadline: Duration) {
        tokio::task::yield_now().await;
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

fn a_minute() -> Claim {
    Claim::new("worker").lease(Duration::from_secs(60))
}

/// A job of a task whose payload is this text.
pub fn text(task: &str, payload: &str) -> NewJob {
    NewJob::new(task, payload).unwrap()
}

/// Fails a test that hangs.
pub async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test)
        .await
        .expect("the test hangs")
}
