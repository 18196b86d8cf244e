//! The life of jobs through kvjob.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kvjob::job::{Claim, Job, KvStore, NewJob, QueueStore as _};
use kvjob::kv::Durability;
use tokio::task::JoinSet;

use crate::stores::Backend;
use crate::{Phases, Result};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callers {
    /// So many tasks, each with one job at a time.
    Many(usize),
    /// One task with so many jobs at a time.
    Batch(usize),
}

impl Callers {
    /// How many jobs can be in one commit.
    pub(crate) fn at_once(self) -> usize {
        match self {
            Self::Many(count) | Self::Batch(count) => count,
        }
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Many(count) => write!(f, "{count}"),
            Self::Batch(count) => write!(f, "batch {count}"),
        }
    }
}

/// A job with 100 bytes of arguments.
pub(crate) fn job(number: usize) -> Result<NewJob> {
    Ok(NewJob::new("send-mail", &format!("{number:098}"))?)
}

/// Stores jobs, then claims and completes them all, on a new store.
pub(crate) async fn round(
    backend: Backend,
    durability: Durability,
    callers: Callers,
    jobs: usize,
) -> Result<Phases> {
    let (store, _folder) = backend.open(durability).await?;
    let begin = Instant::now();
    enqueue(&store, callers, jobs).await?;
    let enqueue = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let done = drain(&store, callers).await?;
    let drain = begin.elapsed().as_secs_f64();
    if done != jobs {
        return Err(format!("{done} of {jobs} jobs were completed").into());
    }
    Ok(Phases { enqueue, drain })
}

pub(crate) async fn enqueue(store: &KvStore, callers: Callers, jobs: usize) -> Result<()> {
    match callers {
        Callers::Many(count) => {
            let next = Arc::new(AtomicUsize::new(0));
            let mut tasks = JoinSet::new();
            for _ in 0..count {
                let (store, next) = (store.clone(), Arc::clone(&next));
                tasks.spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= jobs {
                            return Result::Ok(());
                        }
                        store.enqueue(job(number)?).await?;
                    }
                });
            }
            while let Some(task) = tasks.join_next().await {
                task??;
            }
        }
        Callers::Batch(size) => {
            for first in (0..jobs).step_by(size) {
                let part = (first..jobs.min(first + size))
                    .map(job)
                    .collect::<Result<_>>()?;
                store.enqueue_many(part).await?;
            }
        }
    }
    Ok(())
}

async fn drain(store: &KvStore, callers: Callers) -> Result<usize> {
    match callers {
        Callers::Many(count) => {
            let mut tasks = JoinSet::new();
            for _ in 0..count {
                let store = store.clone();
                tasks.spawn(async move {
                    let mut done = 0;
                    loop {
                        let claims = store.claim(Claim::new("bench")).await?;
                        let Some(claimed) = claims.jobs.first() else {
                            return Result::Ok(done);
                        };
                        store.complete(&claimed.lease).await?;
                        done += 1;
                    }
                });
            }
            let mut done = 0;
            while let Some(task) = tasks.join_next().await {
                done += task??;
            }
            Ok(done)
        }
        Callers::Batch(size) => {
            let mut done = 0;
            loop {
                let claims = store.claim(Claim::new("bench").max(size)).await?;
                if claims.jobs.is_empty() {
                    return Ok(done);
                }
                done += claims.jobs.len();
                let mut tasks = JoinSet::new();
                for claimed in claims.jobs {
                    let store = store.clone();
                    tasks.spawn(async move { store.complete(&claimed.lease).await });
                }
                while let Some(task) = tasks.join_next().await {
                    task??;
                }
            }
        }
    }
}

/// Claims and completes one job.
pub(crate) async fn one(store: &KvStore) -> Result<Job> {
    let claims = store.claim(Claim::new("bench")).await?;
    let claimed = claims.jobs.into_iter().next().ok_or("no job was waiting")?;
    store.complete(&claimed.lease).await?;
    Ok(claimed.job)
}
