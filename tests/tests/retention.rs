//! How long jobs are kept after they ended, and what removes them (protocol rule 19).
//!
//! Where a test wants to see what one sweep does, it moves the wall clock alone, so that the task
//! which sweeps in the background sleeps on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kvjob::clock::Timestamp;
use kvjob::job::{
    Claim, Claimed, Error, Failure, JobId, KvStore, Level, LogStore as _, NewJob, Query,
    QueueStore as _, Retention, Retry, Selector, State, StateStore as _, Store as _,
};
use kvjob::kv::wrap::{Fault, Faulty, Operation, Traced};
use kvjob::kv::{
    self, Atomic, ErrorKind, Health, Key, Limits, Memory, Object, Ownership, Page, Scan, Watch,
};
use kvjob_tests::{Fixture, Space, on_every_store, text, within};
use tokio::sync::oneshot;

on_every_store![
    nothing_is_removed_unless_asked_for,
    a_completed_job_is_kept_as_long_as_said,
    no_job_is_removed_before_whoever_ended_it_can_know,
    a_job_that_ends_late_is_found_by_its_end,
    what_waits_or_runs_is_never_removed,
    failed_jobs_are_kept_for_a_time_of_their_own,
    failed_jobs_alone_are_removed,
    a_shorter_time_takes_effect_at_once,
    a_longer_time_takes_effect_for_what_is_left,
    a_retried_job_is_kept_from_its_new_end,
    a_job_that_was_taken_is_removed_later,
    a_sweep_leaves_nothing_behind,
    zero_removes_a_job_in_the_commit_that_completes_it,
    a_job_too_large_for_the_completing_commit_is_removed_by_the_next_sweep,
    a_removal_that_was_cut_off_is_finished_whatever_the_policy,
    two_processes_sweep_at_once,
    a_clock_that_is_set_back_hides_nothing,
    the_clock_of_another_process_may_lag,
    what_cannot_be_read_does_not_stop_a_sweep,
    an_entry_without_its_job_is_dropped,
    a_foreign_value_hides_no_job_from_a_sweep,
    the_time_of_the_end_selects_what_is_looked_up_and_purged,
    jobs_that_ended_late_are_not_listed_as_failed,
    what_a_check_mends_is_found_although_it_was_passed,
    what_a_sweep_leaves_half_done_is_sound,
];

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// How long an id waits to be passed.
const WALK: u64 = HOUR;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The jobs of the same store under a policy.
async fn kept(f: &Fixture, completed: Option<u64>, failed: Option<u64>) -> KvStore {
    let retention = Retention::new()
        .completed(completed.map(seconds))
        .failed(failed.map(seconds));
    let options = f.options().retention(retention).max_skew(Duration::ZERO);
    let jobs = KvStore::open(Arc::clone(&f.store), options).await.unwrap();
    // Its first sweep, which finds nothing: most tests begin here.
    if completed.or(failed).is_some() {
        f.clock.wait_for_sleepers(1).await;
    }
    jobs
}

/// Moves the wall clock, and nothing else.
fn later(f: &Fixture, by: u64) {
    f.clock.set_wall(f.now().after(seconds(by)));
}

async fn claim(jobs: &KvStore) -> Claimed {
    let mut claims = jobs
        .claim(Claim::new("w").lease(seconds(DAY)))
        .await
        .unwrap();
    assert_eq!(claims.jobs.len(), 1, "a job should be due");
    claims.jobs.remove(0)
}

/// Adds a job and ends it.
async fn ended(jobs: &KvStore, state: State) -> JobId {
    let id = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let claimed = claim(jobs).await;
    assert_eq!(claimed.job.id, id);
    end(jobs, &claimed, state).await;
    id
}

async fn end(jobs: &KvStore, claimed: &Claimed, state: State) {
    match state {
        State::Completed => jobs.complete(&claimed.lease).await.unwrap(),
        State::Failed => {
            let failure = Failure::new("no").retry(Retry::Never);
            jobs.fail(&claimed.lease, failure).await.unwrap();
        }
        other => panic!("cannot end as {other}"),
    }
}

/// The jobs that are there.
async fn there(jobs: &KvStore) -> BTreeSet<JobId> {
    let page = jobs
        .lookup(&Query::new().limit(Query::MAX_LIMIT))
        .await
        .unwrap();
    page.items.iter().map(|job| job.id).collect()
}

async fn nothing_is_removed_unless_asked_for(f: Fixture) {
    let ids = [
        ended(&f.jobs, State::Completed).await,
        ended(&f.jobs, State::Failed).await,
    ];
    later(&f, 1000 * DAY);
    assert_eq!(f.jobs.sweep().await.unwrap(), 0);
    assert_eq!(there(&f.jobs).await, BTreeSet::from(ids));
    assert!(f.space(Space::Retention).await.is_empty());
    assert_eq!(f.clock.sleepers(), 0, "nobody sweeps in the background");
}

