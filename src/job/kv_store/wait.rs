//! [`ResultStore`] of a [`KvStore`]: waiting for jobs to end.
//!
//! Whoever waits looks at the job when this process wrote its header, when another one was heard
//! to have (on a shared store that tells of changes), and now and then anyway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::sync::Notify;

use super::KvStore;
use crate::job::keys::KeySpace;
use crate::job::{Ended, Error, JobId, Payload, Result, ResultStore, StateStore as _};
use crate::kv::{Change, Key, Ownership, Watcher};

/// How often to look where nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The jobs that somebody in this process waits for, by the keys of their headers.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<HashMap<Key, Arc<Notify>>>);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait for one of the jobs whose headers a commit wrote.
    pub(super) fn tell(&self, keys: &KeySpace, changes: &[Change]) {
        let waits = self.lock();
        if waits.is_empty() {
            return;
        }
        let jobs = keys.jobs();
        for change in changes.iter().filter(|one| one.key.starts_with(&jobs)) {
            if let Some(wait) = waits.get(&change.key) {
                wait.notify_waiters();
            }
        }
    }

    fn enter(self: &Arc<Self>, key: Key) -> Waiting {
        let told = self.lock().entry(key.clone()).or_default().clone();
        Waiting {
            waits: Arc::clone(self),
            key,
            told,
        }
    }
}

/// Somebody who waits for a job, until this is dropped.
struct Waiting {
    waits: Arc<Waits>,
    key: Key,
    told: Arc<Notify>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = self.waits.lock();
        // This one and the map's: nobody else waits. Others come only by the map, which is locked.
        if Arc::strong_count(&self.told) <= 2 {
            waits.remove(&self.key);
        }
    }
}

impl KvStore {
    /// What others do to a job, where that can be heard.
    async fn hear_of(&self, key: &Key) -> Watcher {
        let store = &self.0.store;
        if store.ownership() == Ownership::Shared
            && let Some(watch) = store.watch()
        {
            match watch.watch(key).await {
                Ok(heard) => return heard,
                Err(error) => tracing::debug!(%error, "cannot watch a job that is waited for"),
            }
        }
        futures::stream::pending().boxed()
    }
}

#[async_trait]
impl ResultStore for KvStore {
    async fn result(&self, id: JobId) -> Result<Option<Payload>> {
        Ok(self.get(id).await?.and_then(|job| job.result))
    }

    async fn wait(&self, id: JobId, timeout: Duration) -> Result<Ended> {
        let clock = self.clock();
        let deadline = clock.monotonic().saturating_add(timeout);
        let key = self.0.keys.job(id);
        let waiting = self.0.waits.enter(key.clone());
        let mut heard = None;
        let mut known = false;
        loop {
            // Hears of what is written from here on.
            let told = waiting.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            match self.get(id).await {
                Ok(Some(job)) => match Ended::of(job) {
                    Some(ended) => return Ok(ended),
                    None => known = true,
                },
                Ok(None) if known => return Ok(Ended::removed(id)),
                Ok(None) => return Err(Error::UnknownJob { id }),
                Err(error) if error.is_retryable() && clock.monotonic() < deadline => {}
                Err(error) => return Err(error),
            }
            let now = clock.monotonic();
            if now >= deadline {
                return Err(Error::WaitTimedOut {
                    id,
                    waited: timeout,
                });
            }
            let Some(heard) = &mut heard else {
                heard = Some(self.hear_of(&key).await);
                // It may have ended before that.
                continue;
            };
            let next = deadline.min(now.saturating_add(LOOK_AGAIN));
            tokio::select! {
                () = told => {}
                Some(_) = heard.next() => {}
                () = clock.sleep_until(next) => {}
            }
        }
    }
}
