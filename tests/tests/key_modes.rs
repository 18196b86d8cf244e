//! Keyed adds: what becomes of the job that has the key, by its state and the mode; and of one that
//! is removed by its key.

use std::time::Duration;

use kvjob::job::{
    Backoff, CheckEvent, Claimed, Done, Enqueued, Error, Failure, Job, JobId, KeyMode, KvStore,
    NewJob, Query, QueueStore as _, Retry, State, StateStore as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    replace_without_a_job_inserts,
    preserve_run_at_without_a_job_inserts,
    unsafe_dedupe_without_a_job_inserts,
    replace_gives_a_waiting_job_all_fields_anew,
    preserve_run_at_keeps_the_time_of_a_job_that_never_failed,
    unsafe_dedupe_leaves_a_waiting_job_unchanged,
    replace_gives_a_job_that_waits_for_a_retry_all_fields_anew,
    preserve_run_at_gives_a_job_that_waits_for_a_retry_the_new_time,
    unsafe_dedupe_leaves_a_job_that_waits_for_a_retry_unchanged,
    replace_takes_the_key_of_a_running_job_and_inserts,
    preserve_run_at_takes_the_key_of_a_running_job_and_inserts,
    unsafe_dedupe_leaves_a_running_job_unchanged,
    replace_takes_the_key_of_a_job_that_failed_for_good_and_inserts,
    preserve_run_at_takes_the_key_of_a_job_that_failed_for_good_and_inserts,
    unsafe_dedupe_leaves_a_job_that_failed_for_good_unchanged,
    a_retained_key_of_a_job_that_is_done_is_taken_in_every_mode,
    a_running_job_without_its_key_is_not_retried_when_its_lease_runs_out,
    a_running_job_without_its_key_may_complete_and_leaves_the_new_one_alone,
    a_running_job_without_its_key_that_is_given_back_runs_once_more,
    a_replaced_job_may_move_to_another_task,
    arguments_of_every_size_replace_each_other,
    keyed_adds_that_change_a_job_leave_a_step_and_no_others,
    a_mode_without_a_key_is_refused,
    a_waiting_job_is_deleted_by_its_key,
    a_running_job_is_taken_from_its_key_and_not_retried,
    a_job_that_failed_for_good_is_deleted_by_its_key,
    removing_a_key_that_nobody_has_changes_nothing,
    a_key_is_removed_of_its_tenant_only,
    many_keyed_adds_always_return_a_job_and_leave_one_waiting,
];

fn keyed(payload: &str, mode: KeyMode) -> NewJob {
    text("t", payload).key("the key").key_mode(mode)
}

/// A job with no field left to its default, due in 50 seconds.
fn furnished(f: &Fixture) -> NewJob {
    text("t", "old")
        .key("the key")
        .priority(7)
        .max_attempts(3)
        .run_at(f.in_seconds(50))
        .timeout(Duration::from_secs(9))
        .backoff(Backoff::Fixed {
            wait: Duration::from_secs(50),
        })
        .flag("slow")
}

async fn nothing_is_wrong(f: &Fixture) {
    let checked = f.jobs.check(false, |event| {
        if let CheckEvent::Found(finding) = event {
            panic!("{finding:?}");
        }
    });
    checked.await.unwrap();
}

async fn notes(f: &Fixture, id: JobId) -> Vec<String> {
    f.states(id).await;
    let steps = f.jobs.history(id).await.unwrap();
    steps.into_iter().filter_map(|step| step.reason).collect()
}

async fn fail(f: &Fixture, claimed: &Claimed, retry: Retry) -> State {
    let failure = Failure::new("no").retry(retry);
    f.jobs.fail(&claimed.lease, failure).await.unwrap().state
}

async fn inserts(f: Fixture, mode: KeyMode) {
    let added = f.enqueue(keyed("new", mode)).await;
    assert_eq!((added.done, added.is_new), (Done::Inserted, true));
    assert_eq!(added.job.key.as_deref(), Some("the key"));
    assert_eq!(f.claim_one().await.job.id, added.job.id);
    nothing_is_wrong(&f).await;
}

async fn replace_without_a_job_inserts(f: Fixture) {
    inserts(f, KeyMode::Replace).await;
}

async fn preserve_run_at_without_a_job_inserts(f: Fixture) {
    inserts(f, KeyMode::PreserveRunAt).await;
}

async fn unsafe_dedupe_without_a_job_inserts(f: Fixture) {
    inserts(f, KeyMode::UnsafeDedupe).await;
}