async fn a_completed_job_is_kept_as_long_as_said(f: Fixture) {
    let jobs = kept(&f, Some(DAY), None).await;
    let id = ended(&jobs, State::Completed).await;
    later(&f, DAY - 1);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    later(&f, WALK);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert!(jobs.get(id).await.unwrap().is_some());
    later(&f, 2);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert!(jobs.get(id).await.unwrap().is_none());
    assert_eq!(jobs.sweep().await.unwrap(), 0);
}

async fn no_job_is_removed_before_whoever_ended_it_can_know(f: Fixture) {
    let jobs = kept(&f, Some(1), Some(0)).await;
    let completed = ended(&jobs, State::Completed).await;
    let failed = ended(&jobs, State::Failed).await;
    let shortest = Retention::SHORTEST.as_secs();
    later(&f, shortest);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    later(&f, 1);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert_eq!(there(&jobs).await, BTreeSet::from([completed]));
    assert_ne!(completed, failed);
    later(&f, WALK + 1);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
}

async fn a_job_that_ends_late_is_found_by_its_end(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), None).await;
    let id = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let long = claim(&jobs).await;
    // The walk passes its id while it runs.
    later(&f, 10 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert!(!f.space(Space::Retention).await.is_empty());
    jobs.complete(&long.lease).await.unwrap();
    assert_eq!(f.space(Space::Attention).await.len(), 1);
    later(&f, HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert!(jobs.get(id).await.unwrap().is_some());
    later(&f, 1);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert!(jobs.get(id).await.unwrap().is_none());
    assert!(f.space(Space::Attention).await.is_empty());

    // Exactly an hour after its id's time it is not late yet, a moment after it is.
    let second = jobs.enqueue(text("t", "")).await.unwrap().job;
    let punctual = claim(&jobs).await;
    later(&f, WALK);
    jobs.complete(&punctual.lease).await.unwrap();
    assert!(f.space(Space::Attention).await.is_empty());
    later(&f, HOUR + 1);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert!(jobs.get(second.id).await.unwrap().is_none());
}

async fn what_waits_or_runs_is_never_removed(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        ids.insert(jobs.enqueue(text("t", "")).await.unwrap().job.id);
    }
    let running = claim(&jobs).await;
    let scheduled = text("t", "").run_at(f.in_seconds(40 * DAY));
    ids.insert(jobs.enqueue(scheduled).await.unwrap().job.id);
    for _ in 0..3 {
        later(&f, 10 * DAY);
        assert_eq!(jobs.sweep().await.unwrap(), 0);
    }
    assert_eq!(there(&jobs).await, ids);
    later(&f, 10 * DAY);
    end(&jobs, &running, State::Completed).await;
    for state in [State::Completed, State::Failed] {
        let claimed = claim(&jobs).await;
        end(&jobs, &claimed, state).await;
    }
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    later(&f, HOUR + 1);
    assert_eq!(jobs.sweep().await.unwrap(), 3);
    assert!(there(&jobs).await.is_empty());
}

async fn failed_jobs_are_kept_for_a_time_of_their_own(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(30 * DAY)).await;
    let failed = ended(&jobs, State::Failed).await;
    let canceled = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    jobs.cancel(&Query::new().id(canceled)).await.unwrap();
    ended(&jobs, State::Completed).await;
    later(&f, DAY);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert_eq!(there(&jobs).await, BTreeSet::from([failed, canceled]));
    later(&f, 29 * DAY);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    later(&f, 1);
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    assert!(there(&jobs).await.is_empty());
    assert!(f.space(Space::Attention).await.is_empty());
}

