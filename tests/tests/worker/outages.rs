//! Stores that go away, for a while or for good.

use kvjob::job::{Error, State};
use kvjob::kv::ErrorKind;
use kvjob::worker::Event;

use crate::faulty::Fault;
use crate::support::{Bench, Gate, POLL, Runs, SECOND, broken, ended, outage, started};

#[tokio::test]
async fn a_worker_backs_off_in_an_outage_and_comes_back() {
    let bench = Bench::new().await;
    bench.store.fail("claim", 10, outage());
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.settle().await;
    let id = bench.add("task").await;
    bench.pass_slowly(20 * SECOND).await;
    // Ten times in twenty seconds would be steady; it doubles instead.
    assert!(matches!(runs.happened().len(), 7..=9));
    bench.pass_slowly(120 * SECOND).await;
    let events = runs.happened();
    assert!(events.contains(&started(id, "task", 1)), "{events:?}");
    runs.stop().await;
}

#[tokio::test]
async fn a_store_that_will_not_come_back_ends_the_run_after_what_runs() {
    for error in [Error::Stopped, broken(ErrorKind::Closed)] {
        let bench = Bench::new().await;
        let gate = Gate::new();
        let id = bench.add("task").await;
        let mut runs = Runs::start(
            bench
                .worker()
                .concurrency(2)
                .handler("task", gate.handler()),
        );
        assert_eq!(runs.next().await, started(id, "task", 1));
        bench
            .store
            .fail("claim", usize::MAX, Fault::Before(error.clone()));
        bench.pass(POLL).await;
        assert!(matches!(runs.next().await, Event::ClaimFailed { .. }));
        assert!(!runs.run.is_finished());
        gate.open(1);
        assert_eq!(ended(runs.next().await).0, State::Completed);
        let end = runs.ended().await.unwrap_err();
        assert_eq!(end.to_string(), error.to_string());
    }
}

#[tokio::test]
async fn a_store_that_was_stopped_while_a_job_ran_ends_the_run() {
    let bench = Bench::new().await;
    bench.add("task").await;
    bench
        .store
        .fail("complete", usize::MAX, Fault::Before(Error::Stopped));
    let runs = Runs::start(bench.worker().handler("task", async |_| ()));
    assert!(matches!(runs.ended().await, Err(Error::Stopped)));
}
