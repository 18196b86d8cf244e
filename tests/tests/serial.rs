//! Serial queues: of the jobs of one queue key so many run at a time as its limit says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{
    Backoff, CheckEvent, Claim, Claimed, Error, Existing, Failure, Finding, JobId, KvStore,
    MAX_QUEUE, MAX_QUEUE_LIMIT, Namespace, NewJob, Options, Query, QueueStore as _, Retention,
    Retry, Selector, State, StateStore as _, Store as _,
};
use kvjob::kv::Memory;
use kvjob::kv::wrap::{Counts, Operation, Traced};
use kvjob_tests::{Fixture, Space, on_every_store, text};
use proptest::prelude::*;

on_every_store![
    one_job_of_a_queue_runs_at_a_time,
    a_claim_takes_no_two_of_one_queue,
    jobs_without_a_queue_and_other_queues_are_not_held_up,
    a_queue_is_served_in_order_across_its_lanes,
    each_lane_of_a_queue_is_served_where_only_it_is_asked_for,
    a_better_newcomer_goes_first,
    a_queue_of_a_tenant_is_its_own,
    while_one_waits_for_its_retry_the_next_one_runs,
    every_end_of_a_lease_frees_its_queue,
    a_lost_lease_frees_its_queue,
    who_leaves_a_queue_does_not_block_it,
    taking_jobs_for_good_takes_one_behind_the_other,
    a_scheduled_job_goes_through_its_queue_when_it_is_due,
    a_retried_job_goes_through_its_queue,
    a_running_job_that_is_to_stop_blocks_until_it_does,
    as_many_run_as_the_limit_says,
    a_limit_counts_for_what_begins_from_now_on,
    blocked_jobs_are_ready_and_listed,
    blocked_jobs_are_listed_page_by_page,
    a_queue_that_is_empty_leaves_nothing_behind,
    clearing_empties_queues,
    purged_jobs_leave_their_queues_usable,
    a_job_removed_as_it_completes_frees_its_queue,
    a_copied_queue_goes_on,
    a_queue_outlives_its_process,
    two_processes_do_not_miss_each_other,
    a_job_whose_header_cannot_be_read_does_not_block_its_queue,
    a_running_job_whose_header_cannot_be_read_does_not_block_its_queue,
    a_queue_whose_record_cannot_be_read_goes_on,
    a_queue_of_newer_software_is_left_alone,
    queue_keys_and_limits_are_refused_with_codes,
    more_lanes_than_are_exposed_are_all_served,
];

fn job(name: &str) -> NewJob {
    text("t", name).queue("q").backoff(Backoff::Fixed {
        wait: Duration::from_secs(5),
    })
}

async fn add(f: &Fixture, name: &str) -> JobId {
    f.enqueue(job(name)).await.job.id
}

fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.job.id).collect()
}

fn codes<T: std::fmt::Debug>(answer: Result<T, Error>) -> &'static str {
    match answer.unwrap_err() {
        Error::Invalid { code, .. } => code,
        other => panic!("not a refusal: {other}"),
    }
}

async fn findings(jobs: &KvStore, repair: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tell = |event| {
        if let CheckEvent::Found(finding) = event {
            findings.push(finding);
        }
    };
    jobs.check(repair, tell).await.unwrap();
    findings
}

/// Nothing is wrong with the store.
async fn is_sound(f: &Fixture) {
    let found = findings(&f.jobs, false).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// Completes what comes until nothing does, and says in which order.
async fn drain(f: &Fixture) -> Vec<JobId> {
    let mut order = Vec::new();
    loop {
        let claimed = f.claim(10).await;
        if claimed.is_empty() {
            is_sound(f).await;
            return order;
        }
        for claimed in claimed {
            f.jobs.complete(&claimed.lease).await.unwrap();
            order.push(claimed.job.id);
        }
    }
}

async fn one_job_of_a_queue_runs_at_a_time(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.id, first);
    assert_eq!(claimed.job.queue.as_deref(), Some("q"));
    assert!(f.claim(10).await.is_empty());
    is_sound(&f).await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(ids(&f.claim(10).await), [second]);
    is_sound(&f).await;
}

