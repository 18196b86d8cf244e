//! Stores that go away, for a while or for good.

use std::time::Duration;

use kvjob::job::{Error, State};
use kvjob::kv::ErrorKind;
use kvjob::worker::Event;

use crate::faulty::Fault;
use crate::support::{Bench, Gate, POLL, Runs, SECOND, broken, ended, outage, started};

const MINUTE: Duration = Duration::from_secs(60);

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

#[tokio::test]
async fn after_an_outage_of_a_minute_workers_come_back_by_themselves_and_record_what_ended_in_it() {
    const CALLS: [&str; 5] = ["claim", "heartbeat", "complete", "fail", "canceled"];
    let bench = Bench::new().await;
    let gate = Gate::new();
    let ids = [bench.add("task").await, bench.add("task").await];
    // The leases outlast the outage.
    let worker = || {
        bench
            .worker()
            .lease(5 * MINUTE)
            .handler("task", gate.handler())
    };
    let (mut one, mut other) = (Runs::start(worker()), Runs::start(worker()));
    bench.settle().await;
    assert_eq!(gate.inside(), 2);
    for call in CALLS {
        bench.store.fail(call, usize::MAX, outage());
    }
    bench.pass_slowly(10 * SECOND).await;
    gate.open(2);
    let later = bench.add("task").await;
    bench.pass_slowly(50 * SECOND).await;
    assert!(ended_jobs(&mut one).is_empty() && ended_jobs(&mut other).is_empty());
    for call in CALLS {
        bench.store.fail(call, 0, outage());
    }
    // As long as they may wait before they try again.
    bench.pass_slowly(30 * SECOND).await;
    for id in ids {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
    }
    assert_eq!(gate.inside(), 1);
    gate.open(1);
    bench.settle().await;
    assert_eq!(bench.get(later).await.attempts, 1);
    assert_eq!(bench.get(later).await.state, State::Completed);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_ran_in_an_outage_longer_than_its_lease_is_done_again_and_not_lost() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let id = bench.add("task").await;
    let mut runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    for call in ["claim", "heartbeat", "complete"] {
        bench.store.fail(call, usize::MAX, outage());
    }
    bench.pass_slowly(MINUTE).await;
    assert!(runs.happened().contains(&Event::LeaseLost { id }));
    assert_eq!(gate.inside(), 0);
    for call in ["claim", "heartbeat", "complete"] {
        bench.store.fail(call, 0, outage());
    }
    gate.open(1);
    bench.pass_slowly(MINUTE).await;
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Completed, 2));
    runs.stop().await;
}

fn ended_jobs(runs: &mut Runs) -> Vec<Event> {
    let events = runs.happened().into_iter();
    events
        .filter(|event| matches!(event, Event::Ended { .. } | Event::LeaseLost { .. }))
        .collect()
}

#[tokio::test]
async fn only_errors_of_the_store_in_a_row_end_a_worker() {
    let bench = Bench::new().await;
    let builder = bench.worker().max_store_errors(3);
    let runs = Runs::start(builder.handler("task", async |_| ()));
    bench.settle().await;
    for _ in 0..5 {
        bench.store.fail("claim", 2, outage());
        bench.pass_slowly(10 * SECOND).await;
        assert!(!runs.run.is_finished());
    }
    bench.store.fail("claim", 3, outage());
    bench.pass_slowly(10 * SECOND).await;
    runs.ended().await.unwrap_err();
}
