//! Jobs that are claimed ahead.

use std::sync::Arc;

use kvjob::job::State::{self, Ready, Running};
use kvjob::job::StateStore as _;
use tokio::sync::Semaphore;

use crate::faulty::Fault;
use crate::support::{Bench, Gate, LEASE, POLL, Runs, job};

#[tokio::test]
async fn jobs_claimed_ahead_begin_in_order_without_another_claim() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.add("task").await);
    }
    let worker = bench.worker().prefetch(4).handler("task", gate.handler());
    let runs = Runs::start(worker);
    bench.settle().await;
    for id in &ids {
        assert_eq!(bench.get(*id).await.state, State::Running);
    }
    // Half of them may go before more are claimed.
    for done in 0..2 {
        assert_eq!((gate.inside(), bench.store.calls("claim")), (1, 1));
        gate.open(1);
        bench.settle().await;
        assert_eq!(bench.get(ids[done]).await.state, State::Completed);
        assert_eq!(bench.get(ids[done + 1]).await.state, State::Running);
    }
    gate.open(3);
    bench.settle().await;
    for id in ids {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
    }
    runs.stop().await;
}

#[tokio::test]
async fn what_was_not_begun_is_given_back_when_the_worker_ends() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let running = bench.add("task").await;
    let ahead = [bench.add("task").await, bench.add("task").await];
    let worker = bench.worker().prefetch(2).handler("task", gate.handler());
    let runs = Runs::start(worker);
    bench.settle().await;
    runs.control.stop();
    bench.settle().await;
    for id in ahead {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Ready, 0));
    }
    assert_eq!(bench.get(running).await.state, State::Running);
    gate.open(1);
    runs.ended().await.unwrap();
    assert_eq!(bench.get(running).await.state, State::Completed);
}

#[tokio::test]
async fn a_job_on_its_last_attempt_is_not_kept_waiting() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.enqueue(job("task").max_attempts(1)).await);
    }
    let worker = bench.worker().prefetch(3).handler("task", gate.handler());
    let runs = Runs::start(worker);
    for done in 0..4 {
        bench.settle().await;
        let mut states = Vec::new();
        for id in &ids {
            let job = bench.get(*id).await;
            states.push((job.state, job.attempts));
        }
        let mut expected = vec![(State::Completed, 1); done];
        expected.push((State::Running, 1));
        expected.resize(4, (State::Ready, 0));
        assert_eq!(states, expected);
        gate.open(1);
    }
    bench.settle().await;
    for id in ids {
        // Not claimed and given back before.
        let steps = bench.store.history(id).await.unwrap();
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert_eq!(bench.get(id).await.state, State::Completed);
    }
    runs.stop().await;
}

#[tokio::test]
async fn a_job_on_its_last_attempt_waits_for_a_free_slot_and_nobody_asks_meanwhile() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let first = bench.add("task").await;
    let last = bench.enqueue(job("task").max_attempts(1)).await;
    let later = bench.add("task").await;
    let worker = bench.worker().prefetch(4).handler("task", gate.handler());
    let runs = Runs::start(worker);
    bench.settle().await;
    assert_eq!(bench.get(first).await.state, State::Running);
    let claims = bench.store.calls("claim");
    assert!(claims <= 2, "{claims}");
    bench.pass_slowly(5 * POLL).await;
    assert_eq!(bench.store.calls("claim"), claims + 5);
    for id in [last, later] {
        assert_eq!(bench.get(id).await.state, State::Ready);
    }
    // Its slot is its own at once, and what stood behind it is claimed ahead.
    gate.open(1);
    bench.settle().await;
    for id in [last, later] {
        assert_eq!(bench.get(id).await.state, State::Running);
    }
    gate.open(2);
    bench.settle().await;
    assert_eq!(bench.get(last).await.state, State::Completed);
    runs.stop().await;
}

#[tokio::test]
async fn a_job_on_its_last_attempt_whose_slot_has_gone_is_given_back() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let permits = Arc::new(Semaphore::new(0));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.enqueue(job("task").max_attempts(1)).await);
    }
    bench.store.fail("claim", 1, Fault::Held(permits.clone()));
    let worker = bench.worker().concurrency(3).prefetch(1);
    let runs = Runs::start(worker.handler("task", gate.handler()));
    bench.settle().await;
    runs.control.resize(1);
    permits.add_permits(1);
    bench.settle().await;
    let mut states = Vec::new();
    for id in &ids {
        let job = bench.get(*id).await;
        states.push((job.state, job.attempts));
    }
    assert_eq!(states, [(Running, 1), (Ready, 0), (Ready, 0)]);
    gate.open(3);
    bench.settle().await;
    runs.stop().await;
    for id in ids {
        assert_eq!(bench.get(id).await.state, State::Completed);
    }
}

#[tokio::test]
async fn leases_of_what_waits_are_kept_alive() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let ids = [bench.add("task").await, bench.add("task").await];
    let worker = bench.worker().prefetch(1).handler("task", gate.handler());
    let runs = Runs::start(worker);
    bench.pass_slowly(3 * LEASE).await;
    assert!(bench.store.beats().iter().all(|leases| *leases == 2));
    gate.open(2);
    bench.settle().await;
    for id in ids {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
    }
    runs.stop().await;
}

#[tokio::test]
async fn a_worker_that_runs_once_runs_what_it_claimed_ahead() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(bench.add("task").await);
    }
    let worker = bench.worker().concurrency(3).prefetch(4);
    let worker = worker.handler("task", async |_| ()).build().unwrap();
    crate::support::within(worker.run_once()).await.unwrap();
    for id in ids {
        assert_eq!(bench.get(id).await.state, State::Completed);
    }
}