async fn a_claim_takes_no_two_of_one_queue(f: Fixture) {
    // Of several lanes, so that several stand in `ready`.
    for task in ["a", "b", "c"] {
        for number in 0..3 {
            f.enqueue(NewJob::new(task, &number).unwrap().queue("q"))
                .await;
        }
    }
    assert_eq!(f.space(Space::Ready).await.len(), 3);
    let many = Claim::new("w").max(100).lease(Duration::from_secs(60));
    let (one, other) = futures::join!(f.jobs.claim(many.clone()), f.jobs.claim(many));
    assert_eq!(one.unwrap().jobs.len() + other.unwrap().jobs.len(), 1);
    assert!(f.space(Space::Ready).await.is_empty());
    is_sound(&f).await;
}

async fn jobs_without_a_queue_and_other_queues_are_not_held_up(f: Fixture) {
    for name in ["1", "2", "3"] {
        add(&f, name).await;
    }
    let free = f.add("t").await.id;
    let other = f.enqueue(text("t", "4").queue("other")).await.job.id;
    let claimed = ids(&f.claim(10).await);
    assert_eq!(claimed.len(), 3);
    assert!(claimed.contains(&free) && claimed.contains(&other));
}

async fn a_queue_is_served_in_order_across_its_lanes(f: Fixture) {
    let mut expected = Vec::new();
    for number in 0..12i16 {
        let priority = (number * 5) % 12;
        let new = NewJob::new(format!("task-{}", number % 3), &number).unwrap();
        let new = if number % 2 == 0 { new } else { new.flag("f") };
        let new = new.priority(priority).queue("q");
        expected.push((priority, f.enqueue(new).await.job.id));
    }
    expected.sort_unstable();
    let expected: Vec<JobId> = expected.into_iter().map(|(_, id)| id).collect();
    assert_eq!(drain(&f).await, expected);
}

async fn each_lane_of_a_queue_is_served_where_only_it_is_asked_for(f: Fixture) {
    f.enqueue(text("a", "").queue("q").priority(-1)).await;
    f.enqueue(text("a", "").queue("q").priority(-1)).await;
    let wanted = f.enqueue(text("b", "").queue("q")).await.job.id;
    let claim = Claim::new("w").tasks(["b"]);
    let claimed = f.jobs.claim(claim).await.unwrap().jobs;
    assert_eq!(ids(&claimed), [wanted]);
    assert!(f.claim(10).await.is_empty());
    f.jobs.complete(&claimed[0].lease).await.unwrap();
    assert_eq!(drain(&f).await.len(), 2);
}

async fn a_better_newcomer_goes_first(f: Fixture) {
    let second = add(&f, "2").await;
    let last = add(&f, "3").await;
    let first = f.enqueue(job("1").priority(-1)).await.job.id;
    assert_eq!(f.space(Space::Ready).await.len(), 1);
    is_sound(&f).await;
    assert_eq!(drain(&f).await, [first, second, last]);
}

async fn a_queue_of_a_tenant_is_its_own(f: Fixture) {
    add(&f, "1").await;
    f.enqueue(job("2").tenant("acme")).await;
    f.enqueue(job("3").tenant("acme")).await;
    assert_eq!(f.claim(10).await.len(), 2);
}

async fn while_one_waits_for_its_retry_the_next_one_runs(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    let claimed = f.claim_one().await;
    let failed = f.jobs.fail(&claimed.lease, Failure::new("no")).await;
    assert_eq!(failed.unwrap().state, State::Scheduled);
    let next = f.claim_one().await;
    assert_eq!(next.job.id, second);
    f.pass(6);
    assert!(
        f.claim(10).await.is_empty(),
        "it is due, but the queue is not free"
    );
    f.jobs.complete(&next.lease).await.unwrap();
    assert_eq!(drain(&f).await, [first]);
}

