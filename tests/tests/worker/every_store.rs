//! The same on every store, servers included: what a worker promises does not depend on where the
//! jobs are. The finer points of each promise are tested in memory, in the other files.
//!
//! Here a call takes real time, so that nothing is said to have happened before an event says so;
//! leases last for ever, so that time may move on while a call is under way.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvjob::job::{
    Backoff, Job, JobId, Jobs, KvStore, NewJob, Query, QueueStore as _, ResultStore as _, State,
    StateStore as _, Task,
};
use kvjob::worker::{Builder, Context, Event, Json, Outcome, Worker};
use kvjob_tests::{Fixture, on_every_store};
use serde::{Deserialize, Serialize};

use crate::support::{Gate, POLL, Runs, SECOND, ended, job, started};

on_every_store![
    running_once_runs_what_is_due_and_what_is_added_meanwhile_and_nothing_later,
    a_running_worker_begins_what_is_added_without_time_moving_on,
    a_running_worker_begins_what_another_process_adds,
    a_job_completes_with_its_result,
    a_failed_attempt_is_made_again_after_its_backoff,
    a_handler_that_panics_fails_an_attempt_and_the_worker_goes_on,
    a_job_that_fails_for_good_and_one_that_is_snoozed,
    events_of_a_job_come_in_order,
    a_worker_that_is_stopped_finishes_what_runs_and_claims_no_more,
    a_worker_that_is_stopped_at_once_gives_back_what_runs,
    what_was_claimed_ahead_is_given_back_and_counts_no_attempt,
    a_cancellation_by_another_process_fires_the_token,
    a_job_that_is_taken_from_a_worker_that_lives_begins_again_in_its_only_slot,
    a_job_that_times_out_is_tried_again,
    workers_that_claim_ahead_run_one_job_of_a_queue_at_a_time,
    a_payload_that_does_not_decode_fails_for_good_and_says_where,
    a_task_that_nobody_knows_waits_untouched_and_is_seen_in_the_counts,
    flags_are_forbidden_by_a_function_that_is_asked_before_every_claim,
];

#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    to: Vec<String>,
}

impl Task for Letter {
    const NAME: &'static str = "letter";
}

/// A worker of this job store; what it holds it holds for ever.
fn worker_of(f: &Fixture, jobs: &KvStore) -> Builder {
    Worker::builder(Arc::new(jobs.clone()))
        .clock(Arc::new(f.clock.clone()))
        .lease(Duration::MAX)
        .poll(POLL)
        .handle_signals(false)
}

fn worker(f: &Fixture) -> Builder {
    worker_of(f, &f.jobs)
}

/// The next event of an attempt, for which time may have to move on.
async fn in_time(f: &Fixture, runs: &mut Runs) -> Event {
    loop {
        if let Some(event) = runs.try_next() {
            return event;
        }
        let_time_pass(f).await;
    }
}

/// Moves time on by a poll, and gives everybody the time of a call.
async fn let_time_pass(f: &Fixture) {
    f.clock.advance(POLL);
    f.jobs.get(JobId::from_bytes([0; 16])).await.unwrap();
    tokio::task::yield_now().await;
}

async fn state(f: &Fixture, id: JobId) -> (State, u32) {
    let Job {
        state, attempts, ..
    } = f.job(id).await;
    (state, attempts)
}

async fn running_once_runs_what_is_due_and_what_is_added_meanwhile_and_nothing_later(f: Fixture) {
    let fails = f.add("fails").await.id;
    let adds = f.add("adds").await.id;
    let later = job("adds").run_at(f.in_seconds(3600));
    let later = f.enqueue(later).await.job.id;
    let nobodys = f.add("nobody's").await.id;
    let worker = worker(&f)
        .handler("fails", async |_| Err::<(), _>("no paper"))
        .handler("adds", async |context: Context| {
            let to = vec!["ada".to_owned()];
            context.jobs().add(Letter { to }).await.map(drop)
        })
        .register(async |_: Letter| ());
    worker.build().unwrap().run_once().await.unwrap();
    assert_eq!(state(&f, fails).await, (State::Scheduled, 1));
    assert_eq!(state(&f, adds).await, (State::Completed, 1));
    assert_eq!(state(&f, later).await, (State::Scheduled, 0));
    assert_eq!(state(&f, nobodys).await, (State::Ready, 0));
    let added = Query::new().task("letter");
    let added = f.jobs.lookup(&added).await.unwrap().items;
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].state, State::Completed);
}

async fn a_running_worker_begins_what_is_added_without_time_moving_on(f: Fixture) {
    let mut runs = Runs::start(worker(&f).handler("task", async |_| ()));
    for _ in 0..3 {
        let id = f.add("task").await.id;
        assert_eq!(runs.next().await, started(id, "task", 1));
        assert_eq!(ended(runs.next().await), (State::Completed, None));
    }
    runs.stop().await;
}

