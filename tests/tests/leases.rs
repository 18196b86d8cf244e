//! Attempts, leases, and what becomes of them.

use std::fmt::Debug;
use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::job::{
    Backoff, Beat, Claim, Claimed, Error, Failure, Job, JobId, Lease, NewJob, Query,
    QueueStore as _, Retry, State, StateStore as _, Store as _,
};
use kvjob::kv::Ownership;
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    a_completed_job_is_final_and_its_lease_over,
    an_attempt_is_counted_at_the_claim,
    a_job_gets_exactly_its_attempts,
    an_expired_attempt_is_one_of_its_attempts,
    a_failed_attempt_waits_for_its_backoff,
    a_failure_may_choose_its_wait_or_the_end,
    the_last_attempt_timing_out_ends_as_timed_out,
    a_snoozed_attempt_is_not_counted,
    an_abandoned_attempt_is_not_counted_and_stands_where_it_stood,
    a_stale_lease_changes_nothing,
    a_lease_of_a_job_that_is_gone_is_lost,
    a_heartbeat_extends_what_is_held,
    a_heartbeat_says_that_a_job_shall_stop,
    a_lease_is_not_taken_back_before_its_deadline,
    an_expired_lease_counts_as_a_failed_attempt,
    a_claim_takes_back_leases_by_itself,
    a_late_completion_before_the_sweep_still_counts,
    a_clock_that_jumps_does_not_end_leases,
    a_shared_store_waits_for_the_skew,
    stores_of_one_process_leave_each_others_leases_alone,
    leases_of_a_dead_process_are_taken_back_at_the_start,
    a_suspect_is_claimed_alone_and_one_at_a_time,
    a_suspect_is_cleared_by_an_attempt_that_ends,
    a_worker_record_lists_what_is_held,
    many_leases_of_one_worker_expire,
    canceling_a_waiting_job_ends_it,
    canceling_a_running_job_asks_it_to_stop,
    canceling_takes_only_the_jobs_of_the_query,
    a_canceled_job_that_loses_its_lease_is_not_tried_again,
    a_retried_job_has_all_its_attempts_again,
];

fn lost<T: Debug>(answer: &Result<T, Error>) {
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
}

/// Every operation that states a lease must refuse this one and change nothing.
async fn is_lost(f: &Fixture, lease: &Lease) {
    let before = f.raw(Vec::new()).await;
    lost(&f.jobs.complete(lease).await);
    lost(&f.jobs.fail(lease, Failure::new("late")).await);
    lost(&f.jobs.snooze(lease, f.now()).await);
    lost(&f.jobs.abandon(lease).await);
    let beats = f
        .jobs
        .heartbeat(std::slice::from_ref(lease), Duration::from_secs(9));
    assert_eq!(beats.await.unwrap(), [Beat::Lost]);
    assert_eq!(f.raw(Vec::new()).await, before);
}

fn at_once() -> Backoff {
    Backoff::Fixed {
        wait: Duration::ZERO,
    }
}

async fn fail(f: &Fixture, claimed: &Claimed) -> State {
    let failure = Failure::new(format!("attempt {}", claimed.job.attempts));
    f.jobs.fail(&claimed.lease, failure).await.unwrap().state
}

async fn a_completed_job_is_final_and_its_lease_over(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.pass(3);
    f.jobs.complete(&claimed.lease).await.unwrap();
    let job = f.job(id).await;
    assert_eq!(job.state, State::Completed);
    assert_eq!(job.ended_at, Some(f.now()));
    assert_eq!((job.worker, job.last_error), (None, None));
    is_lost(&f, &claimed.lease).await;
    f.pass(1000);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    assert!(f.claim(1).await.is_empty());
    assert_eq!(
        f.states(id).await,
        [State::Created, State::Running, State::Completed]
    );
}

async fn an_attempt_is_counted_at_the_claim(f: Fixture) {
    let id = f.add("t").await.id;
    assert_eq!(f.job(id).await.attempts, 0);
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.attempts, 1);
    let job = f.job(id).await;
    assert_eq!(job, claimed.job);
    assert_eq!((job.attempts, job.state), (1, State::Running));
    assert_eq!(job.worker.as_deref(), Some("worker"));
    assert_eq!(job.started_at, Some(f.now()));
    assert_eq!(claimed.lease.deadline, f.in_seconds(60));
    fail(&f, &claimed).await;
    assert_eq!(f.job(id).await.attempts, 1);
}

