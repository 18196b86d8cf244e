//! A store whose next commits fail as told, over the reference store.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use kvjob::kv::{
    Atomic, Change, Error, ErrorKind, Health, Key, Limits, Memory, Object, Ownership, Page, Result,
    Scan, Store, Watch,
};

/// What becomes of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    None,
    /// Nothing is applied: try again.
    Conflict,
    /// Nothing is applied: try again.
    Transient,
    /// Nothing is applied: every condition is said to have failed.
    ConditionFailed,
    /// Nothing is applied, but the caller cannot know.
    LostBefore,
    /// It is applied, but the caller cannot know.
    LostAfter,
    /// Nothing is applied, and nothing will be.
    Broken,
}

/// A [`Memory`] whose commits fail as told.
#[derive(Debug, Default)]
pub struct Faulty {
    inner: Memory,
    faults: Mutex<VecDeque<Fault>>,
    commits: Mutex<Vec<usize>>,
}

impl Faulty {
    /// What becomes of the next commits, in this order; those behind them go through.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// Whether every fault has been met.
    pub fn is_done(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    /// How many changes each commit had so far; failed ones are counted, too.
    pub fn commits(&self) -> Vec<usize> {
        self.commits.lock().unwrap().clone()
    }

    fn fault(&self) -> Fault {
        let fault = self.faults.lock().unwrap().pop_front();
        fault.unwrap_or(Fault::None)
    }
}

fn fails(kind: ErrorKind) -> Result<()> {
    Err(Error::new(kind, "a test wants this commit to fail"))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.inner.set(object).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.inner.remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.inner.delete(prefix).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        self.inner.get_many(keys).await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        self.inner.scan_many(scans).await
    }

    async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.inner.stop().await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn ownership(&self) -> Ownership {
        self.inner.ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Store::watch(&self.inner)
    }
}

#[async_trait]
impl Atomic for Faulty {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        self.commits.lock().unwrap().push(changes.len());
        match self.fault() {
            Fault::None => self.inner.commit(changes).await,
            Fault::Conflict => fails(ErrorKind::Conflict),
            Fault::Transient => fails(ErrorKind::Transient),
            Fault::ConditionFailed => Err(Error::condition_failed((0..changes.len()).collect())),
            Fault::LostBefore => fails(ErrorKind::Unknown),
            Fault::LostAfter => {
                self.inner.commit(changes).await?;
                fails(ErrorKind::Unknown)
            }
            Fault::Broken => fails(ErrorKind::Backend),
        }
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        for changes in commits {
            outcomes.push(self.commit(changes).await);
        }
        outcomes
    }
}
