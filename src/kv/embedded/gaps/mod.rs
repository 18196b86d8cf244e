//! [`Gaps`]: where an engine is known to hold nothing. Here is what is remembered and why it is
//! true; what a scan costs without it is the engine's affair.
//!
//! # Why no object is ever passed over
//!
//! What must hold, whenever the lock is free: **a snapshot taken from now on, as long as no write
//! announces a key in a gap, shows no object in that gap.** Four rules keep it.
//!
//! 1. A write *announces* the keys it puts before it makes them ([`Gaps::write`]): each parts the
//!    gap it lies in, cuts every search that goes on, and stays announced until the write is through.
//! 2. A search is *begun* before its snapshot is taken, and reaches at most to the first key that
//!    is announced at that moment.
//! 3. A search adds a gap only up to where it found an object, or was cut. Of the puts into that
//!    stretch, those through before it was begun are in its snapshot, which shows that nothing of
//!    them is left; those announced when it was begun, or later, have cut it. So none is left that
//!    a later snapshot could show, and the next one will be announced.
//! 4. A scan begins behind the gap that its first key lies in *when its search is begun*, so its
//!    snapshot is a later one. When it has the snapshot, it looks whether it was cut meanwhile
//!    within what it passed over; if so, it begins anew, with another snapshot, and passes over
//!    nothing.
//!
//! What might break it, and does not:
//!
//! - *A reader with an older snapshot* saw what was removed since, and must go on seeing it. It
//!   looked for a gap before it took that snapshot (rule 4), so gaps found later do not touch it.
//! - *A put into a stretch while a scan passes over it* is announced before or after the search
//!   was begun: rule 2 or rule 1 cuts it.
//! - *Removing*, one key or a prefix, only makes gaps larger.
//! - *A write that fails or panics* leaves its keys announced until the next write is. If it may
//!   be seen one day, the store closes, and there is no next write; otherwise nothing of it was
//!   applied.
//! - *A transaction that is rolled back* announced nothing, or what was never made: a smaller gap
//!   than there is.
//! - *A store that is opened again* knows no gaps.
//! - *Writes past [`Gaps::write`]*, by another `Gaps` over the same keys, say, do break it: all
//!   that puts keys must share one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kv::{Direction, Key, Range, Result};

/// How many gaps are remembered at most.
const MOST: usize = 1024;
/// A scan that came to its first object sooner than this passed over little.
const WORTHWHILE: Duration = Duration::from_micros(50);

/// Stretches of keys without objects, for an engine whose scans pass over what was removed, entry
/// by entry.
///
/// A log-structured merge tree keeps an entry for each removed key until it is compacted away. A
/// queue is consumed at its head, so every claim would pass over all jobs there were lately. What
/// a forward scan passed over at its beginning is remembered here, and the next one begins behind
/// it. The engine keeps one `Gaps`, and sends all its scans and all that puts objects through it:
///
/// ```
/// use kvjob::kv::{Gaps, Key, Range, Result};
///
/// struct Engine {
///     gaps: Gaps,
///     // and the database
/// }
/// # impl Engine {
/// # fn read(&self, _: &Range, _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> { Ok(()) }
/// # fn commit(&self) -> Result<()> { Ok(()) }
///
/// fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
///     self.gaps.scan(range, visit, |range, visit| self.read(range, visit))
/// }
///
/// fn put(&self, keys: Vec<Key>) -> Result<()> {
///     self.gaps.write(keys, || self.commit())
/// }
/// # }
/// ```
///
/// Some thousand gaps are remembered at most, and only those that took a while to find.
#[derive(Debug)]
pub struct Gaps {
    state: Mutex<State>,
    worthwhile: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// From the first key of each gap to its end. They neither overlap nor touch.
    known: BTreeMap<Key, End>,
    /// What is announced, in order.
    announced: Vec<Key>,
    /// The searches that go on, by a number of their own.
    searches: BTreeMap<u64, Reach>,
    last_search: u64,
}

/// How far what a search finds can be relied upon.
#[derive(Debug)]
struct Reach {
    first: Key,
    end: End,
}

/// The first key behind a stretch; `Never` if there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Key),
    Never,
}

