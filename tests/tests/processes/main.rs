//! Four processes work off one queue on one server, and one of them is killed with -9 every
//! second. Afterwards every job has been completed once, nobody held a job while another's lease
//! of it lived, and what the dead had begun was taken over.
//!
//! The same with a hundred serial queues and four workers in each process: of no queue two jobs run
//! at a time.
//!
//! And once more with workers of the `worker` floor, which claim ahead and run batches: see `ahead`.
//!
//! Others add jobs under the same keys: see `keyed`; or have their jobs canceled: see `canceled`; or
//! give the slots of a schedule their jobs: see `scheduled`.
//!
//! `KVJOB_JOBS` says how many jobs there are (20,000 where not said).

#![cfg(feature = "servers")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod ahead;
mod canceled;
mod journal;
mod keyed;
mod process;
mod scheduled;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{
    Backoff, JobId, KvStore, NewJob, QueueStore as _, State, StateStore as _, Store as _,
};
use kvjob_servers::{Server, etcd, postgres, redis};
use tempfile::TempDir;

use journal::{Attempt, Journals, read};
use process::Process;

/// Processes that work at the same time.
const PROCESSES: usize = 4;
/// From one kill to the next.
const BETWEEN_KILLS: Duration = Duration::from_secs(1);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Workers in each process, and serial queues, where there are such.
const WORKERS: usize = 4;
const QUEUES: usize = 100;
/// How long a job of these queues waits once its holder was killed.
const BACKOFF: Backoff = Backoff::Fixed {
    wait: Duration::from_millis(100),
};
/// Jobs stored at once.
const BATCH: usize = 1_000;
/// Jobs that are looked at together.
const AT_ONCE: usize = 64;

fn number_of_jobs() -> usize {
    let text = std::env::var("KVJOB_JOBS").ok();
    text.map_or(20_000, |text| {
        let count = text.parse();
        count.unwrap_or_else(|_| panic!("KVJOB_JOBS is {text:?}, not a number"))
    })
}

#[test]
fn on_redis_every_job_is_completed_once_whoever_is_killed() {
    let server = redis::redis();
    let url = redis::url(&server);
    every_job_is_completed_once(&server, &url);
}

#[test]
fn on_valkey_every_job_is_completed_once_whoever_is_killed() {
    let server = redis::valkey();
    let url = redis::url(&server);
    every_job_is_completed_once(&server, &url);
}

#[test]
fn on_etcd_every_job_is_completed_once_whoever_is_killed() {
    let server = etcd::etcd();
    let url = etcd::url(&server);
    every_job_is_completed_once(&server, &url);
}

#[test]
fn on_postgres_every_job_is_completed_once_whoever_is_killed() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    every_job_is_completed_once(&server, &url);
}

#[test]
fn on_redis_no_two_jobs_of_a_queue_run_at_a_time() {
    let server = redis::redis();
    let url = redis::url(&server);
    no_two_jobs_of_a_queue_run_at_a_time(&server, &url);
}

#[test]
fn on_postgres_no_two_jobs_of_a_queue_run_at_a_time() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    no_two_jobs_of_a_queue_run_at_a_time(&server, &url);
}

/// The processes that are killed: this program, called to run nothing but this.
#[test]
fn process() {
    if let Some(orders) = process::Orders::given() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.unwrap().block_on(process::work(orders));
    }
}

fn every_job_is_completed_once(server: &Server, url: &str) {
    work_off(server, url, "process", number_of_jobs(), 0);
}

fn no_two_jobs_of_a_queue_run_at_a_time(server: &Server, url: &str) {
    work_off(server, url, "process", number_of_jobs() / 5, QUEUES);
}

/// Lets processes that run this test work off so many jobs.
fn work_off(_server: &Server, url: &str, test: &str, count: usize, queues: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let jobs = runtime.block_on(async {
        let store = kvjob_any::open(url).await.unwrap();
        KvStore::open(store, process::options()).await.unwrap()
    });
    let ids = runtime.block_on(store_jobs(&jobs, count, queues));
    let journals = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let workers = if queues > 0 { WORKERS } else { 1 };
    let kills = let_them_work(url, test, workers, &journals);
    let took = began.elapsed();
    let attempts = read(journals.path());
    let repeated = runtime.block_on(check(&jobs, &ids, &attempts));
    for queue in 0..queues {
        let of_queue = ids.iter().skip(queue).step_by(queues);
        check_queue(of_queue, &attempts);
    }
    eprintln!(
        "{url}: {} jobs in {took:.1?}, {kills} kills, {repeated} jobs were taken over",
        ids.len()
    );
    runtime.block_on(jobs.stop()).unwrap();
}

