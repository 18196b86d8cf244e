//! What is done to jobs by hand, by their ids or by the names of their workers.

use std::time::Duration;

use kvjob::job::{
    Backoff, CheckEvent, Claim, Claimed, Error, Failure, Job, JobId, Lease, LogQuery,
    LogStore as _, NewJob, Options, Query, QueueStore as _, Reschedule, Retention, Retry, State,
    StateStore as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    jobs_are_completed_by_hand,
    a_job_completed_by_hand_frees_its_key,
    a_job_completed_by_hand_is_kept_for_a_while_where_completed_ones_are_not,
    jobs_are_failed_by_hand,
    jobs_are_failed_by_hand_for_a_reason,
    jobs_are_rescheduled,
    what_is_not_set_is_not_rescheduled,
    rescheduling_revives_jobs_that_ended_badly,
    a_job_without_an_attempt_left_is_not_rescheduled,
    a_reschedule_that_cannot_be_is_refused,
    what_runs_under_a_live_lease_is_left_alone,
    a_lease_that_ran_out_is_taken_back_first,
    what_is_done_is_left_alone,
    the_jobs_of_a_worker_are_unlocked,
    leases_that_are_over_are_told_without_a_heartbeat,
    an_unlocked_job_has_used_an_attempt,
    an_unlocked_job_that_was_asked_to_stop_is_canceled,
    a_worker_whose_jobs_were_unlocked_goes_on_with_others,
    many_jobs_are_changed_in_commits_of_any_size,
    a_request_to_stop_leaves_a_step,
];

async fn nothing_is_wrong(f: &Fixture) {
    let checked = f.jobs.check(false, |event| {
        if let CheckEvent::Found(finding) = event {
            panic!("{finding:?}");
        }
    });
    checked.await.unwrap();
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// One job that is ready, one scheduled, one that failed, one canceled: in this order.
async fn four(f: &Fixture) -> Vec<JobId> {
    let failed = f.add("t").await.id;
    let claimed = f.claim_one().await;
    let failure = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&claimed.lease, failure).await.unwrap();
    let canceled = f.add("t").await.id;
    f.jobs.cancel(&Query::new().id(canceled)).await.unwrap();
    let ready = f.add("t").await.id;
    let scheduled = text("t", "").run_at(f.in_seconds(50));
    let scheduled = f.enqueue(scheduled).await.job.id;
    vec![ready, scheduled, failed, canceled]
}

async fn jobs_are_completed_by_hand(f: Fixture) {
    let four = four(&f).await;
    let changed = f.jobs.complete_jobs(&four).await.unwrap();
    assert_eq!(ids(&changed), four);
    for job in changed {
        assert_eq!(job.state, State::Completed);
        assert_eq!(f.job(job.id).await, job);
        let last = f.jobs.history(job.id).await.unwrap().pop().unwrap();
        assert_eq!(last.reason.as_deref(), Some("Manually marked as completed"));
    }
    assert!(f.listed().await.is_empty());
    assert!(f.space(Space::Attention).await.is_empty());
    nothing_is_wrong(&f).await;
    assert!(f.jobs.complete_jobs(&four).await.unwrap().is_empty());
}

async fn a_job_completed_by_hand_frees_its_key(f: Fixture) {
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    f.jobs.complete_jobs(&[id]).await.unwrap();
    assert!(f.enqueue(text("t", "").key("k")).await.is_new);
    nothing_is_wrong(&f).await;
}

async fn a_job_completed_by_hand_is_kept_for_a_while_where_completed_ones_are_not(f: Fixture) {
    let at_once = Retention::new().completed(Duration::ZERO);
    let options: Options = f.options().retention(at_once);
    let jobs = kvjob::job::KvStore::open(f.store.clone(), options)
        .await
        .unwrap();
    let id = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    assert_eq!(jobs.complete_jobs(&[id]).await.unwrap().len(), 1);
    let job = jobs.get(id).await.unwrap();
    assert_eq!(job.unwrap().state, State::Completed);
    assert!(jobs.complete_jobs(&[id]).await.unwrap().is_empty());
}

async fn jobs_are_failed_by_hand(f: Fixture) {
    let four = four(&f).await;
    let changed = f.jobs.fail_jobs(&four, None).await.unwrap();
    assert_eq!(ids(&changed), four[..2], "those that wait");
    for job in changed {
        assert_eq!(job.state, State::Failed);
        let why = job.last_error.as_deref();
        assert_eq!(why, Some("Manually marked as failed"));
        assert_eq!(f.job(job.id).await, job);
    }
    assert!(f.listed().await.is_empty());
    nothing_is_wrong(&f).await;
    assert!(f.jobs.fail_jobs(&four, None).await.unwrap().is_empty());
    let retried = f.jobs.retry(&Query::new()).await.unwrap();
    assert_eq!(retried.items.len(), 4);
    nothing_is_wrong(&f).await;
}