async fn a_job_gets_exactly_its_attempts(f: Fixture) {
    for attempts in 1..=5 {
        let job = text("t", "").max_attempts(attempts).backoff(at_once());
        let id = f.enqueue(job).await.job.id;
        for attempt in 1..=attempts {
            let claimed = f.claim_one().await;
            assert_eq!(claimed.job.attempts, attempt);
            let expected = if attempt < attempts {
                State::Ready
            } else {
                State::Failed
            };
            assert_eq!(fail(&f, &claimed).await, expected);
        }
        assert!(f.claim(1).await.is_empty());
        let job = f.job(id).await;
        assert_eq!(
            (job.state, job.attempts, job.max_attempts),
            (State::Failed, attempts, attempts)
        );
        assert_eq!(job.last_error, Some(format!("attempt {attempts}")));
        let reasons: Vec<String> = f
            .jobs
            .history(id)
            .await
            .unwrap()
            .into_iter()
            .filter_map(|step| step.reason)
            .collect();
        let expected: Vec<String> = (1..=attempts).map(|n| format!("attempt {n}")).collect();
        assert_eq!(reasons, expected);
    }
}

async fn an_expired_attempt_is_one_of_its_attempts(f: Fixture) {
    let job = text("t", "").max_attempts(3).backoff(at_once());
    let id = f.enqueue(job).await.job.id;
    for _ in 0..3 {
        f.claim_one().await;
        f.pass(61);
        assert_eq!(f.jobs.expire().await.unwrap(), [id]);
    }
    assert!(f.claim(1).await.is_empty());
    let job = f.job(id).await;
    assert_eq!((job.state, job.attempts), (State::Failed, 3));
    assert_eq!(job.last_error.as_deref(), Some("lease expired"));
    let states = f.states(id).await;
    let runs = states.iter().filter(|state| **state == State::Running);
    assert_eq!(runs.count(), 3);
}

async fn a_failed_attempt_waits_for_its_backoff(f: Fixture) {
    let backoff = Backoff::Exponential {
        base: Duration::from_secs(10),
        max: Duration::from_secs(25),
    };
    let id = f.enqueue(text("t", "").backoff(backoff)).await.job.id;
    for wait in [10, 20, 25, 25] {
        let claimed = f.claim_one().await;
        let failure = Failure::new("no");
        let outcome = f.jobs.fail(&claimed.lease, failure).await.unwrap();
        assert_eq!(outcome.state, State::Scheduled);
        assert_eq!(outcome.run_at, Some(f.in_seconds(wait)));
        assert_eq!(f.job(id).await.run_at, f.in_seconds(wait));
        f.pass(wait - 1);
        assert!(f.claim(1).await.is_empty());
        f.pass(1);
    }
    // The rule where none is given: e seconds after the first attempt.
    let other = f.enqueue(text("t", "").priority(-1)).await.job.id;
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.id, other);
    let outcome = f
        .jobs
        .fail(&claimed.lease, Failure::new("no"))
        .await
        .unwrap();
    let wait = outcome.run_at.unwrap().since(f.now());
    assert_eq!(wait, Duration::from_micros(2_718_281));
}

async fn a_failure_may_choose_its_wait_or_the_end(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    let failure = Failure::new("later").retry(Retry::After(Duration::from_secs(7)));
    let outcome = f.jobs.fail(&claimed.lease, failure).await.unwrap();
    assert_eq!(outcome.run_at, Some(f.in_seconds(7)));
    f.pass(7);
    let claimed = f.claim_one().await;
    let failure = Failure::new("never").retry(Retry::Never);
    let outcome = f.jobs.fail(&claimed.lease, failure).await.unwrap();
    assert_eq!((outcome.state, outcome.run_at), (State::Failed, None));
    let job = f.job(id).await;
    assert_eq!((job.attempts, job.state), (2, State::Failed));
    assert_eq!(job.last_error.as_deref(), Some("never"));
}

async fn the_last_attempt_timing_out_ends_as_timed_out(f: Fixture) {
    let job = text("t", "").max_attempts(2).backoff(at_once());
    let id = f.enqueue(job).await.job.id;
    for expected in [State::Ready, State::TimedOut] {
        let claimed = f.claim_one().await;
        let failure = Failure::timed_out("took too long");
        let outcome = f.jobs.fail(&claimed.lease, failure).await.unwrap();
        assert_eq!(outcome.state, expected);
    }
    assert_eq!(f.job(id).await.state, State::TimedOut);
}