/// What a job of `keyed` is once it took the place of `old`.
fn anew(f: &Fixture, old: &Job) -> Job {
    let mut fresh = old.clone();
    fresh.lane.flags.clear();
    fresh.payload = kvjob::job::Payload::of("new").unwrap();
    fresh.state = State::Ready;
    fresh.priority = 0;
    fresh.run_at = f.now();
    fresh.attempts = 0;
    fresh.max_attempts = 25;
    fresh.backoff = Backoff::Default;
    fresh.timeout = None;
    fresh.last_error = None;
    fresh.started_at = None;
    fresh.revision += 1;
    fresh
}

/// Replaces `old`, which waits; `run_at` says what of it is kept.
async fn replaces(f: &Fixture, old: JobId, mode: KeyMode, keeps_run_at: bool) {
    let old = f.job(old).await;
    let added = f.enqueue(keyed("new", mode)).await;
    let mut expected = anew(f, &old);
    if keeps_run_at {
        (expected.run_at, expected.state) = (old.run_at, old.state);
    }
    assert_eq!((added.done, added.is_new), (Done::Replaced, false));
    assert_eq!(added.job, expected);
    assert_eq!(f.job(old.id).await, expected);
    assert_eq!(f.listed().await, [old.id]);
    nothing_is_wrong(f).await;
    if keeps_run_at {
        assert!(f.claim(9).await.is_empty());
        f.pass(50);
    }
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.payload.parse::<String>().unwrap(), "new");
    assert_eq!(claimed.job.attempts, 1);
    f.jobs.complete(&claimed.lease).await.unwrap();
    nothing_is_wrong(f).await;
}

async fn replace_gives_a_waiting_job_all_fields_anew(f: Fixture) {
    let old = f.enqueue(furnished(&f)).await.job.id;
    replaces(&f, old, KeyMode::Replace, false).await;
}

async fn preserve_run_at_keeps_the_time_of_a_job_that_never_failed(f: Fixture) {
    let old = f.enqueue(furnished(&f)).await.job.id;
    replaces(&f, old, KeyMode::PreserveRunAt, true).await;
}

/// A job that failed once and waits 50 seconds.
async fn failed_once(f: &Fixture) -> JobId {
    let id = f.enqueue(furnished(f).run_at(f.now())).await.job.id;
    let claimed = f.claim_one().await;
    assert_eq!(fail(f, &claimed, Retry::Backoff).await, State::Scheduled);
    assert_eq!(f.job(id).await.last_error.as_deref(), Some("no"));
    id
}

async fn replace_gives_a_job_that_waits_for_a_retry_all_fields_anew(f: Fixture) {
    let old = failed_once(&f).await;
    replaces(&f, old, KeyMode::Replace, false).await;
    assert!(notes(&f, old).await.contains(&"no".to_owned()), "its past");
}

async fn preserve_run_at_gives_a_job_that_waits_for_a_retry_the_new_time(f: Fixture) {
    let old = failed_once(&f).await;
    replaces(&f, old, KeyMode::PreserveRunAt, false).await;
}

/// A keyed add that changes nothing but the revision.
async fn dedupes(f: &Fixture, job: JobId) {
    let (before, steps) = (f.job(job).await, f.states(job).await);
    let added = f.enqueue(keyed("new", KeyMode::UnsafeDedupe)).await;
    let mut expected = before;
    expected.revision += 1;
    assert_eq!((added.done, added.is_new), (Done::Unchanged, false));
    assert_eq!((&added.job, &f.job(job).await), (&expected, &expected));
    assert_eq!(f.states(job).await, steps);
    assert_eq!(f.space(Space::Job).await.len(), 1);
    nothing_is_wrong(f).await;
}

async fn unsafe_dedupe_leaves_a_waiting_job_unchanged(f: Fixture) {
    let old = f.enqueue(furnished(&f)).await.job.id;
    dedupes(&f, old).await;
}

async fn unsafe_dedupe_leaves_a_job_that_waits_for_a_retry_unchanged(f: Fixture) {
    let old = failed_once(&f).await;
    dedupes(&f, old).await;
}

async fn unsafe_dedupe_leaves_a_running_job_unchanged(f: Fixture) {
    let old = f.enqueue(furnished(&f).run_at(f.now())).await.job.id;
    let claimed = f.claim_one().await;
    dedupes(&f, old).await;
    f.jobs.complete(&claimed.lease).await.unwrap();
}

async fn unsafe_dedupe_leaves_a_job_that_failed_for_good_unchanged(f: Fixture) {
    let old = f.enqueue(furnished(&f).run_at(f.now())).await.job.id;
    let claimed = f.claim_one().await;
    assert_eq!(fail(&f, &claimed, Retry::Never).await, State::Failed);
    dedupes(&f, old).await;
}