async fn jobs_are_failed_by_hand_for_a_reason(f: Fixture) {
    let reason = "e".repeat(1500);
    let id = f.add("t").await.id;
    f.jobs.fail_jobs(&[id], Some(&reason)).await.unwrap();
    let error = f.job(id).await.last_error.unwrap();
    assert!(error.len() <= 1024 && error.starts_with("eee"), "{error}");
    let lines = f.jobs.logs(&LogQuery::new(id)).await.unwrap().items;
    assert_eq!(lines[0].message, reason);
}

async fn jobs_are_rescheduled(f: Fixture) {
    let ids_ = vec![
        f.add("t").await.id,
        f.enqueue(text("t", "").run_at(f.in_seconds(5)))
            .await
            .job
            .id,
    ];
    let to = Reschedule::new()
        .run_at(f.in_seconds(20))
        .priority(-3)
        .attempts(2)
        .max_attempts(4);
    let changed = f.jobs.reschedule_jobs(&ids_, to.clone()).await.unwrap();
    assert_eq!(ids(&changed), ids_);
    for job in &changed {
        assert_eq!(
            (job.state, job.run_at),
            (State::Scheduled, f.in_seconds(20))
        );
        assert_eq!((job.priority, job.attempts, job.max_attempts), (-3, 2, 4));
        assert_eq!(f.job(job.id).await, *job);
    }
    nothing_is_wrong(&f).await;
    assert!(f.jobs.reschedule_jobs(&ids_, to).await.unwrap().is_empty());
    f.pass(19);
    assert!(f.claim(9).await.is_empty());
    f.pass(1);
    let claimed = f.claim(9).await;
    assert_eq!(claimed.len(), 2);
    assert_eq!(claimed[0].job.attempts, 3);
    nothing_is_wrong(&f).await;
}

async fn what_is_not_set_is_not_rescheduled(f: Fixture) {
    let job = text("t", "").priority(4).run_at(f.in_seconds(9));
    let before = f.enqueue(job).await.job;
    let sooner = Reschedule::new().run_at(f.now());
    let changed = f.jobs.reschedule_jobs(&[before.id], sooner).await.unwrap();
    let mut expected = before.clone();
    expected.state = State::Ready;
    expected.run_at = f.now();
    expected.revision += 1;
    assert_eq!(changed, [expected]);
    let nothing = Reschedule::new();
    let changed = f.jobs.reschedule_jobs(&[before.id], nothing).await.unwrap();
    assert!(changed.is_empty());
}

async fn rescheduling_revives_jobs_that_ended_badly(f: Fixture) {
    let job = text("t", "").max_attempts(2).backoff(Backoff::Fixed {
        wait: Duration::ZERO,
    });
    let worn_out = f.enqueue(job.clone()).await.job.id;
    let early = f.enqueue(job.priority(1)).await.job.id;
    for _ in 0..2 {
        let claimed = f.claim_one().await;
        assert_eq!(claimed.job.id, worn_out);
        f.jobs
            .fail(&claimed.lease, Failure::new("no"))
            .await
            .unwrap();
    }
    let claimed = f.claim_one().await;
    let failure = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&claimed.lease, failure).await.unwrap();
    let both = [worn_out, early];
    let changed = f.jobs.reschedule_jobs(&both, Reschedule::new()).await;
    let changed = changed.unwrap();
    assert_eq!(ids(&changed), both);
    // Out of attempts it gets all of them; with one left it has that one.
    assert_eq!((changed[0].attempts, changed[1].attempts), (0, 1));
    assert!(f.space(Space::Attention).await.is_empty());
    nothing_is_wrong(&f).await;
    assert_eq!(f.claim(9).await.len(), 2);
}

async fn a_job_without_an_attempt_left_is_not_rescheduled(f: Fixture) {
    let id = f.enqueue(text("t", "").max_attempts(3)).await.job.id;
    let before = f.job(id).await;
    let to = Reschedule::new().attempts(3).priority(9);
    assert!(f.jobs.reschedule_jobs(&[id], to).await.unwrap().is_empty());
    assert_eq!(f.job(id).await, before);
}