async fn failed_jobs_alone_are_removed(f: Fixture) {
    let jobs = kept(&f, None, Some(HOUR)).await;
    let completed = ended(&jobs, State::Completed).await;
    ended(&jobs, State::Failed).await;
    // One that ends late stands beside the failed ones.
    let late = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let claimed = claim(&jobs).await;
    later(&f, 2 * HOUR);
    end(&jobs, &claimed, State::Completed).await;
    later(&f, 2 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert_eq!(there(&jobs).await, BTreeSet::from([completed, late]));
    // Once asked for, those are found, too.
    let all = kept(&f, Some(HOUR), Some(HOUR)).await;
    all.sweep().await.unwrap();
    assert!(there(&jobs).await.is_empty());
}

async fn a_shorter_time_takes_effect_at_once(f: Fixture) {
    let jobs = kept(&f, Some(30 * DAY), Some(30 * DAY)).await;
    for _ in 0..3 {
        ended(&jobs, State::Completed).await;
        ended(&jobs, State::Failed).await;
        later(&f, DAY);
    }
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    jobs.stop().await.unwrap();
    let jobs = kept(&f, Some(2 * DAY), Some(DAY + HOUR)).await;
    jobs.sweep().await.unwrap();
    let left = jobs.lookup(&Query::new()).await.unwrap().items;
    let left: Vec<State> = left.iter().map(|job| job.state).collect();
    // Of those that ended one, two and three days ago; the walk by ids waits for another hour.
    assert_eq!(left, [State::Completed, State::Completed, State::Failed]);
}

async fn a_longer_time_takes_effect_for_what_is_left(f: Fixture) {
    let short = kept(&f, Some(HOUR), Some(HOUR)).await;
    ended(&short, State::Completed).await;
    ended(&short, State::Failed).await;
    later(&f, DAY);
    assert_eq!(short.sweep().await.unwrap(), 2);
    let completed = ended(&short, State::Completed).await;
    let failed = ended(&short, State::Failed).await;
    short.stop().await.unwrap();
    let long = kept(&f, Some(10 * DAY), Some(20 * DAY)).await;
    later(&f, 9 * DAY);
    assert_eq!(long.sweep().await.unwrap(), 0);
    later(&f, 2 * DAY);
    assert_eq!(long.sweep().await.unwrap(), 1);
    assert!(long.get(completed).await.unwrap().is_none());
    later(&f, 9 * DAY + 1);
    assert_eq!(long.sweep().await.unwrap(), 1);
    assert!(long.get(failed).await.unwrap().is_none());
}

async fn a_retried_job_is_kept_from_its_new_end(f: Fixture) {
    let jobs = kept(&f, Some(DAY), Some(DAY)).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(ended(&jobs, State::Failed).await);
    }
    later(&f, DAY - 60);
    assert_eq!(jobs.retry(&Query::new()).await.unwrap().items.len(), 3);
    assert!(f.space(Space::Attention).await.is_empty());
    later(&f, 10 * DAY);
    assert_eq!(jobs.sweep().await.unwrap(), 0, "they wait again");
    let first = claim(&jobs).await;
    end(&jobs, &first, State::Completed).await;
    let second = claim(&jobs).await;
    end(&jobs, &second, State::Failed).await;
    let third = claim(&jobs).await;
    later(&f, DAY);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert_eq!(there(&jobs).await, ids.iter().copied().collect());
    later(&f, 1);
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    assert_eq!(there(&jobs).await, BTreeSet::from([third.job.id]));
}

async fn a_job_that_was_taken_is_removed_later(f: Fixture) {
    let jobs = kept(&f, Some(0), None).await;
    let id = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    assert!(
        jobs.dequeue_next(&Selector::default())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(jobs.get(id).await.unwrap().unwrap().state, State::Taken);
    later(&f, WALK);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    later(&f, Retention::SHORTEST.as_secs() + 1);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
}

/// A job that failed some times, with a large payload, a key and log lines, and is running.
async fn rich(jobs: &KvStore, f: &Fixture, lines: usize) -> Claimed {
    let job = NewJob::new("t", &"x".repeat(2000))
        .unwrap()
        .retained_key("k");
    let id = jobs.enqueue(job).await.unwrap().job.id;
    for _ in 0..12 {
        let claimed = claim(jobs).await;
        assert_eq!(claimed.job.id, id);
        let failure = Failure::new("no").retry(Retry::After(Duration::ZERO));
        jobs.fail(&claimed.lease, failure).await.unwrap();
    }
    for line in 0..lines {
        let message = format!("line {line}");
        jobs.log(id, Level::Info, message, [].into()).await.unwrap();
    }
    let claimed = claim(jobs).await;
    for space in [Space::Payload, Space::History, Space::Unique, Space::Log] {
        assert!(!f.space(space).await.is_empty(), "{space:?}");
    }
    claimed
}

/// What belongs to jobs; no more than the format, worker records and how far sweeps came may be
/// there besides.
async fn remains(f: &Fixture) -> usize {
    let mut count = f.raw(Vec::new()).await.len();
    for space in [Space::Format, Space::Worker] {
        count -= f.space(space).await.len();
    }
    let swept = f.raw(Fixture::prefix(Space::Retention)).await;
    count
        - swept
            .iter()
            .filter(|object| !object.value.is_empty())
            .count()
}

async fn a_sweep_leaves_nothing_behind(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let claimed = rich(&jobs, &f, 200).await;
    end(&jobs, &claimed, State::Failed).await;
    for _ in 0..100 {
        ended(&jobs, State::Completed).await;
    }
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 101);
    assert_eq!(remains(&f).await, 0);
}

