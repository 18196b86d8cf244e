//! [`Faulty`]: a store that fails as it is told, or as a seed has it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::atomic_of;
use crate::kv::{
    Atomic, Change, Error, ErrorKind, Health, Key, Limits, Object, Ownership, Page, Result, Scan,
    Store, Watch,
};

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It goes through.
    None,
    /// It goes through after this time, by Tokio's clock.
    Late(Duration),
    /// It is not made: try again.
    Transient,
    /// It is not made: try again. Only commits fail so by themselves.
    Conflict,
    /// It is not made: every condition is said to have failed. Only commits, if they are told to.
    ConditionFailed,
    /// It is not made, for a reason that the backend alone knows.
    Broken,
    /// It is not made, but the caller cannot know. Only writes fail so by themselves.
    LostBefore,
    /// It is made, but the caller cannot know. Only writes fail so by themselves.
    LostAfter,
}

/// How often calls fail by themselves: so many of 1000 in each way. Together they should not be
/// more than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds {
    /// [`Fault::Late`], by up to 10 ms.
    pub late: u32,
    /// [`Fault::Transient`].
    pub transient: u32,
    /// [`Fault::Conflict`]; counts for commits alone.
    pub conflict: u32,
    /// [`Fault::Broken`].
    pub broken: u32,
    /// [`Fault::LostBefore`]; counts for writes alone.
    pub lost_before: u32,
    /// [`Fault::LostAfter`]; counts for writes alone.
    pub lost_after: u32,
}

/// A store whose calls fail, late or early, as the contract allows: for the tests of those who
/// call one.
///
/// A call meets the next fault of the script for its kind ([`next_reads`](Self::next_reads),
/// [`next_writes`](Self::next_writes)); if there is none, one by chance, of the odds for its kind.
/// Without odds nothing happens by chance. Reads are `get`, `scan` and their many-fold forms;
/// writes are `set`, `remove`, `delete`, `commit` and each commit of `commit_all`. Nothing else
/// fails. The same seed has the same faults for the same calls in the same order.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use kvjob::kv::wrap::{Fault, Faulty};
/// use kvjob::kv::{Memory, Object, Store};
///
/// let store = Faulty::new(Memory::new(), 7);
/// store.next_writes([Fault::LostAfter]);
/// let lost = store.set(Object::new("key", "value")).await.unwrap_err();
/// assert!(lost.maybe_applied());
/// assert_eq!(store.get(&"key".into()).await?.unwrap().value, "value");
/// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    on_reads: Odds,
    on_writes: Odds,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chance: StdRng,
    reads: VecDeque<Fault>,
    writes: VecDeque<Fault>,
    commits: Vec<usize>,
    met: usize,
}

/// The kinds of calls, by what may become of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    /// So many changes.
    Commit(usize),
}

impl<S: Store> Faulty<S> {
    /// A store that fails like `inner`, until it is told otherwise.
    pub fn new(inner: S, seed: u64) -> Self {
        Self {
            inner,
            on_reads: Odds::default(),
            on_writes: Odds::default(),
            state: Mutex::new(State {
                chance: StdRng::seed_from_u64(seed),
                reads: VecDeque::new(),
                writes: VecDeque::new(),
                commits: Vec::new(),
                met: 0,
            }),
        }
    }

    /// How often reads fail by themselves.
    #[must_use]
    pub fn on_reads(mut self, odds: Odds) -> Self {
        self.on_reads = odds;
        self
    }

    /// How often writes fail by themselves.
    #[must_use]
    pub fn on_writes(mut self, odds: Odds) -> Self {
        self.on_writes = odds;
        self
    }

    /// The store below, which does not fail.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// What becomes of the next reads, in this order, behind those that were told before.
    pub fn next_reads(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().reads.extend(faults);
    }

    /// What becomes of the next writes, in this order, behind those that were told before.
    pub fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().writes.extend(faults);
    }

    /// Whether every fault that was told has been met.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.reads.is_empty() && state.writes.is_empty()
    }

    /// How many calls met a fault so far, by script or by chance.
    pub fn met(&self) -> usize {
        self.state().met
    }

    /// How many changes each commit had so far; failed ones are counted, too.
    pub fn commits(&self) -> Vec<usize> {
        self.state().commits.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the next call of this kind.
    fn fault(&self, call: Call) -> Fault {
        let mut state = self.state();
        let (told, odds) = if call == Call::Read {
            (state.reads.pop_front(), self.on_reads)
        } else {
            (state.writes.pop_front(), self.on_writes)
        };
        if let Call::Commit(changes) = call {
            state.commits.push(changes);
        }
        // Drawn for every call, so that one that is told what to do shifts no other.
        let (mut drawn, late) = (
            state.chance.random_range(0..1000),
            state.chance.random_range(0..10_000),
        );
        let by_chance = [
            (odds.late, Fault::Late(Duration::from_micros(late)), true),
            (odds.transient, Fault::Transient, true),
            (odds.broken, Fault::Broken, true),
            (odds.lost_before, Fault::LostBefore, call != Call::Read),
            (odds.lost_after, Fault::LostAfter, call != Call::Read),
            (
                odds.conflict,
                Fault::Conflict,
                matches!(call, Call::Commit(_)),
            ),
        ];
        let by_chance = by_chance.into_iter().filter(|(_, _, may_be)| *may_be);
        let by_chance = by_chance
            .into_iter()
            .find(|(odds, ..)| {
                let met = drawn < *odds;
                drawn = drawn.saturating_sub(*odds);
                met
            })
            .map_or(Fault::None, |(_, fault, _)| fault);
        let fault = told.unwrap_or(by_chance);
        state.met += usize::from(fault != Fault::None);
        fault
    }

    /// Makes a call, or does not, as its fault has it.
    async fn meet<T>(&self, call: Call, made: impl Future<Output = Result<T>>) -> Result<T> {
        let fails = |kind| {
            let message = format!("{}: a test wants this call to fail", self.inner.name());
            Err(Error::new(kind, message))
        };
        match self.fault(call) {
            Fault::None => made.await,
            Fault::Late(by) => {
                tokio::time::sleep(by).await;
                made.await
            }
            Fault::Transient => fails(ErrorKind::Transient),
            Fault::Conflict => fails(ErrorKind::Conflict),
            Fault::ConditionFailed => {
                let changes = match call {
                    Call::Commit(changes) => changes,
                    Call::Read | Call::Write => 0,
                };
                Err(Error::condition_failed((0..changes).collect()))
            }
            Fault::Broken => fails(ErrorKind::Backend),
            Fault::LostBefore => fails(ErrorKind::Unknown),
            Fault::LostAfter => {
                made.await?;
                fails(ErrorKind::Unknown)
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Faulty<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.meet(Call::Write, self.inner.set(object)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.meet(Call::Read, self.inner.get(key)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.meet(Call::Read, self.inner.scan(scan)).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.meet(Call::Write, self.inner.remove(object)).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.meet(Call::Write, self.inner.delete(prefix)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        self.meet(Call::Read, self.inner.get_many(keys)).await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        self.meet(Call::Read, self.inner.scan_many(scans)).await
    }

    async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.inner.stop().await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn ownership(&self) -> Ownership {
        self.inner.ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.inner.atomic().is_some().then_some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.watch()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Atomic for Faulty<S> {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let call = Call::Commit(changes.len());
        let made = async { atomic_of(&self.inner)?.commit(changes).await };
        self.meet(call, made).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        for changes in commits {
            outcomes.push(self.commit(changes).await);
        }
        outcomes
    }
}
