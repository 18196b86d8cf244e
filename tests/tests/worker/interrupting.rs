//! Time-outs and cancelling.

use std::time::Duration;

use kvjob::job::State;
use kvjob::worker::{Context, Event};

use crate::faulty::Fault;
use crate::support::{Bench, Gate, LEASE, POLL, Runs, SECOND, ended, job, started};

#[tokio::test]
async fn a_job_that_times_out_has_its_token_fired_first() {
    let bench = Bench::new().await;
    let new = job("task").timeout(10 * SECOND).max_attempts(1);
    let id = bench.enqueue(new).await;
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Err::<(), _>("stopped in time")
    };
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    bench.pass(10 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(runs.happened(), [started(id, "task", 1)]);
    bench.pass(Duration::from_millis(1)).await;
    let reason = "timed out after 10s: stopped in time".to_owned();
    assert_eq!(ended(runs.next().await), (State::TimedOut, Some(reason)));
    runs.stop().await;
}

#[tokio::test]
async fn a_handler_that_ignores_its_token_is_dropped_after_the_grace() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench
        .enqueue(job("task").timeout(10 * SECOND).max_attempts(1))
        .await;
    let worker = bench.worker().grace(3 * SECOND);
    let mut runs = Runs::start(worker.handler("task", gate.handler()));
    bench.pass(10 * SECOND).await;
    bench.pass(3 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(gate.inside(), 1);
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(gate.inside(), 0);
    runs.next().await;
    let (state, error) = ended(runs.next().await);
    assert_eq!(state, State::TimedOut);
    assert!(error.unwrap().starts_with("timed out after 10s"));
    runs.stop().await;
}

#[tokio::test]
async fn a_handler_that_panics_while_it_is_dropped_ends_like_any_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("tick");
        }
    }
    let bench = Bench::new().await;
    let id = bench
        .enqueue(job("task").timeout(SECOND).max_attempts(1))
        .await;
    let handler = async |_| {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    };
    let runs = Runs::start(bench.worker().grace(SECOND).handler("task", handler));
    bench.pass_slowly(2 * SECOND).await;
    runs.stop().await;
    assert_eq!(bench.get(id).await.state, State::TimedOut);
}

#[tokio::test]
async fn what_is_completed_within_the_grace_is_completed() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench.enqueue(job("task").timeout(SECOND)).await;
    let mut runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.pass(SECOND).await;
    runs.next().await;
    gate.open(1);
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    runs.stop().await;
}

#[tokio::test]
async fn a_cancellation_fires_the_token_within_a_poll() {
    let bench = Bench::deaf().await;
    let id = bench.add("task").await;
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Err::<(), _>("stopped")
    };
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    bench.cancel(id).await;
    bench.pass(POLL).await;
    assert_eq!(ended(runs.next().await).0, State::Canceled);
    assert_eq!(bench.get(id).await.state, State::Canceled);
    runs.stop().await;
}

#[tokio::test]
async fn a_cancellation_the_store_saw_fires_the_token_sooner() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let handler = async |context: Context| context.cancelled().cancelled().await;
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    bench.pass(POLL / 2).await;
    bench.cancel(id).await;
    bench.settle().await;
    assert!(matches!(runs.next().await, Event::Ended { .. }));
    runs.stop().await;
}

#[tokio::test]
async fn a_cancellation_fires_the_token_at_the_next_heartbeat_at_the_latest() {
    let bench = Bench::new().await;
    bench.store.fail("canceled", usize::MAX, Fault::hang());
    let gate = Gate::new();
    let id = bench.add("task").await;
    let mut runs = Runs::start(bench.worker().grace(SECOND).handler("task", gate.handler()));
    assert_eq!(runs.next().await, started(id, "task", 1));
    bench.cancel(id).await;
    bench.pass_slowly(LEASE / 3).await;
    assert_eq!(gate.inside(), 1);
    bench.pass(SECOND).await;
    assert_eq!(gate.inside(), 0);
    assert_eq!(ended(runs.next().await).0, State::Canceled);
    runs.stop().await;
}
