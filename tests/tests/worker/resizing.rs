//! A worker that changes its size while it works.

use crate::support::{Bench, Gate, Runs};

#[tokio::test]
async fn a_worker_that_is_made_larger_fills_its_new_slots_at_once() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for _ in 0..4 {
        bench.add("task").await;
    }
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    runs.control.resize(3);
    assert_eq!(runs.control.concurrency(), 3);
    bench.settle().await;
    assert_eq!(gate.inside(), 3);
    gate.open(4);
    runs.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_made_smaller_lets_what_runs_end() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for _ in 0..6 {
        bench.add("task").await;
    }
    let builder = bench.worker().concurrency(4);
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    runs.control.resize(1);
    bench.settle().await;
    assert_eq!(gate.inside(), 4);
    gate.open(3);
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    gate.open(1);
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    gate.open(2);
    runs.stop().await;
}

#[tokio::test]
async fn a_worker_without_slots_claims_nothing_until_it_has_some() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    runs.control.resize(0);
    bench.add("task").await;
    bench.settle().await;
    assert_eq!(gate.inside(), 0);
    runs.control.resize(1);
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    gate.open(1);
    runs.stop().await;
}
