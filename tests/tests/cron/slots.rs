//! Which slots get a job, and what it says. The clock begins at 2026-01-01T00:00:00Z.

use std::time::Duration;

use kvjob::cron::{Missed, Schedule};
use kvjob::job::{Query, QueueStore as _};
use kvjob_tests::{Fixture, Space, on_every_store};

use crate::{HOUR, MINUTE, added, all, hourly, scheduler};

on_every_store!(
    a_schedule_that_is_seen_for_the_first_time_is_only_recorded,
    a_slot_has_its_job_when_it_comes_due_then,
    missed_slots_of_a_known_schedule_are_made_up_for_oldest_first,
    missed_slots_older_than_the_fill_are_not_made_up_for,
    of_missed_slots_the_latest_alone_is_made_up_for_where_once_is_enough,
    missed_slots_are_skipped_where_not_said,
    a_clock_that_jumps_back_repeats_no_slot,
    a_clock_that_jumps_forward_is_caught_up_with_oldest_first,
    where_an_hour_is_skipped_or_comes_twice_a_time_of_the_day_has_one_job,
    where_an_hour_is_skipped_or_comes_twice_every_so_often_follows_the_clock,
    a_job_has_what_its_crontab_says,
    jitter_moves_the_job_and_not_the_slot,
    a_schedule_of_one_slot_has_one_job,
    a_job_key_keeps_slots_from_piling_up,
    a_check_finds_nothing_wrong_with_schedules,
    what_cannot_be_read_is_put_aside_and_the_schedule_goes_on,
    clearing_a_store_forgets_its_schedules,
);

async fn a_schedule_that_is_seen_for_the_first_time_is_only_recorded(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    let next = scheduler.run_once().await.unwrap().unwrap();
    assert_eq!(next, fixture.in_seconds(3600));
    assert!(added(&fixture.jobs).await.is_empty());
    assert_eq!(fixture.space(Space::Cron).await.len(), 1);
}

async fn a_slot_has_its_job_when_it_comes_due_then(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(3599);
    scheduler.run_once().await.unwrap();
    assert!(added(&fixture.jobs).await.is_empty());
    fixture.pass(2);
    for _ in 0..2 {
        scheduler.run_once().await.unwrap();
        assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T01:00:00Z"]);
    }
    let job = &all(&fixture.jobs).await[0];
    assert_eq!(job.run_at.to_string(), "2026-01-01T01:00:00Z");
}

async fn missed_slots_of_a_known_schedule_are_made_up_for_oldest_first(mut fixture: Fixture) {
    let mut before = scheduler(&fixture).schedule(hourly()).build().unwrap();
    before.run_once().await.unwrap();
    drop(before);
    fixture.pass(3 * 3600);
    fixture.reopen().await;
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    assert_eq!(
        added(&fixture.jobs).await,
        [
            "hourly 01-01T01:00:00Z backfilled",
            "hourly 01-01T02:00:00Z backfilled",
            "hourly 01-01T03:00:00Z"
        ]
    );
    // More than are settled in one go.
    fixture.pass(200 * 3600);
    scheduler.run_once().await.unwrap();
    let slots = added(&fixture.jobs).await;
    assert_eq!(slots.len(), 203);
    assert!(slots[2..202].is_sorted());
}

async fn missed_slots_older_than_the_fill_are_not_made_up_for(fixture: Fixture) {
    let hourly = hourly().missed(Missed::All(2 * HOUR));
    let mut scheduler = scheduler(&fixture).schedule(hourly).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(10 * 3600 + 60);
    scheduler.run_once().await.unwrap();
    let slots = [
        "hourly 01-01T09:00:00Z backfilled",
        "hourly 01-01T10:00:00Z backfilled",
    ];
    assert_eq!(added(&fixture.jobs).await, slots);
}

async fn of_missed_slots_the_latest_alone_is_made_up_for_where_once_is_enough(fixture: Fixture) {
    let once = hourly().missed(Missed::Once(Duration::MAX));
    let mut scheduler = scheduler(&fixture).schedule(once).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(1000 * 3600 + 600);
    scheduler.run_once().await.unwrap();
    scheduler.run_once().await.unwrap();
    assert_eq!(
        added(&fixture.jobs).await,
        ["hourly 02-11T16:00:00Z backfilled"]
    );
}

