//! Recording an end in spite of the store.

use kvjob::job::{Error, State, StateStore as _};
use kvjob::kv::ErrorKind;
use kvjob::worker::Event;

use crate::faulty::Fault;
use crate::support::{Bench, LEASE, Runs, SECOND, broken, ended, outage, started};

#[tokio::test]
async fn a_lease_lost_when_the_end_is_recorded_is_an_event_not_an_error() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let lost = Error::LeaseLost {
        id,
        epoch: 1,
        reason: "it was taken back".to_owned(),
    };
    bench.store.fail("complete", 1, Fault::Before(lost));
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    runs.next().await;
    assert_eq!(runs.next().await, Event::LeaseLost { id });
    runs.stop().await;
}

#[tokio::test]
async fn a_finished_job_is_recorded_when_the_store_is_back() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.store.fail("complete", 5, outage());
    bench.pass_slowly(10 * SECOND).await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    for _ in 0..5 {
        assert!(matches!(runs.next().await, Event::RecordFailed { .. }));
    }
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    runs.stop().await;
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Completed, 1));
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_not_taken_for_a_lost_lease() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let unknown = Fault::After(broken(ErrorKind::Unknown));
    bench.store.fail("complete", 1, unknown);
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.pass(SECOND).await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    assert!(matches!(runs.next().await, Event::RecordFailed { .. }));
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    runs.stop().await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_one_although_its_job_is_gone() {
    let bench = Bench::forgetful().await;
    let id = bench.add("task").await;
    let unknown = Fault::After(broken(ErrorKind::Unknown));
    bench.store.fail("complete", 1, unknown);
    let mut runs = Runs::start(bench.worker().handler("task", async |_| ()));
    bench.pass(SECOND).await;
    assert_eq!(runs.next().await, started(id, "task", 1));
    assert!(matches!(runs.next().await, Event::RecordFailed { .. }));
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    runs.stop().await;
    assert!(bench.store.get(id).await.unwrap().is_none());
}

#[tokio::test]
async fn recording_is_given_up_when_the_lease_ends() {
    for fault in [outage(), Fault::hang()] {
        let bench = Bench::new().await;
        let id = bench.add("task").await;
        bench.store.fail("fail", usize::MAX, fault.clone());
        bench.store.fail("heartbeat", usize::MAX, fault);
        let mut runs = Runs::start(bench.worker().handler("task", async |_| Err::<(), _>("no")));
        bench.settle().await;
        runs.control.stop();
        bench.pass_slowly(LEASE - SECOND).await;
        assert!(!runs.happened().contains(&Event::LeaseLost { id }));
        bench.pass(SECOND).await;
        assert!(runs.happened().contains(&Event::LeaseLost { id }));
        runs.ended().await.unwrap();
    }
}
