//! Many workers and many jobs, and those who listen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kvjob::job::QueueStore as _;
use kvjob::worker::Context;
use tokio::sync::broadcast;

use crate::support::{Bench, job, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_stranded_or_run_twice_by_workers_that_come_and_go() {
    const JOBS: usize = 300;
    let bench = Bench::new().await;
    let runs = Arc::new(Mutex::new(std::collections::HashMap::new()));
    let jobs = (0..JOBS).map(|_| job("task")).collect();
    bench.store.enqueue_many(jobs).await.unwrap();

    let worker = |limit: usize| {
        let (runs, count) = (runs.clone(), Arc::new(AtomicUsize::new(0)));
        let (reached, full) = tokio::sync::watch::channel(false);
        let worker = bench
            .worker()
            .concurrency(8)
            .handler("task", move |context: Context| {
                *runs.lock().unwrap().entry(context.job().id).or_insert(0) += 1;
                if count.fetch_add(1, Ordering::SeqCst) + 1 == limit {
                    reached.send_replace(true);
                }
                tokio::task::yield_now()
            });
        (worker.build().unwrap(), full)
    };
    for _ in 0..3 {
        let mut going = Vec::new();
        for _ in 0..2 {
            let (worker, mut full) = worker(30);
            let control = worker.control();
            going.push(tokio::spawn(worker.run()));
            within(full.wait_for(|full| *full)).await.unwrap();
            control.stop();
        }
        for run in going {
            within(run).await.unwrap().unwrap();
        }
    }
    within(worker(usize::MAX).0.run_once()).await.unwrap();
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), JOBS);
    assert!(runs.values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_slow_listener_is_told_what_it_missed_and_holds_up_nobody() {
    let bench = Bench::new().await;
    let jobs = (0..700).map(|_| job("task")).collect();
    bench.store.enqueue_many(jobs).await.unwrap();
    let worker = bench.worker().concurrency(50).handler("task", async |_| ());
    let worker = worker.build().unwrap();
    let mut events = worker.events();
    within(worker.run_once()).await.unwrap();
    // Three of each job; claims, and the worker itself, on top.
    let missed = events.try_recv().unwrap_err();
    let broadcast::error::TryRecvError::Lagged(missed) = missed else {
        panic!("{missed:?}");
    };
    assert!(missed > 3 * 700 - 1024, "{missed}");
    assert!(events.try_recv().is_ok());
}
