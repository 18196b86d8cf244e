//! Processes whose workers claim jobs ahead and run them in batches, too, while one of them is
//! killed every second: of no serial queue two jobs run at a time, and each is completed once.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use kvjob::job::{KvStore, QueueStore as _, Store as _};
use kvjob::worker::{Context, Worker};
use kvjob_servers::{Server, postgres, redis};
use tokio::time::timeout;

use super::journal::Journal;
use super::process::{LEASE, Orders, POLL, nothing_is_left, options};
use super::{QUEUES, number_of_jobs, work_off};

#[test]
fn on_redis_no_two_jobs_of_a_queue_run_at_a_time_with_prefetch_and_batches() {
    let server = redis::redis();
    let url = redis::url(&server);
    queues_stay_serial(&server, &url);
}

#[test]
fn on_postgres_no_two_jobs_of_a_queue_run_at_a_time_with_prefetch_and_batches() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    queues_stay_serial(&server, &url);
}

/// One of the processes.
#[test]
fn ahead_process() {
    if let Some(orders) = Orders::given() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.unwrap().block_on(work(orders));
    }
}

fn queues_stay_serial(server: &Server, url: &str) {
    // Fewer than elsewhere: who is killed held a good part of the queues, for as long as his leases.
    let jobs = number_of_jobs() / 20;
    work_off(server, url, "ahead::ahead_process", jobs, QUEUES);
}

/// Works until no job is left.
async fn work(orders: Orders) {
    let journal = Arc::new(Mutex::new(orders.journal()));
    let store = kvjob_any::open(orders.url()).await.unwrap();
    let jobs = KvStore::open(store.clone(), options()).await.unwrap();
    let jobs = Arc::new(jobs);
    let workers: Vec<Worker> = (0..orders.workers())
        .map(|number| worker(&jobs, format!("{}-{number}", orders.name()), &journal))
        .collect();
    let controls: Vec<_> = workers.iter().map(Worker::control).collect();
    let stop = async {
        let mut activity = jobs.activity();
        while !nothing_is_left(&jobs).await {
            // No news is no news: the jobs of the dead come back by themselves.
            let _ = timeout(POLL, activity.changed()).await;
        }
        controls.iter().for_each(kvjob::worker::Control::stop);
    };
    let (ended, ()) = futures::join!(join_all(workers.into_iter().map(Worker::run)), stop);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    jobs.stop().await.unwrap();
    store.stop().await.unwrap();
}

fn worker(jobs: &Arc<KvStore>, name: String, journal: &Arc<Mutex<Journal>>) -> Worker {
    let (single, many) = (Arc::clone(journal), Arc::clone(journal));
    let worker = Worker::builder(jobs.clone())
        .name(name)
        .handle_signals(false)
        .lease(LEASE)
        .poll(POLL)
        .concurrency(4)
        .prefetch(16)
        .fallback(move |context: Context| {
            let journal = Arc::clone(&single);
            async move { run(&journal, &[context]).await }
        })
        .batch("ship", 8, move |batch: Vec<Context>| {
            let journal = Arc::clone(&many);
            async move { run(&journal, &batch).await }
        });
    worker.build().unwrap()
}

/// Writes down when these jobs began, and when they are about to end.
async fn run(journal: &Mutex<Journal>, batch: &[Context]) {
    for context in batch {
        let mut journal = journal.lock().unwrap();
        journal.handler_began(context.job(), LEASE);
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    for context in batch {
        let job = context.job();
        journal.lock().unwrap().ending(job.id, job.epoch);
    }
}
