//! Each slot has its job once, however many schedulers there are, in however many processes, and
//! whatever happens to them. Job stores over one shared store stand for processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kvjob::clock::Clock as _;
use kvjob::cron::{Missed, Schedule, Scheduler};
use kvjob::job::{KvStore, Options};
use kvjob::kv::wrap::Odds;
use kvjob::kv::{Memory, Scan, Store as _};
use kvjob::testkit::ManualClock;
use kvjob_tests::{Fixture, Shared, Space, on_every_store, within};

use crate::{added, hourly, on, scheduler};

on_every_store!(
    four_schedulers_of_one_process_add_one_job_a_slot,
    four_processes_add_one_job_a_slot,
);

/// Every slot of each of these tasks, once.
fn expect_each_once(slots: &[String], tasks: usize, of_each: usize) {
    let mut counts = BTreeMap::new();
    for slot in slots {
        let slot = slot.trim_end_matches(" backfilled");
        *counts.entry(slot.to_owned()).or_insert(0) += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(counts.len(), tasks * of_each);
}

fn some() -> Vec<Schedule> {
    let each = ["a", "b", "c"].map(|task| {
        let schedule = Schedule::cron(task, "*/10 * * * *").unwrap();
        schedule.missed(Missed::All(Duration::MAX))
    });
    each.into()
}

async fn four_schedulers_of_one_process_add_one_job_a_slot(fixture: Fixture) {
    let build = || scheduler(&fixture).schedules(some()).build().unwrap();
    let mut schedulers = [build(), build(), build(), build()];
    for _ in 0..6 {
        let ran = join_all(schedulers.iter_mut().map(Scheduler::run_once)).await;
        assert!(ran.iter().all(Result::is_ok), "{ran:?}");
        fixture.pass(600);
    }
    join_all(schedulers.iter_mut().map(Scheduler::run_once)).await;
    expect_each_once(&added(&fixture.jobs).await, 3, 6);
}

async fn four_processes_add_one_job_a_slot(fixture: Fixture) {
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(fixture.another().await);
    }
    let clock = &fixture.clock;
    let build = |jobs: &KvStore| on(jobs, clock).schedules(some()).build().unwrap();
    let mut schedulers: Vec<Scheduler> = jobs.iter().map(build).collect();
    for _ in 0..6 {
        let ran = join_all(schedulers.iter_mut().map(Scheduler::run_once)).await;
        assert!(ran.iter().all(Result::is_ok), "{ran:?}");
        fixture.pass(600);
    }
    join_all(schedulers.iter_mut().map(Scheduler::run_once)).await;
    expect_each_once(&added(&fixture.jobs).await, 3, 6);
}

/// On several threads, with some that are killed while they are at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_processes_that_are_killed_on_the_way_none_adds_a_job_twice_or_loses_one() {
    within(async {
        let clock = ManualClock::new(11);
        let store = Arc::new(Shared(Memory::new()));
        let open = async || {
            let options = Options::default().clock(Arc::new(clock.clone()));
            KvStore::open(store.clone(), options).await.unwrap()
        };
        let first = open().await;
        let mut known = on(&first, &clock).schedules(some()).build().unwrap();
        known.run_once().await.unwrap();
        for round in 0..20 {
            clock.advance(Duration::from_secs(3 * 600));
            let mut running = Vec::new();
            for _ in 0..4 {
                let jobs = open().await;
                let mut scheduler = on(&jobs, &clock).schedules(some()).build().unwrap();
                running.push(tokio::spawn(async move {
                    // One that is late, or killed, is no matter to the others.
                    let _ = scheduler.run_once().await;
                }));
            }
            for (number, task) in running.into_iter().enumerate() {
                for _ in 0..(clock.random() % 8) {
                    tokio::task::yield_now().await;
                }
                if number != round % 4 {
                    task.abort();
                }
                let _ = task.await;
            }
        }
        known.run_once().await.unwrap();
        expect_each_once(&added(&first).await, 3, 60);
    })
    .await;
}

/// Calls fail, and answers are lost.
#[tokio::test]
async fn under_faults_each_slot_has_its_job_once() {
    within(async {
        for seed in 0..8 {
            let reads = Odds {
                transient: 50,
                ..Odds::default()
            };
            let writes = Odds {
                conflict: 50,
                lost_before: 50,
                lost_after: 100,
                ..reads
            };
            let fixture = Fixture::memory().await;
            let fixture = fixture.under_faults(reads, writes, seed).await;
            let build = || scheduler(&fixture).schedule(hourly()).build().unwrap();
            let mut schedulers = [build(), build()];
            for _ in 0..10 {
                for scheduler in &mut schedulers {
                    while scheduler.run_once().await.is_err() {}
                }
                fixture.pass(3600);
            }
            for scheduler in &mut schedulers {
                while scheduler.run_once().await.is_err() {}
            }
            // Looking fails, too.
            let mut scan = Scan::prefix(Fixture::prefix(Space::Job));
            scan.limit = 1000;
            let jobs = loop {
                match fixture.store.scan(scan.clone()).await {
                    Ok(page) => break page.objects.len(),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            };
            assert_eq!(jobs, 10);
        }
    })
    .await;
}
