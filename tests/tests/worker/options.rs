//! What a worker can be told.

use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::job::Error;
use kvjob::worker::{Builder, Worker};

use crate::support::{Bench, Gate, Runs, SECOND, started};

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let bench = Bench::new().await;
    let code = |builder: Builder| match builder.build() {
        Err(Error::Invalid { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let one = || bench.worker().handler("task", async |_| ());
    assert_eq!(code(bench.worker()), "no-handler");
    assert_eq!(
        code(one().handler("task", async |_| ())),
        "duplicate-handler"
    );
    assert_eq!(code(one().concurrency(0)), "concurrency-zero");
    assert_eq!(code(one().concurrency_of("task", 0)), "concurrency-zero");
    assert_eq!(code(one().concurrency_of("tsak", 1)), "unknown-task");
    assert_eq!(
        code(one().timeout_of("tsak", Duration::ZERO)),
        "unknown-task"
    );
    assert_eq!(code(one().batch("many", 0, async |_| ())), "batch-zero");
    assert_eq!(
        code(one().lease(Duration::from_millis(999))),
        "lease-too-short"
    );
    assert_eq!(code(one().poll(Duration::ZERO)), "poll-too-short");
    assert!(
        one()
            .lease(Duration::MAX)
            .poll(Duration::MAX)
            .build()
            .is_ok()
    );
}

#[tokio::test]
async fn a_worker_with_endless_lease_and_poll_works() {
    let bench = Bench::new().await;
    let worker = bench.worker().lease(Duration::MAX).poll(Duration::MAX);
    let mut runs = Runs::start(worker.handler("task", async |_| ()));
    bench.settle().await;
    let id = bench.add("task").await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    assert!(bench.clock.now() > kvjob::clock::Timestamp::MIN);
    runs.stop().await;
}

#[tokio::test]
async fn where_nothing_is_said_it_runs_one_job_polls_every_2_s_and_leases_for_5_minutes() {
    let bench = Bench::deaf().await;
    let gate = Gate::new();
    let worker = || {
        let worker = Worker::builder(bench.store.clone()).handle_signals(false);
        worker.clock(Arc::new(bench.clock.clone()))
    };
    let runs = Runs::start(worker().handler("task", gate.handler()));
    bench.settle().await;
    let claims = bench.store.calls("claim");
    for looks in 1..4 {
        bench.pass(2 * SECOND - SECOND / 1000).await;
        assert_eq!(bench.store.calls("claim"), claims + looks - 1);
        bench.pass(SECOND / 1000).await;
        assert_eq!(bench.store.calls("claim"), claims + looks);
    }
    bench.add("task").await;
    bench.add("task").await;
    bench.pass(2 * SECOND).await;
    assert_eq!(gate.inside(), 1);
    // A beat at a third of the lease.
    bench.pass(99 * SECOND).await;
    assert_eq!(bench.store.beats(), [0; 0]);
    bench.pass(SECOND).await;
    assert_eq!(bench.store.beats(), [1]);
    gate.open(2);
    runs.stop().await;
}
