//! What a handler answers, and what becomes of its job.

use kvjob::job::{Backoff, Level, LogQuery, LogStore as _, State};
use kvjob::worker::{Context, Event, Outcome};

use crate::support::{Bench, Runs, SECOND, ended, job, only, started, within};

#[tokio::test]
async fn what_a_handler_answers_is_recorded() {
    let bench = Bench::new().await;
    let event = only(&bench, job("task"), async |_| Outcome::Complete).await;
    assert_eq!(ended(event), (State::Completed, None));

    let event = only(&bench, job("task"), async |_| Err::<(), _>("no paper")).await;
    assert_eq!(
        ended(event),
        (State::Scheduled, Some("no paper".to_owned()))
    );

    let fail = async |_| Outcome::Fail("no printer".to_owned());
    let event = only(&bench, job("task"), fail).await;
    assert_eq!(ended(event), (State::Failed, Some("no printer".to_owned())));

    let last = job("task").max_attempts(1);
    let event = only(&bench, last, async |_| Err::<(), _>("no paper")).await;
    assert_eq!(ended(event), (State::Failed, Some("no paper".to_owned())));
}

#[tokio::test]
async fn a_snoozed_job_waits_and_its_attempt_is_not_counted() {
    let bench = Bench::new().await;
    let until = bench.after(60 * SECOND);
    let id = bench.add("task").await;
    let worker = bench
        .worker()
        .handler("task", move |_| async move { Outcome::Snooze(until) });
    let mut runs = Runs::start(worker);
    runs.next().await;
    assert_eq!(ended(runs.next().await), (State::Scheduled, None));
    let snoozed = bench.get(id).await;
    assert_eq!((snoozed.attempts, snoozed.run_at), (0, until));
    runs.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_after_its_backoff() {
    let bench = Bench::new().await;
    let backoff = Backoff::Fixed { wait: 5 * SECOND };
    let id = bench.enqueue(job("task").backoff(backoff)).await;
    let handler = |context: Context| async move {
        match context.job().attempts {
            1 => Err("not yet"),
            _ => Ok(()),
        }
    };
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    assert_eq!(ended(runs.next().await).0, State::Scheduled);
    bench.pass_slowly(5 * SECOND).await;
    assert_eq!(runs.next().await, started(id, "task", 2));
    assert_eq!(ended(runs.next().await).0, State::Completed);
    runs.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_with_its_message() {
    let bench = Bench::new().await;
    let panics = |context: Context| async move {
        assert!(context.job().attempts > 1, "the {} is on fire", "printer");
    };
    let event = only(&bench, job("task"), panics).await;
    let reason = "panicked: the printer is on fire".to_owned();
    assert_eq!(ended(event), (State::Scheduled, Some(reason)));
}

#[tokio::test]
async fn an_event_says_how_long_the_handler_took() {
    let bench = Bench::new().await;
    let clock = bench.clock.clone();
    let handler = move |_| {
        let clock = clock.clone();
        async move { clock.advance(3 * SECOND) }
    };
    match only(&bench, job("task"), handler).await {
        Event::Ended { elapsed, .. } => assert_eq!(elapsed, 3 * SECOND),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_handler_logs_is_in_the_jobs_log() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let handler = async |context: Context| context.log(Level::Warn, "little paper").await;
    let worker = bench.worker().handler("task", handler).build().unwrap();
    within(worker.run_once()).await.unwrap();
    let lines = bench.store.logs(&LogQuery::new(id)).await.unwrap().items;
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (lines[0].level, lines[0].message.as_str()),
        (Level::Warn, "little paper")
    );
}