async fn a_running_worker_begins_what_another_process_adds(f: Fixture) {
    let other = f.another().await;
    let mut runs = Runs::start(worker(&f).handler("task", async |_| ()));
    for _ in 0..3 {
        let id = other.enqueue(job("task")).await.unwrap().job.id;
        assert_eq!(in_time(&f, &mut runs).await, started(id, "task", 1));
        assert_eq!(ended(runs.next().await), (State::Completed, None));
    }
    runs.stop().await;
}

async fn a_job_completes_with_its_result(f: Fixture) {
    let to = vec!["ada".to_owned(), "bob".to_owned()];
    let jobs = Jobs::new(Arc::new(f.jobs.clone()));
    let id = jobs.add(Letter { to }).await.unwrap().job.id;
    let worker = worker(&f).register(async |letter: Letter| Json(letter.to.len()));
    worker.build().unwrap().run_once().await.unwrap();
    assert_eq!(state(&f, id).await, (State::Completed, 1));
    let result = f.jobs.result(id).await.unwrap().unwrap();
    assert_eq!(result.parse::<usize>().unwrap(), 2);
}

async fn a_failed_attempt_is_made_again_after_its_backoff(f: Fixture) {
    let backoff = Backoff::Fixed { wait: 50 * SECOND };
    let id = f.enqueue(job("task").backoff(backoff)).await.job.id;
    let handler = |context: Context| async move {
        match context.job().attempts {
            1 => Err("not yet"),
            _ => Ok(()),
        }
    };
    let mut runs = Runs::start(worker(&f).handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    let failed = ended(runs.next().await);
    assert_eq!(failed, (State::Scheduled, Some("not yet".to_owned())));
    let due = f.job(id).await.run_at;
    assert_eq!(due, f.in_seconds(50));
    assert_eq!(in_time(&f, &mut runs).await, started(id, "task", 2));
    assert!(f.now() >= due, "it did not wait");
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    runs.stop().await;
}

async fn a_handler_that_panics_fails_an_attempt_and_the_worker_goes_on(f: Fixture) {
    let broken = f.enqueue(job("broken").max_attempts(1)).await.job.id;
    let next = f.add("task").await.id;
    let broke = |context: Context| async move {
        assert!(context.job().attempts > 1, "the printer is on fire");
    };
    let worker = worker(&f).handler("broken", broke);
    let worker = worker.handler("task", async |_| ()).build().unwrap();
    worker.run_once().await.unwrap();
    let error = f.job(broken).await.last_error;
    assert_eq!(error.as_deref(), Some("panicked: the printer is on fire"));
    assert_eq!(state(&f, broken).await, (State::Failed, 1));
    assert_eq!(state(&f, next).await, (State::Completed, 1));
}

async fn a_job_that_fails_for_good_and_one_that_is_snoozed(f: Fixture) {
    let (fails, sleeps) = (f.add("fails").await.id, f.add("sleeps").await.id);
    let until = f.in_seconds(3600);
    let worker = worker(&f)
        .handler("fails", async |_| Outcome::Fail("no such user".to_owned()))
        .handler("sleeps", move |_| async move { Outcome::Snooze(until) });
    worker.build().unwrap().run_once().await.unwrap();
    assert_eq!(state(&f, fails).await, (State::Failed, 1));
    assert_eq!(state(&f, sleeps).await, (State::Scheduled, 0));
    assert_eq!(f.job(sleeps).await.run_at, until);
}

async fn events_of_a_job_come_in_order(f: Fixture) {
    let done = f.add("done").await.id;
    let failed = f.enqueue(job("failed").max_attempts(1)).await.job.id;
    let worker = worker(&f)
        .handler("done", async |_| ())
        .handler("failed", async |_| Err::<(), _>("no paper"))
        .build()
        .unwrap();
    let mut events = worker.events();
    worker.run_once().await.unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let of = |job: JobId| {
        let of_job = events.iter().filter_map(move |event| match event {
            Event::Started { id, .. } => (*id == job).then_some("started"),
            Event::Succeeded { id, .. } => (*id == job).then_some("succeeded"),
            Event::Errored { id, .. } => (*id == job).then_some("errored"),
            Event::Failed { id, .. } => (*id == job).then_some("failed"),
            Event::Ended { id, .. } => (*id == job).then_some("ended"),
            _ => None,
        });
        of_job.collect::<Vec<_>>()
    };
    assert_eq!(of(done), ["started", "succeeded", "ended"]);
    assert_eq!(of(failed), ["started", "errored", "failed", "ended"]);
    assert!(matches!(events.first(), Some(Event::WorkerStarted { .. })));
    let last = events.last();
    assert!(matches!(
        last,
        Some(Event::WorkerStopped { error: None, .. })
    ));
}

async fn a_worker_that_is_stopped_finishes_what_runs_and_claims_no_more(f: Fixture) {
    let gate = Gate::new();
    let (first, second) = (f.add("task").await.id, f.add("task").await.id);
    let mut runs = Runs::start(worker(&f).handler("task", gate.handler()));
    assert_eq!(runs.next().await, started(first, "task", 1));
    runs.control.stop();
    gate.open(2);
    runs.ended().await.unwrap();
    assert_eq!(state(&f, first).await, (State::Completed, 1));
    assert_eq!(state(&f, second).await, (State::Ready, 0));
}

async fn a_worker_that_is_stopped_at_once_gives_back_what_runs(f: Fixture) {
    let gate = Gate::new();
    let id = f.add("task").await.id;
    let mut runs = Runs::start(worker(&f).handler("task", gate.handler()));
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.control.stop_now();
    assert_eq!(runs.next().await, Event::GivenBack { id });
    runs.ended().await.unwrap();
    assert_eq!(state(&f, id).await, (State::Ready, 0));
    assert_eq!(f.claim_one().await.job.id, id);
}

async fn what_was_claimed_ahead_is_given_back_and_counts_no_attempt(f: Fixture) {
    let gate = Gate::new();
    let many = (0..4).map(|_| job("task")).collect();
    let added = f.jobs.enqueue_many(many).await.unwrap();
    let ids: Vec<JobId> = added.into_iter().map(|added| added.job.id).collect();
    let prefetching = worker(&f).prefetch(3);
    let mut runs = Runs::start(prefetching.handler("task", gate.handler()));
    assert_eq!(runs.next().await, started(ids[0], "task", 1));
    for id in &ids {
        assert_eq!(state(&f, *id).await, (State::Running, 1));
    }
    runs.control.stop();
    let mut given_back = HashSet::new();
    for _ in 1..ids.len() {
        match runs.next().await {
            Event::GivenBack { id } => assert!(given_back.insert(id)),
            other => panic!("{other:?}"),
        }
    }
    gate.open(1);
    runs.ended().await.unwrap();
    assert_eq!(state(&f, ids[0]).await, (State::Completed, 1));
    for id in &ids[1..] {
        assert_eq!(state(&f, *id).await, (State::Ready, 0));
    }
    assert_eq!(f.listed().await, ids[1..]);
}

async fn a_cancellation_by_another_process_fires_the_token(f: Fixture) {
    let other = f.another().await;
    let id = f.add("task").await.id;
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Err::<(), _>("stopped")
    };
    let mut runs = Runs::start(worker(&f).handler("task", handler));
    assert_eq!(runs.next().await, started(id, "task", 1));
    let canceled = other.cancel(&Query::new().id(id)).await.unwrap();
    assert_eq!(canceled.items.len(), 1);
    assert_eq!(ended(in_time(&f, &mut runs).await).0, State::Canceled);
    assert_eq!(state(&f, id).await, (State::Canceled, 1));
    runs.stop().await;
}

