//! Tasks that run fewer at a time than their worker.

use kvjob::job::State::{Ready, Running};
use kvjob::job::{JobId, State, StateStore as _};
use kvjob::worker::Event;

use crate::support::{Bench, Gate, LEASE, POLL, Runs, SECOND, job, outage, started};

#[tokio::test]
async fn of_a_task_as_many_run_at_a_time_as_its_limit_says_and_others_take_the_rest() {
    let bench = Bench::new().await;
    let (slow, quick) = (Gate::new(), Gate::new());
    for _ in 0..6 {
        bench.enqueue(job("slow").priority(-1)).await;
    }
    for _ in 0..6 {
        bench.add("quick").await;
    }
    let builder = bench.worker().concurrency(5).concurrency_of("slow", 2);
    let builder = builder.handler("slow", slow.handler());
    let runs = Runs::start(builder.handler("quick", quick.handler()));
    bench.settle().await;
    assert_eq!((slow.inside(), quick.inside()), (2, 3));
    quick.open(3);
    bench.settle().await;
    assert_eq!((slow.inside(), quick.inside()), (2, 3));
    quick.open(3);
    bench.settle().await;
    assert_eq!((slow.inside(), quick.inside()), (2, 0));
    slow.open(6);
    bench.settle().await;
    assert_eq!(bench.store.stats().await.unwrap().total, 12);
    runs.stop().await;
}

#[tokio::test]
async fn a_task_at_its_limit_is_not_claimed_and_nobody_asks_until_it_has_room() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.add("task").await);
    }
    let builder = bench.worker().concurrency(4).concurrency_of("task", 1);
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    let claims = bench.store.calls("claim");
    bench.pass_slowly(10 * POLL).await;
    assert_eq!((gate.inside(), bench.store.calls("claim")), (1, claims));
    let attempts = |id: JobId| bench.get(id);
    assert_eq!(attempts(ids[1]).await.attempts, 0);
    // At once, although the next look is far away.
    for (done, id) in ids.iter().enumerate() {
        assert_eq!(bench.get(*id).await.state, State::Running, "{done}");
        gate.open(1);
        bench.settle().await;
        assert_eq!(bench.get(*id).await.state, State::Completed, "{done}");
    }
    runs.stop().await;
}

#[tokio::test]
async fn a_task_at_its_limit_beside_others_costs_no_more_claims_than_polls() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for _ in 0..3 {
        bench.add("task").await;
    }
    let builder = bench.worker().concurrency(4).concurrency_of("task", 1);
    let builder = builder.handler("other", async |_| ());
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    let claims = bench.store.calls("claim");
    bench.pass_slowly(10 * POLL).await;
    assert_eq!(bench.store.calls("claim") - claims, 10);
    gate.open(1);
    bench.settle().await;
    assert_eq!(gate.inside(), 1);
    gate.open(2);
    runs.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_makes_room_too() {
    let bench = Bench::new().await;
    let first = bench.add("task").await;
    let second = bench.add("task").await;
    let builder = bench.worker().concurrency(4).concurrency_of("task", 1);
    let mut runs = Runs::start(builder.handler("task", async |_| Err::<(), _>("no")));
    assert_eq!(runs.next().await, started(first, "task", 1));
    assert!(matches!(runs.next().await, Event::Ended { .. }));
    assert_eq!(runs.next().await, started(second, "task", 1));
    runs.stop().await;
}

#[tokio::test]
async fn jobs_of_a_task_at_its_limit_are_not_claimed_ahead() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let mut limited = Vec::new();
    for _ in 0..3 {
        limited.push(bench.enqueue(job("task").priority(-1)).await);
    }
    let free = [bench.add("other").await, bench.add("other").await];
    let builder = bench.worker().prefetch(4).concurrency_of("task", 1);
    let builder = builder.handler("other", gate.handler());
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    let mut states = Vec::new();
    for id in limited.iter().chain(&free) {
        states.push(bench.get(*id).await.state);
    }
    assert_eq!(states, [Running, Ready, Ready, Running, Running]);
    gate.open(5);
    runs.stop().await;
}

#[tokio::test]
async fn a_fallback_has_room_for_all_tasks_but_the_limited_one() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for task in ["one", "one", "two", "two"] {
        bench.add(task).await;
    }
    let builder = bench.worker().concurrency(4).concurrency_of("one", 1);
    let runs = Runs::start(builder.fallback(gate.handler()));
    bench.settle().await;
    assert_eq!(gate.inside(), 3);
    gate.open(4);
    runs.stop().await;
}

#[tokio::test]
async fn room_that_is_made_in_an_outage_does_not_hurry_the_worker() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench.add("task").await;
    bench.add("task").await;
    let builder = bench.worker().concurrency(4).concurrency_of("task", 1);
    let builder = builder.handler("other", async |_| ());
    let runs = Runs::start(builder.handler("task", gate.handler()));
    bench.settle().await;
    bench.store.fail("claim", 4, outage());
    bench.pass(POLL).await;
    let claims = bench.store.calls("claim");
    gate.open(1);
    bench.settle().await;
    assert_eq!(bench.store.calls("claim"), claims);
    bench.pass_slowly(LEASE).await;
    assert_eq!(gate.inside(), 1);
    gate.open(1);
    runs.stop().await;
}

#[tokio::test]
async fn running_once_runs_all_jobs_of_a_task_with_a_limit() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        bench.add("task").await;
    }
    let builder = bench.worker().concurrency(4).concurrency_of("task", 1);
    let worker = builder.handler("task", async |_| tokio::task::yield_now().await);
    let worker = worker.build().unwrap();
    crate::support::within(worker.run_once()).await.unwrap();
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(stats.states.get(&State::Completed), Some(&20));
}

#[tokio::test]
async fn a_task_has_a_time_out_for_jobs_that_have_none() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let own = bench.enqueue(job("task").timeout(3 * SECOND)).await;
    let builder = bench.worker().concurrency(2);
    let builder = builder.timeout(9 * SECOND).timeout_of("task", SECOND);
    let handler = async |_| std::future::pending::<()>().await;
    let runs = Runs::start(builder.grace(SECOND / 2).handler("task", handler));
    bench.pass_slowly(5 * SECOND).await;
    let error = async |id| bench.get(id).await.last_error.unwrap();
    assert!(error(id).await.starts_with("timed out after 1s:"));
    assert!(error(own).await.starts_with("timed out after 3s:"));
    runs.control.stop_now();
    runs.ended().await.unwrap();
}
