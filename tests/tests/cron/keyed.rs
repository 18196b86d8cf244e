//! Slots whose jobs have a job key or a serial queue. A slot is settled by the commit that does to
//! its job what its mode says.

use futures::future::join_all;
use kvjob::cron::{Event, Schedule, Scheduler};
use kvjob::job::{
    Claim, CronStore as _, Done, Job, KeyMode, KvStore, QueueStore as _, StateStore as _,
};
use kvjob_tests::{Fixture, on_every_store};
use tokio::sync::broadcast;

use crate::{HOUR, added, all, hourly, on, scheduler};

on_every_store!(
    where_a_key_is_taken_the_slot_is_settled_and_the_job_stays_as_it_is,
    a_job_that_waits_becomes_that_of_the_new_slot_where_it_is_replaced,
    a_job_that_waits_keeps_its_time_where_that_is_preserved,
    a_job_that_runs_loses_its_key_to_that_of_the_new_slot,
    four_processes_replace_a_job_once_a_slot,
    of_the_jobs_of_slots_in_a_serial_queue_one_runs_at_a_time,
    a_kept_schedule_keeps_its_key_mode_and_queue,
);

fn keyed(mode: KeyMode) -> Schedule {
    hourly().key("k").key_mode(mode)
}

/// One that has seen its schedule, and what it tells.
async fn started(fixture: &Fixture, schedule: Schedule) -> (Scheduler, broadcast::Receiver<Event>) {
    let mut scheduler = scheduler(fixture).schedule(schedule).build().unwrap();
    scheduler.run_once().await.unwrap();
    let events = scheduler.events();
    (scheduler, events)
}

/// An hour passes, and its slot is settled.
async fn hour(fixture: &Fixture, scheduler: &mut Scheduler) {
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
}

/// What each slot did.
fn done(events: &mut broadcast::Receiver<Event>) -> Vec<Done> {
    let told = std::iter::from_fn(|| events.try_recv().ok());
    told.filter_map(|event| match event {
        Event::Scheduled { done, .. } => Some(done),
        _ => None,
    })
    .collect()
}

async fn last_slot(fixture: &Fixture) -> String {
    let record = fixture.jobs.cron("hourly").await.unwrap().unwrap();
    assert_eq!(record.last_slot, Some(record.settled));
    record.settled.to_string()
}

async fn only_job(jobs: &KvStore) -> Job {
    let mut jobs = all(jobs).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

async fn where_a_key_is_taken_the_slot_is_settled_and_the_job_stays_as_it_is(f: Fixture) {
    let (mut scheduler, mut events) = started(&f, keyed(KeyMode::UnsafeDedupe)).await;
    hour(&f, &mut scheduler).await;
    hour(&f, &mut scheduler).await;
    assert_eq!(done(&mut events), [Done::Inserted, Done::Unchanged]);
    assert_eq!(added(&f.jobs).await, ["hourly 01-01T01:00:00Z"]);
    assert_eq!(last_slot(&f).await, "2026-01-01T02:00:00Z");
    // Settled once and for all: it has no job of its own, also when the key is free again.
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&f.jobs).await, ["hourly 01-01T01:00:00Z"]);
}

async fn a_job_that_waits_becomes_that_of_the_new_slot_where_it_is_replaced(f: Fixture) {
    let (mut scheduler, mut events) = started(&f, keyed(KeyMode::Replace)).await;
    hour(&f, &mut scheduler).await;
    let first = only_job(&f.jobs).await;
    hour(&f, &mut scheduler).await;
    hour(&f, &mut scheduler).await;
    assert_eq!(
        done(&mut events),
        [Done::Inserted, Done::Replaced, Done::Replaced]
    );
    let job = only_job(&f.jobs).await;
    assert_eq!((job.id, job.revision), (first.id, 3));
    assert_eq!(job.run_at, f.now());
    assert_eq!(added(&f.jobs).await, ["hourly 01-01T03:00:00Z"]);
    assert_eq!(last_slot(&f).await, "2026-01-01T03:00:00Z");
}