async fn zero_removes_a_job_in_the_commit_that_completes_it(f: Fixture) {
    let jobs = kept(&f, Some(0), None).await;
    let claimed = rich(&jobs, &f, 3).await;
    // A line that is still on its way goes, too.
    let (id, message) = (claimed.job.id, "the last line".to_owned());
    jobs.log(id, Level::Info, message, [].into()).await.unwrap();
    jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(remains(&f).await, 0);
    assert!(jobs.get(id).await.unwrap().is_none());
    assert!(jobs.history(id).await.unwrap().is_empty());
    let again = jobs.complete(&claimed.lease).await;
    assert!(matches!(again, Err(Error::LeaseLost { .. })), "{again:?}");
    // Its key is free.
    let job = text("t", "").retained_key("k");
    assert!(jobs.enqueue(job).await.unwrap().is_new);
    // A failed one is kept all the same.
    let failed = claim(&jobs).await;
    end(&jobs, &failed, State::Failed).await;
    assert!(jobs.get(failed.job.id).await.unwrap().is_some());
}

async fn a_job_too_large_for_the_completing_commit_is_removed_by_the_next_sweep(f: Fixture) {
    let jobs = kept(&f, Some(0), None).await;
    let claimed = rich(&jobs, &f, 300).await;
    jobs.complete(&claimed.lease).await.unwrap();
    // Nothing accepts it any more.
    assert!(jobs.get(claimed.job.id).await.unwrap().is_none());
    assert!(there(&jobs).await.is_empty());
    let again = jobs.complete(&claimed.lease).await;
    assert!(matches!(again, Err(Error::LeaseLost { .. })), "{again:?}");
    assert!(jobs.enqueue(text("t", "").key("k")).await.unwrap().is_new);
    assert_eq!(f.space(Space::Job).await.len(), 2, "all of it fitted");
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert!(f.space(Space::Log).await.is_empty());
    assert!(f.space(Space::Payload).await.is_empty());
    assert!(f.space(Space::History).await.is_empty());
    assert_eq!(f.space(Space::Job).await.len(), 1);
}

async fn a_removal_that_was_cut_off_is_finished_whatever_the_policy(f: Fixture) {
    let claimed = rich(&f.jobs, &f, 500).await;
    end(&f.jobs, &claimed, State::Failed).await;
    // Long before, its id was passed.
    let sweeps = kept(&f, Some(HOUR), None).await;
    later(&f, 10 * DAY);
    assert_eq!(sweeps.sweep().await.unwrap(), 0);
    sweeps.stop().await.unwrap();

    let (id, all) = (claimed.job.id, Query::new());
    let mut cut_off = f.jobs.purge(&all);
    while f.jobs.get(id).await.unwrap().is_some() {
        assert!(futures::poll!(&mut cut_off).is_pending());
        tokio::task::yield_now().await;
    }
    drop(cut_off);
    assert!(!f.space(Space::Job).await.is_empty(), "it was not cut off");
    // Whoever sweeps next need not have a policy, nor look for it.
    let other = f.another().await;
    assert_eq!(other.sweep().await.unwrap(), 1);
    assert_eq!(remains(&f).await, 0);
}

