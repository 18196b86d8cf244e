//! The store below the journal in these tests: one of five methods, whose writes are counted, and
//! meet what a test wants them to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kvjob::kv::{Error, ErrorKind, Key, Limits, Object, Page, Result, Scan, Store};
use kvjob_tests::FiveMethods;
use tokio::sync::Semaphore;

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not made, and the caller knows.
    Fails,
    /// It is not made, but the caller cannot know.
    LostBefore,
    /// It is made, but the caller cannot know.
    LostAfter,
    /// The store panics before it is made.
    Panics,
    /// It waits before it is made, until [`Below::release`].
    WaitsBefore,
    /// It is made, and waits before it answers, until [`Below::release`].
    WaitsAfter,
}

/// A plan: which write, counted from 0, meets what; and whether the store is dead from then on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub at: usize,
    pub fate: Fate,
    pub dies: bool,
}

#[derive(Debug)]
pub struct Below {
    inner: FiveMethods,
    plans: Vec<Plan>,
    writes: AtomicUsize,
    scans: AtomicUsize,
    dead: AtomicBool,
    waiting: Semaphore,
    released: Semaphore,
    sets: Mutex<Vec<Object>>,
}

impl Below {
    /// Over the data of `inner`.
    pub fn new(inner: &FiveMethods, plans: impl IntoIterator<Item = Plan>) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            plans: plans.into_iter().collect(),
            writes: AtomicUsize::new(0),
            scans: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            waiting: Semaphore::new(0),
            released: Semaphore::new(0),
            sets: Mutex::default(),
        })
    }

    /// How many writes there were.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// What was set so far, in order.
    pub fn sets(&self) -> Vec<Object> {
        self.sets.lock().unwrap().clone()
    }

    /// Whether there were plans, and all were met.
    pub fn has_met(&self) -> bool {
        let last = self.plans.iter().map(|plan| plan.at).max();
        last.is_some_and(|at| self.writes() > at)
    }

    /// Returns when a write waits.
    pub async fn is_waited_for(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }

    /// Lets the write that waits go on.
    pub fn release(&self) {
        self.released.add_permits(1);
    }

    fn check_alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the store below is dead"));
        }
        Ok(())
    }

    async fn wait(&self) {
        self.waiting.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    async fn write(&self, write: impl Future<Output = Result<()>>) -> Result<()> {
        // Others get their turn in the middle of everything.
        tokio::task::yield_now().await;
        self.check_alive()?;
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        let Some(plan) = self.plans.iter().find(|plan| plan.at == number) else {
            return write.await;
        };
        self.dead.store(plan.dies, Ordering::SeqCst);
        let fails = |kind| Err(Error::new(kind, "a test wants this write to fail"));
        match plan.fate {
            Fate::Fails => fails(ErrorKind::Backend),
            Fate::LostBefore => fails(ErrorKind::Unknown),
            Fate::LostAfter => {
                write.await?;
                fails(ErrorKind::Unknown)
            }
            Fate::Panics => panic!("a test wants this write to panic"),
            Fate::WaitsBefore => {
                self.wait().await;
                write.await
            }
            Fate::WaitsAfter => {
                write.await?;
                self.wait().await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Store for Below {
    fn name(&self) -> &'static str {
        "below"
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.sets.lock().unwrap().push(object.clone());
        self.write(self.inner.set(object)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.check_alive()?;
        assert_ne!(key, &Key::from("panic"), "a test wants this read to panic");
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        // Sooner or later a commit is in its middle then, if nothing keeps it out.
        for _ in 0..self.scans.fetch_add(1, Ordering::SeqCst) % 16 {
            tokio::task::yield_now().await;
        }
        self.check_alive()?;
        self.inner.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.write(self.inner.remove(object)).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.write(self.inner.delete(prefix)).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}