async fn a_job_that_is_taken_from_a_worker_that_lives_begins_again_in_its_only_slot(f: Fixture) {
    let (other, gate) = (f.another().await, Gate::new());
    let id = f.add("task").await.id;
    let of_one_slot = worker(&f).name("w").handler("task", gate.handler());
    let mut runs = Runs::start(of_one_slot);
    assert_eq!(runs.next().await, started(id, "task", 1));
    let taken = other.force_unlock(&["w".to_owned()]).await.unwrap();
    assert_eq!(taken.len(), 1);
    // No heartbeat comes to tell it.
    let lost = in_time(&f, &mut runs).await;
    assert!(matches!(lost, Event::LeaseLost { .. }), "{lost:?}");
    assert_eq!(in_time(&f, &mut runs).await, started(id, "task", 2));
    gate.open(1);
    assert_eq!(ended(in_time(&f, &mut runs).await).0, State::Completed);
    assert_eq!(state(&f, id).await, (State::Completed, 2));
    runs.stop().await;
}

async fn a_job_that_times_out_is_tried_again(f: Fixture) {
    let limited = job("task").timeout(10 * SECOND).max_attempts(2);
    let id = f.enqueue(limited).await.job.id;
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Err::<(), _>("too much to do")
    };
    let mut runs = Runs::start(worker(&f).handler("task", handler));
    let mut ends = Vec::new();
    for attempt in 1..=2 {
        assert_eq!(in_time(&f, &mut runs).await, started(id, "task", attempt));
        ends.push(ended(in_time(&f, &mut runs).await).0);
    }
    assert_eq!(ends, [State::Scheduled, State::TimedOut]);
    runs.stop().await;
}