/// Takes the key of a running job; returns both.
async fn takes_over(f: &Fixture, mode: KeyMode) -> (Claimed, Enqueued) {
    let old = f.enqueue(text("t", "old").key("the key")).await.job;
    let claimed = f.claim_one().await;
    let added = f.enqueue(keyed("new", mode)).await;
    assert_eq!((added.done, added.is_new), (Done::Inserted, true));
    assert_ne!(added.job.id, old.id);
    let old = f.job(old.id).await;
    assert_eq!((old.state, old.key.as_deref()), (State::Running, None));
    assert_eq!(old.epoch, claimed.lease.epoch, "the lease stays valid");
    nothing_is_wrong(f).await;
    (claimed, added)
}

async fn loses_to_a_new_one(f: Fixture, mode: KeyMode) {
    let (old, new) = takes_over(&f, mode).await;
    // Both run.
    let second = f.claim_one().await;
    assert_eq!(second.job.id, new.job.id);
    assert_eq!(fail(&f, &old, Retry::Backoff).await, State::Failed);
    assert_eq!(fail(&f, &second, Retry::Backoff).await, State::Scheduled);
    // The key is the new one's.
    let again = f.enqueue(keyed("", KeyMode::UnsafeDedupe)).await;
    assert_eq!(again.job.id, new.job.id);
    nothing_is_wrong(&f).await;
}

async fn replace_takes_the_key_of_a_running_job_and_inserts(f: Fixture) {
    loses_to_a_new_one(f, KeyMode::Replace).await;
}

async fn preserve_run_at_takes_the_key_of_a_running_job_and_inserts(f: Fixture) {
    loses_to_a_new_one(f, KeyMode::PreserveRunAt).await;
}

async fn a_running_job_without_its_key_is_not_retried_when_its_lease_runs_out(f: Fixture) {
    let (old, new) = takes_over(&f, KeyMode::Replace).await;
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap(), [old.job.id]);
    assert_eq!(f.job(old.job.id).await.state, State::Failed);
    assert_eq!(f.listed().await, [new.job.id]);
}

async fn a_running_job_without_its_key_may_complete_and_leaves_the_new_one_alone(f: Fixture) {
    let (old, new) = takes_over(&f, KeyMode::Replace).await;
    f.jobs.complete(&old.lease).await.unwrap();
    let again = f.enqueue(keyed("", KeyMode::Replace)).await;
    assert_eq!((again.done, again.job.id), (Done::Replaced, new.job.id));
    nothing_is_wrong(&f).await;
}

async fn a_running_job_without_its_key_that_is_given_back_runs_once_more(f: Fixture) {
    let (old, _) = takes_over(&f, KeyMode::Replace).await;
    f.jobs.abandon(&old.lease).await.unwrap();
    let claimed = f.claim(9).await;
    assert_eq!(claimed.len(), 2, "the attempt was never counted");
    let old = claimed.iter().find(|one| one.job.id == old.job.id).unwrap();
    assert_eq!(fail(&f, old, Retry::Backoff).await, State::Failed);
}

async fn comes_after_one_that_failed(f: Fixture, mode: KeyMode) {
    for end in [State::Failed, State::TimedOut, State::Canceled] {
        let old = text("t", "old").key("the key").max_attempts(1);
        let old = f.enqueue(old).await.job.id;
        if end == State::Canceled {
            f.jobs.cancel(&Query::new().id(old)).await.unwrap();
        } else {
            let claimed = f.claim_one().await;
            let failure = match end {
                State::TimedOut => Failure::timed_out("no"),
                _ => Failure::new("no"),
            };
            f.jobs.fail(&claimed.lease, failure).await.unwrap();
        }
        let before = f.job(old).await;
        assert_eq!(before.state, end);
        let added = f.enqueue(keyed("new", mode)).await;
        assert_eq!((added.done, added.is_new), (Done::Inserted, true));
        let mut expected = before;
        expected.key = None;
        expected.revision += 1;
        assert_eq!(f.job(old).await, expected);
        nothing_is_wrong(&f).await;
        // It may still be retried, and leaves the new one's key alone when it is gone.
        let retried = f.jobs.retry(&Query::new().id(old)).await.unwrap();
        assert_eq!(retried.items.len(), 1);
        for claimed in f.claim(9).await {
            f.jobs.complete(&claimed.lease).await.unwrap();
        }
        nothing_is_wrong(&f).await;
    }
}

async fn replace_takes_the_key_of_a_job_that_failed_for_good_and_inserts(f: Fixture) {
    comes_after_one_that_failed(f, KeyMode::Replace).await;
}

