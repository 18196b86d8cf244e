//! Which jobs are taken, and when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvjob::worker::{Context, Event};

use crate::support::{Bench, Gate, POLL, Runs, SECOND, job, started, within};

#[tokio::test]
async fn as_many_jobs_run_at_a_time_as_there_are_slots() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for _ in 0..5 {
        bench.add("task").await;
    }
    let runs = Runs::start(
        bench
            .worker()
            .concurrency(3)
            .handler("task", gate.handler()),
    );
    bench.settle().await;
    assert_eq!(gate.inside(), 3);
    gate.open(5);
    runs.stop().await;
}

#[tokio::test]
async fn a_freed_slot_is_filled_at_once() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for _ in 0..3 {
        bench.add("task").await;
    }
    let mut runs = Runs::start(
        bench
            .worker()
            .concurrency(2)
            .handler("task", gate.handler()),
    );
    bench.settle().await;
    runs.happened();
    gate.open(1);
    assert!(matches!(runs.next().await, Event::Ended { .. }));
    assert!(matches!(runs.next().await, Event::Started { .. }));
    assert_eq!(gate.inside(), 2);
    gate.open(2);
    runs.stop().await;
}

#[tokio::test]
async fn a_full_worker_does_not_claim() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench.add("task").await;
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    let claims = bench.store.calls("claim");
    for _ in 0..5 {
        bench.add("task").await;
        bench.pass(POLL).await;
    }
    assert_eq!(bench.store.calls("claim"), claims);
    gate.open(6);
    runs.stop().await;
}

#[tokio::test]
async fn an_enqueue_wakes_a_waiting_worker_at_once() {
    let bench = Bench::new().await;
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    let id = bench.add("task").await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.stop().await;
}

#[tokio::test]
async fn a_scheduled_job_starts_when_it_is_due() {
    let bench = Bench::new().await;
    let worker = bench.worker().poll(Duration::from_secs(3600));
    let mut runs = Runs::start(worker.handler("task", async |_| ()));
    bench.settle().await;
    let id = bench
        .enqueue(job("task").run_at(bench.after(5 * SECOND)))
        .await;
    bench.pass(5 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(runs.happened(), []);
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.stop().await;
}

#[tokio::test]
async fn polling_finds_what_nothing_told_of() {
    let bench = Bench::deaf().await;
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    let id = bench.add("task").await;
    bench.settle().await;
    assert_eq!(runs.happened(), []);
    bench.pass(POLL).await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.stop().await;
}

#[tokio::test]
async fn an_idle_worker_claims_once_a_poll_and_sends_no_heartbeats() {
    let bench = Bench::new().await;
    let runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    assert_eq!(bench.store.calls("claim"), 1);
    for _ in 0..50 {
        bench.pass(POLL).await;
    }
    assert_eq!(bench.store.calls("claim"), 51);
    assert_eq!(bench.store.beats().len(), 0);
    assert_eq!(bench.store.calls("canceled"), 0);
    runs.stop().await;
}

#[tokio::test]
async fn a_task_without_handler_is_not_claimed() {
    let bench = Bench::new().await;
    let other = bench.add("other").await;
    let runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.pass(POLL).await;
    runs.stop().await;
    assert_eq!(bench.get(other).await.attempts, 0);
}

#[tokio::test]
async fn a_fallback_takes_every_task_without_handler() {
    let bench = Bench::new().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    for task in ["task", "other", "third"] {
        bench.add(task).await;
    }
    let note = seen.clone();
    let worker = bench.worker().handler("task", async |_| ());
    let worker = worker.fallback(move |context: Context| {
        note.lock().unwrap().push(context.job().lane.task.clone());
        async {}
    });
    within(worker.build().unwrap().run_once()).await.unwrap();
    seen.lock().unwrap().sort();
    assert_eq!(*seen.lock().unwrap(), ["other", "third"]);
}
