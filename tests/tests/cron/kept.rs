//! Schedules that are kept in the store: added, changed, paused and removed while schedulers run.

use kvjob::cron::{self, Schedule};
use kvjob::job::{CronRecord, CronStore as _, Error};
use kvjob_tests::{Fixture, Space, on_every_store};

use crate::{HOUR, added, hourly, scheduler};

on_every_store!(
    a_schedule_in_the_store_runs_beside_those_of_the_program,
    a_schedule_that_was_added_outlives_the_process,
    adding_it_again_changes_nothing_unless_it_says_something_else,
    one_that_says_something_else_misses_nothing_of_before,
    a_paused_schedule_adds_no_jobs_and_makes_up_for_none,
    a_removed_schedule_adds_no_more_jobs,
    a_schedule_of_a_program_can_be_paused_and_not_defined,
    schedules_are_listed_by_id_in_pages,
    what_newer_software_says_is_left_alone_and_told,
);

async fn record(fixture: &Fixture, id: &str) -> Option<CronRecord> {
    fixture.jobs.cron(id).await.unwrap()
}

async fn a_schedule_in_the_store_runs_beside_those_of_the_program(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    let kept = Schedule::cron("kept", "30 * * * *").unwrap();
    let (kept, is_new) = cron::add(&fixture.jobs, &kept).await.unwrap();
    assert_eq!((kept.revision, is_new), (1, true));
    assert_eq!(kept.settled, fixture.now());
    for _ in 0..4 {
        fixture.pass(1800);
        scheduler.run_once().await.unwrap();
    }
    assert_eq!(
        added(&fixture.jobs).await,
        [
            "kept 01-01T00:30:00Z",
            "hourly 01-01T01:00:00Z",
            "kept 01-01T01:30:00Z",
            "hourly 01-01T02:00:00Z"
        ]
    );
    let kept = record(&fixture, "kept").await.unwrap();
    assert_eq!(kept.last_slot.unwrap().to_string(), "2026-01-01T01:30:00Z");
}

async fn a_schedule_that_was_added_outlives_the_process(mut fixture: Fixture) {
    cron::add(&fixture.jobs, &hourly()).await.unwrap();
    fixture.pass(3600);
    fixture.reopen().await;
    let mut scheduler = scheduler(&fixture).build().unwrap();
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T01:00:00Z"]);
}

async fn adding_it_again_changes_nothing_unless_it_says_something_else(fixture: Fixture) {
    let (first, _) = cron::add(&fixture.jobs, &hourly()).await.unwrap();
    fixture.pass(60);
    let again = cron::add(&fixture.jobs, &hourly()).await.unwrap();
    assert_eq!(again, (first.clone(), false));
    let (other, is_new) = cron::add(&fixture.jobs, &hourly().priority(3))
        .await
        .unwrap();
    assert_eq!((other.revision, is_new), (2, false));
    assert_eq!(other.added_at, fixture.now());
}

async fn one_that_says_something_else_misses_nothing_of_before(fixture: Fixture) {
    let daily = Schedule::cron("hourly", "0 0 * * *").unwrap();
    cron::add(&fixture.jobs, &daily).await.unwrap();
    let mut stale = scheduler(&fixture).build().unwrap();
    stale.run_once().await.unwrap();
    fixture.pass(5 * 3600 + 60);
    cron::add(&fixture.jobs, &hourly()).await.unwrap();
    stale.run_once().await.unwrap();
    assert!(added(&fixture.jobs).await.is_empty());
    fixture.pass(3540);
    stale.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T06:00:00Z"]);
}

async fn a_paused_schedule_adds_no_jobs_and_makes_up_for_none(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    let paused = fixture.jobs.pause_cron("hourly").await.unwrap().unwrap();
    assert!(paused.paused);
    assert_eq!(
        fixture.jobs.pause_cron("hourly").await.unwrap().unwrap(),
        paused
    );
    fixture.pass(5 * 3600);
    assert_eq!(scheduler.run_once().await.unwrap(), None);
    assert!(
        !fixture
            .jobs
            .resume_cron("hourly")
            .await
            .unwrap()
            .unwrap()
            .paused
    );
    scheduler.run_once().await.unwrap();
    assert!(added(&fixture.jobs).await.is_empty());
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T06:00:00Z"]);
    assert_eq!(fixture.jobs.pause_cron("nobody").await.unwrap(), None);
}

async fn a_removed_schedule_adds_no_more_jobs(fixture: Fixture) {
    cron::add(&fixture.jobs, &hourly()).await.unwrap();
    let mut scheduler = scheduler(&fixture).build().unwrap();
    scheduler.run_once().await.unwrap();
    assert!(fixture.jobs.remove_cron("hourly").await.unwrap());
    assert!(!fixture.jobs.remove_cron("hourly").await.unwrap());
    fixture.pass(3600);
    assert_eq!(scheduler.run_once().await.unwrap(), None);
    assert!(added(&fixture.jobs).await.is_empty());
    assert!(fixture.space(Space::Cron).await.is_empty());
}

async fn a_schedule_of_a_program_can_be_paused_and_not_defined(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    let refused = cron::add(&fixture.jobs, &hourly()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Invalid {
                code: "cron-of-program",
                ..
            }
        ),
        "{refused}"
    );
    fixture.jobs.pause_cron("hourly").await.unwrap();
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    assert!(added(&fixture.jobs).await.is_empty());
}

async fn schedules_are_listed_by_id_in_pages(fixture: Fixture) {
    for id in ["b", "a", "c\u{e9}", "c"] {
        let schedule = Schedule::every("t", HOUR).unwrap().id(id);
        cron::add(&fixture.jobs, &schedule).await.unwrap();
    }
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = fixture.jobs.crons(1, cursor).await.unwrap();
        ids.extend(page.items.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids, ["a", "b", "c", "c\u{e9}"]);
}

async fn what_newer_software_says_is_left_alone_and_told(fixture: Fixture) {
    let newer = r#"{"id":"x","task":"t","when":{"moon":"full"}}"#.to_owned();
    fixture.jobs.keep_cron("x", Some(newer)).await.unwrap();
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    let mut events = scheduler.events();
    scheduler.run_once().await.unwrap();
    scheduler.run_once().await.unwrap();
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(matches!(event, cron::Event::Failed { id: Some(id), .. } if id == "x"));
    }
    assert_eq!(told, 1);
    assert!(record(&fixture, "x").await.is_some());
}
