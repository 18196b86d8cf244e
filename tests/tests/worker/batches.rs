//! Many jobs of a task in one call of their handler.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvjob::job::State::{Canceled, Completed, Failed, Scheduled};
use kvjob::job::{
    Backoff, Claim, JobId, KvStore, NewJob, Options, QueueStore as _, ResultStore as _, State,
    StateStore as _, Task,
};
use kvjob::kv::Memory;
use kvjob::kv::wrap::{Operation, Traced};
use kvjob::worker::{Context, Event, Json, Outcome, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower::timeout::TimeoutLayer;

use crate::faulty::Fault;
use crate::support::{Bench, Gate, LEASE, Runs, SECOND, job, outage, started, within};

/// The jobs of each call.
type Calls = Arc<Mutex<Vec<Vec<JobId>>>>;

fn ids(batch: &[Context]) -> Vec<JobId> {
    batch.iter().map(|context| context.job().id).collect()
}

async fn add(bench: &Bench, count: usize) -> Vec<JobId> {
    let jobs = (0..count).map(|_| job("task")).collect();
    let added = bench.store.enqueue_many(jobs).await.unwrap();
    added.into_iter().map(|added| added.job.id).collect()
}

async fn states(bench: &Bench, ids: &[JobId]) -> Vec<State> {
    let mut states = Vec::new();
    for id in ids {
        states.push(bench.get(*id).await.state);
    }
    states
}

#[tokio::test]
async fn a_call_gets_what_is_due_up_to_its_most_and_waits_for_no_more() {
    let bench = Bench::new().await;
    let calls = Calls::default();
    let seen = calls.clone();
    let all = add(&bench, 25).await;
    let handler = move |batch: Vec<Context>| {
        seen.lock().unwrap().push(ids(&batch));
        async {}
    };
    let runs = Runs::start(bench.worker().batch("task", 10, handler));
    bench.settle().await;
    let expected: Vec<_> = all.chunks(10).map(<[JobId]>::to_vec).collect();
    assert_eq!(*calls.lock().unwrap(), expected);
    assert_eq!(states(&bench, &all).await, [State::Completed; 25]);
    // Alone, and at once.
    let last = bench.add("task").await;
    bench.settle().await;
    assert_eq!(calls.lock().unwrap().last().unwrap(), &[last]);
    runs.stop().await;
}

#[tokio::test]
async fn partial_failure_keeps_only_the_failed_ones() {
    let bench = Bench::new().await;
    let all = add(&bench, 5).await;
    let answers = vec![
        Outcome::Complete,
        Outcome::Retry("no paper".to_owned()),
        Outcome::Fail("no printer".to_owned()),
        Outcome::Snooze(bench.after(SECOND)),
        Outcome::Cancel("no need".to_owned()),
    ];
    let handler = move |_| {
        let answers = answers.clone();
        async { answers }
    };
    let mut runs = Runs::start(bench.worker().batch("task", 5, handler));
    bench.settle().await;
    assert_eq!(
        states(&bench, &all).await,
        [Completed, Scheduled, Failed, Scheduled, Canceled]
    );
    let attempts = async |id| bench.get(id).await.attempts;
    assert_eq!((attempts(all[1]).await, attempts(all[3]).await), (1, 0));
    let error = bench.get(all[2]).await.last_error;
    assert_eq!(error.as_deref(), Some("no printer"));
    runs.happened();
    runs.stop().await;
}

#[tokio::test]
async fn a_batch_is_recorded_in_few_commits() {
    const JOBS: usize = 50;
    let below = Arc::new(Traced::new(Memory::new()));
    let store = KvStore::open(below.clone(), Options::default()).await;
    let store = Arc::new(store.unwrap());
    let jobs = (0..JOBS).map(|_| job("task")).collect();
    store.enqueue_many(jobs).await.unwrap();
    let commits = || {
        let calls = |operation| below.counts(operation).calls;
        calls(Operation::Commit) + calls(Operation::CommitAll)
    };
    let before = commits();
    let worker = Worker::builder(store.clone()).handle_signals(false);
    let worker = worker.batch("task", JOBS, async |_| ()).build().unwrap();
    within(worker.run_once()).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.states.get(&State::Completed), Some(&(JOBS as u64)));
    // Two claims, one that finds nothing, and the ends; the store's own housekeeping on top.
    let commits = commits() - before;
    assert!(commits <= 10, "{commits}");
}

