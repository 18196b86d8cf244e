//! One store that fails by itself, now and then and in every way, beside one that never does.
//!
//! # What is the same under faults
//!
//! Every operation here is one commit at most: it is done, or it is not.
//!
//! - An operation that was *answered*, however often the store failed meanwhile, gives the answer
//!   that it gives without faults.
//! - One that *failed* with an error that says so changed nothing.
//! - One whose *fate is unknown* was done whole or not at all: what can be read afterwards is what
//!   it was before, or what the store without faults holds when it does the same. Which of the two
//!   is read back; the store without faults follows. Whoever does not know what became of a call
//!   starts anew: both are opened again. A lease that nobody was told of is nobody's, and runs
//!   out; so do all leases after a heartbeat in doubt, for nothing tells until when they last.
//!
//! So after every failure, and in the end, both hold the same: no job is lost or doubled, no step
//! of a history is missing or told twice, times included; and a check finds nothing.
//!
//! A log line that leaves alone is lost if the store says that it is broken, for no caller waits
//! for it: lines may be missing, but none stands twice or at another place.
//!
//! A read is asked again until it is answered. So are the leases that ran out before a claim: it
//! looks for them by itself, but serves without them if it cannot.

use std::sync::Arc;

use kvjob::job::Error;
use kvjob::kv::wrap::Odds;
use kvjob::kv::{self, ErrorKind};
use kvjob_tests::{FiveMethods, Fixture, Named, STORES};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::select;

use crate::operations::{self, Op};
use crate::side::Side;
use crate::{LENGTH, Verdict, parting};

const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/equivalence-faults.txt"
);
/// Of 1000 reads.
const ON_READS: Odds = Odds {
    late: 2,
    transient: 8,
    conflict: 0,
    broken: 2,
    lost_before: 0,
    lost_after: 0,
};
/// Of 1000 writes.
const ON_WRITES: Odds = Odds {
    late: 2,
    transient: 40,
    conflict: 40,
    broken: 20,
    lost_before: 40,
    lost_after: 40,
};
/// In seconds.
const LONGEST_LEASE: u64 = 30;
/// How often a read fails at most.
const MOST_TRIES: usize = 1000;

#[test]
fn what_fails_is_done_whole_or_not_at_all_and_the_rest_as_ever() {
    let run_of = (
        select(places()),
        any::<u64>(),
        vec(operations::undivided(), 1..=LENGTH),
    );
    crate::try_all(SEEDS, &run_of, &async |(place, seed, ops)| {
        run(place, *seed, ops).await
    });
}

/// Every store, and one whose faults the journal meets.
fn places() -> Vec<Named> {
    let below_the_journal = Named {
        name: "below_the_journal",
        open: || {
            let data = FiveMethods::unique();
            Box::pin(Fixture::kept(None, move || Arc::new(data.clone())))
        },
    };
    let mut places = STORES.to_vec();
    places.push(below_the_journal);
    places
}

async fn run(place: &Named, seed: u64, ops: &[Op]) -> Verdict {
    let faulty = (place.open)().await.under_faults(ON_READS, ON_WRITES, seed);
    let mut pair = Pair {
        faulty: Side::new(faulty.await),
        twin: Side::new(Fixture::memory().await),
    };
    for (number, op) in ops.iter().enumerate() {
        let verdict = pair.step(op).await;
        verdict.map_err(|why| format!("{}: operation {number}, {op:?}:\n{why}", place.name))?;
    }
    pair.expire().await;
    let mut verdict = pair.hold_the_same().await;
    for job in 0..pair.twin.ids.len() {
        verdict = verdict.and(pair.no_line_is_made_up(job).await);
    }
    verdict.map_err(|why| format!("{}: in the end:\n{why}", place.name))?;
    let findings = pair.read(async |side| side.findings(false).await).await;
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("{}: a check finds {findings:#?}", place.name))
}

struct Pair {
    faulty: Side,
    twin: Side,
}

