//! A job store under a manual clock, and a look at the raw keys below it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::clock::Timestamp;
use kvjob::encoding::tuple::Tuple;
use kvjob::job::{
    Claim, Claimed, Enqueued, Job, JobId, KvStore, NewJob, Options, QueueStore as _, State,
    StateStore as _,
};
use kvjob::kv::{self, Durability, Memory, Object, Scan};
use kvjob::testkit::ManualClock;
use tempfile::TempDir;

/// How long a test may hang before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A job store, the store below it, and its clock.
#[derive(Debug)]
pub struct Fixture {
    /// The job store, in the namespace `kvjob`.
    pub jobs: KvStore,
    /// The store below.
    pub store: Arc<dyn kv::Store>,
    /// The clock; time moves by it alone.
    pub clock: ManualClock,
    _directory: Option<TempDir>,
}

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
    /// Leases.
    Worker = 8,
    /// Jobs that ended badly.
    Attention = 9,
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
}

impl Fixture {
    /// On the reference store.
    pub async fn memory() -> Self {
        Self::on(Arc::new(Memory::new()), None).await
    }

    /// On a redb file of its own.
    pub async fn redb() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = kvjob_redb::Options::new()
            .durability(Durability::Memory)
            .cache_bytes(4 << 20)
            .open(directory.path().join("jobs.redb"))
            .unwrap();
        Self::on(Arc::new(store), Some(directory)).await
    }

    /// On a directory of sled's of its own.
    pub async fn sled() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = kvjob_sled::Options::new()
            .durability(Durability::Memory)
            .cache_bytes(4 << 20)
            .open(directory.path().join("jobs.sled"))
            .unwrap();
        Self::on(Arc::new(store), Some(directory)).await
    }

    /// On a SQLite database of its own.
    #[cfg(feature = "full")]
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = kvjob_sqlite::Options::new()
            .durability(Durability::Memory)
            .open(directory.path().join("jobs.db"))
            .unwrap();
        Self::on(Arc::new(store), Some(directory)).await
    }

    /// On this store.
    pub async fn on(store: Arc<dyn kv::Store>, directory: Option<TempDir>) -> Self {
        let clock = ManualClock::new(7);
        let jobs = KvStore::open(
            Arc::clone(&store),
            Options::default().clock(Arc::new(clock.clone())),
        )
        .await
        .unwrap();
        Self {
            jobs,
            store,
            clock,
            _directory: directory,
        }
    }

    /// The options the job store was opened with.
    pub fn options(&self) -> Options {
        Options::default().clock(Arc::new(self.clock.clone()))
    }

    /// Another job store over the same store, as a second process would have.
    pub async fn another(&self) -> KvStore {
        KvStore::open(Arc::clone(&self.store), self.options())
            .await
            .unwrap()
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

    /// Puts bytes in the place of a record.
    pub async fn overwrite(&self, key: Vec<u8>, value: &[u8]) {
        self.store
            .set(Object::new(key, value.to_vec()))
            .await
            .unwrap();
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

/// Runs each of these tests, which take a [`Fixture`], on every backend.
#[macro_export]
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                $crate::within(async { super::$test($crate::Fixture::memory().await).await }).await;
            })+
        }
        mod redb {
            $(#[tokio::test]
            async fn $test() {
                $crate::within(async { super::$test($crate::Fixture::redb().await).await }).await;
            })+
        }
        mod sled {
            $(#[tokio::test]
            async fn $test() {
                $crate::within(async { super::$test($crate::Fixture::sled().await).await }).await;
            })+
        }
        #[cfg(feature = "full")]
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                $crate::within(async { super::$test($crate::Fixture::sqlite().await).await }).await;
            })+
        }
    };
}
