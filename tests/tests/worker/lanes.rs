//! From which lanes a worker takes its jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvjob::job::{Error, JobId, LaneFilter, LaneStore as _, Rate};
use kvjob::worker::{Builder, Event};

use crate::support::{Bench, Gate, Runs, SECOND, job, within};

fn worker(bench: &Bench) -> Builder {
    bench.worker().handler("task", async |_| ())
}

/// The jobs whose attempts began since.
fn begun(runs: &mut Runs) -> Vec<JobId> {
    let events = runs.happened().into_iter();
    events
        .filter_map(|event| match event {
            Event::Started { id, .. } => Some(id),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_worker_of_a_tenant_takes_no_jobs_of_others() {
    let bench = Bench::new().await;
    bench.add("task").await;
    bench.enqueue(job("task").tenant("other")).await;
    let mine = bench.enqueue(job("task").tenant("mine")).await;
    let mut runs = Runs::start(worker(&bench).tenant("mine"));
    bench.settle().await;
    assert_eq!(begun(&mut runs), [mine]);
    runs.stop().await;
}

#[tokio::test]
async fn which_flags_are_forbidden_is_asked_before_every_claim() {
    let bench = Bench::new().await;
    let busy = Arc::new(AtomicBool::new(true));
    let asks = busy.clone();
    bench.enqueue(job("task").flag("never")).await;
    let heavy = bench.enqueue(job("task").flag("heavy")).await;
    let plain = bench.add("task").await;
    let worker = worker(&bench)
        .forbid_flags(["never", "unknown"])
        .forbid_flags_by(move || asks.load(Ordering::SeqCst).then_some("heavy"));
    let mut runs = Runs::start(worker);
    bench.settle().await;
    assert_eq!(begun(&mut runs), [plain]);
    busy.store(false, Ordering::SeqCst);
    let next = bench.add("task").await;
    bench.settle().await;
    assert_eq!(begun(&mut runs), [heavy, next]);
    runs.stop().await;
}

#[tokio::test]
async fn a_function_that_panics_ends_the_worker_once_what_runs_is_done() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let broken = Arc::new(AtomicBool::new(false));
    let asks = broken.clone();
    bench.add("task").await;
    let worker = bench
        .worker()
        .concurrency(2)
        .handler("task", gate.handler())
        .forbid_flags_by(move || {
            assert!(!asks.load(Ordering::SeqCst), "on purpose");
            None::<String>
        });
    let runs = Runs::start(worker);
    bench.settle().await;
    broken.store(true, Ordering::SeqCst);
    let later = bench.add("task").await;
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    gate.open(1);
    let Err(Error::Invalid { code, .. }) = runs.ended().await else {
        panic!("the worker should say why it ended");
    };
    assert_eq!(code, "forbid-flags-panicked");
    assert_eq!(bench.get(later).await.attempts, 0);
}

#[tokio::test]
async fn a_resumed_lane_is_worked_on_at_once() {
    let bench = Bench::new().await;
    let task = LaneFilter::all().task("task");
    bench.store.pause(&task).await.unwrap();
    let id = bench.add("task").await;
    let mut runs = Runs::start(worker(&bench));
    bench.settle().await;
    assert!(begun(&mut runs).is_empty());
    bench.store.resume(&task).await.unwrap();
    bench.settle().await;
    assert_eq!(begun(&mut runs), [id]);
    runs.stop().await;
}

#[tokio::test]
async fn a_limited_job_begins_exactly_when_its_limit_lets_it() {
    let bench = Bench::new().await;
    let rate = Rate::new(4, SECOND);
    let task = LaneFilter::all().task("task");
    bench.store.limit(&task, Some(rate)).await.unwrap();
    for _ in 0..4 {
        bench.add("task").await;
    }
    let mut runs = Runs::start(worker(&bench).concurrency(4));
    bench.settle().await;
    assert_eq!(begun(&mut runs).len(), 1);
    let claims = bench.store.calls("claim");
    for _ in 0..3 {
        bench.pass(SECOND / 4 - SECOND / 1000).await;
        assert!(begun(&mut runs).is_empty());
        bench.pass(SECOND / 1000).await;
        assert_eq!(begun(&mut runs).len(), 1);
    }
    let claims = bench.store.calls("claim") - claims;
    assert!(claims <= 6, "nobody asks in between: {claims}");
    runs.stop().await;
}

#[tokio::test]
async fn running_once_waits_for_what_a_limit_holds_back() {
    let bench = Bench::new().await;
    let task = LaneFilter::all().task("task");
    let rate = Some(Rate::new(1, SECOND));
    bench.store.limit(&task, rate).await.unwrap();
    for _ in 0..3 {
        bench.add("task").await;
    }
    let worker = worker(&bench).build().unwrap();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run_once());
    bench.pass(SECOND).await;
    assert!(!run.is_finished());
    bench.pass(SECOND).await;
    within(run).await.unwrap().unwrap();
    let mut ended = 0;
    while let Ok(event) = events.try_recv() {
        ended += usize::from(matches!(event, Event::Ended { .. }));
    }
    assert_eq!(ended, 3);
}

#[tokio::test]
async fn tenants_take_turns_where_a_worker_is_told_so() {
    let bench = Bench::new().await;
    let mut flood = Vec::new();
    for _ in 0..3 {
        flood.push(bench.enqueue(job("task").tenant("b")).await);
    }
    let few = bench.enqueue(job("task").tenant("a")).await;
    let mut runs = Runs::start(worker(&bench).tenants_in_turn());
    bench.settle().await;
    assert_eq!(begun(&mut runs), [few, flood[0], flood[1], flood[2]]);
    runs.stop().await;
}
