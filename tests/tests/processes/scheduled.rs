//! Four processes give the slots of a schedule their jobs, and one after the other is killed. Each
//! slot has its job once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Timestamp;
use kvjob::cron::{self, Missed, Schedule, Scheduler};
use kvjob::job::{KvStore, Query, StateStore as _, Store as _};
use kvjob_servers::{Server, postgres, redis};
use kvjob_tests::within;

use super::PROCESSES;
use super::process::{self, Endless, Orders};

/// A process is killed whenever this many slots more have their jobs.
const BETWEEN_KILLS: usize = 2;
const KILLS: usize = 4;

#[test]
fn on_redis_each_slot_has_its_job_once_whoever_is_killed() {
    let server = redis::redis();
    let url = redis::url(&server);
    each_slot_has_its_job_once(&server, &url);
}

#[test]
fn on_postgres_each_slot_has_its_job_once_whoever_is_killed() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    each_slot_has_its_job_once(&server, &url);
}

/// One of the processes.
#[test]
fn scheduled_process() {
    if let Some(orders) = Orders::given() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(schedule(&orders));
    }
}

async fn open(url: &str) -> KvStore {
    let store = kvjob_any::open(url).await.unwrap();
    KvStore::open(store, process::options()).await.unwrap()
}

/// Until it is killed.
async fn schedule(orders: &Orders) {
    let jobs = Arc::new(open(orders.url()).await);
    let scheduler = Scheduler::builder(jobs).build().unwrap();
    scheduler.run().await.unwrap();
}

fn each_slot_has_its_job_once(_server: &Server, url: &str) {
    let start = || Endless::start_as("scheduled::scheduled_process", url, "process");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let jobs = runtime.block_on(async {
        let jobs = open(url).await;
        let tick = Schedule::every("tick", Duration::from_secs(1)).unwrap();
        let tick = tick.missed(Missed::All(Duration::MAX));
        cron::add(&jobs, &tick).await.unwrap();
        jobs
    });
    let mut children: VecDeque<Endless> = (0..PROCESSES).map(|_| start()).collect();
    for kill in 0..KILLS {
        runtime.block_on(within(wait_for_slots(&jobs, (kill + 1) * BETWEEN_KILLS)));
        if let Some(eldest) = children.pop_front() {
            eldest.kill();
        }
        children.push_back(start());
    }
    runtime.block_on(within(wait_for_slots(&jobs, (KILLS + 1) * BETWEEN_KILLS)));
    children.into_iter().for_each(Endless::kill);
    let slots = runtime.block_on(slots(&jobs));
    for pair in slots.windows(2) {
        let step = pair[1].as_micros() - pair[0].as_micros();
        assert_eq!(step, 1_000_000, "one is missing or there twice: {slots:?}");
    }
    runtime.block_on(jobs.stop()).unwrap();
}

async fn wait_for_slots(jobs: &KvStore, count: usize) {
    while slots(jobs).await.len() < count {
        // Time must pass for slots to come.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The slots that have jobs, each as often as it has one, in order.
async fn slots(jobs: &KvStore) -> Vec<Timestamp> {
    let page = jobs.lookup(&Query::new().limit(500)).await.unwrap();
    let mut slots: Vec<Timestamp> = page
        .items
        .iter()
        .map(|job| {
            let payload: serde_json::Value = job.payload.parse().unwrap();
            let slot = payload["_cron"]["ts"].as_str().unwrap();
            slot.parse().unwrap()
        })
        .collect();
    slots.sort_unstable();
    slots
}