#[tokio::test]
async fn each_job_of_a_batch_has_its_own_events_in_order() {
    let bench = Bench::new().await;
    let all = add(&bench, 2).await;
    let handler = async |_| vec![Ok(()), Err("no")];
    let worker = bench.worker().batch("task", 9, handler).build().unwrap();
    let mut events = worker.events();
    let control = worker.control();
    let run = tokio::spawn(worker.run());
    bench.settle().await;
    control.stop();
    within(run).await.unwrap().unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let of = |id: JobId| {
        let about = |event: &&Event| format!("{event:?}").contains(&format!("{id:?}"));
        let names = events.iter().filter(about).map(|event| {
            let text = format!("{event:?}");
            text.split(' ').next().unwrap().to_owned()
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(of(all[0]), ["Started", "Succeeded", "Ended"]);
    assert_eq!(of(all[1]), ["Started", "Errored", "Ended"]);
}

#[tokio::test]
async fn a_panic_fails_every_job_of_the_batch_once() {
    let bench = Bench::new().await;
    let all = add(&bench, 3).await;
    let calls = Calls::default();
    let seen = calls.clone();
    let handler = move |batch: Vec<Context>| {
        seen.lock().unwrap().push(ids(&batch));
        assert!(batch.is_empty(), "on purpose");
        async {}
    };
    let runs = Runs::start(bench.worker().batch("task", 3, handler));
    bench.settle().await;
    for id in all {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Scheduled, 1));
        assert_eq!(job.last_error.as_deref(), Some("panicked: on purpose"));
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
    runs.stop().await;
}

#[tokio::test]
async fn an_error_is_one_of_every_job_and_too_few_answers_are_one_too() {
    for (few, expected) in [
        (false, "the table is locked"),
        (true, "the handler gave 1 answers for 2 jobs"),
    ] {
        let bench = Bench::new().await;
        let all = add(&bench, 2).await;
        let answer = if few {
            Ok(vec![()])
        } else {
            Err("the table is locked")
        };
        let handler = move |_| std::future::ready(answer.clone());
        let runs = Runs::start(bench.worker().batch("task", 2, handler));
        bench.settle().await;
        for id in all {
            let job = bench.get(id).await;
            assert_eq!((job.state, job.attempts), (State::Scheduled, 1));
            assert_eq!(job.last_error.as_deref(), Some(expected));
        }
        runs.stop().await;
    }
}

#[tokio::test]
async fn a_job_that_is_canceled_within_a_batch_has_its_token_fired_and_no_other() {
    let bench = Bench::new().await;
    let all = add(&bench, 3).await;
    let handler = async |batch: Vec<Context>| {
        batch[1].cancelled().cancelled().await;
        let answers = batch.iter().map(|context| {
            if context.cancelled().is_cancelled() {
                Outcome::Retry("I was disturbed".to_owned())
            } else {
                Outcome::Complete
            }
        });
        answers.collect::<Vec<_>>()
    };
    let runs = Runs::start(bench.worker().batch("task", 3, handler));
    bench.settle().await;
    bench.cancel(all[1]).await;
    bench.pass_slowly(3 * SECOND).await;
    assert_eq!(states(&bench, &all).await, [Completed, Canceled, Completed]);
    runs.stop().await;
}

#[tokio::test]
async fn a_batch_is_dropped_only_when_none_of_its_jobs_may_go_on() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let short = bench.enqueue(job("task").timeout(SECOND)).await;
    let long = bench.enqueue(job("task").timeout(60 * SECOND)).await;
    let enter = gate.handler();
    let handler = move |mut batch: Vec<Context>| enter(batch.remove(0));
    let builder = bench.worker().grace(SECOND);
    let runs = Runs::start(builder.batch("task", 2, handler));
    bench.pass_slowly(30 * SECOND).await;
    assert_eq!(gate.inside(), 1);
    bench.pass_slowly(32 * SECOND).await;
    assert_eq!(gate.inside(), 0);
    for (id, time) in [(short, "1s"), (long, "60s")] {
        let error = bench.get(id).await.last_error.unwrap();
        assert!(
            error.starts_with(&format!("timed out after {time}")),
            "{error}"
        );
    }
    runs.control.stop_now();
    runs.ended().await.unwrap();
}

#[tokio::test]
async fn leases_of_a_batch_are_kept_alive() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let all = add(&bench, 3).await;
    let enter = gate.handler();
    let handler = move |mut batch: Vec<Context>| enter(batch.remove(0));
    let runs = Runs::start(bench.worker().batch("task", 3, handler));
    bench.pass_slowly(3 * LEASE).await;
    assert_eq!(bench.store.beats(), [3; 9]);
    gate.open(1);
    bench.settle().await;
    assert_eq!(states(&bench, &all).await, [State::Completed; 3]);
    runs.stop().await;
}