async fn a_snoozed_attempt_is_not_counted(f: Fixture) {
    let id = f.enqueue(text("t", "").max_attempts(1)).await.job.id;
    for _ in 0..3 {
        let claimed = f.claim_one().await;
        assert_eq!(claimed.job.attempts, 1);
        let until = f.in_seconds(30);
        f.jobs.snooze(&claimed.lease, until).await.unwrap();
        let job = f.job(id).await;
        assert_eq!(
            (job.state, job.attempts, job.run_at),
            (State::Scheduled, 0, until)
        );
        is_lost(&f, &claimed.lease).await;
        f.pass(29);
        assert!(f.claim(1).await.is_empty());
        f.pass(1);
    }
    let claimed = f.claim_one().await;
    assert_eq!(fail(&f, &claimed).await, State::Failed);
}

async fn an_abandoned_attempt_is_not_counted_and_stands_where_it_stood(f: Fixture) {
    let id = f.enqueue(text("t", "").max_attempts(1)).await.job.id;
    let second = f.add("t").await.id;
    for _ in 0..3 {
        let claimed = f.claim_one().await;
        assert_eq!((claimed.job.id, claimed.job.attempts), (id, 1));
        f.pass(1);
        f.jobs.abandon(&claimed.lease).await.unwrap();
        let job = f.job(id).await;
        assert_eq!((job.state, job.attempts), (State::Ready, 0));
        assert_eq!(f.listed().await, [id, second]);
        is_lost(&f, &claimed.lease).await;
    }
}

async fn a_stale_lease_changes_nothing(f: Fixture) {
    let id = f.enqueue(text("t", "").backoff(at_once())).await.job.id;
    let first = f.claim_one().await;
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap(), [id]);
    is_lost(&f, &first.lease).await;
    let second = f.claim_one().await;
    assert!(second.lease.epoch > first.lease.epoch);
    is_lost(&f, &first.lease).await;
    assert_eq!(f.job(id).await.worker.as_deref(), Some("worker"));
    f.jobs.complete(&second.lease).await.unwrap();
    is_lost(&f, &second.lease).await;
    assert_eq!(f.job(id).await.state, State::Completed);
}

async fn a_lease_of_a_job_that_is_gone_is_lost(f: Fixture) {
    f.add("t").await;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let gone = f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(gone.items, [claimed.job.id]);
    is_lost(&f, &claimed.lease).await;
}