async fn every_end_of_a_lease_frees_its_queue(f: Fixture) {
    for name in ["1", "2", "3", "4", "5", "6"] {
        add(&f, name).await;
    }
    let lease = f.claim_one().await.lease;
    f.jobs.complete(&lease).await.unwrap();
    let lease = f.claim_one().await.lease;
    let never = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&lease, never).await.unwrap();
    let lease = f.claim_one().await.lease;
    f.jobs.snooze(&lease, f.in_seconds(60)).await.unwrap();
    let given_back = f.claim_one().await;
    f.jobs.abandon(&given_back.lease).await.unwrap();
    let again = f.claim_one().await;
    assert_eq!(again.job.id, given_back.job.id, "it stands where it stood");
    f.jobs.cancel(&Query::new()).await.unwrap();
    f.jobs.abandon(&again.lease).await.unwrap();
    assert_eq!(f.job(again.job.id).await.state, State::Canceled);
    is_sound(&f).await;
    let next = add(&f, "7").await;
    assert_eq!(ids(&f.claim(10).await), [next]);
}

async fn a_lost_lease_frees_its_queue(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    f.claim_one().await;
    f.pass(61);
    assert_eq!(f.jobs.expire().await.unwrap(), [first]);
    is_sound(&f).await;
    let next = f.claim_one().await;
    assert_eq!(next.job.id, second);
    f.jobs.complete(&next.lease).await.unwrap();
    f.pass(60);
    assert_eq!(drain(&f).await, [first]);
}

async fn who_leaves_a_queue_does_not_block_it(f: Fixture) {
    let mut jobs = Vec::new();
    for name in ["exposed", "blocked", "exposed next", "blocked next", "last"] {
        jobs.push(add(&f, name).await);
    }
    let id = |index: usize| Query::new().id(jobs[index]);
    f.jobs.cancel(&id(0)).await.unwrap();
    is_sound(&f).await;
    f.jobs.cancel(&id(1)).await.unwrap();
    is_sound(&f).await;
    assert!(f.jobs.dequeue(jobs[2]).await.unwrap().is_some());
    is_sound(&f).await;
    f.enqueue(job("front").priority(-1)).await;
    assert!(f.jobs.dequeue(jobs[3]).await.unwrap().is_some());
    is_sound(&f).await;
    assert_eq!(drain(&f).await.last(), Some(&jobs[4]));
}

async fn taking_jobs_for_good_takes_one_behind_the_other(f: Fixture) {
    let expected = [add(&f, "1").await, add(&f, "2").await, add(&f, "3").await];
    let mut taken = Vec::new();
    while let Some(job) = f.jobs.dequeue_next(&Selector::default()).await.unwrap() {
        taken.push(job.id);
        is_sound(&f).await;
    }
    assert_eq!(taken, expected);
}

async fn a_scheduled_job_goes_through_its_queue_when_it_is_due(f: Fixture) {
    let later = job("later").run_at(f.in_seconds(10)).priority(-1);
    let later = f.enqueue(later).await.job.id;
    let soon = job("soon").run_at(f.in_seconds(5));
    let soon = f.enqueue(soon).await.job.id;
    assert_eq!(f.space(Space::Scheduled).await.len(), 2);
    assert!(f.claim(10).await.is_empty());
    f.pass(6);
    assert_eq!(ids(&f.claim(10).await), [soon]);
    f.pass(6);
    assert!(f.claim(10).await.is_empty());
    is_sound(&f).await;
    // What was promoted can leave, too.
    assert!(f.jobs.dequeue(later).await.unwrap().is_some());
    is_sound(&f).await;
}

async fn a_retried_job_goes_through_its_queue(f: Fixture) {
    let first = add(&f, "1").await;
    let lease = f.claim_one().await.lease;
    let never = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&lease, never).await.unwrap();
    let second = add(&f, "2").await;
    let running = f.claim_one().await;
    f.jobs.retry(&Query::new().id(first)).await.unwrap();
    assert!(f.claim(10).await.is_empty());
    f.jobs.complete(&running.lease).await.unwrap();
    assert_eq!(running.job.id, second);
    assert_eq!(drain(&f).await, [first]);
}

