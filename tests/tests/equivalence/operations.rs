//! What is done with a job store, and how it is made up. How it is done lives in `side`.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// What one job is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    pub task: u8,
    pub tenant: bool,
    pub flag: bool,
    pub priority: i16,
    pub delay: Option<u64>,
    pub attempts: u32,
    pub wait: u64,
    pub key: Option<(u8, bool)>,
    /// One of the three modes, where it has a key.
    pub mode: u8,
    pub queue: Option<u8>,
    pub large: bool,
}

/// One operation. Jobs and leases are meant by their number among those there were so far.
#[derive(Clone, Debug)]
pub enum Op {
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
    Retry(Option<usize>, Option<u8>),
    Purge(Option<usize>),
    /// The job that has this key, of the tenant or of none.
    Remove(u8, bool),
    CompleteByHand(Vec<usize>),
    FailByHand(Vec<usize>, bool),
    Reschedule(Vec<usize>, Change),
    /// The workers that ask for so many jobs at once.
    Unlock(Vec<usize>),
    DequeueNext,
    Dequeue(usize),
    List(usize),
    Lookup(Vec<u8>, Option<u8>, usize),
    History(usize),
    Log(usize, String),
    Logs(usize, usize),
    /// A page of so many steps, of one job or of all, into some states.
    ClearHistory(Option<usize>, Vec<u8>, usize),
    /// Lines of one job or of all, from so many milliseconds ago on or before then, in pages of so
    /// many.
    ClearLogs(Option<usize>, Result<u64, u64>, usize),
    Stats,
    /// Garbage in the place of a job's header.
    Spoil(usize),
    Quarantine(usize),
    /// Puts back what was put aside, be it readable or not.
    Release(usize, bool),
    RemoveAside(usize),
    /// The job store, and the store below where its data outlives it.
    Reopen,
    Pass(u64),
}

/// How jobs are to run instead.
#[derive(Clone, Debug)]
pub struct Change {
    pub delay: Option<u64>,
    pub priority: Option<i16>,
    pub attempts: Option<u32>,
    pub max_attempts: Option<u32>,
}

fn change() -> impl Strategy<Value = Change> {
    let some = (option::of(0..20u64), option::of(-1..2i16));
    let attempts = (option::of(0..3u32), option::of(0..5u32));
    (some, attempts).prop_map(|((delay, priority), (attempts, max_attempts))| Change {
        delay,
        priority,
        attempts,
        max_attempts,
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        (0..3u8, any::<bool>(), any::<bool>(), -1..2i16),
        option::of(0..20u64),
        (1..4u32, 0..10u64),
        (
            option::weighted(0.4, (0..3u8, any::<bool>())),
            0..3u8,
            option::weighted(0.3, 0..2u8),
        ),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(
                (task, tenant, flag, priority),
                delay,
                (attempts, wait),
                (key, mode, queue),
                large,
            )| Wish {
                task,
                tenant,
                flag,
                priority,
                delay,
                attempts,
                wait,
                key,
                mode,
                queue,
                large,
            },
        )
}

pub fn op() -> impl Strategy<Value = Op> {
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
        2 => (option::of(one()), option::of(0..3u8)).prop_map(|(job, task)| Op::Retry(job, task)),
        2 => option::of(one()).prop_map(Op::Purge),
        2 => (0..3u8, any::<bool>()).prop_map(|(key, tenant)| Op::Remove(key, tenant)),
        2 => vec(one(), 0..4).prop_map(Op::CompleteByHand),
        2 => (vec(one(), 0..4), any::<bool>())
            .prop_map(|(jobs, long)| Op::FailByHand(jobs, long)),
        2 => (vec(one(), 0..4), change()).prop_map(|(jobs, to)| Op::Reschedule(jobs, to)),
        1 => vec(1..5usize, 0..3).prop_map(Op::Unlock),
        2 => Just(Op::DequeueNext),
        2 => one().prop_map(Op::Dequeue),
        2 => (1..5usize).prop_map(Op::List),
        2 => (vec(0..9u8, 0..3), option::of(0..3u8), 1..5usize)
            .prop_map(|(states, task, limit)| Op::Lookup(states, task, limit)),
        1 => one().prop_map(Op::History),
        2 => (one(), "[a-z]{0,9}").prop_map(|(job, line)| Op::Log(job, line)),
        1 => (one(), 1..5usize).prop_map(|(job, limit)| Op::Logs(job, limit)),
        2 => (option::of(one()), vec(0..9u8, 0..3), 1..9usize)
            .prop_map(|(job, states, limit)| Op::ClearHistory(job, states, limit)),
        1 => (option::of(one()), prop::result::maybe_err(0..20_000u64, 0..20_000u64), 1..5usize)
            .prop_map(|(job, when, limit)| Op::ClearLogs(job, when, limit)),
        1 => Just(Op::Stats),
        1 => one().prop_map(Op::Spoil),
        1 => (1..3usize).prop_map(Op::Quarantine),
        1 => (0..3usize, any::<bool>()).prop_map(|(aside, any)| Op::Release(aside, any)),
        1 => (0..3usize).prop_map(Op::RemoveAside),
        1 => Just(Op::Reopen),
        6 => (0..20_000u64).prop_map(Op::Pass),
    ]
}

/// An operation that is one commit at most, so that it is done or not, and spoils nothing.
pub fn undivided() -> impl Strategy<Value = Op> {
    op().prop_map(|op| match op {
        Op::EnqueueMany(wishes) => Op::Enqueue(wishes[0].clone()),
        Op::Cancel(None, task) => Op::Cancel(Some(0), task),
        Op::Retry(None, task) => Op::Retry(Some(0), task),
        Op::Purge(None) => Op::Purge(Some(0)),
        Op::CompleteByHand(jobs) => Op::CompleteByHand(first(jobs)),
        Op::FailByHand(jobs, long) => Op::FailByHand(first(jobs), long),
        Op::Reschedule(jobs, to) => Op::Reschedule(first(jobs), to),
        // A commit clears one chunk of a bag. Lines may be missing.
        Op::ClearHistory(job, ..) => Op::ClearHistory(Some(job.unwrap_or(0)), Vec::new(), 1),
        Op::ClearLogs(..) => Op::Canceled,
        Op::Spoil(_) | Op::Release(..) | Op::RemoveAside(_) => Op::Expire,
        other => other,
    })
}

fn first(mut jobs: Vec<usize>) -> Vec<usize> {
    jobs.truncate(1);
    jobs
}

impl Op {
    /// Whether it changes nothing, so that it can be done again until it is answered.
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Op::Canceled
                | Op::List(_)
                | Op::Lookup(..)
                | Op::History(_)
                | Op::Logs(..)
                | Op::Stats
                | Op::Quarantine(_)
        )
    }
}
