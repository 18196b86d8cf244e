//! A scheduler that runs: when it wakes, what it tells, how it stops. On the reference store, under
//! a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::cron::{self, Control, Event, Missed, Schedule, Scheduler};
use kvjob::job::{CronStore as _, Error, KvStore, Options, Result, Store as _};
use kvjob::kv::Memory;
use kvjob::testkit::ManualClock;
use kvjob_tests::{Fixture, Shared, within};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::{HOUR, MINUTE, added, hourly, on, scheduler};

/// A scheduler at work.
struct Running {
    events: broadcast::Receiver<Event>,
    control: Control,
    task: JoinHandle<Result<()>>,
}

impl Running {
    fn start(scheduler: Scheduler) -> Self {
        Self {
            events: scheduler.events(),
            control: scheduler.control(),
            task: tokio::spawn(scheduler.run()),
        }
    }

    /// The next event, in short.
    async fn told(&mut self) -> String {
        let short = |time: kvjob::clock::Timestamp| time.to_string().replace("2026-", "");
        match self.events.recv().await.unwrap() {
            Event::Starting { schedules } => format!("starting {schedules}"),
            Event::Started { schedules } => format!("started {schedules}"),
            Event::Backfill { id, slot } => format!("backfill {id} {}", short(slot)),
            Event::Scheduled { id, slot, .. } => format!("scheduled {id} {}", short(slot)),
            Event::Premature { id, settled } => format!("premature {id} {}", short(settled)),
            Event::Overdue { id, slot, by } => format!("overdue {id} {} {by:?}", short(slot)),
            Event::Failed { id, .. } => format!("failed {id:?}"),
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) {
        self.control.stop();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_tells_what_it_does_in_order() {
    within(async {
        let fixture = Fixture::memory().await;
        let mut before = scheduler(&fixture).schedule(hourly()).build().unwrap();
        before.run_once().await.unwrap();
        fixture.pass(2 * 3600 + 60);
        let mut running = Running::start(scheduler(&fixture).schedule(hourly()).build().unwrap());
        for expected in [
            "starting 1",
            "backfill hourly 01-01T01:00:00Z",
            "scheduled hourly 01-01T01:00:00Z",
            "scheduled hourly 01-01T02:00:00Z",
            "started 1",
        ] {
            assert_eq!(running.told().await, expected);
        }
        fixture.clock.wait_for_sleepers(1).await;
        fixture.pass(3540);
        assert_eq!(running.told().await, "scheduled hourly 01-01T03:00:00Z");
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn it_sleeps_until_the_next_slot_or_refresh_and_no_longer() {
    within(async {
        let fixture = Fixture::memory().await;
        let far = scheduler(&fixture).schedule(hourly()).refresh(10 * HOUR);
        let running = Running::start(far.build().unwrap());
        fixture.clock.wait_for_sleepers(1).await;
        assert_eq!(fixture.clock.next_deadline(), Some(HOUR));
        running.stop().await;
        let near = scheduler(&fixture).schedule(hourly()).refresh(MINUTE);
        let running = Running::start(near.build().unwrap());
        fixture.clock.wait_for_sleepers(1).await;
        assert_eq!(fixture.clock.next_deadline(), Some(MINUTE));
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_schedule_that_is_added_or_removed_is_seen_at_once() {
    within(async {
        let fixture = Fixture::memory().await;
        let built = scheduler(&fixture).refresh(1000 * HOUR).build().unwrap();
        let mut running = Running::start(built);
        assert_eq!(running.told().await, "starting 0");
        assert_eq!(running.told().await, "started 0");
        fixture.clock.wait_for_sleepers(1).await;
        // Time stands still.
        let soon = Schedule::at("soon", fixture.in_seconds(5));
        cron::add(&fixture.jobs, &soon).await.unwrap();
        while fixture.clock.next_deadline() != Some(Duration::from_secs(5)) {
            tokio::task::yield_now().await;
        }
        fixture.jobs.remove_cron("soon").await.unwrap();
        while fixture.clock.next_deadline() != Some(1000 * HOUR) {
            tokio::task::yield_now().await;
        }
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_schedule_that_another_process_adds_is_seen_at_once_where_the_store_tells() {
    within(async {
        let clock = ManualClock::new(7);
        let store = Arc::new(Shared(Memory::new()));
        let open = async || {
            let options = Options::default().clock(Arc::new(clock.clone()));
            KvStore::open(store.clone(), options).await.unwrap()
        };
        let (here, there) = (open().await, open().await);
        let built = on(&here, &clock).refresh(1000 * HOUR).build().unwrap();
        let mut running = Running::start(built);
        assert_eq!(running.told().await, "starting 0");
        assert_eq!(running.told().await, "started 0");
        let soon = Schedule::at("soon", clock.now().after(MINUTE));
        cron::add(&there, &soon).await.unwrap();
        while clock.next_deadline() != Some(MINUTE) {
            tokio::task::yield_now().await;
        }
        clock.advance(MINUTE);
        assert_eq!(running.told().await, "scheduled soon 01-01T00:01:00Z");
        assert_eq!(added(&there).await, ["soon 01-01T00:01:00Z"]);
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_jumps_forward_makes_slots_overdue_and_is_caught_up_with() {
    within(async {
        let fixture = Fixture::memory().await;
        let skip = Schedule::cron("skip", "0 * * * *").unwrap();
        let all = hourly().missed(Missed::All(2 * HOUR));
        let built = scheduler(&fixture).schedules([skip, all]).build().unwrap();
        let mut running = Running::start(built);
        assert_eq!(running.told().await, "starting 2");
        assert_eq!(running.told().await, "started 2");
        fixture.clock.wait_for_sleepers(1).await;
        fixture.clock.set_wall(fixture.in_seconds(5 * 3600 + 600));
        // The refresh finds it.
        fixture.pass(10);
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(running.told().await);
        }
        told.sort();
        let expected = [
            "backfill hourly 01-01T04:00:00Z",
            "overdue hourly 01-01T01:00:00Z 15010s",
            "overdue skip 01-01T01:00:00Z 15010s",
            "scheduled hourly 01-01T04:00:00Z",
            "scheduled hourly 01-01T05:00:00Z",
        ];
        assert_eq!(told, expected);
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_was_put_back_is_told_once() {
    within(async {
        let fixture = Fixture::memory().await;
        let began = fixture.now();
        let mut before = scheduler(&fixture).schedule(hourly()).build().unwrap();
        before.run_once().await.unwrap();
        fixture.pass(3600);
        before.run_once().await.unwrap();
        fixture.clock.set_wall(began);
        let mut events = before.events();
        before.run_once().await.unwrap();
        before.run_once().await.unwrap();
        let settled = "2026-01-01T01:00:00Z".parse().unwrap();
        let id = "hourly".to_owned();
        assert_eq!(events.try_recv().unwrap(), Event::Premature { id, settled });
        assert!(events.try_recv().is_err());
    })
    .await;
}

#[tokio::test]
async fn it_ends_with_an_error_when_its_store_is_stopped() {
    within(async {
        let fixture = Fixture::memory().await;
        let running = Running::start(scheduler(&fixture).schedule(hourly()).build().unwrap());
        fixture.clock.wait_for_sleepers(1).await;
        fixture.jobs.stop().await.unwrap();
        fixture.pass(3600);
        let ended = running.task.await.unwrap();
        assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn one_that_was_stopped_before_it_ran_does_nothing() {
    within(async {
        let fixture = Fixture::memory().await;
        let scheduler = scheduler(&fixture).schedule(hourly()).build().unwrap();
        scheduler.control().stop();
        scheduler.run().await.unwrap();
        assert_eq!(fixture.jobs.cron("hourly").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_no_scheduler_can_be_is_refused_with_its_code() {
    let fixture = Fixture::memory().await;
    let code = |built: Result<Scheduler>| match built {
        Err(Error::Invalid { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let twice = scheduler(&fixture).schedules([hourly(), hourly()]);
    assert_eq!(code(twice.build()), "duplicate-schedule");
    let hasty = scheduler(&fixture).refresh(Duration::from_millis(9));
    assert_eq!(code(hasty.build()), "refresh-too-short");
    let nameless = scheduler(&fixture).schedule(hourly().id(""));
    assert_eq!(code(nameless.build()), "empty-name");
}