async fn a_running_job_that_is_to_stop_blocks_until_it_does(f: Fixture) {
    let first = add(&f, "1").await;
    let lease = f.claim_one().await.lease;
    add(&f, "2").await;
    f.jobs.cancel(&Query::new().id(first)).await.unwrap();
    assert!(f.claim(10).await.is_empty());
    let failed = f.jobs.fail(&lease, Failure::new("stopped")).await.unwrap();
    assert_eq!(failed.state, State::Canceled);
    assert_eq!(drain(&f).await.len(), 1);
}

async fn as_many_run_as_the_limit_says(f: Fixture) {
    f.jobs.limit_queue("", "q", 3).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..8 {
        expected.push(add(&f, &number.to_string()).await);
    }
    let first = f.claim(10).await;
    assert_eq!(ids(&first), expected[..3]);
    assert!(f.claim(10).await.is_empty());
    is_sound(&f).await;
    f.jobs.complete(&first[1].lease).await.unwrap();
    assert_eq!(ids(&f.claim(10).await), expected[3..4]);
    f.jobs.complete(&first[0].lease).await.unwrap();
    f.jobs.complete(&first[2].lease).await.unwrap();
    assert_eq!(f.claim(10).await.len(), 2);
    is_sound(&f).await;
}

async fn a_limit_counts_for_what_begins_from_now_on(f: Fixture) {
    for number in 0..6 {
        add(&f, &number.to_string()).await;
    }
    assert_eq!(f.claim(10).await.len(), 1);
    f.jobs.limit_queue("", "q", 3).await.unwrap();
    is_sound(&f).await;
    let running = f.claim(10).await;
    assert_eq!(running.len(), 2);
    f.jobs.limit_queue("", "q", 1).await.unwrap();
    is_sound(&f).await;
    for claimed in &running {
        f.jobs.complete(&claimed.lease).await.unwrap();
        assert!(f.claim(10).await.is_empty());
    }
    is_sound(&f).await;
}

async fn blocked_jobs_are_ready_and_listed(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    let free = f.add("t").await.id;
    assert_eq!(f.job(second).await.state, State::Ready);
    assert_eq!(f.listed().await, [first, free, second]);
    let stats = f.jobs.stats().await.unwrap();
    assert_eq!(stats.states.get(&State::Ready), Some(&3));
}

