//! What must hold in the key space, and what is done where it does not.
//!
//! Everything else follows from the headers, which are the truth: where a job stands, which lease,
//! job key, arguments and history it has. The rules are looked at from both ends, a header's keys
//! must be there, and a key must be one that a header asks for.
//!
//! | file | what lives there |
//! |---|---|
//! | `finding` | what a check tells its caller |
//! | `expect` | the keys a header asks for |
//! | `job` | what must hold for a job, seen from its header |
//! | `history` | what must hold for its steps |
//! | `queue` | what must hold for serial queues |
//! | `entry` | what must hold for every other object |
//! | `mend` | how each kind of damage is mended |
//!
//! Nothing here commits, and nothing walks the store: `KvStore::check` does, and what is to be
//! mended goes through the planner like any other operation (`ops::mend`).

mod entry;
mod expect;
mod finding;
mod history;
mod job;
mod mend;
mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use finding::{CheckEvent, Checked, Damage, Finding};

pub(in crate::job) use entry::{entry, is_quarantined, job_of};
pub(in crate::job) use job::{job, reads, unfit};
pub(in crate::job) use mend::apply;

use super::header::{self, Header};
use super::keys::KeySpace;
use super::plan::View;
use super::{JobId, Result};
use crate::clock::Timestamp;
use crate::kv::{self, ErrorKind, Key, Object};

/// What the rules know besides what is stored.
pub(in crate::job) struct Rules<'a> {
    pub(in crate::job) keys: &'a KeySpace,
    pub(in crate::job) now: Timestamp,
    pub(in crate::job) max_skew: Duration,
    /// Whether newer software has written to the namespace: it may have spaces of its own.
    pub(in crate::job) shared_with_newer: bool,
}

/// Something that is not as it must be, and what would help.
pub(in crate::job) struct Problem {
    pub(in crate::job) damage: Damage,
    pub(in crate::job) key: Key,
    pub(in crate::job) job: Option<JobId>,
    pub(in crate::job) message: String,
    pub(in crate::job) fix: Fix,
}

/// What would help.
pub(in crate::job) enum Fix {
    /// Nothing, and why.
    Leave(&'static str),
    /// An entry that says nothing a header does not say goes.
    Remove(Object),
    /// An object goes to the quarantine, as raw bytes.
    PutAside(Object),
    /// An entry is written again; what stood there goes to the quarantine if nobody knows what it
    /// says.
    Rewrite {
        object: Object,
        value: Vec<u8>,
        put_aside: bool,
    },
    /// An entry that is missing is written.
    Put(Key, Vec<u8>),
    /// A waiting job goes where it belongs.
    Place,
    /// A running job gets a lease that has just run out, so that expiry takes it back.
    Lease,
    /// A running job keeps one of its leases.
    OneLease,
    /// A lease in a worker record that does not hold the job goes.
    DropLease { id: JobId, epoch: u64 },
    /// A running job counts as such in its serial queue.
    Enlist,
    /// A serial queue forgets these jobs, and exposes those that it should.
    Settle(Vec<JobId>),
    /// The record of a serial queue is put aside and built again.
    Rebuild,
    /// A running job that nobody holds counts as one whose lease ran out.
    TakeBack,
    /// A job that does not run is held by nobody.
    Release,
    /// A job that has ended says when.
    End,
    /// A job's key belongs to another job.
    LoseKey,
    /// A job's result is lost.
    LoseResult,
    /// Steps are counted from here on.
    CountFrom(u32),
    /// Steps that are lost, first and last of each run, are replaced by notes that say so.
    Fill(Vec<(u32, u32)>),
    /// What is left of a job that was being removed goes, too: whoever called does it.
    Purge,
}

/// What is to be said of a job or an object.
pub(in crate::job) enum Verdict {
    Sound,
    /// Written by newer software: left alone (protocol rule 20).
    TooNew,
    /// Never without a problem.
    Wrong(Vec<Problem>),
}

impl Verdict {
    fn of(problems: Vec<Problem>) -> Self {
        if problems.is_empty() {
            Self::Sound
        } else {
            Self::Wrong(problems)
        }
    }

    /// What is wrong, if anything is.
    pub(in crate::job) fn problems(self) -> Vec<Problem> {
        match self {
            Self::Sound | Self::TooNew => Vec::new(),
            Self::Wrong(problems) => problems,
        }
    }
}

/// How a record reads.
pub(in crate::job) enum Read<T> {
    Good(T),
    TooNew,
    Bad(kv::Error),
}

/// Reads a record.
pub(in crate::job) fn read<T: serde::de::DeserializeOwned>(key: &Key, value: &[u8]) -> Read<T> {
    match header::decode(key, value) {
        Ok(record) => Read::Good(record),
        Err(error) if *error.kind() == ErrorKind::TooNew => Read::TooNew,
        Err(error) => Read::Bad(error),
    }
}

/// The header of a job that something names.
pub(in crate::job) enum Named {
    Here(Box<Header>),
    /// There is none, and none was put aside.
    Nobody,
    /// It is of a newer format, cannot be read or was put aside: what belongs to it stays until
    /// somebody knows what to do with it.
    LeftAlone,
}

pub(in crate::job) async fn named(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    id: JobId,
) -> Result<Named> {
    let key = rules.keys.job(id);
    Ok(match view.get(&key).await? {
        Some(value) => match read(&key, &value) {
            Read::Good(header) => Named::Here(Box::new(header)),
            Read::TooNew | Read::Bad(_) => Named::LeftAlone,
        },
        None if is_quarantined(rules, view, &key).await? => Named::LeftAlone,
        None => Named::Nobody,
    })
}