async fn preserve_run_at_takes_the_key_of_a_job_that_failed_for_good_and_inserts(f: Fixture) {
    comes_after_one_that_failed(f, KeyMode::PreserveRunAt).await;
}

async fn a_retained_key_of_a_job_that_is_done_is_taken_in_every_mode(f: Fixture) {
    let id = f
        .enqueue(text("t", "").retained_key("the key"))
        .await
        .job
        .id;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let before = f.job(id).await;
    for mode in KeyMode::ALL {
        let added = f.enqueue(keyed("new", mode)).await;
        assert_eq!((added.done, added.job), (Done::Unchanged, before.clone()));
    }
    f.jobs.purge(&Query::new()).await.unwrap();
    assert!(f.enqueue(keyed("new", KeyMode::Replace)).await.is_new);
}

async fn a_replaced_job_may_move_to_another_task(f: Fixture) {
    let id = f.enqueue(keyed("old", KeyMode::Replace)).await.job.id;
    let moved = text("other", "new")
        .key("the key")
        .key_mode(KeyMode::Replace);
    assert_eq!(f.enqueue(moved).await.job.id, id);
    assert_eq!(f.claim_one().await.job.lane.task, "other");
    assert!(f.claim(9).await.is_empty());
    nothing_is_wrong(&f).await;
}

async fn arguments_of_every_size_replace_each_other(f: Fixture) {
    let sizes = [3, 900, 901, 3, 902, 902, 3];
    for size in sizes {
        let payload = "x".repeat(size);
        let added = f.enqueue(keyed(&payload, KeyMode::Replace)).await;
        assert_eq!(added.job.payload.parse::<String>().unwrap(), payload);
        let read = f.job(added.job.id).await.payload;
        assert_eq!(read.parse::<String>().unwrap(), payload);
        let stored = usize::from(size > 512);
        assert_eq!(f.space(Space::Payload).await.len(), stored);
        nothing_is_wrong(&f).await;
    }
    let large = "y".repeat(800);
    f.enqueue(keyed(&large, KeyMode::Replace)).await;
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.payload.parse::<String>().unwrap(), large);
    f.jobs.complete(&claimed.lease).await.unwrap();
    f.jobs.purge(&Query::new()).await.unwrap();
    assert!(f.space(Space::Payload).await.is_empty());
}

async fn keyed_adds_that_change_a_job_leave_a_step_and_no_others(f: Fixture) {
    let id = f.enqueue(keyed("", KeyMode::Replace)).await.job.id;
    for mode in [KeyMode::UnsafeDedupe, KeyMode::Replace] {
        for _ in 0..6 {
            f.enqueue(keyed("", mode)).await;
        }
    }
    let claimed = f.claim_one().await;
    f.enqueue(keyed("", KeyMode::UnsafeDedupe)).await;
    f.enqueue(keyed("", KeyMode::Replace)).await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let notes = notes(&f, id).await;
    let count = |text| notes.iter().filter(|note| *note == text).count();
    assert_eq!(count("replaced under its key"), 6);
    assert_eq!(count("its key went to a new job"), 1);
    // Only the claim names the worker.
    let steps = f.jobs.history(id).await.unwrap();
    let claims = steps.iter().filter(|step| step.worker.is_some());
    assert_eq!(claims.count(), 1);
}

async fn a_mode_without_a_key_is_refused(f: Fixture) {
    let job = text("t", "").key_mode(KeyMode::Replace);
    let error = f.jobs.enqueue(job).await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid { code, .. } if code == "key-mode-without-key"),
        "{error}"
    );
    for mode in KeyMode::ALL {
        assert_eq!(mode.as_str().parse::<KeyMode>().unwrap(), mode);
    }
    let error = "newest".parse::<KeyMode>().unwrap_err();
    assert!(matches!(error, Error::Invalid { code, .. } if code == "unknown-key-mode"));
}

#[test]
fn a_mode_that_is_not_known_is_refused_with_its_code() {
    for mode in KeyMode::ALL {
        assert_eq!(mode.to_string().parse::<KeyMode>().unwrap(), mode);
    }
    for text in ["", "Replace", "replace ", "newest"] {
        let refused = text.parse::<KeyMode>().unwrap_err();
        assert!(
            refused.to_string().contains("unknown-key-mode"),
            "{refused}"
        );
    }
}