async fn missed_slots_are_skipped_where_not_said(fixture: Fixture) {
    let skip = Schedule::cron("hourly", "0 * * * *").unwrap();
    let mut scheduler = scheduler(&fixture).schedule(skip).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(10 * 3600 + 60);
    scheduler.run_once().await.unwrap();
    assert!(added(&fixture.jobs).await.is_empty());
    fixture.pass(3540);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T11:00:00Z"]);
}

async fn a_clock_that_jumps_back_repeats_no_slot(fixture: Fixture) {
    let began = fixture.now();
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(2 * 3600);
    scheduler.run_once().await.unwrap();
    fixture.clock.set_wall(began);
    for _ in 0..5 {
        fixture.pass(1800);
        scheduler.run_once().await.unwrap();
    }
    let slots = [
        "hourly 01-01T01:00:00Z backfilled",
        "hourly 01-01T02:00:00Z",
    ];
    assert_eq!(added(&fixture.jobs).await, slots);
    fixture.pass(1800);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await[2..], ["hourly 01-01T03:00:00Z"]);
}

async fn a_clock_that_jumps_forward_is_caught_up_with_oldest_first(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.clock.set_wall(fixture.in_seconds(3 * 3600 + 600));
    scheduler.run_once().await.unwrap();
    let slots = [1, 2, 3].map(|hour| format!("hourly 01-01T0{hour}:00:00Z backfilled"));
    assert_eq!(added(&fixture.jobs).await, slots);
    // Back where it was before, they have had their jobs.
    fixture.clock.set_wall(fixture.now().before(2 * HOUR));
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, slots);
}

/// The slots in Zurich of some hours from a time on, looked for every quarter of an hour.
async fn in_zurich(fixture: &Fixture, fields: &str, from: &str, hours: u64) -> Vec<String> {
    let schedule = Schedule::cron("t", fields)
        .unwrap()
        .id(format!("{fields} {from}"));
    let schedule = schedule.time_zone("Europe/Zurich").unwrap();
    fixture.clock.set_wall(from.parse().unwrap());
    let before = added(&fixture.jobs).await.len();
    let mut scheduler = scheduler(fixture).schedule(schedule).build().unwrap();
    for _ in 0..=hours * 4 {
        scheduler.run_once().await.unwrap();
        fixture.pass(900);
    }
    added(&fixture.jobs).await.split_off(before)
}

/// In 2026 clocks in Zurich go from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25
/// October, both at 01:00 UTC.
async fn where_an_hour_is_skipped_or_comes_twice_a_time_of_the_day_has_one_job(fixture: Fixture) {
    let skipped = in_zurich(&fixture, "30 2 * * *", "2026-03-28T23:00:00Z", 4).await;
    assert_eq!(skipped, ["t 03-29T01:00:00Z"]);
    let twice = in_zurich(&fixture, "30 2 * * *", "2026-10-24T23:00:00Z", 4).await;
    assert_eq!(twice, ["t 10-25T00:30:00Z"]);
}

async fn where_an_hour_is_skipped_or_comes_twice_every_so_often_follows_the_clock(
    fixture: Fixture,
) {
    let skipped = in_zurich(&fixture, "*/30 2 * * *", "2026-03-28T23:00:00Z", 4).await;
    assert!(skipped.is_empty(), "{skipped:?}");
    let twice = in_zurich(&fixture, "*/30 2 * * *", "2026-10-24T23:00:00Z", 4).await;
    let half_hours = ["00:00", "00:30", "01:00", "01:30"];
    assert_eq!(twice, half_hours.map(|time| format!("t 10-25T{time}:00Z")));
}

async fn a_job_has_what_its_crontab_says(fixture: Fixture) {
    let text = "0 4 * * * report ?id=nightly&max=3&priority=-7&jobKey=k&fill=1d {\"to\":\"ada\"}";
    let mut scheduler = scheduler(&fixture).crontab(text).unwrap().build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(6 * 3600);
    scheduler.run_once().await.unwrap();
    let job = &all(&fixture.jobs).await[0];
    assert_eq!(
        job.payload.as_str(),
        r#"{"_cron":{"ts":"2026-01-01T04:00:00Z","backfilled":true},"to":"ada"}"#
    );
    assert_eq!((job.priority, job.max_attempts), (-7, 3));
    assert_eq!((&*job.lane.task, job.key.as_deref()), ("report", Some("k")));
}

