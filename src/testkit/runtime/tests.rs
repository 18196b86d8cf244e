//! The promises of a runtime.

mod batches;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::*;
use crate::job::{
    Backoff, LaneFilter, LaneStore as _, Level, LogQuery, LogStore as _, NewJob, Query,
    QueueStore as _, Rate, StateStore as _,
};
use crate::worker::{Builder, Context, Outcome};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A runtime with this worker.
async fn with(worker: impl FnOnce(Builder) -> Builder + Send + 'static) -> Runtime {
    Runtime::builder().worker(worker).build().await.unwrap()
}

fn job(task: &str) -> NewJob {
    NewJob::new(task, &()).unwrap()
}

/// Each in short, with seconds since the start.
fn told(ran: &[Ran]) -> Vec<String> {
    let start = Timestamp::from_micros(1_767_225_600_000_000);
    ran.iter()
        .map(|ran| {
            let at = ran.at.since(start).as_secs();
            format!("{at} {} {} {}", ran.task, ran.attempt, ran.state)
        })
        .collect()
}

#[tokio::test]
async fn nothing_runs_before_it_is_told_to() {
    let mut test = with(|worker| worker.handler("greet", |_: Context| async {})).await;
    let id = test.store().enqueue(job("greet")).await.unwrap().job.id;
    test.clock().advance(HOUR);
    let waiting = test.store().get(id).await.unwrap().unwrap();
    assert_eq!(waiting.state, State::Ready);
    assert_eq!(
        told(&test.run_due().await.unwrap()),
        ["3600 greet 1 completed"]
    );
    assert_eq!(test.run_due().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_due_runs_with_the_jobs_that_it_adds_and_time_stands_still() {
    let mut test = with(|worker| {
        worker
            .handler("parent", |context: Context| async move {
                context.store().enqueue(job("child")).await.map(drop)
            })
            .handler("child", |_: Context| async {})
    })
    .await;
    let (before, later) = (test.now(), job("child").run_at(test.now().after(SECOND)));
    test.store().enqueue(job("parent")).await.unwrap();
    test.store().enqueue(later).await.unwrap();
    let ran = test.run_due().await.unwrap();
    assert_eq!(told(&ran), ["0 parent 1 completed", "0 child 1 completed"]);
    assert_eq!(test.now(), before);
}

#[tokio::test]
async fn retries_come_at_their_own_times() {
    let backoff = Backoff::Fixed { wait: 10 * SECOND };
    let failing = |_: Context| async { Err::<(), _>("busy") };
    let mut test = with(move |worker| worker.handler("send", failing)).await;
    let new = job("send").max_attempts(3).backoff(backoff);
    test.store().enqueue(new).await.unwrap();
    let ran = test.advance(MINUTE).await.unwrap();
    let expected = [
        "0 send 1 scheduled",
        "10 send 2 scheduled",
        "20 send 3 failed",
    ];
    assert_eq!(told(&ran), expected);
    assert_eq!(ran[2].error.as_deref(), Some("busy"));
    assert_eq!(
        ran[0].to_string(),
        "2026-01-01T00:00:00Z send (attempt 1): scheduled, busy"
    );
    assert_eq!(told(&ran), expected);
}

#[tokio::test]
async fn time_ends_where_it_was_to_and_what_is_due_then_has_run() {
    let mut test = with(|worker| worker.handler("later", |_: Context| async {})).await;
    let start = test.now();
    for after in [HOUR, HOUR + Duration::from_micros(1)] {
        let new = job("later").run_at(start.after(after));
        test.store().enqueue(new).await.unwrap();
    }
    assert_eq!(
        told(&test.advance(HOUR).await.unwrap()),
        ["3600 later 1 completed"]
    );
    assert_eq!(test.now(), start.after(HOUR));
    assert_eq!(test.run_due().await.unwrap(), []);
    assert_eq!(test.advance(SECOND).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_handler_that_waits_for_time_goes_on_when_it_has_passed() {
    let mut test = with(|worker| {
        worker.handler("nap", |context: Context| async move {
            context.sleep(10 * MINUTE).await;
        })
    })
    .await;
    let id = test.store().enqueue(job("nap")).await.unwrap().job.id;
    assert_eq!(test.run_due().await.unwrap(), []);
    let running = test.store().get(id).await.unwrap().unwrap();
    assert_eq!(running.state, State::Running);
    // Past its lease, which is extended meanwhile.
    assert_eq!(test.advance(9 * MINUTE).await.unwrap(), []);
    let ran = test.advance(HOUR).await.unwrap();
    assert_eq!(told(&ran), ["600 nap 1 completed"]);
    assert_eq!(ran[0].elapsed, 10 * MINUTE);
}

#[tokio::test]
async fn a_handler_that_hangs_times_out_at_its_time() {
    let hang = |context: Context| async move { context.sleep(Duration::MAX).await };
    let mut test = with(move |worker| worker.handler("hang", hang).grace(SECOND)).await;
    let new = job("hang").timeout(30 * SECOND).max_attempts(1);
    test.store().enqueue(new).await.unwrap();
    assert_eq!(
        told(&test.advance(MINUTE).await.unwrap()),
        ["31 hang 1 timed_out"]
    );
}

#[tokio::test]
async fn a_handler_that_is_canceled_hears_of_it() {
    let mut test = with(|worker| {
        worker.handler("watch", |context: Context| async move {
            let token = context.cancelled();
            tokio::select! {
                () = token.cancelled() => Outcome::Retry("stopped".to_owned()),
                () = context.sleep(HOUR) => Outcome::Complete,
            }
        })
    })
    .await;
    let id = test.store().enqueue(job("watch")).await.unwrap().job.id;
    assert_eq!(test.advance(MINUTE).await.unwrap(), []);
    let canceled = test.store().cancel(&Query::new().id(id)).await.unwrap();
    assert_eq!(canceled.items.len(), 1);
    let ran = test.advance(SECOND).await.unwrap();
    assert_eq!(told(&ran), ["60 watch 1 canceled"]);
}

#[tokio::test]
async fn a_handler_that_waits_for_something_else_is_waited_for_while_time_stands_still() {
    let (hand_over, mut taken) = mpsc::unbounded_channel();
    let mut test = with(move |worker| {
        worker
            .concurrency(2)
            .handler("nap", |context: Context| async move {
                context.sleep(SECOND).await;
            })
            .handler("ask", move |_: Context| {
                let hand_over = hand_over.clone();
                async move {
                    let (answer, answered) = tokio::sync::oneshot::channel();
                    hand_over.send(answer).unwrap();
                    answered.await.unwrap();
                    tokio::task::spawn_blocking(|| {}).await.unwrap();
                }
            })
    })
    .await;
    test.store().enqueue(job("nap")).await.unwrap();
    test.store().enqueue(job("ask")).await.unwrap();
    let clock = test.clock().clone();
    let before = clock.now();
    let someone = async {
        let answer: tokio::sync::oneshot::Sender<()> = taken.recv().await.unwrap();
        assert_eq!(clock.now(), before);
        answer.send(()).unwrap();
    };
    let (ran, ()) = tokio::join!(test.advance(MINUTE), someone);
    assert_eq!(
        told(&ran.unwrap()),
        ["0 ask 1 completed", "1 nap 1 completed"]
    );
}

#[tokio::test]
async fn a_handler_that_waits_in_vain_is_an_error_that_names_it() {
    let hang = |_: Context| std::future::pending::<()>();
    let mut test = Runtime::builder()
        .worker(move |worker| worker.handler("hang", hang))
        .patience(Duration::ZERO)
        .build()
        .await
        .unwrap();
    let id = test.store().enqueue(job("hang")).await.unwrap().job.id;
    let error = test.run_due().await.unwrap_err().to_string();
    assert!(
        error.contains("\"hang\"") && error.contains(&id.to_string()),
        "{error}"
    );
    assert!(error.ends_with("[handler-waits]"), "{error}");
}

#[tokio::test]
async fn a_handler_that_panics_is_a_failed_attempt() {
    async fn panics(_: Context) {
        panic!("no paper")
    }
    let mut test = with(|worker| worker.handler("print", panics)).await;
    test.store()
        .enqueue(job("print").max_attempts(1))
        .await
        .unwrap();
    let ran = test.run_due().await.unwrap();
    assert_eq!(ran[0].error.as_deref(), Some("panicked: no paper"));
}

#[tokio::test]
async fn what_a_handler_leaves_behind_holds_nobody_up() {
    let mut test = with(|worker| {
        worker.handler("forget", |context: Context| async move {
            tokio::spawn(std::future::pending::<()>());
            tokio::spawn(async move { context.sleep(HOUR).await });
        })
    })
    .await;
    test.store().enqueue(job("forget")).await.unwrap();
    assert_eq!(
        told(&test.advance(2 * HOUR).await.unwrap()),
        ["0 forget 1 completed"]
    );
}

#[tokio::test]
async fn thousands_of_jobs_run_and_are_all_told_of() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut test = with(move |worker| {
        worker.concurrency(500).handler("count", move |_: Context| {
            counted.fetch_add(1, Ordering::Relaxed);
            async {}
        })
    })
    .await;
    let jobs = (0..3000).map(|_| job("count")).collect();
    test.store().enqueue_many(jobs).await.unwrap();
    assert_eq!(test.run_due().await.unwrap().len(), 3000);
    assert_eq!(count.load(Ordering::Relaxed), 3000);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_run() {
    async fn run(seed: u64) -> (Vec<Ran>, String) {
        let jitter = Backoff::FullJitter {
            base: SECOND,
            max: HOUR,
        };
        let mut test = Runtime::builder()
            .seed(seed)
            .worker(|worker| {
                worker
                    .handler("flaky", |context: Context| async move {
                        context.log(Level::Info, "again").await.unwrap();
                        context.store().enqueue(job("child")).await.unwrap();
                        context.sleep(SECOND).await;
                        Err::<(), _>("busy")
                    })
                    .handler("child", |_: Context| async {})
            })
            .build()
            .await
            .unwrap();
        for _ in 0..3 {
            let new = job("flaky").max_attempts(6).backoff(jitter.clone());
            test.store().enqueue(new).await.unwrap();
        }
        let ran = test.advance(24 * HOUR).await.unwrap();
        let logs = test.store().logs(&LogQuery::new(ran[0].id)).await.unwrap();
        (ran, format!("{:?}", logs.items))
    }
    let once = run(1).await;
    assert_eq!(once.0.len(), 36);
    assert_eq!(once, run(1).await);
    assert_ne!(once.0, run(2).await.0);
}

#[tokio::test]
async fn what_no_worker_can_be_is_refused_with_its_code() {
    let refused = Runtime::builder().build().await;
    let error = refused.map(drop).unwrap_err().to_string();
    assert!(error.ends_with("[no-handler]"), "{error}");
}

#[tokio::test]
async fn a_worker_that_ended_says_so_again_and_again() {
    let mut test = with(|worker| {
        worker
            .handler("greet", |_: Context| async {})
            .forbid_flags_by(|| -> Vec<String> { panic!("no flags") })
    })
    .await;
    for _ in 0..2 {
        let error = test.run_due().await.unwrap_err().to_string();
        assert!(error.ends_with("[forbid-flags-panicked]"), "{error}");
    }
}

#[tokio::test]
async fn what_runs_is_dropped_with_it() {
    let held = Arc::new(());
    let mine = Arc::clone(&held);
    let mut test = with(move |worker| {
        worker.handler("hold", move |context: Context| {
            let held = Arc::clone(&mine);
            async move {
                context.sleep(Duration::MAX).await;
                drop(held);
            }
        })
    })
    .await;
    test.store().enqueue(job("hold")).await.unwrap();
    test.run_due().await.unwrap();
    drop(test);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn a_handler_may_wait_for_another_job() {
    let mut test = with(|worker| {
        worker
            .concurrency(2)
            .handler("parent", |context: Context| async move {
                let child = context.store().enqueue(job("child")).await?.job.id;
                let ended = context.store().wait(child, HOUR).await?;
                assert_eq!(ended.state, State::Completed);
                Ok::<_, Error>(())
            })
            .handler("child", |context: Context| async move {
                context.sleep(MINUTE).await;
            })
    })
    .await;
    test.store().enqueue(job("parent")).await.unwrap();
    let ran = test.advance(HOUR).await.unwrap();
    let expected = ["60 child 1 completed", "60 parent 1 completed"];
    assert_eq!(told(&ran), expected);
}

#[tokio::test]
async fn rates_and_serial_queues_hold_in_virtual_time() {
    let mut test = with(|worker| {
        worker
            .concurrency(8)
            .handler("limited", |_: Context| async {})
            .handler("serial", |context: Context| async move {
                context.sleep(7 * SECOND).await;
            })
    })
    .await;
    let lane = LaneFilter::all().task("limited");
    let rate = Rate::new(1, 10 * SECOND);
    test.store().limit(&lane, Some(rate)).await.unwrap();
    for _ in 0..3 {
        test.store().enqueue(job("limited")).await.unwrap();
        let serial = job("serial").queue("account/ada");
        test.store().enqueue(serial).await.unwrap();
    }
    let ran = test.advance(MINUTE).await.unwrap();
    let expected = [
        "0 limited 1 completed",
        "7 serial 1 completed",
        "10 limited 1 completed",
        "14 serial 1 completed",
        "20 limited 1 completed",
        "21 serial 1 completed",
    ];
    assert_eq!(told(&ran), expected);
}

#[tokio::test]
async fn a_job_that_is_put_off_runs_again_then() {
    let mut test = with(|worker| {
        worker.handler("later", |context: Context| async move {
            let due = Timestamp::from_micros(1_767_225_600_000_000).after(HOUR);
            if context.clock().now() < due {
                return Outcome::Snooze(due);
            }
            Outcome::Complete
        })
    })
    .await;
    test.store().enqueue(job("later")).await.unwrap();
    let ran = test.advance(2 * HOUR).await.unwrap();
    let expected = ["0 later 1 scheduled", "3600 later 1 completed"];
    assert_eq!(told(&ran), expected);
}

#[tokio::test]
async fn what_is_due_at_one_moment_runs_by_priority() {
    let mut test = with(|worker| worker.fallback(|_: Context| async {})).await;
    let due = test.now().after(SECOND);
    for (task, priority) in [("last", 5), ("first", -5), ("second", 0)] {
        let new = job(task).run_at(due).priority(priority);
        test.store().enqueue(new).await.unwrap();
    }
    let expected = [
        "1 first 1 completed",
        "1 second 1 completed",
        "1 last 1 completed",
    ];
    assert_eq!(told(&test.advance(SECOND).await.unwrap()), expected);
}

#[tokio::test]
async fn a_clock_that_is_put_forward_by_hand_makes_what_was_due_late() {
    let mut test = with(|worker| worker.handler("later", |_: Context| async {})).await;
    let new = job("later").run_at(test.now().after(MINUTE));
    test.store().enqueue(new).await.unwrap();
    assert_eq!(test.run_due().await.unwrap(), []);
    test.clock().set_wall(test.now().after(HOUR));
    assert_eq!(
        told(&test.run_due().await.unwrap()),
        ["3600 later 1 completed"]
    );
}

#[tokio::test]
async fn who_does_not_wait_for_the_end_is_told_with_the_next_call() {
    let mut test = with(|worker| worker.handler("greet", |_: Context| async {})).await;
    test.store().enqueue(job("greet")).await.unwrap();
    // Begun, and dropped.
    assert!(test.run_due().now_or_never().is_none());
    let ran = test.advance(SECOND).await.unwrap();
    assert_eq!(told(&ran), ["0 greet 1 completed"]);
}

#[cfg(feature = "cron")]
mod schedules {
    use super::*;
    use crate::cron::{self, Schedule};
    use crate::job::CronStore as _;

    fn greets(worker: Builder) -> Builder {
        worker.handler("greet", |_: Context| async {})
    }

    #[tokio::test]
    async fn slots_come_at_their_own_times_between_retries() {
        let mut test = Runtime::builder()
            .worker(greets)
            .worker(|worker| worker.handler("send", |_: Context| async { Err::<(), _>("busy") }))
            .schedule(Schedule::every("greet", 20 * SECOND).unwrap())
            .build()
            .await
            .unwrap();
        let backoff = Backoff::Fixed { wait: 15 * SECOND };
        let new = job("send").max_attempts(3).backoff(backoff);
        test.store().enqueue(new).await.unwrap();
        let expected = [
            "0 send 1 scheduled",
            "15 send 2 scheduled",
            "20 greet 1 completed",
            "30 send 3 failed",
            "40 greet 1 completed",
        ];
        assert_eq!(told(&test.advance(50 * SECOND).await.unwrap()), expected);
    }

    #[tokio::test]
    async fn a_week_of_a_crontab_has_all_its_slots() {
        let berlin = Schedule::cron("greet", "30 4 * * mon-fri")
            .unwrap()
            .id("berlin");
        let mut test = Runtime::builder()
            .starts_at("2026-03-27T12:00:00Z".parse().unwrap())
            .worker(greets)
            .crontab("15 12 * * 6 greet")
            .unwrap()
            .schedule(berlin.time_zone("Europe/Berlin").unwrap())
            .build()
            .await
            .unwrap();
        let ran = test.advance(7 * 24 * HOUR).await.unwrap();
        let at: Vec<String> = ran.iter().map(|ran| ran.at.to_string()).collect();
        let expected = [
            "2026-03-28T12:15:00Z",
            "2026-03-30T02:30:00Z",
            "2026-03-31T02:30:00Z",
            "2026-04-01T02:30:00Z",
            "2026-04-02T02:30:00Z",
            "2026-04-03T02:30:00Z",
        ];
        assert_eq!(at, expected);
    }

    #[tokio::test]
    async fn a_schedule_that_is_added_or_removed_on_the_way_counts_at_once() {
        let mut test = Runtime::builder()
            .worker(greets)
            .worker(|worker| {
                worker.handler("add", |context: Context| async move {
                    let soon = Schedule::every("greet", MINUTE).unwrap();
                    cron::add(&**context.store(), &soon).await.map(drop)
                })
            })
            .build()
            .await
            .unwrap();
        test.store().enqueue(job("add")).await.unwrap();
        let ran = test.advance(2 * MINUTE).await.unwrap();
        let expected = [
            "0 add 1 completed",
            "60 greet 1 completed",
            "120 greet 1 completed",
        ];
        assert_eq!(told(&ran), expected);
        test.store().remove_cron("greet").await.unwrap();
        assert_eq!(test.advance(HOUR).await.unwrap(), []);
    }

    #[tokio::test]
    async fn two_schedules_of_one_id_are_refused() {
        let same = || Schedule::every("greet", MINUTE).unwrap();
        let builder = Runtime::builder().worker(greets);
        let refused = builder.schedule(same()).schedule(same()).build().await;
        let error = refused.map(drop).unwrap_err().to_string();
        assert!(error.ends_with("[duplicate-schedule]"), "{error}");
    }
}