async fn a_waiting_job_is_deleted_by_its_key(f: Fixture) {
    for job in [text("t", "").key("k"), text("t", "").retained_key("k")] {
        for run_at in [f.now(), f.in_seconds(9)] {
            let id = f.enqueue(job.clone().run_at(run_at)).await.job.id;
            let removed = f.jobs.remove_job("", "k").await.unwrap().unwrap();
            assert_eq!((removed.id, removed.state), (id, State::Removed));
            assert_eq!(f.job(id).await, removed);
            assert!(f.listed().await.is_empty());
            assert!(f.jobs.remove_job("", "k").await.unwrap().is_none());
            nothing_is_wrong(&f).await;
        }
    }
    f.pass(9);
    assert!(f.claim(9).await.is_empty());
    assert_eq!(f.jobs.purge(&Query::new()).await.unwrap().items.len(), 4);
}

async fn a_running_job_is_taken_from_its_key_and_not_retried(f: Fixture) {
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    let claimed = f.claim_one().await;
    let removed = f.jobs.remove_job("", "k").await.unwrap().unwrap();
    assert_eq!((removed.id, removed.state), (id, State::Running));
    assert_eq!(removed.key, None);
    assert!(f.jobs.remove_job("", "k").await.unwrap().is_none());
    nothing_is_wrong(&f).await;
    assert!(f.enqueue(text("t", "").key("k")).await.is_new);
    assert_eq!(fail(&f, &claimed, Retry::Backoff).await, State::Failed);
    nothing_is_wrong(&f).await;
}

async fn a_job_that_failed_for_good_is_deleted_by_its_key(f: Fixture) {
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    let claimed = f.claim_one().await;
    fail(&f, &claimed, Retry::Never).await;
    let removed = f.jobs.remove_job("", "k").await.unwrap().unwrap();
    assert_eq!((removed.id, removed.state), (id, State::Removed));
    assert!(f.space(Space::Attention).await.is_empty());
    assert!(f.enqueue(text("t", "").key("k")).await.is_new);
    nothing_is_wrong(&f).await;
}

async fn removing_a_key_that_nobody_has_changes_nothing(f: Fixture) {
    f.add("t").await;
    let before = f.raw(Vec::new()).await;
    assert!(f.jobs.remove_job("", "k").await.unwrap().is_none());
    assert_eq!(f.raw(Vec::new()).await, before);
}

async fn a_key_is_removed_of_its_tenant_only(f: Fixture) {
    let job = |tenant| text("t", "").key("k").tenant(tenant);
    let kept = f.enqueue(job("a")).await.job.id;
    f.enqueue(job("b")).await;
    assert!(f.jobs.remove_job("", "k").await.unwrap().is_none());
    assert!(f.jobs.remove_job("b", "k").await.unwrap().is_some());
    assert_eq!(f.listed().await, [kept]);
}

async fn many_keyed_adds_always_return_a_job_and_leave_one_waiting(f: Fixture) {
    let stores = [f.jobs.clone(), f.another().await];
    for turn in 0..6 {
        let tasks: Vec<_> = (0..16)
            .map(|number| tokio::spawn(contend(stores[number % 2].clone(), number, turn)))
            .collect();
        for mut task in tasks {
            // Those who lose a race wait a while for the next try.
            loop {
                tokio::select! {
                    done = &mut task => break done.unwrap(),
                    () = f.clock.wait_for_sleepers(1) => f.pass(1),
                }
            }
        }
        // Nobody changes what is read now. One that ran, lost the key to another and was given
        // back may wait, too: without a key.
        let mut waiting = Vec::new();
        for id in f.listed().await {
            waiting.push(f.job(id).await);
        }
        waiting.retain(|job| job.key.is_some());
        assert!(waiting.len() <= 1, "two wait under one key: {waiting:?}");
    }
    nothing_is_wrong(&f).await;
}

/// Adds, claims and ends jobs of one key; over the turns, in every mode.
async fn contend(jobs: KvStore, number: usize, turn: usize) {
    let mode = KeyMode::ALL[(number + turn) % 3];
    let payload = "x".repeat((number * turn * 97) % 1000);
    let added = jobs.enqueue(keyed(&payload, mode)).await.unwrap();
    if added.done != Done::Unchanged {
        assert_eq!(added.job.payload.parse::<String>().unwrap(), payload);
    }
    let claim = kvjob::job::Claim::new(format!("worker-{number}"));
    for claimed in jobs.claim(claim).await.unwrap().jobs {
        // Its lease may run out while the clock moves.
        let ended = match turn % 3 {
            0 => jobs.complete(&claimed.lease).await,
            1 => jobs.abandon(&claimed.lease).await,
            _ => {
                let failure = Failure::new("no").retry(Retry::After(Duration::ZERO));
                jobs.fail(&claimed.lease, failure).await.map(drop)
            }
        };
        assert!(matches!(ended, Ok(()) | Err(Error::LeaseLost { .. })));
    }
}