async fn jitter_moves_the_job_and_not_the_slot(fixture: Fixture) {
    let jittered = hourly().jitter(30 * MINUTE);
    let mut scheduler = scheduler(&fixture).schedule(jittered).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(10 * 3600);
    scheduler.run_once().await.unwrap();
    let jobs = all(&fixture.jobs).await;
    let mut waits: Vec<Duration> = jobs
        .iter()
        .zip(1..)
        .map(|(job, hour)| {
            let slot = fixture.now().before((10 - hour) * HOUR);
            job.run_at.since(slot)
        })
        .collect();
    assert!(waits.iter().all(|wait| *wait <= 30 * MINUTE), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits.len(), 10);
}

async fn a_schedule_of_one_slot_has_one_job(fixture: Fixture) {
    let at = Schedule::at("at", fixture.in_seconds(100));
    let gone = Schedule::at("gone", fixture.now());
    let after = Schedule::after("after", Duration::from_secs(150)).unwrap();
    let all_three = || [at.clone(), gone.clone(), after.clone()];
    let mut first = scheduler(&fixture).schedules(all_three()).build().unwrap();
    assert_eq!(
        first.run_once().await.unwrap(),
        Some(fixture.in_seconds(100))
    );
    fixture.pass(100);
    first.run_once().await.unwrap();
    // Another counts from when the first one saw it.
    let mut second = scheduler(&fixture).schedules(all_three()).build().unwrap();
    assert_eq!(
        second.run_once().await.unwrap(),
        Some(fixture.in_seconds(50))
    );
    fixture.pass(50);
    assert_eq!(second.run_once().await.unwrap(), None);
    fixture.pass(1000);
    second.run_once().await.unwrap();
    let slots = ["at 01-01T00:01:40Z", "after 01-01T00:02:30Z"];
    assert_eq!(added(&fixture.jobs).await, slots);
}

async fn a_job_key_keeps_slots_from_piling_up(fixture: Fixture) {
    let keyed = hourly().key("one at a time");
    let mut scheduler = scheduler(&fixture).schedule(keyed).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(3 * 3600);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await.len(), 1);
    let job = fixture.claim_one().await;
    fixture.jobs.complete(&job.lease).await.unwrap();
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await[1..], ["hourly 01-01T04:00:00Z"]);
}

async fn a_check_finds_nothing_wrong_with_schedules(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    kvjob::cron::add(&fixture.jobs, &hourly().id("kept"))
        .await
        .unwrap();
    let checked = fixture.jobs.check(false, |_| {}).await.unwrap();
    assert_eq!(checked.found, 0);
}

async fn what_cannot_be_read_is_put_aside_and_the_schedule_goes_on(fixture: Fixture) {
    let mut scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
    scheduler.run_once().await.unwrap();
    let key = fixture.space(Space::Cron).await[0].key.clone();
    fixture
        .overwrite(key.as_bytes().to_vec(), b"\x01nonsense")
        .await;
    let checked = fixture.jobs.check(false, |_| {}).await.unwrap();
    assert_eq!(checked.found, 1);

    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    assert!(
        added(&fixture.jobs).await.is_empty(),
        "it is seen for the first time"
    );
    fixture.pass(3600);
    scheduler.run_once().await.unwrap();
    assert_eq!(added(&fixture.jobs).await, ["hourly 01-01T02:00:00Z"]);
    assert_eq!(fixture.space(Space::Quarantine).await.len(), 1);
    assert_eq!(fixture.jobs.check(false, |_| {}).await.unwrap().found, 0);
}

async fn clearing_a_store_forgets_its_schedules(fixture: Fixture) {
    use kvjob::job::{CronStore as _, StateStore as _, Store as _};
    kvjob::cron::add(&fixture.jobs, &hourly()).await.unwrap();
    fixture.jobs.clear().await.unwrap();
    assert!(fixture.jobs.crons(9, None).await.unwrap().items.is_empty());
    assert!(
        fixture
            .jobs
            .lookup(&Query::new())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
