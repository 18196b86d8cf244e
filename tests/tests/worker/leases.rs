//! Keeping leases alive, and losing them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvjob::job::State;
use kvjob::worker::{Context, Event};

use crate::faulty::Fault;
use crate::support::{Bench, Gate, LEASE, Runs, SECOND, outage, started};

#[tokio::test]
async fn running_leases_are_extended_together_at_every_third() {
    let bench = Bench::deaf().await;
    let gate = Gate::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.add("task").await);
    }
    let runs = Runs::start(
        bench
            .worker()
            .concurrency(3)
            .handler("task", gate.handler()),
    );
    bench.pass_slowly(10 * LEASE).await;
    assert_eq!(bench.store.beats(), [3; 30]);
    assert_eq!(bench.store.calls("expire"), 0);
    gate.open(3);
    runs.stop().await;
    for id in ids {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
    }
}

#[tokio::test]
async fn a_lost_lease_cancels_the_handler_and_drops_its_result() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let fired = Arc::new(AtomicUsize::new(0));
    let count = fired.clone();
    let handler = move |context: Context| {
        let count = count.clone();
        async move {
            context.cancelled().cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    let mut runs = Runs::start(bench.worker().handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    bench.store.lose.store(true, Ordering::Relaxed);
    bench.pass(LEASE / 3).await;
    assert_eq!(runs.next().await, Event::LeaseLost { id });
    assert_eq!(fired.load(Ordering::SeqCst), 1);
    assert_eq!(bench.store.calls("complete"), 0);
    runs.stop().await;
}

#[tokio::test]
async fn no_handler_runs_past_a_lease_that_could_not_be_extended() {
    for fault in [outage(), Fault::hang()] {
        let bench = Bench::new().await;
        let gate = Gate::new();
        let id = bench.add("task").await;
        let mut runs = Runs::start(bench.worker().handler("task", gate.handler()));
        assert_eq!(runs.next().await, started(id, "task", 1));
        bench.store.fail("heartbeat", usize::MAX, fault);
        bench.pass_slowly(LEASE - SECOND).await;
        assert_eq!(gate.inside(), 1);
        let events = runs.happened();
        assert!(!events.is_empty());
        assert!(
            events
                .iter()
                .all(|event| matches!(event, Event::HeartbeatFailed { .. }))
        );
        bench.pass(SECOND).await;
        assert_eq!(gate.inside(), 0);
        assert!(runs.happened().contains(&Event::LeaseLost { id }));
        runs.stop().await;
    }
}

#[tokio::test]
async fn a_short_outage_of_heartbeats_costs_no_job() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let id = bench.add("task").await;
    let runs = Runs::start(bench.worker().handler("task", gate.handler()));
    bench.settle().await;
    bench.store.fail("heartbeat", 4, outage());
    bench.pass_slowly(2 * LEASE).await;
    gate.open(1);
    runs.stop().await;
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Completed, 1));
}
