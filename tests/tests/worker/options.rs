//! What a worker can be told.

use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::job::Error;
use kvjob::worker::Builder;

use crate::support::{Bench, Runs, started};

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