async fn a_reschedule_that_cannot_be_is_refused(f: Fixture) {
    let code = |error| match error {
        Error::Invalid { code, .. } => code,
        other => panic!("{other}"),
    };
    let id = f.add("t").await.id;
    let none = Reschedule::new().max_attempts(0);
    let error = f.jobs.reschedule_jobs(&[id], none).await.unwrap_err();
    assert_eq!(code(error), "max-attempts-zero");
    let none = Reschedule::new().attempts(2).max_attempts(2);
    let error = f.jobs.reschedule_jobs(&[id], none).await.unwrap_err();
    assert_eq!(code(error), "no-attempt-left");
}

/// Everything that is done by hand by id, and how many of the jobs it changed.
async fn all_by_hand(f: &Fixture, ids: &[JobId]) -> [usize; 3] {
    let to = Reschedule::new().priority(-9);
    [
        f.jobs.reschedule_jobs(ids, to).await.unwrap().len(),
        f.jobs.fail_jobs(ids, None).await.unwrap().len(),
        f.jobs.complete_jobs(ids).await.unwrap().len(),
    ]
}

async fn what_runs_under_a_live_lease_is_left_alone(f: Fixture) {
    f.add("t").await;
    let claimed = f.claim_one().await;
    let before = f.job(claimed.job.id).await;
    f.pass(60);
    assert_eq!(all_by_hand(&f, &[claimed.job.id]).await, [0, 0, 0]);
    assert_eq!(f.job(claimed.job.id).await, before);
    f.jobs.complete(&claimed.lease).await.unwrap();
}

async fn a_lease_that_ran_out_is_taken_back_first(f: Fixture) {
    for change in 0..3 {
        let id = f.add("t").await.id;
        let claimed = f.claim_one().await;
        f.pass(61);
        let to = Reschedule::new().run_at(f.in_seconds(1000));
        let changed = match change {
            0 => f.jobs.complete_jobs(&[id]).await.unwrap(),
            1 => f.jobs.fail_jobs(&[id], None).await.unwrap(),
            _ => f.jobs.reschedule_jobs(&[id], to).await.unwrap(),
        };
        assert_eq!(ids(&changed), [id]);
        let lost = f.jobs.complete(&claimed.lease).await.unwrap_err();
        assert!(matches!(lost, Error::LeaseLost { .. }));
        let steps = f.jobs.history(id).await.unwrap();
        let mut reasons = steps.iter().filter_map(|step| step.reason.as_deref());
        assert_eq!(reasons.next(), Some("lease expired"));
        assert_eq!(f.job(id).await.attempts, 1);
        nothing_is_wrong(&f).await;
        assert!(f.claim(9).await.is_empty());
        assert!(f.jobs.expire().await.unwrap().is_empty());
    }
}

async fn what_is_done_is_left_alone(f: Fixture) {
    let done = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let taken = f.add("t").await.id;
    f.jobs.dequeue(taken).await.unwrap();
    let nobody = JobId::from_bytes([9; 16]);
    let before = f.raw(Vec::new()).await;
    assert_eq!(all_by_hand(&f, &[done, taken, nobody]).await, [0, 0, 0]);
    assert_eq!(f.raw(Vec::new()).await, before);
}

async fn claim_as(f: &Fixture, worker: &str, max: usize) -> Vec<Claimed> {
    let claim = Claim::new(worker).max(max).lease(Duration::from_secs(60));
    f.jobs.claim(claim).await.unwrap().jobs
}

async fn the_jobs_of_a_worker_are_unlocked(f: Fixture) {
    for _ in 0..5 {
        f.add("t").await;
    }
    let lost = claim_as(&f, "dead", 2).await;
    let kept = claim_as(&f, "alive", 1).await;
    let other = f.another().await;
    let also = other.claim(Claim::new("dead")).await.unwrap().jobs;
    let dead = ["dead".to_owned(), "nobody".to_owned()];
    let mut unlocked = f.jobs.force_unlock(&dead).await.unwrap();
    unlocked.sort_by_key(|job| job.id);
    let expected: Vec<JobId> = lost.iter().chain(&also).map(|one| one.job.id).collect();
    assert_eq!(ids(&unlocked), expected);
    for (job, claimed) in unlocked.iter().zip(lost.iter().chain(&also)) {
        assert_eq!((job.state, job.attempts), (State::Ready, 1));
        assert_eq!(job.epoch, claimed.lease.epoch + 1);
        assert_eq!(f.job(job.id).await, *job);
        let late = f.jobs.complete(&claimed.lease).await.unwrap_err();
        assert!(matches!(late, Error::LeaseLost { .. }));
    }
    nothing_is_wrong(&f).await;
    assert!(f.jobs.force_unlock(&dead).await.unwrap().is_empty());
    f.jobs.complete(&kept[0].lease).await.unwrap();
    assert_eq!(f.claim(1).await.len(), 1, "they are due at once");
    nothing_is_wrong(&f).await;
}