async fn two_processes_sweep_at_once(f: Fixture) {
    for n in 0..300 {
        let state = if n % 3 == 0 {
            State::Failed
        } else {
            State::Completed
        };
        ended(&f.jobs, state).await;
    }
    let one = kept(&f, Some(HOUR), Some(HOUR)).await;
    let other = kept(&f, Some(HOUR), Some(HOUR)).await;
    f.clock.wait_for_sleepers(2).await;
    later(&f, 3 * HOUR);
    let both = async { tokio::join!(one.sweep(), other.sweep()) };
    let impatient = async {
        loop {
            f.clock.wait_for_sleepers(3).await;
            f.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    };
    let (one, other) = tokio::select! {
        both = both => both,
        () = impatient => unreachable!(),
    };
    // Each job was removed by one of them.
    assert_eq!(one.unwrap() + other.unwrap(), 300);
    assert_eq!(remains(&f).await, 0);
}

async fn a_clock_that_is_set_back_hides_nothing(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    // Somebody's clock is wrong by a month, and the walks go by it.
    for state in [State::Completed, State::Failed] {
        ended(&jobs, state).await;
    }
    let late = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let claimed = claim(&jobs).await;
    later(&f, 30 * DAY);
    end(&jobs, &claimed, State::Completed).await;
    later(&f, DAY);
    for state in [State::Completed, State::Failed] {
        ended(&jobs, state).await;
    }
    later(&f, DAY);
    assert_eq!(jobs.sweep().await.unwrap(), 5);
    assert!(jobs.get(late).await.unwrap().is_none());
    jobs.stop().await.unwrap();
    // It is set right; ids are made from it again by who starts now.
    f.clock.set_wall(f.now().before(seconds(32 * DAY)));
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let early = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let claimed = claim(&jobs).await;
    assert_eq!(claimed.job.id, early);
    for state in [State::Completed, State::Failed] {
        ended(&jobs, state).await;
    }
    later(&f, 2 * HOUR);
    end(&jobs, &claimed, State::Completed).await;
    jobs.sweep().await.unwrap();
    later(&f, 2 * HOUR);
    jobs.sweep().await.unwrap();
    assert!(there(&jobs).await.is_empty());
}

async fn the_clock_of_another_process_may_lag(f: Fixture) {
    let retention = Retention::new().completed(seconds(1)).failed(seconds(1));
    let options = f.options().retention(retention).max_skew(seconds(600));
    let jobs = KvStore::open(Arc::clone(&f.store), options).await.unwrap();
    let behind = f.another().await;
    let start = f.now();
    for step in 0..20 {
        let now = start.after(seconds(step * 400));
        f.clock.set_wall(now);
        ended(&jobs, State::Completed).await;
        ended(&jobs, State::Failed).await;
        jobs.sweep().await.unwrap();
        // The other one is ten minutes behind.
        f.clock.set_wall(now.before(seconds(600)));
        ended(&behind, State::Completed).await;
        ended(&behind, State::Failed).await;
    }
    later(&f, 3 * HOUR);
    jobs.sweep().await.unwrap();
    assert!(there(&jobs).await.is_empty());
}

async fn what_cannot_be_read_does_not_stop_a_sweep(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let mut ids = Vec::new();
    for state in [State::Completed, State::Failed] {
        for _ in 0..3 {
            ids.push(ended(&jobs, state).await);
        }
    }
    for (at, bytes) in [
        (0, b"\x02new"),
        (1, b"\x01old"),
        (3, b"\x02new"),
        (4, b"\x01old"),
    ] {
        f.overwrite(Fixture::key(Space::Job, ids[at]), bytes).await;
    }
    let broken = [Fixture::prefix(Space::Attention), b"\x01x".to_vec()].concat();
    f.overwrite(broken, b"").await;
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    assert_eq!(jobs.stats().await.unwrap().too_new, 2);
    assert_eq!(jobs.quarantine(9, None).await.unwrap().items.len(), 3);
    assert_eq!(f.space(Space::Job).await.len(), 2);

    // If what the sweep itself wrote cannot be read, it begins again.
    f.overwrite(Fixture::prefix(Space::Retention), b"\x01?")
        .await;
    ended(&jobs, State::Completed).await;
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    // If newer software wrote it, it is left alone.
    f.overwrite(Fixture::prefix(Space::Retention), b"\x02?")
        .await;
    ended(&jobs, State::Completed).await;
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
}

/// On a bag a value may stand before the job's own.
async fn a_foreign_value_hides_no_job_from_a_sweep(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let mut ids = Vec::new();
    for state in [State::Completed, State::Failed, State::Completed] {
        ids.push(ended(&jobs, state).await);
    }
    if !f.store.unique_keys() {
        for id in &ids[..2] {
            f.put(Fixture::key(Space::Job, *id), b"\x01").await;
        }
    }
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 3);
    assert!(f.space(Space::Job).await.is_empty());
    assert!(f.space(Space::Attention).await.is_empty());
}

async fn an_entry_without_its_job_is_dropped(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let gone = ended(&jobs, State::Failed).await;
    let entry = f.space(Space::Attention).await.remove(0);
    f.forget(Fixture::key(Space::Job, gone)).await;
    // An entry of an end that is over, for the job was retried since.
    let retried = ended(&jobs, State::Failed).await;
    let stale = f.space(Space::Attention).await.remove(1);
    jobs.retry(&Query::new().id(retried)).await.unwrap();
    f.store.set(stale).await.unwrap();
    assert_eq!(f.space(Space::Attention).await[0], entry);
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert!(f.space(Space::Attention).await.is_empty());
    assert_eq!(there(&jobs).await, BTreeSet::from([retried]));
}

async fn the_time_of_the_end_selects_what_is_looked_up_and_purged(f: Fixture) {
    let jobs = &f.jobs;
    let old = ended(jobs, State::Completed).await;
    let old_failed = ended(jobs, State::Failed).await;
    let long = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let running = claim(jobs).await;
    later(&f, DAY);
    let noon = f.now();
    end(jobs, &running, State::Completed).await;
    let failed = ended(jobs, State::Failed).await;
    jobs.enqueue(text("t", "")).await.unwrap();
    let before = |time: Timestamp| Query::new().ended_before(time);
    let found = async |query: Query| {
        let page = jobs.lookup(&query).await.unwrap();
        page.items.iter().map(|job| job.id).collect::<Vec<JobId>>()
    };
    assert_eq!(found(before(noon)).await, [old, old_failed]);
    assert_eq!(
        found(before(noon).states([State::Failed])).await,
        [old_failed]
    );
    assert_eq!(found(before(noon).id(long)).await, []);
    later(&f, 1);
    let all = [old, old_failed, long, failed];
    assert_eq!(
        found(before(f.now())).await,
        all,
        "what waits has not ended"
    );
    assert_eq!(jobs.purge(&before(noon).id(long)).await.unwrap().items, []);
    assert_eq!(
        jobs.purge(&before(noon)).await.unwrap().items,
        [old, old_failed]
    );
    assert_eq!(
        jobs.purge(&before(f.now())).await.unwrap().items,
        [long, failed]
    );
}

