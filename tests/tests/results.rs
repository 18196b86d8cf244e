//! What a job completed with, and waiting for it.

use std::time::Duration;

use kvjob::job::{
    Claim, Damage, Ended, Error, Failure, JobId, NewJob, Payload, Query, QueueStore as _,
    ResultStore as _, Retry, State, StateStore as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text, within};
use tokio::task::JoinHandle;

on_every_store![
    a_result_is_stored_with_the_completion,
    a_result_beside_the_arguments_costs_no_key,
    a_result_goes_with_its_job,
    a_result_that_is_too_large_is_refused_and_changes_nothing,
    a_lease_that_is_over_stores_no_result,
    whoever_waits_is_told_at_once,
    whoever_waits_hears_of_it_from_another_process,
    a_job_that_has_ended_is_told_without_waiting,
    whoever_waits_is_told_why_it_failed,
    waiting_ends_when_its_time_is_over,
    nobody_waits_for_a_job_that_is_not_there,
    a_job_that_is_removed_meanwhile_keeps_nobody_waiting,
    a_lost_result_is_found_and_its_job_left_without,
    a_result_of_nobody_is_put_aside,
    a_trace_goes_with_its_job,
];

const MINUTE: Duration = Duration::from_secs(60);

fn large() -> Payload {
    Payload::of(&"large ".repeat(200)).unwrap()
}

/// Runs the next job to this result.
async fn complete(f: &Fixture, result: &Payload) -> JobId {
    let lease = f.claim_one().await.lease;
    f.jobs.complete_with(&lease, result.clone()).await.unwrap();
    lease.id
}

/// Waits for a job in the background, and is waiting when this returns.
async fn waiting(f: &Fixture, id: JobId) -> JoinHandle<Result<Ended, Error>> {
    let (jobs, others) = (f.jobs.clone(), f.clock.sleepers());
    let wait = tokio::spawn(async move { jobs.wait(id, MINUTE).await });
    // It sleeps once it has seen that the job has not ended.
    within(f.clock.wait_for_sleepers(others + 1)).await;
    wait
}

/// What a background wait comes to without time moving on.
async fn told(wait: JoinHandle<Result<Ended, Error>>) -> Ended {
    within(wait).await.unwrap().unwrap()
}

async fn a_result_is_stored_with_the_completion(f: Fixture) {
    let small = Payload::of(&42).unwrap();
    for result in [small, large()] {
        f.add("t").await;
        let id = complete(&f, &result).await;
        let job = f.job(id).await;
        assert_eq!(
            (job.state, job.result),
            (State::Completed, Some(result.clone()))
        );
        assert_eq!(f.jobs.result(id).await.unwrap(), Some(result.clone()));
        let found = f.jobs.lookup(&Query::new()).await.unwrap();
        assert!(
            found
                .items
                .iter()
                .any(|job| job.result.as_ref() == Some(&result))
        );
        let states = [State::Created, State::Running, State::Completed];
        assert_eq!(f.states(id).await, states);
    }
    let none = f.add("t").await.id;
    assert_eq!(f.jobs.result(none).await.unwrap(), None);
    f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
    assert_eq!(f.jobs.result(none).await.unwrap(), None);
}

async fn a_result_beside_the_arguments_costs_no_key(f: Fixture) {
    // Together they may have 512 bytes in the header.
    for (arguments, result, keys) in [(500, 10, 0), (500, 12, 0), (500, 13, 1), (600, 510, 1)] {
        f.enqueue(text("t", &"a".repeat(arguments - 2))).await;
        let result = Payload::of(&"r".repeat(result - 2)).unwrap();
        let id = complete(&f, &result).await;
        assert_eq!(f.space(Space::Result).await.len(), keys);
        assert_eq!(f.job(id).await.result, Some(result));
    }
}

async fn a_result_goes_with_its_job(f: Fixture) {
    f.add("t").await;
    let id = complete(&f, &large()).await;
    assert_eq!(f.space(Space::Result).await.len(), 1);
    f.jobs.purge(&Query::new().id(id)).await.unwrap();
    assert_eq!(f.space(Space::Result).await, []);
    assert_eq!(f.jobs.result(id).await.unwrap(), None);
}