#[tokio::test]
async fn a_batch_whose_leases_are_lost_is_dropped_with_its_answers() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let all = add(&bench, 3).await;
    let enter = gate.handler();
    let handler = move |mut batch: Vec<Context>| enter(batch.remove(0));
    let mut runs = Runs::start(bench.worker().batch("task", 3, handler));
    bench.settle().await;
    bench.store.lose.store(true, Ordering::Relaxed);
    runs.happened();
    bench.pass(LEASE / 3).await;
    assert_eq!(gate.inside(), 0);
    let mut lost = runs.happened();
    lost.sort_by_key(|event| format!("{event:?}"));
    let mut expected: Vec<_> = all.iter().map(|id| Event::LeaseLost { id: *id }).collect();
    expected.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(lost, expected);
    assert_eq!(bench.store.calls("complete"), 0);
    runs.stop().await;
}

#[tokio::test]
async fn a_batch_takes_one_slot_and_one_place_of_its_task() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    add(&bench, 12).await;
    for _ in 0..3 {
        bench.enqueue(job("other").priority(1)).await;
    }
    let enter = gate.handler();
    let handler = move |mut batch: Vec<Context>| enter(batch.remove(0));
    let other = Gate::new();
    let builder = bench.worker().concurrency(4).concurrency_of("task", 2);
    let builder = builder.handler("other", other.handler());
    let runs = Runs::start(builder.batch("task", 3, handler));
    bench.settle().await;
    assert_eq!((gate.inside(), other.inside()), (2, 2));
    gate.open(2);
    bench.settle().await;
    assert_eq!(gate.inside(), 2);
    gate.open(2);
    other.open(3);
    bench.settle().await;
    assert_eq!((gate.inside(), other.inside()), (0, 0));
    let left = bench.store.claim(Claim::new("w")).await.unwrap();
    assert!(left.jobs.is_empty());
    runs.stop().await;
}

#[tokio::test]
async fn jobs_claimed_ahead_run_as_batches() {
    let bench = Bench::new().await;
    let calls = Calls::default();
    let seen = calls.clone();
    let all = add(&bench, 12).await;
    let handler = move |batch: Vec<Context>| {
        seen.lock().unwrap().push(ids(&batch));
        async {}
    };
    let builder = bench.worker().prefetch(8);
    let runs = Runs::start(builder.batch("task", 4, handler));
    bench.settle().await;
    assert_eq!(states(&bench, &all).await, [State::Completed; 12]);
    // What was claimed meanwhile may come in a call of its own.
    let sizes: Vec<usize> = calls.lock().unwrap().iter().map(Vec::len).collect();
    assert!(sizes.starts_with(&[4, 4]) && sizes.len() <= 4, "{sizes:?}");
    runs.stop().await;
}

