//! The same random job operations, under a manual clock, give the same answers on every backend,
//! step by step; and the keys of each agree with its headers in the end.
//!
//! A failure prints the shortest sequence that was found and saves its seed under
//! `proptest-regressions/`; commit that file. 32 sequences are tried, or as many as the
//! environment variable `PROPTEST_CASES` says.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kvjob::job::{
    Backoff, Claim, Cursor, Error, Failure, Job, JobId, Lease, Level, LogQuery, LogStore as _,
    NewJob, Page, Query, QueueStore as _, Retry, Selector, State, StateStore as _, Store as _,
};
use kvjob_tests::{Fixture, Space};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestRunner};

/// Sequences of operations where the environment does not say how many.
const CASES: u32 = 32;
/// The most operations in one sequence.
const LENGTH: usize = 60;
const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/equivalence.txt"
);

/// What one job is to be.
#[derive(Clone, Debug)]
struct Wish {
    task: u8,
    tenant: bool,
    flag: bool,
    priority: i16,
    delay: Option<u64>,
    attempts: u32,
    wait: u64,
    key: Option<(u8, bool)>,
    large: bool,
}

/// One operation. Jobs and leases are meant by their number among those there were so far.
#[derive(Clone, Debug)]
enum Op {
    Enqueue(Wish),
    EnqueueMany(Vec<Wish>),
    Claim {
        max: usize,
        task: Option<u8>,
        forbid: bool,
        lease: u64,
    },
    Complete(usize),
    Fail {
        lease: usize,
        timed_out: bool,
        retry: u8,
        long: bool,
    },
    Snooze(usize, u64),
    Abandon(usize),
    Heartbeat(Vec<usize>, u64),
    Expire,
    Cancel(Option<usize>, Option<u8>),
    Canceled,
    Retry(Option<u8>),
    Purge(Option<usize>),
    DequeueNext,
    Dequeue(usize),
    List(usize),
    Lookup(Vec<u8>, Option<u8>, usize),
    History(usize),
    Log(usize, String),
    Logs(usize, usize),
    Stats,
    Reopen,
    Pass(u64),
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        (0..3u8, any::<bool>(), any::<bool>(), -1..2i16),
        option::of(0..20u64),
        (1..4u32, 0..10u64),
        option::weighted(0.3, (0..3u8, any::<bool>())),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |((task, tenant, flag, priority), delay, (attempts, wait), key, large)| Wish {
                task,
                tenant,
                flag,
                priority,
                delay,
                attempts,
                wait,
                key,
                large,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let one = || 0..64usize;
    let claim = (1..5usize, option::of(0..3u8), any::<bool>(), 1..30u64);
    let claim = claim.prop_map(|(max, task, forbid, lease)| Op::Claim {
        max,
        task,
        forbid,
        lease,
    });
    let fail = (one(), any::<bool>(), 0..4u8, prop::bool::weighted(0.2));
    let fail = fail.prop_map(|(lease, timed_out, retry, long)| Op::Fail {
        lease,
        timed_out,
        retry,
        long,
    });
    prop_oneof![
        8 => wish().prop_map(Op::Enqueue),
        2 => vec(wish(), 1..6).prop_map(Op::EnqueueMany),
        8 => claim,
        4 => one().prop_map(Op::Complete),
        5 => fail,
        2 => (one(), 0..20u64).prop_map(|(lease, wait)| Op::Snooze(lease, wait)),
        2 => one().prop_map(Op::Abandon),
        2 => (vec(one(), 0..4), 1..30u64).prop_map(|(leases, time)| Op::Heartbeat(leases, time)),
        2 => Just(Op::Expire),
        2 => (option::of(one()), option::of(0..3u8)).prop_map(|(job, task)| Op::Cancel(job, task)),
        1 => Just(Op::Canceled),
        2 => option::of(0..3u8).prop_map(Op::Retry),
        2 => option::of(one()).prop_map(Op::Purge),
        2 => Just(Op::DequeueNext),
        2 => one().prop_map(Op::Dequeue),
        2 => (1..5usize).prop_map(Op::List),
        2 => (vec(0..9u8, 0..3), option::of(0..3u8), 1..5usize)
            .prop_map(|(states, task, limit)| Op::Lookup(states, task, limit)),
        1 => one().prop_map(Op::History),
        2 => (one(), "[a-z]{0,9}").prop_map(|(job, line)| Op::Log(job, line)),
        1 => (one(), 1..5usize).prop_map(|(job, limit)| Op::Logs(job, limit)),
        1 => Just(Op::Stats),
        1 => Just(Op::Reopen),
        6 => (0..20_000u64).prop_map(Op::Pass),
    ]
}

/// One backend, and what a caller knows of it.
struct Side {
    f: Fixture,
    ids: Vec<JobId>,
    leases: Vec<Lease>,
}

impl Side {
    fn new(f: Fixture) -> Self {
        Self {
            f,
            ids: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn id(&self, number: usize) -> JobId {
        let known = self.ids.get(number % self.ids.len().max(1));
        known.copied().unwrap_or(JobId::from_bytes([5; 16]))
    }

    fn lease(&self, number: usize) -> Option<&Lease> {
        self.leases.get(number % self.leases.len().max(1))
    }

    fn job(&self, wish: &Wish) -> NewJob {
        let text = if wish.large { 900 } else { 3 };
        let mut job = NewJob::new(format!("task-{}", wish.task), &"x".repeat(text)).unwrap();
        if wish.tenant {
            job = job.tenant("acme");
        }
        if wish.flag {
            job = job.flag("slow");
        }
        job = match wish.key {
            Some((key, true)) => job.retained_key(key.to_string()),
            Some((key, false)) => job.key(key.to_string()),
            None => job,
        };
        job.priority(wish.priority)
            .max_attempts(wish.attempts)
            .run_at(wish.delay.map(|delay| self.f.in_seconds(delay)))
            .backoff(Backoff::Fixed {
                wait: Duration::from_secs(wish.wait),
            })
    }

    /// What is answered, with the jobs' numbers in the place of their ids.
    fn said(&self, answer: &impl Debug) -> String {
        let mut text = format!("{answer:?}");
        for (number, id) in self.ids.iter().enumerate() {
            text = text.replace(&id.to_string(), &format!("#{number}"));
        }
        text
    }

    async fn all_pages<T>(
        &self,
        read: impl AsyncFn(Option<Cursor>) -> Result<Page<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = read(cursor).await?;
            all.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    async fn apply(&mut self, op: &Op) -> String {
        let jobs = self.f.jobs.clone();
        match op {
            Op::Enqueue(wish) => {
                let added = jobs.enqueue(self.job(wish)).await;
                if let Ok(added) = &added
                    && added.is_new
                {
                    self.ids.push(added.job.id);
                }
                self.said(&added)
            }
            Op::EnqueueMany(wishes) => {
                let wanted = wishes.iter().map(|wish| self.job(wish)).collect();
                let added = jobs.enqueue_many(wanted).await;
                for one in added.iter().flatten().filter(|one| one.is_new) {
                    self.ids.push(one.job.id);
                }
                self.said(&added)
            }
            Op::Claim {
                max,
                task,
                forbid,
                lease,
            } => {
                let claim = Claim::new(format!("worker-{max}")).max(*max);
                let mut claim = claim.lease(Duration::from_secs(*lease));
                if let Some(task) = task {
                    claim = claim.tasks([format!("task-{task}")]);
                }
                if *forbid {
                    claim = claim.forbid_flag("slow");
                }
                let claims = jobs.claim(claim).await;
                if let Ok(claims) = &claims {
                    let leases = claims.jobs.iter().map(|claimed| claimed.lease.clone());
                    self.leases.extend(leases);
                }
                self.said(&claims)
            }
            Op::Complete(lease) => match self.lease(*lease) {
                Some(lease) => self.said(&jobs.complete(lease).await),
                None => String::new(),
            },
            Op::Fail {
                lease,
                timed_out,
                retry,
                long,
            } => {
                let Some(lease) = self.lease(*lease) else {
                    return String::new();
                };
                let error = "e".repeat(if *long { 1500 } else { 5 });
                let failure = if *timed_out {
                    Failure::timed_out(error)
                } else {
                    Failure::new(error)
                };
                let retry = match retry {
                    0 => Retry::Never,
                    1 => Retry::After(Duration::from_secs(3)),
                    _ => Retry::Backoff,
                };
                self.said(&jobs.fail(lease, failure.retry(retry)).await)
            }
            Op::Snooze(lease, wait) => match self.lease(*lease) {
                Some(lease) => self.said(&jobs.snooze(lease, self.f.in_seconds(*wait)).await),
                None => String::new(),
            },
            Op::Abandon(lease) => match self.lease(*lease) {
                Some(lease) => self.said(&jobs.abandon(lease).await),
                None => String::new(),
            },
            Op::Heartbeat(numbers, time) => {
                let leases: Vec<Lease> = numbers
                    .iter()
                    .filter_map(|number| self.lease(*number).cloned())
                    .collect();
                let beats = jobs.heartbeat(&leases, Duration::from_secs(*time)).await;
                self.said(&beats)
            }
            Op::Expire => {
                let mut expired = jobs.expire().await.unwrap();
                expired.sort_unstable();
                self.said(&expired)
            }
            Op::Pass(millis) => {
                self.f.clock.advance(Duration::from_millis(*millis));
                String::new()
            }
            Op::Reopen => {
                jobs.stop().await.unwrap();
                self.f.jobs = self.f.another().await;
                String::new()
            }
            other => self.ask(other).await,
        }
    }

    /// The operations that begin no lease and add no job.
    async fn ask(&self, op: &Op) -> String {
        let jobs = &self.f.jobs;
        match op {
            Op::Cancel(job, task) => {
                let mut query = Query::new().limit(3);
                if let Some(job) = job {
                    query = query.id(self.id(*job));
                }
                if let Some(task) = task {
                    query = query.task(format!("task-{task}"));
                }
                let read = async |cursor| jobs.cancel(&query.clone().cursor(cursor)).await;
                self.said(&self.all_pages(read).await)
            }
            Op::Canceled => {
                let mut canceled = jobs.canceled().await.unwrap();
                canceled.sort_unstable();
                self.said(&canceled)
            }
            Op::Retry(task) => {
                let mut query = Query::new().limit(2);
                if let Some(task) = task {
                    query = query.task(format!("task-{task}"));
                }
                let read = async |cursor| jobs.retry(&query.clone().cursor(cursor)).await;
                self.said(&self.all_pages(read).await)
            }
            Op::Purge(job) => {
                let mut query = Query::new().limit(2);
                if let Some(job) = job {
                    query = query.id(self.id(*job));
                }
                let read = async |cursor| jobs.purge(&query.clone().cursor(cursor)).await;
                self.said(&self.all_pages(read).await)
            }
            Op::DequeueNext => self.said(&jobs.dequeue_next(&Selector::default()).await),
            Op::Dequeue(job) => self.said(&jobs.dequeue(self.id(*job)).await),
            Op::List(limit) => {
                let read = async |cursor| jobs.list(*limit, cursor).await;
                self.said(&self.all_pages(read).await)
            }
            Op::Lookup(states, task, limit) => {
                let states = states.iter().map(|state| State::ALL[usize::from(*state)]);
                let mut query = Query::new().states(states).limit(*limit);
                if let Some(task) = task {
                    query = query.task(format!("task-{task}"));
                }
                let read = async |cursor| jobs.lookup(&query.clone().cursor(cursor)).await;
                self.said(&self.all_pages(read).await)
            }
            Op::History(job) => self.said(&jobs.history(self.id(*job)).await),
            Op::Log(job, line) => {
                let fields = BTreeMap::new();
                let line = line.clone();
                self.said(&jobs.log(self.id(*job), Level::Info, line, fields).await)
            }
            Op::Logs(job, limit) => {
                jobs.expire().await.unwrap();
                let query = LogQuery::new(self.id(*job)).limit(*limit);
                let read = async |cursor| jobs.logs(&query.clone().cursor(cursor)).await;
                self.said(&self.all_pages(read).await)
            }
            Op::Stats => self.said(&jobs.stats().await),
            other => panic!("{other:?} is applied elsewhere"),
        }
    }

    async fn all_jobs(&self) -> Vec<Job> {
        let read = async |cursor| {
            let query = Query::new().limit(7).cursor(cursor);
            self.f.jobs.lookup(&query).await
        };
        self.all_pages(read).await.unwrap()
    }

    /// Everything that can be read of every job.
    async fn summary(&self) -> Vec<String> {
        let mut lines = vec![
            self.said(&self.f.listed().await),
            self.said(&self.f.jobs.stats().await),
        ];
        for job in self.all_jobs().await {
            self.f.states(job.id).await;
            lines.push(self.said(&self.f.job(job.id).await));
            lines.push(self.said(&self.f.jobs.history(job.id).await));
            let logs = self.f.jobs.logs(&LogQuery::new(job.id).limit(1000)).await;
            lines.push(self.said(&logs));
        }
        lines
    }

    /// The keys must agree with the headers: what waits is in exactly one of `ready` and
    /// `scheduled`, what runs in exactly one worker record, and nothing else is anywhere.
    async fn check_keys(&self) -> Result<(), String> {
        let all = self.all_jobs().await;
        let keys = async |space| -> Vec<Vec<u8>> {
            let objects = self.f.space(space).await;
            objects
                .iter()
                .map(|one| one.key.as_bytes().to_vec())
                .collect()
        };
        let (ready, scheduled) = (keys(Space::Ready).await, keys(Space::Scheduled).await);
        let attention = keys(Space::Attention).await;
        let payloads = keys(Space::Payload).await;
        let signals = keys(Space::Signal).await;
        let workers = self.f.space(Space::Worker).await;
        let mut expected = [0; 5];
        for job in &all {
            let id = job.id.as_bytes();
            let named = |keys: &[Vec<u8>]| keys.iter().filter(|key| key.ends_with(id)).count();
            let (waits, runs) = match job.state {
                State::Ready | State::Scheduled => (1, 0),
                State::Running => (0, 1),
                _ => (0, 0),
            };
            let ended_badly =
                matches!(job.state, State::Failed | State::Canceled | State::TimedOut);
            let holders = workers
                .iter()
                .filter(|record| record.value.windows(16).any(|part| part == id))
                .count();
            let counts = [
                named(&ready) + named(&scheduled),
                named(&attention),
                named(&payloads),
                named(&signals),
            ];
            let wanted = [
                waits,
                usize::from(ended_badly),
                usize::from(job.payload.as_str().len() > 512),
                usize::from(job.cancel_requested),
            ];
            if counts != wanted {
                return Err(format!("{counts:?} keys instead of {wanted:?} for {job:?}"));
            }
            if runs == 1 && holders == 0 {
                return Err(format!("no worker record holds {job:?}"));
            }
            if job.state == State::Ready && job.run_at > self.f.now() {
                return Err(format!("ready before its time: {job:?}"));
            }
            for (sum, count) in expected.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let found = [
            ready.len() + scheduled.len(),
            attention.len(),
            payloads.len(),
            signals.len(),
        ];
        if found != expected[..4] {
            return Err(format!(
                "{found:?} keys, of which {expected:?} belong to jobs"
            ));
        }
        let quarantined = keys(Space::Quarantine).await.len();
        if quarantined > 0 {
            return Err(format!("{quarantined} records were put aside"));
        }
        Ok(())
    }
}

async fn run(ops: &[Op]) -> Result<(), String> {
    let mut sides = [
        ("memory", Side::new(Fixture::memory().await)),
        ("redb", Side::new(Fixture::redb().await)),
        ("sled", Side::new(Fixture::sled().await)),
        #[cfg(feature = "full")]
        ("sqlite", Side::new(Fixture::sqlite().await)),
    ];
    for (number, op) in ops.iter().enumerate() {
        let mut first = None;
        for (name, side) in &mut sides {
            let answer = side.apply(op).await;
            let first = first.get_or_insert_with(|| answer.clone());
            if answer != *first {
                return Err(format!(
                    "operation {number}, {op:?}:\n  memory: {first}\n  {name}: {answer}"
                ));
            }
        }
    }
    let mut first = None;
    for (name, side) in &sides {
        // What was logged is stored first.
        side.f.jobs.stop().await.unwrap();
        let summary = side.summary().await;
        side.check_keys().await?;
        let first = first.get_or_insert_with(|| summary.clone());
        for (memory, other) in first.iter().zip(&summary) {
            if memory != other {
                return Err(format!(
                    "in the end:\n  memory: {memory}\n  {name}: {other}"
                ));
            }
        }
        if summary.len() != first.len() {
            return Err(format!("{name} has another number of jobs than memory"));
        }
    }
    Ok(())
}

#[test]
fn the_same_operations_give_the_same_answers_on_every_store() {
    let mut config = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tried = TestRunner::new(config).run(&vec(op(), 1..=LENGTH), |ops| {
        runtime
            .block_on(kvjob_tests::within(run(&ops)))
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}