async fn a_job_that_waits_keeps_its_time_where_that_is_preserved(f: Fixture) {
    let (mut scheduler, mut events) = started(&f, keyed(KeyMode::PreserveRunAt)).await;
    hour(&f, &mut scheduler).await;
    let first = only_job(&f.jobs).await;
    hour(&f, &mut scheduler).await;
    assert_eq!(done(&mut events), [Done::Inserted, Done::Replaced]);
    let job = only_job(&f.jobs).await;
    assert_eq!((job.id, job.run_at), (first.id, first.run_at));
    assert!(job.payload.as_str().contains("T02:00:00Z"), "{job:?}");
}

async fn a_job_that_runs_loses_its_key_to_that_of_the_new_slot(f: Fixture) {
    for mode in [KeyMode::Replace, KeyMode::PreserveRunAt] {
        let schedule = keyed(mode).id(mode.as_str()).key(mode.as_str());
        let (mut scheduler, mut events) = started(&f, schedule).await;
        hour(&f, &mut scheduler).await;
        let claim = || Claim::new("worker").lease(2 * HOUR);
        let running = f.jobs.claim(claim()).await.unwrap().jobs.remove(0);
        hour(&f, &mut scheduler).await;
        assert_eq!(done(&mut events), [Done::Inserted, Done::Inserted]);
        assert_eq!(f.job(running.job.id).await.key, None);
        let next = f.jobs.claim(claim()).await.unwrap().jobs.remove(0);
        assert_eq!(next.job.key.as_deref(), Some(mode.as_str()));
        for claimed in [running, next] {
            f.jobs.complete(&claimed.lease).await.unwrap();
        }
    }
}

async fn four_processes_replace_a_job_once_a_slot(f: Fixture) {
    const SLOTS: u64 = 6;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(f.another().await);
    }
    let build = |jobs: &KvStore| {
        let built = on(jobs, &f.clock).schedule(keyed(KeyMode::Replace));
        built.build().unwrap()
    };
    let mut schedulers: Vec<Scheduler> = jobs.iter().map(build).collect();
    for _ in 0..=SLOTS {
        let ran = join_all(schedulers.iter_mut().map(Scheduler::run_once)).await;
        assert!(ran.iter().all(Result::is_ok), "{ran:?}");
        f.pass(3600);
    }
    // Each slot wrote it once: a second time would be a revision more.
    let job = only_job(&f.jobs).await;
    assert_eq!(job.revision, SLOTS);
    assert_eq!(f.jobs.history(job.id).await.unwrap().len() as u64, SLOTS);
    assert_eq!(added(&f.jobs).await, ["hourly 01-01T06:00:00Z"]);
}

async fn of_the_jobs_of_slots_in_a_serial_queue_one_runs_at_a_time(f: Fixture) {
    let (mut scheduler, _) = started(&f, hourly().queue("q")).await;
    for _ in 0..3 {
        hour(&f, &mut scheduler).await;
    }
    for hour in 1..=3 {
        let claimed = f.claim(9).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        let job = &claimed[0].job;
        assert_eq!(job.queue.as_deref(), Some("q"));
        assert!(job.payload.as_str().contains(&format!("T0{hour}:00:00Z")));
        f.jobs.complete(&claimed[0].lease).await.unwrap();
    }
    assert!(f.claim(9).await.is_empty());
    assert_eq!(f.jobs.check(false, |_| {}).await.unwrap().found, 0);
}

async fn a_kept_schedule_keeps_its_key_mode_and_queue(mut f: Fixture) {
    let schedule = keyed(KeyMode::Replace).queue("q");
    kvjob::cron::add(&f.jobs, &schedule).await.unwrap();
    f.reopen().await;
    let mut scheduler = scheduler(&f).build().unwrap();
    for _ in 0..3 {
        scheduler.run_once().await.unwrap();
        f.pass(3600);
    }
    let job = only_job(&f.jobs).await;
    assert_eq!(job.queue.as_deref(), Some("q"));
    assert!(job.payload.as_str().contains("T02:00:00Z"), "{job:?}");
}