async fn leases_that_are_over_are_told_without_a_heartbeat(f: Fixture) {
    for _ in 0..5 {
        f.add("t").await;
    }
    let taken = claim_as(&f, "w", 2).await;
    let kept = claim_as(&f, "alive", 3).await;
    let all: Vec<Lease> = taken
        .iter()
        .chain(&kept)
        .map(|one| one.lease.clone())
        .collect();
    let lost = async || f.jobs.lost(&all).await.unwrap();
    assert_eq!(lost().await, []);
    let other = f.another().await;
    other.force_unlock(&["w".to_owned()]).await.unwrap();
    assert_eq!(lost().await, all[..2]);
    // Whoever has one of them next, these stay lost.
    assert_eq!(claim_as(&f, "w", 1).await[0].job.id, all[0].id);
    assert_eq!(lost().await, all[..2]);
    f.jobs.complete(&kept[0].lease).await.unwrap();
    f.jobs.abandon(&kept[1].lease).await.unwrap();
    let over: Vec<JobId> = lost().await.iter().map(|lease| lease.id).collect();
    assert!(!over.contains(&all[4].id), "it lives: {over:?}");
    nothing_is_wrong(&f).await;
}

async fn an_unlocked_job_has_used_an_attempt(f: Fixture) {
    let id = f.enqueue(text("t", "").max_attempts(2)).await.job.id;
    let dead = ["dead".to_owned()];
    for left in [State::Ready, State::Failed] {
        assert_eq!(claim_as(&f, "dead", 1).await.len(), 1);
        let unlocked = f.jobs.force_unlock(&dead).await.unwrap();
        assert_eq!((unlocked[0].id, unlocked[0].state), (id, left));
        let why = unlocked[0].last_error.as_deref();
        assert_eq!(why, Some("taken from its worker by hand"));
    }
    nothing_is_wrong(&f).await;
}

async fn an_unlocked_job_that_was_asked_to_stop_is_canceled(f: Fixture) {
    f.add("t").await;
    claim_as(&f, "dead", 1).await;
    f.jobs.cancel(&Query::new()).await.unwrap();
    let unlocked = f.jobs.force_unlock(&["dead".to_owned()]).await.unwrap();
    assert_eq!(unlocked[0].state, State::Canceled);
    assert!(f.space(Space::Signal).await.is_empty());
    nothing_is_wrong(&f).await;
}

async fn a_worker_whose_jobs_were_unlocked_goes_on_with_others(f: Fixture) {
    f.add("t").await;
    claim_as(&f, "w", 1).await;
    f.jobs.force_unlock(&["w".to_owned()]).await.unwrap();
    let again = claim_as(&f, "w", 1).await;
    f.jobs.complete(&again[0].lease).await.unwrap();
    nothing_is_wrong(&f).await;
}

async fn many_jobs_are_changed_in_commits_of_any_size(f: Fixture) {
    const MANY: usize = 600;
    let new = (0..MANY).map(|_| NewJob::new("t", &()).unwrap());
    let added = f.jobs.enqueue_many(new.collect()).await.unwrap();
    let all: Vec<JobId> = added.iter().map(|one| one.job.id).collect();
    let to = Reschedule::new().priority(1);
    let changed = f.jobs.reschedule_jobs(&all, to).await.unwrap();
    assert_eq!(ids(&changed), all);
    let mut claimed = f.claim_all().await.len();
    let mut unlocked = f.jobs.force_unlock(&["worker".to_owned()]).await.unwrap();
    assert_eq!((claimed, unlocked.len()), (MANY, MANY));
    unlocked.dedup_by_key(|job| job.id);
    assert_eq!(unlocked.len(), MANY);
    assert_eq!(f.jobs.fail_jobs(&all, None).await.unwrap().len(), MANY);
    assert_eq!(f.jobs.complete_jobs(&all).await.unwrap().len(), MANY);
    claimed = f.claim_all().await.len();
    assert_eq!(claimed, 0);
    nothing_is_wrong(&f).await;
}

async fn a_request_to_stop_leaves_a_step(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.cancel(&Query::new()).await.unwrap();
    let steps = f.jobs.history(id).await.unwrap();
    let last = steps.last().unwrap();
    assert_eq!(
        (last.state, last.reason.as_deref()),
        (State::Running, Some("asked to stop"))
    );
    // Asked again, it is not asked again.
    assert!(f.jobs.cancel(&Query::new()).await.unwrap().items.is_empty());
    assert_eq!(f.jobs.canceled().await.unwrap(), [id]);
    f.jobs.complete(&claimed.lease).await.unwrap();
}