/// A worker that has claimed the first job of a batch, and whose next claim goes wrong.
async fn with_one(bench: &Bench, fault: Fault) -> (Runs, JobId) {
    let first = bench.add("task").await;
    let permits = Arc::new(Semaphore::new(0));
    bench.store.fail("claim", 1, Fault::Held(permits.clone()));
    let runs = Runs::start(bench.worker().batch("task", 9, async |_| ()));
    bench.settle().await;
    bench.store.fail("claim", 1, fault);
    permits.add_permits(1);
    bench.settle().await;
    (runs, first)
}

#[tokio::test]
async fn a_batch_begins_with_what_it_has_if_the_store_gives_no_more() {
    let bench = Bench::new().await;
    let (mut runs, first) = with_one(&bench, outage()).await;
    let failed = |event: &Event| matches!(event, Event::ClaimFailed { .. });
    assert!(runs.happened().iter().any(failed));
    assert_eq!(bench.get(first).await.state, State::Completed);
    runs.stop().await;
}

#[tokio::test]
async fn a_batch_waits_for_a_silent_store_neither_when_it_is_to_stop_nor_when_it_is_canceled() {
    for stopped in [true, false] {
        let bench = Bench::new().await;
        let (runs, first) = with_one(&bench, Fault::hang()).await;
        assert_eq!(bench.get(first).await.state, State::Running);
        if stopped {
            runs.control.stop();
        } else {
            bench.cancel(first).await;
            bench.pass_slowly(SECOND).await;
        }
        bench.settle().await;
        assert_eq!(bench.get(first).await.state, State::Completed);
        runs.stop().await;
    }
}

#[tokio::test]
async fn a_batch_that_is_left_at_once_is_given_back() {
    let bench = Bench::new().await;
    let all = add(&bench, 3).await;
    let hang = async |_| std::future::pending::<()>().await;
    let runs = Runs::start(bench.worker().batch("task", 3, hang));
    bench.settle().await;
    assert_eq!(states(&bench, &all).await, [State::Running; 3]);
    runs.control.stop_now();
    runs.ended().await.unwrap();
    for id in all {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Ready, 0));
    }
}