async fn store_jobs(jobs: &KvStore, count: usize, queues: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let batch = (ids.len()..count).take(BATCH).map(|number| {
            let priority = i16::try_from(number % 5).unwrap();
            let task = ["mail", "bill", "ship"][number % 3];
            let job = NewJob::new(task, &number).unwrap();
            let job = job.priority(priority).max_attempts(1_000);
            match number.checked_rem(queues) {
                // So that the end does not wait for jobs whose holders were killed several times.
                Some(queue) => job.queue(format!("queue-{queue}")).backoff(BACKOFF),
                None => job,
            }
        });
        let stored = jobs.enqueue_many(batch.collect()).await.unwrap();
        ids.extend(stored.into_iter().map(|stored| stored.job.id));
    }
    ids
}

/// Until one of them finds nothing left to do; then the others, too. Returns how many were killed.
fn let_them_work(url: &str, test: &str, workers: usize, journals: &TempDir) -> usize {
    let mut started = 0;
    let mut start = || {
        started += 1;
        let name = format!("process-{started}");
        process::start_as(test, url, workers, &name, journals.path())
    };
    let mut working: Vec<Process> = (0..PROCESSES).map(|_| start()).collect();
    let began = Instant::now();
    let mut kills = 0;
    loop {
        // This is how often it kills; what it waits for is any of them to end.
        std::thread::sleep(BETWEEN_KILLS);
        assert!(began.elapsed() < PATIENCE, "they are not done");
        let mut ended = None;
        for child in &mut working {
            if let Some(status) = child.try_wait() {
                assert!(status.success(), "a process failed: {status}");
                ended = Some(());
            }
        }
        if ended.is_some() {
            break;
        }
        let victim = usize::try_from(SystemClock.random() % PROCESSES as u64).unwrap();
        // Dropped, the one before is killed.
        working[victim] = start();
        kills += 1;
    }
    for child in &mut working {
        let status = child.wait();
        assert!(status.success(), "a process failed: {status}");
    }
    kills
}

/// Holds what the store says against what the processes wrote down. Returns how many jobs were
/// begun more than once.
async fn check(jobs: &KvStore, ids: &[JobId], journals: &Journals) -> usize {
    let checks = ids.iter().map(|id| check_one(jobs, *id, journals));
    let repeated = futures::stream::iter(checks).buffer_unordered(AT_ONCE);
    let repeated = repeated.filter(|repeated| std::future::ready(*repeated));
    repeated.count().await
}

/// Nobody knew that he had a job of a queue before whoever had the one before was about to complete
/// it, or had lost it.
fn check_queue<'a>(ids: impl Iterator<Item = &'a JobId>, journals: &Journals) {
    let of_queue = ids.filter_map(|id| journals.get(id));
    let mut attempts: Vec<&Attempt> = of_queue.flat_map(|attempts| attempts.values()).collect();
    attempts.sort_by_key(|attempt| attempt.known);
    for pair in attempts.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let deadline = before.deadline;
        let over = before.ending.map_or(deadline, |at| at.min(deadline));
        assert!(
            over <= after.known,
            "two ran at a time: {before:?}, {after:?}"
        );
    }
}

/// Whether this job was begun more than once.
async fn check_one(jobs: &KvStore, id: JobId, journals: &Journals) -> bool {
    let job = jobs.get(id).await.unwrap().unwrap();
    assert_eq!(job.state, State::Completed, "{id}");
    let history = jobs.history(id).await.unwrap();
    let steps = |state| history.iter().filter(|step| step.state == state).count();
    assert_eq!(steps(State::Completed), 1, "{id}");
    let begun = steps(State::Running);

    let attempts = &journals[&id];
    // Who was killed between the claim and the journal wrote nothing down.
    assert!(attempts.len() <= begun, "{id}");
    let mut before: Option<&Attempt> = None;
    for attempt in attempts.values() {
        if let Some(before) = before {
            assert!(!before.completed, "{id} was begun after it was completed");
            assert!(
                before.deadline <= attempt.begun,
                "{id} was held by two: {before:?}, {attempt:?}"
            );
        }
        before = Some(attempt);
    }
    begun > 1
}