async fn blocked_jobs_are_listed_page_by_page(f: Fixture) {
    let mut expected = BTreeSet::new();
    for number in 0..5 {
        let name = number.to_string();
        expected.insert(add(&f, &name).await);
        let other = text("u", &name).queue(format!("q-{}", number % 2));
        expected.insert(f.enqueue(other).await.job.id);
        let later = job(&name).run_at(f.in_seconds(10));
        expected.insert(f.enqueue(later).await.job.id);
    }
    let listed = f.listed().await;
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    for limit in [2, 3, 4, 100] {
        let (mut count, mut cursor) = (0, None);
        loop {
            let page = f.jobs.list(limit, cursor).await.unwrap();
            count += page.items.len();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(count, expected.len(), "pages of {limit}");
    }
}

async fn a_queue_that_is_empty_leaves_nothing_behind(f: Fixture) {
    for name in ["1", "2"] {
        add(&f, name).await;
    }
    drain(&f).await;
    assert!(f.space(Space::Queue).await.is_empty());
    assert!(f.space(Space::Wait).await.is_empty());
    assert!(f.space(Space::Ready).await.is_empty());
    // A limit stays, until it is what it was.
    f.jobs.limit_queue("", "q", 2).await.unwrap();
    assert_eq!(f.space(Space::Queue).await.len(), 1);
    f.jobs.limit_queue("", "q", 1).await.unwrap();
    assert!(f.space(Space::Queue).await.is_empty());
}

async fn clearing_empties_queues(f: Fixture) {
    for name in ["1", "2"] {
        add(&f, name).await;
    }
    f.claim_one().await;
    f.jobs.clear().await.unwrap();
    assert!(f.space(Space::Queue).await.is_empty());
    let next = add(&f, "3").await;
    assert_eq!(ids(&f.claim(10).await), [next]);
}

async fn purged_jobs_leave_their_queues_usable(f: Fixture) {
    for name in ["1", "2", "3"] {
        add(&f, name).await;
    }
    let lease = f.claim_one().await.lease;
    f.jobs.complete(&lease).await.unwrap();
    let page = f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(drain(&f).await.len(), 2);
}

async fn a_job_removed_as_it_completes_frees_its_queue(f: Fixture) {
    let retention = Retention::new().completed(Duration::ZERO);
    let options = f.options().retention(retention);
    let jobs = KvStore::open(Arc::clone(&f.store), options).await.unwrap();
    for name in ["1", "2", "3"] {
        jobs.enqueue(job(name)).await.unwrap();
    }
    for _ in 0..3 {
        let claimed = jobs.claim(Claim::new("w").max(9)).await.unwrap().jobs;
        assert_eq!(claimed.len(), 1);
        jobs.complete(&claimed[0].lease).await.unwrap();
    }
    is_sound(&f).await;
    assert!(f.space(Space::Job).await.is_empty());
}

async fn a_copied_queue_goes_on(f: Fixture) {
    for name in ["1", "2", "3"] {
        add(&f, name).await;
    }
    let to = Arc::new(Memory::new());
    let from = Namespace::open(Arc::clone(&f.store), "kvjob")
        .await
        .unwrap();
    let copy = Namespace::open(to.clone(), "kvjob").await.unwrap();
    let copied = from.copy_to(&copy, Existing::Refuse, |_| {}).await;
    copied.unwrap();
    let jobs = KvStore::open(to, f.options()).await.unwrap();
    assert!(findings(&jobs, false).await.is_empty());
    for _ in 0..3 {
        let claimed = jobs.claim(Claim::new("w").max(9)).await.unwrap().jobs;
        assert_eq!(claimed.len(), 1);
        jobs.complete(&claimed[0].lease).await.unwrap();
    }
}

async fn a_queue_outlives_its_process(mut f: Fixture) {
    let mut expected = Vec::new();
    for name in ["1", "2", "3"] {
        expected.push(add(&f, name).await);
    }
    f.reopen().await;
    is_sound(&f).await;
    assert_eq!(drain(&f).await, expected);
}

/// Neither sees what the other is about to do, until one of the two commits fails.
async fn two_processes_do_not_miss_each_other(f: Fixture) {
    let other = f.another().await;
    for round in 0..20 {
        let running = add(&f, "running").await;
        let claimed = f.claim_one().await;
        assert_eq!(claimed.job.id, running, "round {round}");
        let (done, added) = futures::join!(
            f.jobs.complete(&claimed.lease),
            other.enqueue(job("blocked?")),
        );
        done.unwrap();
        let added = added.unwrap().job.id;
        is_sound(&f).await;
        let claim = Claim::new("w").max(9).lease(Duration::from_secs(60));
        let (one, two) = futures::join!(f.jobs.claim(claim.clone()), other.claim(claim));
        let mut got = one.unwrap().jobs;
        got.extend(two.unwrap().jobs);
        if got.is_empty() {
            // Neither has looked for the other's lanes yet.
            f.pass(2);
            got = f.claim(9).await;
        }
        assert_eq!(ids(&got), [added], "round {round}");
        other.complete(&got[0].lease).await.unwrap();
    }
}

async fn a_job_whose_header_cannot_be_read_does_not_block_its_queue(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    f.overwrite(Fixture::key(Space::Job, first), b"\x01\xff")
        .await;
    let mut claimed = f.claim(10).await;
    if claimed.is_empty() {
        claimed = f.claim(10).await;
    }
    assert_eq!(ids(&claimed), [second]);
    is_sound(&f).await;
}

async fn a_running_job_whose_header_cannot_be_read_does_not_block_its_queue(f: Fixture) {
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    f.claim_one().await;
    f.overwrite(Fixture::key(Space::Job, first), b"\x01\xff")
        .await;
    f.pass(61);
    f.jobs.expire().await.unwrap();
    assert_eq!(ids(&f.claim(10).await), [second]);
    is_sound(&f).await;
}

async fn a_queue_whose_record_cannot_be_read_goes_on(f: Fixture) {
    let mut expected = Vec::new();
    for name in ["1", "2", "3"] {
        expected.push(add(&f, name).await);
    }
    // While a job is exposed, and while one runs.
    for (running, bad) in [(false, b"\x01\xff"), (true, b"\x01\xfe")] {
        let claimed = if running {
            f.claim(1).await
        } else {
            Vec::new()
        };
        let record = f.space(Space::Queue).await.remove(0);
        f.overwrite(record.key.as_bytes().to_vec(), bad).await;
        add(&f, "4").await;
        if running {
            assert!(f.claim(10).await.is_empty(), "it knows who runs");
        }
        is_sound_or_mends(&f).await;
        for claimed in claimed {
            f.jobs.complete(&claimed.lease).await.unwrap();
        }
    }
    assert_eq!(drain(&f).await.len(), 4);
    let stats = f.jobs.stats().await.unwrap();
    assert_eq!(stats.quarantined, 2);
}

/// What a check finds, it mends.
async fn is_sound_or_mends(f: &Fixture) {
    let found = findings(&f.jobs, true).await;
    assert!(found.iter().all(|one| one.mended), "{found:#?}");
    is_sound(f).await;
}

async fn a_queue_of_newer_software_is_left_alone(f: Fixture) {
    add(&f, "1").await;
    let record = f.space(Space::Queue).await.remove(0);
    let newer = b"\x7fnobody knows";
    f.overwrite(record.key.as_bytes().to_vec(), newer).await;
    let free = f.add("t").await.id;
    assert_eq!(ids(&f.claim(10).await), [free]);
    assert!(f.jobs.enqueue(job("2")).await.is_err());
    assert_eq!(f.space(Space::Queue).await[0].value, newer[..]);
    assert_eq!(f.space(Space::Ready).await.len(), 1);
}

async fn queue_keys_and_limits_are_refused_with_codes(f: Fixture) {
    let long = "k".repeat(MAX_QUEUE);
    f.enqueue(text("t", "").queue(long.clone())).await;
    let too_long = text("t", "").queue(format!("{long}k"));
    assert_eq!(codes(f.jobs.enqueue(too_long).await), "queue-key-too-long");
    let empty = text("t", "").queue("");
    assert_eq!(codes(f.jobs.enqueue(empty).await), "empty-name");
    let limit = |limit| f.jobs.limit_queue("", "q", limit);
    assert_eq!(codes(limit(0).await), "queue-limit");
    assert_eq!(codes(limit(MAX_QUEUE_LIMIT + 1).await), "queue-limit");
    limit(MAX_QUEUE_LIMIT).await.unwrap();
    let too_long = f.jobs.limit_queue("", &format!("{long}k"), 1).await;
    assert_eq!(codes(too_long), "queue-key-too-long");
}

async fn more_lanes_than_are_exposed_are_all_served(f: Fixture) {
    let mut expected = BTreeSet::new();
    for number in 0..40 {
        let new = NewJob::new(format!("task-{number:02}"), &number).unwrap();
        expected.insert(f.enqueue(new.queue("q")).await.job.id);
    }
    assert_eq!(f.space(Space::Ready).await.len(), 32);
    is_sound(&f).await;
    let done: BTreeSet<JobId> = drain(&f).await.into_iter().collect();
    assert_eq!(done, expected);
}

/// What nobody may do for a hundred thousand blocked jobs, it does for a thousand, too: read or
/// change more keys.
#[tokio::test]
async fn blocked_jobs_cost_others_nothing() {
    async fn cost(blocked: usize) -> [(u64, u64, u64); 2] {
        let store = Arc::new(Traced::new(Memory::new()));
        let jobs = KvStore::open(store.clone(), Options::default())
            .await
            .unwrap();
        let many = (0..blocked).map(|n| NewJob::new("t", &n).unwrap().queue("q"));
        jobs.enqueue_many(many.collect()).await.unwrap();
        let counts = || {
            let all = Operation::ALL.map(|operation| store.counts(operation));
            let sum = |of: fn(&Counts) -> u64| all.iter().map(of).sum::<u64>();
            (
                sum(|counts| counts.calls),
                sum(|counts| counts.objects_read),
                sum(|counts| counts.objects_written),
            )
        };
        let mut costs = [(0, 0, 0); 2];
        // Its first job runs, then the life of a job of no queue, and one of the queue itself.
        let first = jobs.claim(Claim::new("w")).await.unwrap().jobs.remove(0);
        for (queued, cost) in [false, true].into_iter().zip(&mut costs) {
            let before = counts();
            let claimed = if queued {
                jobs.complete(&first.lease).await.unwrap();
                jobs.claim(Claim::new("w").max(10)).await.unwrap().jobs
            } else {
                let new = NewJob::new("t", "free").unwrap();
                jobs.enqueue(new).await.unwrap();
                jobs.claim(Claim::new("w").max(10)).await.unwrap().jobs
            };
            assert_eq!(claimed.len(), 1);
            jobs.complete(&claimed[0].lease).await.unwrap();
            let after = counts();
            *cost = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        }
        costs
    }
    assert_eq!(cost(100_000).await, cost(1_000).await);
}

/// What a random run does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add {
        queue: u8,
        lane: u8,
        priority: i8,
        later: bool,
    },
    Claim(u8),
    Complete(u8),
    Fail(u8),
    Snooze(u8),
    Abandon(u8),
    Cancel(u8),
    Dequeue(u8),
    DequeueNext,
    Retry,
    Limit {
        queue: u8,
        limit: u8,
    },
    Pass(u8),
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8, 0..3u8, -1..2i8, any::<bool>())
            .prop_map(|(queue, lane, priority, later)| Step::Add { queue, lane, priority, later }),
        6 => (1..6u8).prop_map(Step::Claim),
        4 => any::<u8>().prop_map(Step::Complete),
        2 => any::<u8>().prop_map(Step::Fail),
        1 => any::<u8>().prop_map(Step::Snooze),
        1 => any::<u8>().prop_map(Step::Abandon),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => any::<u8>().prop_map(Step::Dequeue),
        1 => Just(Step::DequeueNext),
        1 => Just(Step::Retry),
        1 => (0..3u8, 1..4u8).prop_map(|(queue, limit)| Step::Limit { queue, limit }),
        2 => (0..90u8).prop_map(Step::Pass),
        1 => Just(Step::Purge),
    ]
}