async fn workers_that_claim_ahead_run_one_job_of_a_queue_at_a_time(f: Fixture) {
    const QUEUES: usize = 4;
    const EACH: usize = 6;
    let jobs = [f.jobs.clone(), f.another().await];
    let many = (0..QUEUES * EACH).map(|number| {
        let new = NewJob::new("task", &(number % QUEUES)).unwrap();
        new.queue(format!("queue-{}", number % QUEUES))
    });
    let added = f.jobs.enqueue_many(many.collect()).await.unwrap();
    let running: Arc<[AtomicUsize; QUEUES]> = Arc::default();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let worker = |jobs: &KvStore| {
        let (running, begun) = (running.clone(), begun.clone());
        let handler = move |context: Context| {
            let (running, begun) = (running.clone(), begun.clone());
            async move {
                let queue: usize = context.job().payload.parse().unwrap();
                let others = running[queue].fetch_add(1, Ordering::SeqCst);
                assert_eq!(others, 0, "two jobs of queue {queue} ran at a time");
                begun.lock().unwrap().push(context.job().id);
                // Others may run meanwhile.
                context.store().get(context.job().id).await.unwrap();
                running[queue].fetch_sub(1, Ordering::SeqCst);
            }
        };
        let worker = worker_of(&f, jobs).concurrency(3).prefetch(4);
        worker.handler("task", handler).build().unwrap()
    };
    let controls: Vec<_> = jobs
        .iter()
        .map(|jobs| {
            let worker = worker(jobs);
            (worker.control(), tokio::spawn(worker.run()))
        })
        .collect();
    while begun.lock().unwrap().len() < added.len() {
        let_time_pass(&f).await;
    }
    for (control, run) in controls {
        control.stop();
        while !run.is_finished() {
            let_time_pass(&f).await;
        }
        run.await.unwrap().unwrap();
    }
    let begun = begun.lock().unwrap().clone();
    for queue in 0..QUEUES {
        let of_queue: Vec<JobId> = added
            .iter()
            .skip(queue)
            .step_by(QUEUES)
            .map(|it| it.job.id)
            .collect();
        let mut in_order = begun.clone();
        in_order.retain(|id| of_queue.contains(id));
        assert_eq!(in_order, of_queue, "queue {queue} is not served in order");
    }
    for added in added {
        assert_eq!(state(&f, added.job.id).await, (State::Completed, 1));
    }
}

async fn a_payload_that_does_not_decode_fails_for_good_and_says_where(f: Fixture) {
    let new = |to| NewJob::new("letter", &serde_json::json!({ "to": to })).unwrap();
    let bad = f.enqueue(new(serde_json::json!(["ada", 7]))).await.job.id;
    let good = f.enqueue(new(serde_json::json!(["ada"]))).await.job.id;
    let worker = worker(&f).register(async |_: Letter| ());
    worker.build().unwrap().run_once().await.unwrap();
    assert_eq!(state(&f, bad).await, (State::Failed, 1));
    let error = f.job(bad).await.last_error.unwrap();
    for part in ["Letter", "`to[1]`", "integer `7`", "column"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(state(&f, good).await, (State::Completed, 1));
}

async fn a_task_that_nobody_knows_waits_untouched_and_is_seen_in_the_counts(f: Fixture) {
    let unknown = f.add("unknown").await;
    let known = f.add("task").await.id;
    let worker = worker(&f).handler("task", async |_| ()).build().unwrap();
    worker.run_once().await.unwrap();
    assert_eq!(state(&f, known).await, (State::Completed, 1));
    assert_eq!(f.job(unknown.id).await, unknown);
    assert_eq!(f.states(unknown.id).await, [State::Created]);
    let stats = f.jobs.stats().await.unwrap();
    assert_eq!(stats.tasks["unknown"], [(State::Ready, 1)].into());
    assert_eq!(stats.tasks["task"], [(State::Completed, 1)].into());
}

async fn flags_are_forbidden_by_a_function_that_is_asked_before_every_claim(f: Fixture) {
    let flagged = |flag: &str| job("task").flag(flag);
    let heavy = f.enqueue(flagged("heavy")).await.job.id;
    let plain = f.enqueue(flagged("of no meaning")).await.job.id;
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = asked.clone();
    let worker = worker(&f)
        .forbid_flags(["unheard of"])
        .forbid_flags_by(move || {
            let first = asks.fetch_add(1, Ordering::SeqCst) == 0;
            first.then_some("heavy")
        })
        .handler("task", async |_| ())
        .build()
        .unwrap();
    let mut events = worker.events();
    worker.run_once().await.unwrap();
    let mut begun = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Started { id, .. } = event {
            begun.push(id);
        }
    }
    assert_eq!(begun, [plain, heavy]);
    assert!(asked.load(Ordering::SeqCst) > 1);
}