impl Pair {
    async fn step(&mut self, op: &Op) -> Verdict {
        self.faulty.tick();
        self.twin.tick();
        match op {
            Op::Reopen => {
                self.reopen().await;
                return Ok(());
            }
            Op::Claim { .. } | Op::DequeueNext => self.expire().await,
            Op::Logs(job, _) => return self.no_line_is_made_up(*job).await,
            _ => {}
        }
        let mut answer = self.faulty.apply(op).await;
        for _ in 0..MOST_TRIES {
            if answer.failure.is_none() || !op.only_reads() {
                break;
            }
            self.serves_again(answer.failure.as_ref()).await;
            answer = self.faulty.apply(op).await;
        }
        match answer.failure {
            None => {
                let expected = self.twin.apply(op).await;
                same(&expected.text, &answer.text)
            }
            Some(error) => self.read_back(op, &error).await,
        }
    }

    /// Finds out what became of an operation that failed.
    async fn read_back(&mut self, op: &Op, error: &kv::Error) -> Verdict {
        let not_done = self.hold_the_same().await;
        if not_done.is_err() {
            not_done.or_else(|why| {
                let in_doubt = error.maybe_applied();
                let says = format!("{error} says that nothing was changed:\n{why}");
                in_doubt.then_some(()).ok_or(says)
            })?;
            let known = self.twin.leases.len();
            self.twin.apply(op).await;
            self.twin.leases.truncate(known);
            let new = self.read(async |side| side.unknown().await).await;
            self.faulty.ids.extend(new);
            let done = self.hold_the_same().await;
            done.map_err(|why| format!("half done, after {error}:\n{why}"))?;
        }
        if error.maybe_applied() || error.kind() == &ErrorKind::Closed {
            if let Op::Heartbeat(..) = op {
                // Nothing tells until when a lease lasts: wait until all are over.
                self.faulty.f.pass(LONGEST_LEASE);
                self.twin.f.pass(LONGEST_LEASE);
            }
            self.reopen().await;
        }
        Ok(())
    }

    /// Opens both again, as whoever does not know what became of a call.
    async fn reopen(&mut self) {
        self.faulty.f.reopen().await;
        self.twin.f.reopen().await;
        self.expire().await;
    }

    /// Takes back the leases that ran out, on both. Stores that one process alone may have do it
    /// when they are opened, too.
    async fn expire(&mut self) {
        let mut in_doubt = false;
        for _ in 0..MOST_TRIES {
            let failure = self.faulty.apply(&Op::Expire).await.failure;
            if failure.is_none() && !in_doubt {
                break;
            }
            in_doubt = failure.as_ref().is_some_and(kv::Error::maybe_applied);
            if in_doubt {
                self.faulty.f.reopen().await;
                self.twin.f.reopen().await;
            }
            self.serves_again(failure.as_ref()).await;
        }
        self.twin.apply(&Op::Expire).await;
    }

    /// Opens a store again that closed itself.
    async fn serves_again(&mut self, failure: Option<&kv::Error>) {
        if failure.is_some_and(|error| error.kind() == &ErrorKind::Closed) {
            self.faulty.f.reopen().await;
        }
    }

    /// Reads until it is answered.
    async fn read<T>(&mut self, read: impl AsyncFn(&Side) -> Result<T, Error>) -> T {
        for _ in 0..MOST_TRIES {
            match read(&self.faulty).await {
                Ok(answer) => return answer,
                Err(Error::Store(error)) => self.serves_again(Some(&error)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never answered");
    }

    async fn no_line_is_made_up(&mut self, job: usize) -> Verdict {
        let found = self.read(async |side| side.lines(job).await).await;
        let expected = self.twin.lines(job).await.unwrap();
        let mut rest = expected.iter();
        if found.iter().all(|line| rest.any(|other| other == line)) {
            return Ok(());
        }
        same(&format!("{expected:?}"), &format!("{found:?}"))
    }

    async fn hold_the_same(&mut self) -> Verdict {
        let found = self.read(async |side| side.state().await).await;
        let expected = self.twin.state().await.unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            same(expected, found)?;
        }
        if found.len() == expected.len() {
            return Ok(());
        }
        Err(format!(
            "{} jobs instead of {}",
            found.len() - 3,
            expected.len() - 3
        ))
    }
}

fn same(expected: &str, found: &str) -> Verdict {
    if expected == found {
        return Ok(());
    }
    let [expected, found] = parting(&expected, &found);
    Err(format!(
        "  without faults: {expected}\n  with faults:    {found}"
    ))
}
