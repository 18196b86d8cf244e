//! Leaving, politely or at once.

use std::sync::Arc;

use kvjob::job::State;
use kvjob::worker::{Context, Event, Outcome};
use tokio::sync::Semaphore;

use crate::faulty::Fault;
use crate::support::{Bench, Gate, LEASE, Runs, SECOND, outage, started, within};

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_and_records_what_runs() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let (first, second) = (bench.add("task").await, bench.add("task").await);
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    runs.control.stop();
    bench.settle().await;
    assert!(!runs.run.is_finished());
    gate.open(2);
    runs.ended().await.unwrap();
    assert_eq!(bench.get(first).await.state, State::Completed);
    let untouched = bench.get(second).await;
    assert_eq!((untouched.state, untouched.attempts), (State::Ready, 0));
}

#[tokio::test]
async fn a_worker_that_is_stopped_at_once_gives_back_what_runs() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let id = bench.add("task").await;
    let mut runs = Runs::start(bench.worker().handler("task", gate.handler()));
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.control.stop_now();
    assert_eq!(runs.next().await, Event::GivenBack { id });
    assert_eq!(gate.inside(), 0);
    runs.ended().await.unwrap();
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Ready, 0));
}

#[tokio::test]
async fn a_handler_that_hears_that_its_worker_leaves_may_have_the_last_word() {
    for (answer, expected) in [
        (Outcome::Complete, State::Completed),
        (Outcome::Fail("no".to_owned()), State::Failed),
        (Outcome::Retry("I was disturbed".to_owned()), State::Ready),
    ] {
        let bench = Bench::new().await;
        let id = bench.add("task").await;
        let handler = move |context: Context| {
            let answer = answer.clone();
            async move {
                context.cancelled().cancelled().await;
                answer
            }
        };
        let mut runs = Runs::start(bench.worker().handler("task", handler));
        assert_eq!(runs.next().await, started(id, "task", 1));
        runs.control.stop_now();
        runs.ended().await.unwrap();
        assert_eq!(bench.get(id).await.state, expected);
    }
}

#[tokio::test]
async fn a_finished_job_is_recorded_even_if_the_worker_leaves_at_once() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let permits = Arc::new(Semaphore::new(0));
    bench
        .store
        .fail("complete", 1, Fault::Held(permits.clone()));
    let runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    runs.control.stop_now();
    bench.settle().await;
    assert!(!runs.run.is_finished());
    permits.add_permits(1);
    runs.ended().await.unwrap();
    assert_eq!(bench.get(id).await.state, State::Completed);
}

#[tokio::test]
async fn a_worker_that_leaves_at_once_does_not_wait_for_a_broken_store() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench.add("task").await;
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    bench.store.fail("abandon", usize::MAX, outage());
    runs.control.stop_now();
    bench.pass_slowly(3 * SECOND).await;
    runs.ended().await.unwrap();
}

#[tokio::test]
async fn jobs_that_were_being_claimed_when_the_worker_was_stopped_are_given_back() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let permits = Arc::new(Semaphore::new(0));
    bench.store.fail("claim", 1, Fault::Held(permits.clone()));
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    runs.control.stop();
    bench.settle().await;
    permits.add_permits(1);
    assert_eq!(runs.next().await, Event::GivenBack { id });
    runs.ended().await.unwrap();
    assert_eq!(bench.get(id).await.attempts, 0);
}

#[tokio::test]
async fn a_job_that_was_claimed_too_late_is_not_begun() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let permits = Arc::new(Semaphore::new(0));
    bench.store.fail("claim", 1, Fault::Held(permits.clone()));
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.pass(LEASE).await;
    permits.add_permits(1);
    assert_ne!(runs.next().await, started(id, "task", 1));
    runs.stop().await;
}

#[tokio::test]
async fn a_worker_may_be_stopped_before_it_runs() {
    let bench = Bench::new().await;
    bench.add("task").await;
    let worker = bench
        .worker()
        .handler("task", async |_| ())
        .build()
        .unwrap();
    worker.control().stop();
    within(worker.run()).await.unwrap();
    assert_eq!(bench.store.calls("claim"), 0);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_no_handler_behind() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench.add("task").await;
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    runs.run.abort();
    bench.settle().await;
    assert_eq!(gate.inside(), 0);
}

#[tokio::test]
async fn after_the_shutdown_grace_the_tokens_fire_and_who_listens_gives_its_job_back() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Outcome::Retry("I was disturbed".to_owned())
    };
    let builder = bench.worker().shutdown_grace(SECOND);
    let mut runs = Runs::start(builder.handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.control.stop();
    bench.settle().await;
    assert_eq!(runs.happened(), []);
    bench.pass(SECOND).await;
    assert_eq!(runs.next().await, Event::GivenBack { id });
    runs.ended().await.unwrap();
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Ready, 0));
}

#[tokio::test]
async fn after_the_shutdown_grace_who_does_not_listen_goes_on_to_its_end() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let id = bench.add("task").await;
    let builder = bench.worker().shutdown_grace(SECOND);
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    runs.control.stop();
    bench.pass_slowly(LEASE * 2).await;
    assert!(!runs.run.is_finished());
    gate.open(1);
    runs.ended().await.unwrap();
    assert_eq!(bench.get(id).await.state, State::Completed);
}