async fn a_heartbeat_extends_what_is_held(f: Fixture) {
    for _ in 0..3 {
        f.enqueue(text("t", "").backoff(at_once())).await;
    }
    let claimed = f.claim(3).await;
    let kept: Vec<Lease> = claimed[..2].iter().map(|one| one.lease.clone()).collect();
    f.pass(50);
    let mut asked = kept.clone();
    f.jobs.complete(&claimed[2].lease).await.unwrap();
    asked.insert(1, claimed[2].lease.clone());
    let beats = f
        .jobs
        .heartbeat(&asked, Duration::from_secs(100))
        .await
        .unwrap();
    let extended = Beat::Extended {
        deadline: f.in_seconds(100),
        cancel_requested: false,
    };
    assert_eq!(beats, [extended.clone(), Beat::Lost, extended]);
    f.pass(100);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    f.jobs.complete(&kept[0]).await.unwrap();
    f.clock.advance(Duration::from_micros(1));
    assert_eq!(f.jobs.expire().await.unwrap(), [kept[1].id]);
    assert!(
        f.jobs
            .heartbeat(&[], Duration::from_secs(1))
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_heartbeat_says_that_a_job_shall_stop(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    let leases = [claimed.lease];
    let beats = f.jobs.heartbeat(&leases, Duration::from_secs(60));
    let deadline = f.in_seconds(60);
    let cancel_requested = true;
    assert_eq!(
        beats.await.unwrap(),
        [Beat::Extended {
            deadline,
            cancel_requested
        }]
    );
}

async fn a_lease_is_not_taken_back_before_its_deadline(f: Fixture) {
    let id = f.add("t").await.id;
    f.claim_one().await;
    f.pass(60);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    assert_eq!(f.job(id).await.state, State::Running);
    f.clock.advance(Duration::from_micros(1));
    assert_eq!(f.jobs.expire().await.unwrap(), [id]);
    assert!(f.jobs.expire().await.unwrap().is_empty());
}

async fn an_expired_lease_counts_as_a_failed_attempt(f: Fixture) {
    let backoff = Backoff::Fixed {
        wait: Duration::from_secs(5),
    };
    let id = f
        .enqueue(text("t", "").max_attempts(2).backoff(backoff))
        .await
        .job
        .id;
    f.claim_one().await;
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap(), [id]);
    let job = f.job(id).await;
    assert_eq!((job.state, job.attempts), (State::Scheduled, 1));
    assert_eq!(job.run_at, f.in_seconds(5));
    assert_eq!(job.last_error.as_deref(), Some("lease expired"));
    let last = f.jobs.history(id).await.unwrap().pop().unwrap();
    assert_eq!(last.reason.as_deref(), Some("lease expired"));
    assert!(f.space(Space::Worker).await.is_empty());
}

async fn a_claim_takes_back_leases_by_itself(f: Fixture) {
    let id = f.enqueue(text("t", "").backoff(at_once())).await.job.id;
    f.claim_one().await;
    f.pass(61);
    let claimed = f.claim_one().await;
    assert_eq!((claimed.job.id, claimed.job.attempts), (id, 2));
}

async fn a_late_completion_before_the_sweep_still_counts(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.pass(3600);
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert!(f.jobs.expire().await.unwrap().is_empty());
    assert_eq!(f.job(id).await.state, State::Completed);
}

async fn a_clock_that_jumps_does_not_end_leases(f: Fixture) {
    let id = f.add("t").await.id;
    f.claim_one().await;
    f.clock.set_wall(f.in_seconds(86_400));
    assert!(f.jobs.expire().await.unwrap().is_empty());
    f.pass(59);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    assert_eq!(f.job(id).await.state, State::Running);
    // A lease later it is certain that its holder had its time.
    f.pass(2);
    assert_eq!(f.jobs.expire().await.unwrap(), [id]);
}

async fn a_shared_store_waits_for_the_skew(f: Fixture) {
    let id = f.add("t").await.id;
    f.claim_one().await;
    let skew = Duration::from_secs(10);
    let careful = kvjob::job::KvStore::open(f.store.clone(), f.options().max_skew(skew));
    let careful = careful.await.unwrap();
    f.pass(70);
    assert!(careful.expire().await.unwrap().is_empty());
    f.pass(1);
    assert_eq!(careful.expire().await.unwrap(), [id]);
}

async fn stores_of_one_process_leave_each_others_leases_alone(f: Fixture) {
    let id = f.enqueue(text("t", "").backoff(at_once())).await.job.id;
    let claimed = f.claim_one().await;
    let other = f.another().await;
    assert!(other.expire().await.unwrap().is_empty());
    assert!(
        other
            .claim(Claim::new("other"))
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    assert_eq!(f.job(id).await.state, State::Running);
    f.pass(61);
    assert_eq!(other.expire().await.unwrap(), [id]);
    is_lost(&f, &claimed.lease).await;
    let mine = other.claim(Claim::new("other")).await.unwrap().jobs;
    assert_eq!(mine[0].job.worker.as_deref(), Some("other"));
}

async fn leases_of_a_dead_process_are_taken_back_at_the_start(f: Fixture) {
    let id = f.enqueue(text("t", "").backoff(at_once())).await.job.id;
    let mine = f.add("t").await.id;
    let claimed = f.claim_one().await;
    // Another process is told by the first half of its incarnation: make this lease one's.
    let record = f.space(Space::Worker).await.remove(0);
    let at = Fixture::prefix(Space::Worker).len() + 1;
    let ours = &record.key.as_bytes()[at..at + 16];
    let mut theirs = ours.to_vec();
    theirs[..8].fill(0xdd);
    let swap = |bytes: &[u8]| {
        let at = bytes.windows(16).position(|part| part == ours).unwrap();
        [&bytes[..at], &theirs, &bytes[at + 16..]].concat()
    };
    let header = f.raw(Fixture::key(Space::Job, id)).await.remove(0);
    f.overwrite(Fixture::key(Space::Job, id), &swap(&header.value))
        .await;
    f.store.remove(&record).await.unwrap();
    f.overwrite(swap(record.key.as_bytes()), &record.value)
        .await;
    assert_eq!(f.claim_one().await.job.id, mine);

    f.jobs.stop().await.unwrap();
    let next = f.another().await;
    let job = next.get(id).await.unwrap().unwrap();
    if f.store.ownership() != Ownership::Exclusive {
        assert_eq!(job.state, State::Running, "nobody knows who is alive");
        return;
    }
    assert_eq!((job.state, job.attempts), (State::Ready, 1));
    assert_eq!(job.last_error.as_deref(), Some("lease expired"));
    let job = next.get(mine).await.unwrap().unwrap();
    assert_eq!(job.state, State::Running, "a lease of this process");
    lost(&next.complete(&claimed.lease).await);
    let again = next.claim(Claim::new("next")).await.unwrap().jobs;
    assert_eq!((again[0].job.id, again[0].job.attempts), (id, 2));
}

/// Jobs that lost their lease twice in a row, and are due.
async fn suspects(f: &Fixture, count: usize) -> Vec<JobId> {
    for _ in 0..count {
        f.enqueue(text("bad", "").backoff(at_once()).priority(-1))
            .await;
    }
    for _ in 0..2 {
        assert_eq!(f.claim(count).await.len(), count);
        f.pass(61);
        assert_eq!(f.jobs.expire().await.unwrap().len(), count);
    }
    f.listed().await
}

async fn a_suspect_is_claimed_alone_and_one_at_a_time(f: Fixture) {
    let bad = suspects(&f, 3).await;
    let mut good = Vec::new();
    for _ in 0..4 {
        good.push(f.add("good").await.id);
    }
    let first = f.claim(10).await;
    assert_eq!(first.len(), 1, "a suspect has company");
    assert_eq!((first[0].job.id, first[0].suspect), (bad[0], true));
    // Ordinary jobs go on, the other suspects wait.
    let others: Vec<JobId> = f.claim(10).await.iter().map(|one| one.job.id).collect();
    assert_eq!(others, good);
    assert!(f.claim(10).await.is_empty());
    f.jobs.complete(&first[0].lease).await.unwrap();
    let second = f.claim(10).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].job.id, bad[1]);
    assert!(f.claim(10).await.is_empty());
    // A third loss makes room as well.
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap().len(), 5);
    assert_eq!(f.claim(10).await.len(), 1);
}