async fn jobs_that_ended_late_are_not_listed_as_failed(f: Fixture) {
    let jobs = &f.jobs;
    for _ in 0..2 {
        jobs.enqueue(text("t", "")).await.unwrap();
    }
    let (one, other) = (claim(jobs).await, claim(jobs).await);
    later(&f, 2 * HOUR);
    end(jobs, &one, State::Completed).await;
    end(jobs, &other, State::Failed).await;
    assert_eq!(f.space(Space::Attention).await.len(), 2);
    let failed = Query::new().states([State::Failed, State::Canceled]);
    let page = jobs.lookup(&failed).await.unwrap();
    let ids: Vec<JobId> = page.items.iter().map(|job| job.id).collect();
    assert_eq!(ids, [other.job.id]);
    assert!(
        jobs.retry(&Query::new().id(one.job.id))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn what_a_check_mends_is_found_although_it_was_passed(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let late = jobs.enqueue(text("t", "")).await.unwrap().job.id;
    let claimed = claim(&jobs).await;
    later(&f, 3 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    end(&jobs, &claimed, State::Completed).await;
    let failed = ended(&jobs, State::Failed).await;
    for entry in f.space(Space::Attention).await {
        f.store.remove(&entry).await.unwrap();
    }
    // Others are removed that ended then, too, and before.
    ended(&jobs, State::Failed).await;
    later(&f, 10 * HOUR);
    assert_eq!(jobs.sweep().await.unwrap(), 1);
    assert_eq!(there(&jobs).await, BTreeSet::from([late, failed]));
    assert_eq!(jobs.check(true, |_| {}).await.unwrap().mended, 2);
    assert_eq!(jobs.sweep().await.unwrap(), 2);
}

async fn what_a_sweep_leaves_half_done_is_sound(f: Fixture) {
    let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
    let claimed = rich(&jobs, &f, 300).await;
    end(&jobs, &claimed, State::Failed).await;
    for _ in 0..100 {
        ended(&jobs, State::Completed).await;
    }
    later(&f, 3 * HOUR);
    let sound = async || {
        let mut found = Vec::new();
        let tell = |event| found.push(format!("{event:?}"));
        jobs.check(false, tell).await.unwrap();
        found.retain(|event| event.starts_with("Found") && !event.contains("PurgeCutOff"));
        assert!(found.is_empty(), "{found:#?}");
    };
    let mut sweep = Box::pin(jobs.sweep());
    while futures::poll!(&mut sweep).is_pending() {
        sound().await;
    }
    sound().await;
    assert_eq!(remains(&f).await, 0);
}

#[tokio::test]
async fn a_job_that_left_what_was_asked_for_is_not_purged() {
    within(async {
        let store = Arc::new(Held::default());
        let f = Fixture::on(store.clone(), None).await;
        let id = ended(&f.jobs, State::Failed).await;
        let failed = Query::new().states([State::Failed]);
        // Between its look and its commit somebody retries the job and completes it.
        let open = store.hold();
        let mut purge = f.jobs.purge(&failed);
        assert!(futures::poll!(&mut purge).is_pending());
        let other = f.another().await;
        other.retry(&Query::new().id(id)).await.unwrap();
        let claimed = claim(&other).await;
        other.complete(&claimed.lease).await.unwrap();
        open.send(()).unwrap();
        assert_eq!(purge.await.unwrap().items, []);
        assert_eq!(there(&f.jobs).await, BTreeSet::from([id]));
    })
    .await;
}

/// What a sweep reads that removes one job of each kind, in a store with so many others that are
/// waiting, failed and kept, or were removed before.
async fn cost(others: usize) -> u64 {
    let store = Arc::new(Traced::new(Memory::new()));
    let f = Fixture::on(store.clone(), None).await;
    let jobs = kept(&f, Some(HOUR), Some(400 * DAY)).await;
    for _ in 0..others {
        ended(&jobs, State::Completed).await;
        ended(&jobs, State::Failed).await;
    }
    let late = jobs.enqueue(text("t", "")).await.unwrap();
    let claimed = claim(&jobs).await;
    let later_on = text("t", "").run_at(f.in_seconds(1000 * DAY));
    let waiting = (0..others).map(|_| later_on.clone()).collect();
    jobs.enqueue_many(waiting).await.unwrap();
    later(&f, DAY);
    assert_eq!(jobs.sweep().await.unwrap(), others as u64);
    end(&jobs, &claimed, State::Completed).await;
    ended(&jobs, State::Completed).await;
    later(&f, DAY);
    let before = reads(&store);
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    assert!(jobs.get(late.job.id).await.unwrap().is_none());
    let after = reads(&store);
    // And one that finds nothing.
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    assert!(reads(&store) - after < 20);
    after - before
}

/// Calls, and objects that were read.
fn reads(store: &Traced<Memory>) -> u64 {
    let of = |operation| {
        let counts = store.counts(operation);
        counts.calls + counts.objects_read
    };
    of(Operation::Get) + of(Operation::GetMany) + of(Operation::Scan) + of(Operation::ScanMany)
}

#[tokio::test]
async fn what_a_sweep_costs_does_not_depend_on_what_it_passed_before() {
    within(async {
        let alone = cost(1).await;
        assert!(alone > 4);
        assert_eq!(cost(30).await, alone);
        assert_eq!(cost(700).await, alone);
    })
    .await;
}

/// Jobs under a policy on a store that fails when told to, with somebody who lets time pass while
/// a commit waits to be tried again.
async fn on_faulty(
    completed: Option<u64>,
    test: impl AsyncFn(Fixture, KvStore, Arc<Faulty<Memory>>),
) {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let jobs = kept(&f, completed, None).await;
    let clock = f.clock.clone();
    let impatient = async {
        loop {
            // One sleeps until the next sweep.
            clock.wait_for_sleepers(2).await;
            clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    };
    within(async {
        tokio::select! {
            () = test(f, jobs, store) => (),
            () = impatient => (),
        }
    })
    .await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_known_although_its_job_is_gone() {
    for way in [
        &[Fault::LostAfter][..],
        &[Fault::LostBefore],
        &[Fault::LostBefore, Fault::LostAfter],
        &[Fault::LostAfter, Fault::Transient, Fault::LostBefore],
        &[Fault::ConditionFailed, Fault::LostAfter],
    ] {
        on_faulty(Some(0), async |f, jobs, store| {
            let claimed = rich(&jobs, &f, 3).await;
            store.next_writes(way.iter().copied());
            let done = jobs.complete(&claimed.lease).await;
            assert!(done.is_ok(), "{way:?}: {done:?}");
            assert!(store.is_done(), "{way:?}");
            assert_eq!(remains(&f).await, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn where_another_may_have_completed_it_the_answer_is_that_nobody_knows() {
    on_faulty(Some(0), async |f, jobs, store| {
        jobs.enqueue(text("t", "")).await.unwrap();
        let claimed = claim(&jobs).await;
        // Its time is up, but nobody has taken it back so far as this process knows.
        later(&f, 2 * DAY);
        store.next_writes([Fault::LostAfter]);
        let done = jobs.complete(&claimed.lease).await;
        let Err(Error::Store(error)) = &done else {
            panic!("{done:?}");
        };
        assert_eq!(*error.kind(), ErrorKind::Unknown);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_whose_answer_was_lost_counts_each_job_once() {
    for way in [&[Fault::LostAfter; 3][..], &[Fault::LostBefore; 3]] {
        on_faulty(Some(HOUR), async |f, jobs, store| {
            for _ in 0..200 {
                ended(&jobs, State::Completed).await;
            }
            later(&f, 3 * HOUR);
            store.next_writes(way.iter().copied());
            assert_eq!(jobs.sweep().await.unwrap(), 200, "{way:?}");
            assert!(store.is_done());
            assert_eq!(remains(&f).await, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_sweep_that_failed_half_way_is_gone_on_with() {
    on_faulty(Some(HOUR), async |f, jobs, store| {
        for _ in 0..200 {
            ended(&jobs, State::Completed).await;
        }
        later(&f, 3 * HOUR);
        store.next_writes([Fault::None, Fault::Broken]);
        assert!(jobs.sweep().await.is_err());
        let left = there(&jobs).await.len();
        assert!((1..200).contains(&left), "{left} are left");
        assert_eq!(jobs.sweep().await.unwrap(), left as u64);
    })
    .await;
}

#[tokio::test]
async fn a_page_of_a_sweep_is_small() {
    on_faulty(Some(HOUR), async |f, jobs, store| {
        for _ in 0..300 {
            ended(&jobs, State::Completed).await;
        }
        later(&f, 3 * HOUR);
        let before = store.commits().len();
        assert_eq!(jobs.sweep().await.unwrap(), 300);
        // 64 headers and the cursor; a commit for each job would be too many.
        assert_eq!(store.commits()[before..], [65, 65, 65, 65, 45]);
    })
    .await;
}

#[tokio::test]
async fn a_store_with_a_policy_sweeps_in_the_background() {
    within(async {
        let f = Fixture::memory().await;
        let jobs = kept(&f, Some(HOUR), Some(HOUR)).await;
        for _ in 0..200 {
            ended(&jobs, State::Completed).await;
            ended(&jobs, State::Failed).await;
        }
        later(&f, 3 * HOUR);
        assert_eq!(there(&jobs).await.len(), 400);
        f.pass(60);
        while !there(&jobs).await.is_empty() {
            tokio::task::yield_now().await;
        }
        f.clock.wait_for_sleepers(1).await;
        // And again, until the store is stopped.
        ended(&jobs, State::Completed).await;
        later(&f, 3 * HOUR);
        f.pass(60);
        while !there(&jobs).await.is_empty() {
            tokio::task::yield_now().await;
        }
        f.clock.wait_for_sleepers(1).await;
        jobs.stop().await.unwrap();
        while f.clock.sleepers() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_left_is_swept_when_the_store_is_opened() {
    within(async {
        let f = Fixture::memory().await;
        for _ in 0..200 {
            ended(&f.jobs, State::Completed).await;
        }
        later(&f, 3 * HOUR);
        let jobs = kept(&f, Some(HOUR), None).await;
        assert!(there(&jobs).await.is_empty());
        drop(f.jobs);
    })
    .await;
}

#[tokio::test]
async fn sweeping_in_the_background_ends_with_the_last_handle() {
    within(async {
        let f = Fixture::memory().await;
        let jobs = kept(&f, Some(HOUR), None).await;
        let clone = jobs.clone();
        drop(jobs);
        assert_eq!(f.clock.sleepers(), 1);
        drop(clone);
        while f.clock.sleepers() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_does_not_get_in_the_way_of_workers() {
    within(async {
        let f = Fixture::memory().await;
        for _ in 0..500 {
            ended(&f.jobs, State::Completed).await;
            ended(&f.jobs, State::Failed).await;
        }
        later(&f, 3 * HOUR);
        let jobs = Fixture::options(&f).retention(Retention::new().failed(seconds(HOUR)));
        let jobs = KvStore::open(Arc::clone(&f.store), jobs).await.unwrap();
        // While it removes the failed ones some are retried, some purged, and others added.
        let sweep = jobs.sweep();
        let some = Query::new().limit(50);
        let failed = Query::new().states([State::Failed]).limit(100);
        let (retry, purge) = (f.jobs.retry(&some), jobs.purge(&failed));
        let work = async {
            for _ in 0..50 {
                f.jobs.enqueue(text("other", "")).await.unwrap();
                let claim = Claim::new("w").tasks(["other"]);
                let claims = f.jobs.claim(claim).await.unwrap();
                f.jobs.complete(&claims.jobs[0].lease).await.unwrap();
            }
        };
        let (swept, retried, purged, ()) = tokio::join!(sweep, retry, purge, work);
        swept.unwrap();
        purged.unwrap();
        let retried = retried.unwrap().items;
        f.clock.wait_for_sleepers(1).await;
        let left = there(&jobs).await.len();
        assert_eq!(left, 500 + 50 + retried.len());
        for job in retried {
            assert_eq!(f.job(job.id).await.state, State::Ready);
        }
    })
    .await;
}

/// A [`Memory`] that can hold back an answer.
#[derive(Debug, Default)]
struct Held {
    inner: Memory,
    held: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Held {
    /// Holds back the answer to the next `get_many` until something is sent.
    fn hold(&self) -> oneshot::Sender<()> {
        let (open, held) = oneshot::channel();
        *self.held.lock().unwrap() = Some(held);
        open
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl kv::Store for Held {
    fn name(&self) -> &'static str {
        "held"
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> kv::Result<()> {
        self.inner.set(object).await
    }

    async fn get(&self, key: &Key) -> kv::Result<Option<Object>> {
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> kv::Result<Page> {
        self.inner.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> kv::Result<()> {
        self.inner.remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> kv::Result<()> {
        self.inner.delete(prefix).await
    }

    async fn get_many(&self, keys: &[Key]) -> kv::Result<Vec<Option<Object>>> {
        let found = self.inner.get_many(keys).await;
        let held = self.held.lock().unwrap().take();
        if let Some(held) = held {
            held.await.unwrap();
        }
        found
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> kv::Result<Vec<Page>> {
        self.inner.scan_many(scans).await
    }

    async fn start(&self) -> kv::Result<()> {
        self.inner.start().await
    }

    async fn stop(&self) -> kv::Result<()> {
        self.inner.stop().await
    }

    async fn health(&self) -> kv::Result<Health> {
        self.inner.health().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn ownership(&self) -> Ownership {
        self.inner.ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.inner.atomic()
    }

    fn watch(&self) -> Option<&dyn Watch> {
        kv::Store::watch(&self.inner)
    }
}
