//! What a worker tells its listeners, and in which order.

use std::time::Duration;

use kvjob::job::{Backoff, State};
use kvjob::worker::{Event, Outcome, Worker};

use crate::support::{Bench, POLL, Runs, job, outage, started, within};

/// Everything a run until nothing is due says.
async fn said(worker: Worker) -> Vec<Event> {
    let mut events = worker.events();
    let _ = within(worker.run_once()).await;
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

#[tokio::test]
async fn a_worker_says_when_it_starts_claims_and_stops() {
    let bench = Bench::new().await;
    bench.add("task").await;
    let builder = bench.worker().name("ada").concurrency(2);
    let worker = builder.handler("task", async |_| ()).build().unwrap();
    let mut events = said(worker).await;
    let worker = || "ada".to_owned();
    events.retain(|event| {
        !matches!(
            event,
            Event::Started { .. } | Event::Succeeded { .. } | Event::Ended { .. }
        )
    });
    assert_eq!(
        events[..3],
        [
            Event::WorkerStarted { worker: worker() },
            Event::ClaimStarted { max: 2 },
            Event::Claimed { jobs: 1 },
        ]
    );
    assert_eq!(
        events[events.len() - 3..],
        [
            Event::ClaimEmpty,
            Event::WorkerStopping { worker: worker() },
            Event::WorkerStopped {
                worker: worker(),
                error: None
            },
        ]
    );
}

#[tokio::test]
async fn a_worker_that_cannot_go_on_says_why() {
    let bench = Bench::new().await;
    bench.store.fail("claim", 1, outage());
    let builder = bench.worker().name("ada").max_store_errors(1);
    let worker = builder.handler("task", async |_| ()).build().unwrap();
    let events = said(worker).await;
    let Some(Event::WorkerStopped { error, .. }) = events.last() else {
        panic!("{events:?}");
    };
    let error = error.as_deref().unwrap();
    assert!(error.contains("the cable is out"), "{error}");
}

#[tokio::test]
async fn of_a_job_there_is_its_start_its_success_and_its_end_in_this_order() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let worker = bench.worker().handler("task", async |_| ());
    let events = of_jobs(said(worker.build().unwrap()).await);
    let elapsed = Duration::ZERO;
    let task = || "task".to_owned();
    let expected = [
        started(id, "task", 1),
        Event::Succeeded {
            id,
            task: task(),
            attempt: 1,
            elapsed,
        },
        Event::Ended {
            id,
            task: task(),
            attempt: 1,
            state: State::Completed,
            error: None,
            elapsed,
        },
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn of_a_failed_job_there_is_its_error_then_that_it_failed_if_that_is_final() {
    let bench = Bench::new().await;
    let new = job("task").max_attempts(2).backoff(Backoff::Fixed {
        wait: Duration::ZERO,
    });
    let id = bench.enqueue(new).await;
    let handler = async |_| Outcome::Retry("no paper".to_owned());
    let worker = bench.worker().handler("task", handler);
    let events = of_jobs(said(worker.build().unwrap()).await);
    let (task, error) = (|| "task".to_owned(), || "no paper".to_owned());
    let elapsed = Duration::ZERO;
    let errored = |attempt| Event::Errored {
        id,
        task: task(),
        attempt,
        error: error(),
        elapsed,
    };
    let ended = |attempt, state| Event::Ended {
        id,
        task: task(),
        attempt,
        state,
        error: Some(error()),
        elapsed,
    };
    let expected = [
        started(id, "task", 1),
        errored(1),
        ended(1, State::Ready),
        started(id, "task", 2),
        errored(2),
        Event::Failed {
            id,
            task: task(),
            attempt: 2,
            error: error(),
        },
        ended(2, State::Failed),
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn an_idle_worker_tells_of_each_look_it_takes() {
    let bench = Bench::new().await;
    let worker = bench.worker().handler("task", async |_| ());
    let worker = worker.build().unwrap();
    let mut events = worker.events();
    let control = worker.control();
    let run = tokio::spawn(worker.run());
    bench.pass(POLL).await;
    let mut empty = 0;
    while let Ok(event) = events.try_recv() {
        empty += usize::from(event == Event::ClaimEmpty);
    }
    assert_eq!(empty, 2);
    control.stop();
    within(run).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_is_given_back_neither_succeeded_nor_failed() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let hang = async |_| std::future::pending::<()>().await;
    let worker = bench.worker().handler("task", hang).build().unwrap();
    let mut events = worker.events();
    let mut runs = Runs {
        events: worker.events(),
        control: worker.control(),
        run: tokio::spawn(worker.run()),
    };
    assert_eq!(runs.next().await, started(id, "task", 1));
    runs.control.stop_now();
    runs.ended().await.unwrap();
    let all = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let expected = [started(id, "task", 1), Event::GivenBack { id }];
    assert_eq!(of_jobs(all), expected);
}

#[tokio::test]
async fn a_worker_never_dies_silently_even_if_its_run_is_dropped() {
    let bench = Bench::new().await;
    let worker = bench.worker().name("ada").handler("task", async |_| ());
    let worker = worker.build().unwrap();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run());
    bench.settle().await;
    run.abort();
    bench.settle().await;
    let last = std::iter::from_fn(|| events.try_recv().ok()).last();
    let Some(Event::WorkerStopped { worker, error }) = last else {
        panic!("{last:?}");
    };
    assert_eq!(worker, "ada");
    let error = error.unwrap();
    assert!(error.contains("dropped"), "{error}");
}

/// Those about jobs.
fn of_jobs(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| {
        !matches!(
            event,
            Event::WorkerStarted { .. }
                | Event::WorkerStopping { .. }
                | Event::WorkerStopped { .. }
                | Event::ClaimStarted { .. }
                | Event::Claimed { .. }
                | Event::ClaimEmpty
        )
    });
    events
}