/// The queues as they must be: who holds a lease, and how many may.
#[derive(Default)]
struct Model {
    limits: BTreeMap<String, usize>,
    held: Vec<Claimed>,
    all: Vec<JobId>,
}

impl Model {
    fn pick(&mut self, number: u8) -> Option<Claimed> {
        let index = usize::from(number).checked_rem(self.held.len())?;
        Some(self.held.swap_remove(index))
    }

    fn any(&self, number: u8) -> Option<JobId> {
        let index = usize::from(number).checked_rem(self.all.len())?;
        Some(self.all[index])
    }

    fn takes(&mut self, f: &Fixture, claimed: Vec<Claimed>) {
        let now = f.now();
        self.held.retain(|held| held.lease.deadline >= now);
        let mut running: BTreeMap<&str, usize> = BTreeMap::new();
        for held in self.held.iter().chain(&claimed) {
            if let Some(queue) = held.job.queue.as_deref() {
                *running.entry(queue).or_default() += 1;
            }
        }
        for queue in claimed.iter().filter_map(|one| one.job.queue.as_deref()) {
            let limit = self.limits.get(queue).copied().unwrap_or(1);
            assert!(running[queue] <= limit, "{queue}: {running:?}");
        }
        self.held.extend(claimed);
    }

    async fn take(&mut self, f: &Fixture, step: Step) {
        // Whose lease ran out at this very time may have lost it.
        match step {
            Step::Add {
                queue,
                lane,
                priority,
                later,
            } => {
                let new = text(&format!("task-{lane}"), "").priority(priority.into());
                let new = new.backoff(Backoff::Fixed {
                    wait: Duration::from_secs(3),
                });
                let new = new.max_attempts(4);
                let new = match queue {
                    0 => new,
                    number => new.queue(format!("q{number}")),
                };
                let later = later.then(|| f.in_seconds(20));
                self.all.push(f.enqueue(new.run_at(later)).await.job.id);
            }
            Step::Claim(most) => {
                let claimed = f.claim(most.into()).await;
                self.takes(f, claimed);
            }
            Step::Complete(number) => {
                if let Some(held) = self.pick(number) {
                    let _ = f.jobs.complete(&held.lease).await;
                }
            }
            Step::Fail(number) => {
                if let Some(held) = self.pick(number) {
                    let retry = [Retry::Never, Retry::Backoff, Retry::After(Duration::ZERO)];
                    let failure = Failure::new("no").retry(retry[usize::from(number) % 3]);
                    let _ = f.jobs.fail(&held.lease, failure).await;
                }
            }
            Step::Snooze(number) => {
                if let Some(held) = self.pick(number) {
                    let until = f.in_seconds(u64::from(number) % 10);
                    let _ = f.jobs.snooze(&held.lease, until).await;
                }
            }
            Step::Abandon(number) => {
                if let Some(held) = self.pick(number) {
                    let _ = f.jobs.abandon(&held.lease).await;
                }
            }
            Step::Cancel(number) => {
                if let Some(id) = self.any(number) {
                    f.jobs.cancel(&Query::new().id(id)).await.unwrap();
                }
            }
            Step::Dequeue(number) => {
                if let Some(id) = self.any(number) {
                    f.jobs.dequeue(id).await.unwrap();
                }
            }
            Step::DequeueNext => {
                f.jobs.dequeue_next(&Selector::default()).await.unwrap();
            }
            Step::Retry => {
                f.jobs.retry(&Query::new()).await.unwrap();
            }
            Step::Limit { queue, limit } => {
                let queue = format!("q{queue}");
                f.jobs.limit_queue("", &queue, limit.into()).await.unwrap();
                self.limits.insert(queue, limit.into());
            }
            Step::Pass(seconds) => f.pass(seconds.into()),
            Step::Purge => {
                f.jobs.purge(&Query::new()).await.unwrap();
            }
        }
    }

