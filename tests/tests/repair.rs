//! Whatever is lost of what follows from headers, a repair builds again: every job runs to its end.
//!
//! A failure prints the shortest sequence that was found and saves its seed under
//! `proptest-regressions/`; commit that file. 24 sequences are tried, or as many as the
//! environment variable `PROPTEST_CASES` says.

use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{
    Backoff, CheckEvent, Claim, Failure, Finding, JobId, Lease, NewJob, Query, QueueStore as _,
    Retry, State, StateStore as _,
};
use kvjob::kv::Memory;
use kvjob_tests::{Fixture, Space};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestRunner};

/// Sequences where the environment does not say how many.
const CASES: u32 = 24;
const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/repair.txt"
);
/// What can be built again from headers.
const INDEXES: [Space; 6] = [
    Space::Ready,
    Space::Scheduled,
    Space::Worker,
    Space::Attention,
    Space::Unique,
    Space::Signal,
];

/// One operation. Jobs and leases are meant by their number among those there were so far.
#[derive(Clone, Debug)]
enum Op {
    Enqueue {
        task: u8,
        flag: bool,
        large: bool,
        delay: Option<u64>,
        key: Option<u8>,
        attempts: u32,
    },
    Claim(usize),
    Complete(usize),
    Fail(usize, bool),
    Cancel(usize),
    Retry,
    Purge(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let one = || 0..64usize;
    let enqueue = (
        0..3u8,
        any::<bool>(),
        any::<bool>(),
        option::of(0..20u64),
        option::weighted(0.3, 0..3u8),
        1..3u32,
    );
    let enqueue = enqueue.prop_map(|(task, flag, large, delay, key, attempts)| Op::Enqueue {
        task,
        flag,
        large,
        delay,
        key,
        attempts,
    });
    prop_oneof![
        8 => enqueue,
        5 => (1..4usize).prop_map(Op::Claim),
        2 => one().prop_map(Op::Complete),
        3 => (one(), any::<bool>()).prop_map(|(lease, last)| Op::Fail(lease, last)),
        2 => one().prop_map(Op::Cancel),
        1 => Just(Op::Retry),
        1 => one().prop_map(Op::Purge),
        4 => (0..30u64).prop_map(Op::Pass),
    ]
}

async fn apply(f: &Fixture, ids: &mut Vec<JobId>, leases: &mut Vec<Lease>, op: &Op) {
    let lease = |number: usize| leases.get(number % leases.len().max(1)).cloned();
    let one = |number: usize| ids.get(number % ids.len().max(1)).copied();
    match op {
        Op::Enqueue {
            task,
            flag,
            large,
            delay,
            key,
            attempts,
        } => {
            let text = "x".repeat(if *large { 900 } else { 3 });
            let mut job = NewJob::new(format!("task-{task}"), &text).unwrap();
            if *flag {
                job = job.flag("slow");
            }
            if let Some(key) = key {
                job = job.key(key.to_string());
            }
            let job = job
                .max_attempts(*attempts)
                .run_at(delay.map(|delay| f.in_seconds(delay)))
                .backoff(Backoff::Fixed {
                    wait: Duration::from_secs(5),
                });
            let added = f.enqueue(job).await;
            if added.is_new {
                ids.push(added.job.id);
            }
        }
        Op::Claim(max) => {
            let claim = Claim::new(format!("worker-{max}")).max(*max);
            let claim = claim.lease(Duration::from_secs(20));
            let claimed = f.jobs.claim(claim).await.unwrap().jobs;
            leases.extend(claimed.into_iter().map(|one| one.lease));
        }
        // A lease may be over by now.
        Op::Complete(number) => {
            if let Some(lease) = lease(*number) {
                let _ = f.jobs.complete(&lease).await;
            }
        }
        Op::Fail(number, last) => {
            if let Some(lease) = lease(*number) {
                let retry = if *last { Retry::Never } else { Retry::Backoff };
                let _ = f.jobs.fail(&lease, Failure::new("no").retry(retry)).await;
            }
        }
        Op::Cancel(number) => {
            if let Some(id) = one(*number) {
                f.jobs.cancel(&Query::new().id(id)).await.unwrap();
            }
        }
        Op::Retry => {
            f.jobs.retry(&Query::new()).await.unwrap();
        }
        Op::Purge(number) => {
            if let Some(id) = one(*number) {
                f.jobs.purge(&Query::new().id(id)).await.unwrap();
            }
        }
        Op::Pass(seconds) => f.pass(*seconds),
    }
}

async fn check(f: &Fixture, repair: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tell = |event| {
        if let CheckEvent::Found(finding) = event {
            findings.push(finding);
        }
    };
    f.jobs.check(repair, tell).await.unwrap();
    findings
}

/// Runs the operations, removes what is to be lost, repairs, and runs what is left to its end.
async fn survives(f: Fixture, ops: &[Op], lost: &[(usize, usize)]) -> Result<(), String> {
    let (mut ids, mut leases) = (Vec::new(), Vec::new());
    for op in ops {
        apply(&f, &mut ids, &mut leases, op).await;
    }
    let found = check(&f, false).await;
    if !found.is_empty() {
        return Err(format!("before anything was lost: {found:#?}"));
    }
    let before = f
        .jobs
        .lookup(&Query::new().limit(1000))
        .await
        .unwrap()
        .items;
    for (space, nth) in lost {
        let objects = f.space(INDEXES[*space]).await;
        if let Some(object) = objects.get(nth % objects.len().max(1)) {
            f.store.remove(object).await.unwrap();
        }
    }
    let mended = check(&f, true).await;
    if let Some(left) = mended.iter().find(|one| !one.mended) {
        return Err(format!("left: {left:#?}"));
    }
    let found = check(&f, false).await;
    if !found.is_empty() {
        return Err(format!("after the repair: {found:#?}"));
    }
    let after = f
        .jobs
        .lookup(&Query::new().limit(1000))
        .await
        .unwrap()
        .items;
    for (before, after) in before.iter().zip(&after) {
        let same = (before.id, before.state, before.attempts, &before.key)
            == (after.id, after.state, after.attempts, &after.key);
        if !same {
            return Err(format!("{before:?} became {after:?}"));
        }
    }
    for _ in 0..100 {
        f.pass(40);
        let claimed = f.claim(100).await;
        for one in claimed {
            f.jobs.complete(&one.lease).await.unwrap();
        }
    }
    let left = f
        .jobs
        .lookup(&Query::new().limit(1000))
        .await
        .unwrap()
        .items;
    if left.len() != before.len() {
        return Err(format!("{} of {} jobs are there", left.len(), before.len()));
    }
    for job in left {
        let once_final = before
            .iter()
            .any(|one| one.id == job.id && one.state.is_final());
        if !job.state.is_final() || job.attempts > job.max_attempts {
            return Err(format!("not at its end: {job:?}"));
        }
        let steps = f.states(job.id).await;
        if !once_final && steps.last() != Some(&job.state) {
            return Err(format!("{steps:?} end elsewhere: {job:?}"));
        }
    }
    let completed = Query::new().states([State::Failed, State::Canceled, State::TimedOut]);
    let listed = f.jobs.lookup(&completed.limit(1000)).await.unwrap().items;
    let bad = |job: &kvjob::job::Job| !matches!(job.state, State::Completed | State::Taken);
    let all = f
        .jobs
        .lookup(&Query::new().limit(1000))
        .await
        .unwrap()
        .items;
    if listed.len() != all.iter().filter(|job| bad(job)).count() {
        return Err("some that ended badly are not listed".to_owned());
    }
    let found = check(&f, false).await;
    if !found.is_empty() {
        return Err(format!("in the end: {found:#?}"));
    }
    Ok(())
}

#[test]
fn every_job_runs_to_its_end_whatever_was_lost_of_the_indexes() {
    let mut config = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        max_shrink_iters: 1_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lost = vec((0..INDEXES.len(), 0..64usize), 0..12);
    let tried = TestRunner::new(config).run(&(vec(op(), 1..40), lost), |(ops, lost)| {
        let all = async {
            survives(Fixture::memory().await, &ops, &lost).await?;
            let bag = Fixture::on(Arc::new(Memory::bag()), None).await;
            survives(bag, &ops, &lost).await?;
            survives(Fixture::redb().await, &ops, &lost).await
        };
        runtime
            .block_on(kvjob_tests::within(all))
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}