async fn a_suspect_is_cleared_by_an_attempt_that_ends(f: Fixture) {
    let bad = suspects(&f, 2).await;
    let first = f.claim_one().await;
    assert_eq!(fail(&f, &first).await, State::Ready);
    // The first is an ordinary job again, the second is not.
    let first = f.claim(10).await;
    assert_eq!((first.len(), first[0].job.id), (1, bad[0]));
    let second = f.claim_one().await;
    assert_eq!(second.job.id, bad[1]);
    f.jobs.snooze(&second.lease, f.now()).await.unwrap();
    f.jobs.abandon(&first[0].lease).await.unwrap();
    assert_eq!(f.claim(10).await.len(), 2);
}

async fn a_worker_record_lists_what_is_held(f: Fixture) {
    for _ in 0..10 {
        f.add("t").await;
    }
    let claimed = f.claim(5).await;
    assert_eq!(f.space(Space::Worker).await.len(), 1);
    f.claim(1).await;
    assert_eq!(f.space(Space::Worker).await.len(), 1, "one record a worker");
    for one in claimed {
        f.jobs.complete(&one.lease).await.unwrap();
    }
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap().len(), 1);
    assert!(f.space(Space::Worker).await.is_empty());
}

async fn many_leases_of_one_worker_expire(f: Fixture) {
    let jobs = (0..1500)
        .map(|_| text("t", "").backoff(at_once()))
        .collect();
    f.jobs.enqueue_many(jobs).await.unwrap();
    let mut held = 0;
    while held < 1500 {
        held += f.claim(700).await.len();
    }
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap().len(), 1500);
    assert!(f.space(Space::Worker).await.is_empty());
    assert_eq!(f.space(Space::Ready).await.len(), 1500);
}