async fn a_result_that_is_too_large_is_refused_and_changes_nothing(f: Fixture) {
    f.add("t").await;
    let lease = f.claim_one().await.lease;
    let most = f.largest_payload();
    let of = |bytes: usize| Payload::of(&"x".repeat(bytes - 2)).unwrap();
    let refused = f.jobs.complete_with(&lease, of(most + 1)).await;
    let Err(Error::Invalid { code, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, "result-too-large");
    assert!(message.contains(&most.to_string()), "{message}");
    assert_eq!(f.job(lease.id).await.state, State::Running);
    f.jobs.complete_with(&lease, of(most)).await.unwrap();
    assert_eq!(f.jobs.result(lease.id).await.unwrap(), Some(of(most)));
}

async fn a_lease_that_is_over_stores_no_result(f: Fixture) {
    f.add("t").await;
    let lease = f.claim_one().await.lease;
    f.jobs.abandon(&lease).await.unwrap();
    let late = f.jobs.complete_with(&lease, large()).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    assert_eq!(f.jobs.result(lease.id).await.unwrap(), None);
    assert_eq!(f.space(Space::Result).await, []);
}

async fn whoever_waits_is_told_at_once(f: Fixture) {
    let (one, other) = (f.add("t").await.id, f.add("t").await.id);
    let (first, second) = (waiting(&f, one).await, waiting(&f, one).await);
    let third = waiting(&f, other).await;
    for _ in 0..2 {
        complete(&f, &large()).await;
    }
    for (wait, id) in [(first, one), (second, one), (third, other)] {
        let ended = told(wait).await;
        assert_eq!((ended.id, ended.state), (id, State::Completed));
        assert_eq!((ended.result, ended.error), (Some(large()), None));
    }
}

async fn whoever_waits_hears_of_it_from_another_process(f: Fixture) {
    let other = f.another().await;
    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    let claim = other.claim(Claim::new("other")).await.unwrap();
    let result = Payload::of(&7).unwrap();
    other
        .complete_with(&claim.jobs[0].lease, result)
        .await
        .unwrap();
    // A store that tells nobody of changes is looked at now and then.
    while !wait.is_finished() {
        f.clock.advance(Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = told(wait).await;
    assert_eq!(ended.value::<u32>().unwrap(), 7);
}

async fn a_job_that_has_ended_is_told_without_waiting(f: Fixture) {
    f.add("t").await;
    let id = complete(&f, &large()).await;
    let ended = within(f.jobs.wait(id, Duration::ZERO)).await.unwrap();
    assert_eq!(ended.result, Some(large()));
    // One without a result has nothing to say, which is no mistake.
    let id = f.add("t").await.id;
    f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
    let ended = f.jobs.wait(id, Duration::ZERO).await.unwrap();
    assert_eq!(ended.result, None);
    ended.value::<()>().unwrap();
    ended.value::<u32>().unwrap_err();
}

async fn whoever_waits_is_told_why_it_failed(f: Fixture) {
    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    let lease = f.claim_one().await.lease;
    let failure = Failure::new("no paper").retry(Retry::Never);
    f.jobs.fail(&lease, failure).await.unwrap();
    let ended = told(wait).await;
    assert_eq!(ended.state, State::Failed);
    assert_eq!(ended.error.as_deref(), Some("no paper"));
    let error = ended.value::<u32>().unwrap_err().to_string();
    assert!(error.contains("failed: no paper"), "{error}");

    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    let lease = f.claim_one().await.lease;
    let canceled = f.jobs.fail(&lease, Failure::canceled("not wanted")).await;
    assert_eq!(canceled.unwrap().state, State::Canceled);
    let ended = told(wait).await;
    assert_eq!(ended.state, State::Canceled);
    assert_eq!(ended.error.as_deref(), Some("not wanted"));

    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    assert_eq!(told(wait).await.state, State::Canceled);
}

async fn waiting_ends_when_its_time_is_over(f: Fixture) {
    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    // Not a moment before.
    f.clock.advance(Duration::from_millis(59_999));
    within(f.clock.wait_for_sleepers(1)).await;
    assert!(!wait.is_finished());
    f.clock.advance(Duration::from_millis(1));
    let over = within(wait).await.unwrap();
    let Err(Error::WaitTimedOut { id: of, waited, .. }) = over else {
        panic!("{over:?}");
    };
    assert_eq!((of, waited), (id, MINUTE));
    // Nothing has changed for it.
    assert_eq!(f.job(id).await.state, State::Ready);
}

async fn nobody_waits_for_a_job_that_is_not_there(f: Fixture) {
    let nobody = JobId::from_bytes([7; 16]);
    let unknown = within(f.jobs.wait(nobody, MINUTE)).await;
    assert!(
        matches!(unknown, Err(Error::UnknownJob { id }) if id == nobody),
        "{unknown:?}"
    );
}

async fn a_job_that_is_removed_meanwhile_keeps_nobody_waiting(f: Fixture) {
    let id = f.add("t").await.id;
    let wait = waiting(&f, id).await;
    // By one who sees to it that whoever waits did not see the end.
    f.forget(Fixture::key(Space::Job, id)).await;
    while !wait.is_finished() {
        f.clock.advance(Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(told(wait).await.state, State::Removed);
}

async fn a_lost_result_is_found_and_its_job_left_without(f: Fixture) {
    for damage in [Damage::ResultMissing, Damage::CorruptResult] {
        f.add("t").await;
        let id = complete(&f, &large()).await;
        let key = Fixture::key(Space::Result, id);
        match damage {
            Damage::ResultMissing => f.forget(key).await,
            _ => f.overwrite(key, b"\"short\"").await,
        }
        assert!(f.jobs.get(id).await.is_err());
        let mut found = Vec::new();
        let tell = |event| {
            if let kvjob::job::CheckEvent::Found(finding) = event {
                found.push(finding);
            }
        };
        let checked = f.jobs.check(true, tell).await.unwrap();
        assert_eq!(checked.left(), 0, "{found:?}");
        assert_eq!((found[0].damage, found[0].job), (damage, Some(id)));
        let job = f.job(id).await;
        assert_eq!((job.state, job.result), (State::Completed, None));
        assert!(f.space(Space::Result).await.is_empty());
        let checked = f.jobs.check(false, |_| ()).await.unwrap();
        assert_eq!(checked.found, 0);
    }
}

async fn a_result_of_nobody_is_put_aside(f: Fixture) {
    let id = f.add("t").await.id;
    f.put(Fixture::key(Space::Result, id), b"42").await;
    f.put(
        Fixture::key(Space::Result, JobId::from_bytes([7; 16])),
        b"42",
    )
    .await;
    let mut found = Vec::new();
    let tell = |event| {
        if let kvjob::job::CheckEvent::Found(finding) = event {
            found.push(finding.damage);
        }
    };
    f.jobs.check(true, tell).await.unwrap();
    found.sort();
    assert_eq!(found, [Damage::Orphan, Damage::Stale]);
    assert!(f.space(Space::Result).await.is_empty());
    assert_eq!(f.space(Space::Quarantine).await.len(), 2);
}

async fn a_trace_goes_with_its_job(f: Fixture) {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let job = || NewJob::new("t", &()).unwrap();
    f.enqueue(job().traceparent(trace.to_owned())).await;
    let claimed = f.claim_one().await.job;
    assert_eq!(claimed.traceparent.as_deref(), Some(trace));
    for bad in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ] {
        let refused = f.jobs.enqueue(job().traceparent(bad.to_owned())).await;
        assert!(
            matches!(
                &refused,
                Err(Error::Invalid {
                    code: "bad-traceparent",
                    ..
                })
            ),
            "{bad:?}: {refused:?}"
        );
    }
}