    /// Everything comes to an end when it is completed as it comes.
    async fn drain(&mut self, f: &Fixture) {
        for held in std::mem::take(&mut self.held) {
            let _ = f.jobs.complete(&held.lease).await;
        }
        for _ in 0..10_000 {
            let claimed = f.claim(5).await;
            self.takes(f, claimed);
            let held = std::mem::take(&mut self.held);
            if held.is_empty() {
                let waits = f.jobs.list(1, None).await.unwrap();
                if waits.items.is_empty() {
                    return;
                }
                f.pass(30);
            }
            for held in held {
                f.jobs.complete(&held.lease).await.unwrap();
            }
        }
        panic!("some jobs are stuck");
    }
}

async fn random_run(f: Fixture, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        model.take(&f, step).await;
        is_sound(&f).await;
    }
    model.drain(&f).await;
    is_sound(&f).await;
    assert!(f.space(Space::Wait).await.is_empty());
    assert!(f.space(Space::Ready).await.is_empty());
}

fn run_on<F: Future<Output = Fixture>>(open: fn() -> F, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..60))| {
        runtime.block_on(async { random_run(open().await, steps).await });
    });
}

#[test]
fn no_queue_runs_more_than_its_limit_and_none_gets_stuck() {
    run_on(|| Fixture::on(Arc::new(Memory::new()), None), 300);
}

#[test]
fn no_queue_on_a_bag_runs_more_than_its_limit_and_none_gets_stuck() {
    run_on(|| Fixture::on(Arc::new(Memory::bag()), None), 100);
}

#[tokio::test]
async fn a_blocked_job_that_does_not_exist_goes_where_a_check_finds_it() {
    let f = Fixture::on(Arc::new(Memory::new()), None).await;
    let (first, second) = (add(&f, "1").await, add(&f, "2").await);
    f.forget(Fixture::key(Space::Job, second)).await;
    let found = findings(&f.jobs, true).await;
    assert!(!found.is_empty() && found.iter().all(|one| one.mended));
    is_sound(&f).await;
    assert_eq!(drain(&f).await, [first]);
}