async fn canceling_a_waiting_job_ends_it(f: Fixture) {
    let ready = f.add("t").await.id;
    let scheduled = f
        .enqueue(text("t", "").run_at(f.in_seconds(5)))
        .await
        .job
        .id;
    let promoted = f
        .enqueue(text("t", "").run_at(f.in_seconds(1)).priority(9))
        .await
        .job
        .id;
    f.pass(1);
    let claimed = f.claim_one().await;
    f.jobs.abandon(&claimed.lease).await.unwrap();
    let page = f.jobs.cancel(&Query::new()).await.unwrap();
    let canceled: Vec<JobId> = page.items.iter().map(|job| job.id).collect();
    assert_eq!(canceled, [ready, scheduled, promoted]);
    for job in page.items {
        assert_eq!(job.state, State::Canceled);
        assert_eq!(f.job(job.id).await, job);
    }
    f.pass(9);
    assert!(f.claim(9).await.is_empty());
    for space in [Space::Ready, Space::Scheduled] {
        assert!(f.space(space).await.is_empty());
    }
    let again = f.jobs.cancel(&Query::new()).await.unwrap();
    assert!(again.items.is_empty());
}

async fn canceling_a_running_job_asks_it_to_stop(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    assert!(f.jobs.canceled().await.unwrap().is_empty());
    let page = f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    let job = &page.items[0];
    assert_eq!((job.state, job.cancel_requested), (State::Running, true));
    assert_eq!(f.jobs.canceled().await.unwrap(), [id]);
    assert!(f.another().await.canceled().await.unwrap().is_empty());
    let again = f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    assert!(again.items.is_empty(), "asked once is enough");
    // It stopped, and is not tried again.
    assert_eq!(fail(&f, &claimed).await, State::Canceled);
    assert!(f.jobs.canceled().await.unwrap().is_empty());
    assert!(f.space(Space::Signal).await.is_empty());

    // One that was done first is completed.
    let done = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.cancel(&Query::new().id(done)).await.unwrap();
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(f.job(done).await.state, State::Completed);
    assert!(f.space(Space::Signal).await.is_empty());
}

async fn canceling_takes_only_the_jobs_of_the_query(f: Fixture) {
    let running = f.add("a").await.id;
    f.claim_one().await;
    let other = f.add("b").await.id;
    let wanted = f.add("a").await.id;
    let query = Query::new()
        .task("a")
        .states([State::Ready, State::Scheduled]);
    let page = f.jobs.cancel(&query).await.unwrap();
    let canceled: Vec<JobId> = page.items.iter().map(|job| job.id).collect();
    assert_eq!(canceled, [wanted]);
    assert!(!f.job(running).await.cancel_requested);
    assert_eq!(f.job(other).await.state, State::Ready);
}

async fn a_canceled_job_that_loses_its_lease_is_not_tried_again(f: Fixture) {
    let id = f.add("t").await.id;
    f.claim_one().await;
    f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap(), [id]);
    assert_eq!(f.job(id).await.state, State::Canceled);
    assert!(f.space(Space::Signal).await.is_empty());
}

async fn a_retried_job_has_all_its_attempts_again(f: Fixture) {
    let mut ended: Vec<Job> = Vec::new();
    for number in 0..3 {
        let job = NewJob::new("t", &number).unwrap().max_attempts(1);
        let id = f.enqueue(job).await.job.id;
        let claimed = f.claim_one().await;
        match number {
            0 => drop(fail(&f, &claimed).await),
            1 => drop(
                f.jobs
                    .fail(&claimed.lease, Failure::timed_out("slow"))
                    .await
                    .unwrap(),
            ),
            _ => {
                f.jobs.abandon(&claimed.lease).await.unwrap();
                f.jobs.cancel(&Query::new().id(id)).await.unwrap();
            }
        }
        ended.push(f.job(id).await);
    }
    let done = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(f.space(Space::Attention).await.len(), 3);

    let retried = f.jobs.retry(&Query::new()).await.unwrap();
    let ids: Vec<JobId> = retried.items.iter().map(|job| job.id).collect();
    let expected: Vec<JobId> = ended.iter().map(|job| job.id).collect();
    assert_eq!(ids, expected);
    for job in &retried.items {
        assert_eq!(
            (job.state, job.attempts, job.ended_at),
            (State::Ready, 0, None)
        );
        assert_eq!(f.job(job.id).await, *job);
    }
    assert!(f.space(Space::Attention).await.is_empty());
    assert_eq!(f.claim(9).await.len(), 3);
    assert_eq!(f.job(done).await.state, State::Completed);
    assert!(f.jobs.retry(&Query::new()).await.unwrap().items.is_empty());
    assert!(f.clock.monotonic().is_zero());
}
