//! A glance at the queues, and what is seen to happen to jobs.

use futures::StreamExt as _;
use kvjob::job::{Failure, Glance, JobId, NewJob, Query, QueueStore as _, Retry, Seen, State};
use kvjob_tests::{Fixture, on_every_store, text};

on_every_store![
    a_glance_counts_what_waits_runs_and_ended_badly_by_task,
    a_glance_counts_what_waits_in_serial_queues,
    a_glance_counts_no_more_than_it_was_told_to_and_says_so,
    what_another_job_store_does_is_seen,
];

/// What was counted of a task in a state.
fn number(glance: &Glance, task: &str, state: State) -> u64 {
    let states = glance.tasks.get(task);
    let count = states.and_then(|states| states.get(&state));
    count.copied().unwrap_or(0)
}

async fn a_glance_counts_what_waits_runs_and_ended_badly_by_task(f: Fixture) {
    assert_eq!(f.jobs.glance(10).await.unwrap(), Glance::default());
    let later = |task: &str| text(task, "").run_at(f.in_seconds(60));
    f.enqueue(later("a")).await;
    for priority in [-3, -2, -1] {
        f.enqueue(text("a", "").priority(priority)).await;
    }
    let lost = f.claim_one().await.lease;
    let failure = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&lost, failure).await.unwrap();
    let done = f.claim_one().await.lease;
    f.jobs.complete(&done).await.unwrap();
    f.claim_one().await;
    for _ in 0..2 {
        f.enqueue(text("b", "")).await;
    }
    let canceled = f.enqueue(text("b", "")).await.job.id;
    f.jobs.cancel(&Query::new().id(canceled)).await.unwrap();

    let glance = f.jobs.glance(10).await.unwrap();
    for (task, state, count) in [
        ("a", State::Scheduled, 1),
        ("a", State::Ready, 0),
        ("a", State::Running, 1),
        ("a", State::Failed, 1),
        ("a", State::Completed, 0),
        ("b", State::Ready, 2),
        ("b", State::Canceled, 1),
    ] {
        assert_eq!(
            number(&glance, task, state),
            count,
            "{task} {state}: {glance:?}"
        );
    }
    assert!(glance.cut.is_empty(), "{glance:?}");
    assert_eq!(glance.states().values().sum::<u64>(), 6);
    // What is due is ready, also before it is moved.
    f.pass(61);
    let glance = f.jobs.glance(10).await.unwrap();
    assert_eq!(number(&glance, "a", State::Ready), 1);
    assert_eq!(number(&glance, "a", State::Scheduled), 0);
}

async fn a_glance_counts_what_waits_in_serial_queues(f: Fixture) {
    for queue in ["p", "q"] {
        let jobs: Vec<NewJob> = (0..4).map(|_| text(queue, "").queue(queue)).collect();
        f.jobs.enqueue_many(jobs).await.unwrap();
    }
    assert_eq!(f.claim(10).await.len(), 2);
    let glance = f.jobs.glance(6).await.unwrap();
    for task in ["p", "q"] {
        assert_eq!(number(&glance, task, State::Running), 1);
        assert_eq!(number(&glance, task, State::Ready), 3, "{glance:?}");
    }
    assert!(glance.cut.is_empty(), "{glance:?}");
    let cut = f.jobs.glance(5).await.unwrap();
    assert_eq!(cut.states()[&State::Ready], 5);
    assert_eq!(cut.cut, [State::Ready].into());
}

async fn a_glance_counts_no_more_than_it_was_told_to_and_says_so(f: Fixture) {
    let jobs: Vec<NewJob> = (0..8).map(|_| text("t", "")).collect();
    f.jobs.enqueue_many(jobs).await.unwrap();
    assert_eq!(f.claim(4).await.len(), 4);
    let glance = f.jobs.glance(3).await.unwrap();
    assert_eq!(number(&glance, "t", State::Ready), 3);
    assert_eq!(number(&glance, "t", State::Running), 3);
    assert_eq!(glance.cut, [State::Ready, State::Running].into());
    let glance = f.jobs.glance(4).await.unwrap();
    assert_eq!(number(&glance, "t", State::Ready), 4);
    assert_eq!(number(&glance, "t", State::Running), 4);
    assert!(glance.cut.is_empty(), "{glance:?}");
}

async fn what_another_job_store_does_is_seen(f: Fixture) {
    let Some(mut seen) = f.jobs.sightings().await.unwrap() else {
        assert!(f.store.watch().is_none());
        return;
    };
    // One that may be seen more than once, or after it went on.
    let mut until = async |wanted: JobId, states: &[State]| loop {
        match seen.next().await.unwrap().unwrap() {
            Seen::Job {
                id, task, state, ..
            } if id == wanted => {
                assert_eq!(task, "t");
                if states.contains(&state) {
                    return;
                }
            }
            // Then it need not be told.
            Seen::Missed => return,
            _ => {}
        }
    };
    let other = f.another().await;
    let id = other.enqueue(text("t", "")).await.unwrap().job.id;
    until(id, &[State::Ready]).await;
    let claimed = f.claim_one().await;
    until(id, &[State::Running]).await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    until(id, &[State::Completed]).await;
}
