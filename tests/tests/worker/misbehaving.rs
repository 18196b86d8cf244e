//! Handlers that do what they should not: the job and the worker end in a known state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvjob::job::{Claim, QueueStore as _, State, StateStore as _};
use kvjob::worker::{Context, Event, Json};
use tokio::sync::{Notify, oneshot};

use crate::support::{Bench, LEASE, Runs, SECOND, job, only, started, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_past_its_lease_loses_its_job_and_its_answer() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let (begun, waiting) = std::sync::mpsc::channel();
    let (go, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let handler = move |_: Context| {
        let (begun, blocked) = (begun.clone(), blocked.clone());
        async move {
            begun.send(()).unwrap();
            // Blocks its thread: no token and no drop can reach it.
            blocked.lock().unwrap().recv().unwrap();
        }
    };
    // Nobody extends its lease: that is what a machine looks like that stood still.
    bench
        .store
        .fail("heartbeat", usize::MAX, crate::support::outage());
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    waiting.recv().unwrap();
    // With what clocks may differ by on top.
    bench.clock.advance(LEASE + SECOND * 10);
    // By this call or by the store itself.
    within(bench.store.expire()).await.unwrap();
    let found = bench.get(id).await;
    assert_eq!((found.state, found.attempts), (State::Scheduled, 1));
    assert_eq!(found.last_error.as_deref(), Some("lease expired"));
    go.send(()).unwrap();
    let lost = loop {
        match runs.next().await {
            Event::HeartbeatFailed { .. } => {}
            event => break event,
        }
    };
    assert_eq!(lost, Event::LeaseLost { id });
    assert_eq!(bench.get(id).await, found);
    runs.stop().await;
}

#[tokio::test]
async fn what_a_handler_spawns_and_forgets_neither_holds_up_its_job_nor_changes_its_end() {
    let bench = Bench::new().await;
    let (out, done) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (go, finished) = (out.clone(), done.clone());
    let handler = move |context: Context| {
        let (go, finished) = (go.clone(), finished.clone());
        async move {
            tokio::spawn(async move {
                go.notified().await;
                // Its job is over by now; it may still write into the log, and harms nobody.
                let _ = context.log(kvjob::job::Level::Info, "late").await;
                finished.store(true, Ordering::SeqCst);
                panic!("nobody hears this");
            });
        }
    };
    let event = only(&bench, job("task"), handler).await;
    assert_eq!(crate::support::ended(event).0, State::Completed);
    out.notify_one();
    bench.settle().await;
    assert!(done.load(Ordering::SeqCst));
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(stats.total, 1);
}

#[tokio::test]
async fn a_handler_that_never_returns_holds_its_slot_and_nothing_else() {
    let bench = Bench::new().await;
    let stuck = bench.add("stuck").await;
    let builder = bench.worker().concurrency(2);
    let builder = builder.handler("stuck", async |_| std::future::pending::<()>().await);
    let mut runs = Runs::start(builder.handler("task", async |_| ()));
    assert_eq!(runs.next().await, started(stuck, "stuck", 1));
    for _ in 0..3 {
        let id = bench.add("task").await;
        assert_eq!(runs.next().await, started(id, "task", 1));
        assert_eq!(crate::support::ended(runs.next().await).0, State::Completed);
    }
    // However long: its lease is extended, and nobody else gets it.
    bench.pass_slowly(LEASE * 2).await;
    let other = bench.store.claim(Claim::new("other")).await.unwrap();
    assert!(other.jobs.is_empty());
    runs.control.stop_now();
    runs.ended().await.unwrap();
}

#[tokio::test]
async fn a_handler_whose_error_is_endless_costs_no_more_than_its_log_line() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let handler = async |_| Err::<(), _>("x".repeat(3 << 20));
    let worker = bench.worker().handler("task", handler);
    let (sent, received) = oneshot::channel();
    let worker = worker.build().unwrap();
    let control = worker.control();
    let mut events = worker.events();
    tokio::spawn(async move { sent.send(worker.run().await) });
    loop {
        if let Event::Ended { state, .. } = within(events.recv()).await.unwrap() {
            assert_eq!(state, State::Scheduled);
            break;
        }
    }
    control.stop();
    within(received).await.unwrap().unwrap();
    let error = bench.get(id).await.last_error.unwrap();
    assert!(error.len() <= 1024, "{}", error.len());
}

#[tokio::test]
async fn a_handler_that_panics_leaves_a_worker_that_goes_on() {
    async fn panics(_: Context) -> Result<(), String> {
        std::panic::panic_any(7)
    }
    let bench = Bench::new().await;
    let bad = bench.enqueue(job("task").max_attempts(1)).await;
    let good = bench.add("other").await;
    let worker = bench.worker().handler("task", panics);
    let runs = Runs::start(worker.handler("other", async |_| ()));
    bench.settle().await;
    let found = bench.get(bad).await;
    assert_eq!((found.state, found.attempts), (State::Failed, 1));
    let error = found.last_error.unwrap();
    assert!(error.starts_with("panicked: with something"), "{error}");
    assert_eq!(bench.get(good).await.state, State::Completed);
    runs.stop().await;
}

#[tokio::test]
async fn a_handler_that_answers_garbage_fails_its_job_for_good_and_says_why() {
    /// JSON has no keys that are lists.
    type Garbage = std::collections::BTreeMap<Vec<u8>, u8>;
    let bench = Bench::new().await;
    let handler = async |_: Context| Json(Garbage::from([(vec![1], 1)]));
    let event = only(&bench, job("task"), handler).await;
    let (state, error) = crate::support::ended(event);
    assert_eq!(state, State::Failed);
    let error = error.unwrap();
    assert!(
        error.starts_with("the job's result has no JSON: "),
        "{error}"
    );
}