#[tokio::test]
async fn each_job_of_a_batch_has_its_own_result() {
    let bench = Bench::new().await;
    let all = add(&bench, 2).await;
    let handler = async |batch: Vec<Context>| {
        let numbers = batch.iter().enumerate();
        numbers.map(|(number, _)| Json(number)).collect::<Vec<_>>()
    };
    let worker = bench.worker().batch("task", 2, handler);
    within(worker.build().unwrap().run_once()).await.unwrap();
    for (number, id) in all.into_iter().enumerate() {
        let result = bench.store.result(id).await.unwrap().unwrap();
        assert_eq!(result.parse::<usize>().unwrap(), number);
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: u64,
}

impl Task for Row {
    const NAME: &'static str = "row";
}

#[tokio::test]
async fn a_typed_batch_gets_payloads_and_one_that_does_not_decode_fails_alone() {
    let bench = Bench::new().await;
    let mut all = Vec::new();
    for id in [1, 2] {
        all.push(bench.enqueue(NewJob::of(&Row { id }).unwrap()).await);
        let bad = NewJob::new("row", &serde_json::json!({ "id": "x" }));
        all.push(bench.enqueue(bad.unwrap()).await);
    }
    let rows = Arc::new(Mutex::new(Vec::new()));
    let seen = rows.clone();
    let handler = move |batch: Vec<(Row, Context)>| {
        let numbers = batch.iter().map(|(row, _)| row.id);
        seen.lock().unwrap().push(numbers.collect::<Vec<_>>());
        async { vec![Ok(()), Err("full")] }
    };
    let runs = Runs::start(bench.worker().register_batch(9, handler));
    bench.settle().await;
    assert_eq!(*rows.lock().unwrap(), [[1, 2]]);
    let expected = [Completed, Failed, Scheduled, Failed];
    assert_eq!(states(&bench, &all).await, expected);
    let error = bench.get(all[1]).await.last_error.unwrap();
    assert!(error.contains("id"), "{error}");
    runs.stop().await;
}

#[tokio::test]
async fn running_once_runs_batches_until_nothing_is_due() {
    let bench = Bench::new().await;
    let all = add(&bench, 30).await;
    let worker = bench.worker().concurrency(3).batch("task", 4, async |_| ());
    within(worker.build().unwrap().run_once()).await.unwrap();
    assert_eq!(states(&bench, &all).await, [State::Completed; 30]);
}

#[tokio::test]
async fn a_batch_and_single_jobs_share_a_worker() {
    let bench = Bench::new().await;
    let all = add(&bench, 3).await;
    let other = bench.enqueue(job("other").priority(-1)).await;
    let builder = bench.worker().handler("other", async |_| ());
    let mut runs = Runs::start(builder.batch("task", 3, async |_| ()));
    assert_eq!(runs.next().await, started(other, "other", 1));
    bench.settle().await;
    assert_eq!(states(&bench, &all).await, [State::Completed; 3]);
    runs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_around_a_batch_and_answers_for_all_of_its_jobs() {
    let bench = Bench::new().await;
    let all = add(&bench, 3).await;
    let quick = bench.enqueue(job("quick").priority(-1)).await;
    let slow = bench.enqueue(job("quick").priority(-1)).await;
    let handler = async |_| std::future::pending::<()>().await;
    let answers = async |_| vec![Ok(()), Err("no")];
    let worker = bench.worker().batch("quick", 2, answers);
    let worker = worker.batch("task", 3, handler);
    let runs = Runs::start(worker.layer(TimeoutLayer::new(SECOND)));
    bench.settle().await;
    assert_eq!(states(&bench, &[quick, slow]).await, [Completed, Scheduled]);
    assert_eq!(states(&bench, &all).await, [State::Running; 3]);
    tokio::time::advance(2 * SECOND).await;
    bench.settle().await;
    for id in all {
        let job = bench.get(id).await;
        assert_eq!((job.state, job.attempts), (State::Scheduled, 1));
        assert_eq!(job.last_error.as_deref(), Some("request timed out"));
    }
    runs.stop().await;
}

/// A job that lost its lease twice in a row, and is due.
async fn suspect(bench: &Bench, priority: i16) -> JobId {
    let at_once = Backoff::Fixed {
        wait: Duration::ZERO,
    };
    let new = job("task").backoff(at_once).priority(priority);
    let id = bench.enqueue(new).await;
    for _ in 0..2 {
        let claim = Claim::new("dead").lease(SECOND);
        assert_eq!(bench.store.claim(claim).await.unwrap().jobs.len(), 1);
        // With what clocks may differ by on top.
        bench.clock.advance(SECOND * 11);
        bench.store.expire().await.unwrap();
    }
    assert_eq!(bench.get(id).await.state, State::Ready);
    id
}

#[tokio::test]
async fn a_job_that_lost_its_lease_twice_is_in_no_batch_with_others() {
    for priority in [-1, 1] {
        let bench = Bench::new().await;
        let bad = suspect(&bench, priority).await;
        let good = add(&bench, 3).await;
        let calls = Calls::default();
        let seen = calls.clone();
        let handler = move |batch: Vec<Context>| {
            seen.lock().unwrap().push(ids(&batch));
            async {}
        };
        let builder = bench.worker().prefetch(8);
        let runs = Runs::start(builder.batch("task", 9, handler));
        bench.settle().await;
        let calls = calls.lock().unwrap().clone();
        assert!(calls.contains(&vec![bad]), "{calls:?}");
        assert_eq!(calls.concat().len(), 4, "{calls:?}");
        assert_eq!(states(&bench, &good).await, [State::Completed; 3]);
        runs.stop().await;
    }
}
