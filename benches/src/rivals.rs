//! How processes that take jobs from one server get on: commits tried for each that was won, and
//! jobs a second. Each stands for a process: a connection and a job store of its own.

use std::sync::Arc;
use std::time::Instant;

use kvjob::job::{self, Claim, KvStore, QueueStore as _};
use kvjob::kv::wrap::{Operation, Traced};
use tokio::task::JoinSet;

use crate::life::{self, Callers};
use crate::{Options, Result};

/// Jobs claimed at once.
const AT_ONCE: usize = 16;

pub(crate) async fn run(options: &Options) -> Result<()> {
    let served = options.backends.iter().copied();
    let served: Vec<_> = served.filter(|backend| backend.is_served()).collect();
    if served.is_empty() {
        return Ok(());
    }
    if !options.json {
        println!("\nprocesses that claim {AT_ONCE} jobs at once and complete them");
        println!(
            "{:<8} {:>10} {:>10} {:>14}",
            "backend", "processes", "jobs/s", "tries a commit"
        );
    }
    for backend in served {
        for rivals in options.rivals.iter().copied() {
            let (first, home) = backend.open(options.durability).await?;
            life::enqueue(&first, Callers::Batch(256), options.jobs).await?;
            let mut stores = Vec::new();
            for _ in 0..rivals {
                let store = backend.store(&home, options.durability).await?;
                let store = Arc::new(Traced::new(store));
                let jobs = KvStore::open(store.clone(), job::Options::default()).await?;
                stores.push((store, jobs));
            }
            let begin = Instant::now();
            let mut tasks = JoinSet::new();
            for (_, jobs) in &stores {
                tasks.spawn(drain(jobs.clone()));
            }
            let mut done = 0;
            while let Some(task) = tasks.join_next().await {
                done += task??;
            }
            let rate = done as f64 / begin.elapsed().as_secs_f64();
            let (mut tried, mut failed) = (0, 0);
            for (store, _) in &stores {
                let counts = store.counts(Operation::Commit);
                tried += counts.calls;
                failed += counts.errors;
            }
            let each = tried as f64 / (tried - failed) as f64;
            if options.json {
                println!(
                    "{}",
                    serde_json::json!({
                        "backend": backend.name(), "processes": rivals, "jobs": done,
                        "jobs_per_second": rate, "tries_per_commit": each,
                    })
                );
            } else {
                println!(
                    "{:<8} {rivals:>10} {rate:>10.0} {each:>14.2}",
                    backend.name()
                );
            }
            if done != options.jobs {
                return Err(format!("{done} of {} jobs were completed", options.jobs).into());
            }
        }
    }
    Ok(())
}

async fn drain(jobs: KvStore) -> Result<usize> {
    let mut done = 0;
    loop {
        let claims = jobs.claim(Claim::new("bench").max(AT_ONCE)).await?;
        if claims.jobs.is_empty() {
            return Ok(done);
        }
        done += claims.jobs.len();
        let mut tasks = JoinSet::new();
        for claimed in claims.jobs {
            let jobs = jobs.clone();
            tasks.spawn(async move { jobs.complete(&claimed.lease).await });
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
    }
}