impl Gaps {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            worthwhile: WORTHWHILE,
        }
    }

    /// Nothing is known yet, and every gap is remembered, however soon it is found: for the tests
    /// of an engine.
    #[cfg(any(test, feature = "testkit"))]
    pub fn eager() -> Self {
        Self {
            state: Mutex::default(),
            worthwhile: Duration::ZERO,
        }
    }

    /// Visits the objects of a range as [`Engine::scan`](super::Engine::scan) does, by way of
    /// `read`, which does the same and takes its snapshot when it is called. It may be called
    /// with a part of the range, twice, or not at all.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn scan(
        &self,
        range: &Range,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        mut read: impl FnMut(&Range, &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>,
    ) -> Result<()> {
        if range.direction == Direction::Reverse {
            return read(range, visit);
        }
        let begin = Instant::now();
        let (mut search, behind_gap) = self.begin(first(range));
        let mut rest = range.clone();
        match &behind_gap {
            Some(End::At(key)) => rest.start = Bound::Included(key.clone()),
            Some(End::Never) => return Ok(()),
            None => {}
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut finish = |end: End| {
            let intact = search.reaches(behind_gap.as_ref());
            if intact && begin.elapsed() >= self.worthwhile {
                search.found(end);
            }
            intact
        };
        let mut intact = None;
        read(&rest, &mut |key, value| {
            *intact.get_or_insert_with(|| finish(End::At(key.into()))) && visit(key, value)
        })?;
        if intact.unwrap_or_else(|| finish(end(range))) {
            return Ok(());
        }
        read(range, visit)
    }

    /// Makes a write which puts objects under these keys, whatever else it does. One at a time.
    ///
    /// # Errors
    /// Those of `write`. If objects may be seen later that are not seen when it returns, there
    /// must be no further write, as [`Engine`](super::Engine) says of its errors.
    pub fn write<T>(&self, mut puts: Vec<Key>, write: impl FnOnce() -> Result<T>) -> Result<T> {
        puts.sort_unstable();
        let mut state = self.state();
        for key in &puts {
            state.fill(key);
        }
        state.announced = puts;
        drop(state);
        let written = write()?;
        self.state().announced.clear();
        Ok(written)
    }

    /// Begins a search at this key. If that lies in a gap, also says where the gap ends.
    fn begin(&self, first: Key) -> (Search<'_>, Option<End>) {
        let mut state = self.state();
        let behind_gap = state.gap_over(&first).map(|(_, end)| end.clone());
        let ahead = state.announced.partition_point(|key| *key < first);
        let end = state.announced.get(ahead).cloned();
        let end = end.map_or(End::Never, End::At);
        state.last_search += 1;
        let number = state.last_search;
        state.searches.insert(number, Reach { first, end });
        (Search { gaps: self, number }, behind_gap)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Gaps {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The gap this key lies in.
    fn gap_over(&self, key: &Key) -> Option<(&Key, &End)> {
        let before = self.known.range::<Key, _>(..=key).next_back();
        before.filter(|(_, end)| **end > End::At(key.clone()))
    }

    /// A key is to be put.
    fn fill(&mut self, key: &Key) {
        let at = End::At(key.clone());
        for reach in self.searches.values_mut() {
            if reach.first <= *key && reach.end > at {
                reach.end = at.clone();
            }
        }
        let Some((first, end)) = self.gap_over(key) else {
            return;
        };
        let (first, end) = (first.clone(), end.clone());
        self.known.remove(&first);
        self.insert(first, at);
        self.insert(next(key), end);
    }

    /// Adds a gap, joined with those it overlaps or touches.
    fn insert(&mut self, mut first: Key, mut end: End) {
        if end <= End::At(first.clone()) {
            return;
        }
        while let Some((other, other_end)) = match &end {
            End::At(key) => self.known.range::<Key, _>(..=key).next_back(),
            End::Never => self.known.last_key_value(),
        } {
            if *other_end < End::At(first.clone()) {
                break;
            }
            let (other, other_end) = (other.clone(), other_end.clone());
            self.known.remove(&other);
            first = first.min(other);
            end = end.max(other_end);
        }
        if self.known.len() >= MOST {
            // One search each finds those again that are needed.
            self.known.clear();
        }
        self.known.insert(first, end);
    }
}

/// A search that goes on until this is dropped.
struct Search<'a> {
    gaps: &'a Gaps,
    number: u64,
}

impl Search<'_> {
    /// Whether it was not cut before this end.
    fn reaches(&self, end: Option<&End>) -> bool {
        let state = self.gaps.state();
        let reach = state.searches.get(&self.number);
        end.is_none_or(|end| reach.is_some_and(|reach| reach.end >= *end))
    }

    /// There is no object before this end.
    fn found(&mut self, end: End) {
        let mut state = self.gaps.state();
        if let Some(reach) = state.searches.remove(&self.number) {
            state.insert(reach.first, end.min(reach.end));
        }
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        self.gaps.state().searches.remove(&self.number);
    }
}

/// The smallest key a range can hold.
fn first(range: &Range) -> Key {
    match &range.start {
        Bound::Included(key) => key.clone(),
        Bound::Excluded(key) => next(key),
        Bound::Unbounded => Key::EMPTY,
    }
}

/// Where a range ends.
fn end(range: &Range) -> End {
    match &range.end {
        Bound::Included(key) => End::At(next(key)),
        Bound::Excluded(key) => End::At(key.clone()),
        Bound::Unbounded => End::Never,
    }
}

/// The smallest key behind this one.
fn next(key: &Key) -> Key {
    [key.as_bytes(), &[0]].concat().into()
}
