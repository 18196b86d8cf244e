//! How large the keys and values of a job's life are, read off a store, so that the raw engine is
//! given the same.

use std::sync::Arc;

use kvjob::job::{Claim, KvStore, Options, QueueStore as _};
use kvjob::kv::{Memory, Scan, Store as _};

use crate::{Result, life};

/// Bytes of the records that a job's life writes.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) job_key: usize,
    pub(crate) ready_key: usize,
    pub(crate) enqueued: usize,
    pub(crate) running: usize,
    pub(crate) completed: usize,
    /// Of a worker record: its key, and what each job adds to it.
    pub(crate) worker_key: usize,
    pub(crate) lease: usize,
}

impl Shape {
    pub(crate) async fn measure() -> Result<Self> {
        let memory = Arc::new(Memory::new());
        let jobs = KvStore::open(memory.clone(), Options::default()).await?;
        jobs.enqueue(life::job(0)?).await?;
        // Format, header, ready: in the order of their spaces.
        let enqueued = sizes(&memory).await?;
        let claims = jobs.claim(Claim::new("bench")).await?;
        let running = sizes(&memory).await?;
        for claimed in &claims.jobs {
            jobs.complete(&claimed.lease).await?;
        }
        let completed = sizes(&memory).await?;
        let at = |sizes: &[(usize, usize)], index: usize| {
            sizes
                .get(index)
                .copied()
                .ok_or("the key space is not laid out as this expects")
        };
        Ok(Self {
            job_key: at(&enqueued, 1)?.0,
            enqueued: at(&enqueued, 1)?.1,
            ready_key: at(&enqueued, 2)?.0,
            running: at(&running, 1)?.1,
            worker_key: at(&running, 2)?.0,
            lease: at(&running, 2)?.1,
            completed: at(&completed, 1)?.1,
        })
    }

    pub(crate) fn enqueued_bytes(&self) -> usize {
        self.job_key + self.enqueued + self.ready_key
    }
}

/// Bytes of each key and value.
async fn sizes(memory: &Memory) -> Result<Vec<(usize, usize)>> {
    let page = memory.scan(Scan::prefix("")).await?;
    Ok(page
        .objects
        .iter()
        .map(|object| (object.key.len(), object.value.len()))
        .collect())
}
