//! [`Traced`]: a span around every call, and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tracing::field::{Empty, debug};
use tracing::{Instrument as _, Span, debug_span};

use super::{atomic_of, watch_of};
use crate::kv::{
    Atomic, Change, Health, Key, Limits, Object, Ownership, Page, Result, Scan, Store, Watch,
    Watcher,
};

/// A store that tells what is asked of it.
///
/// Around every call is a span `kv` of level debug, with these fields:
///
/// | field | what it says |
/// |---|---|
/// | `store` | [`Store::name`] |
/// | `operation` | [`Operation::name`] |
/// | `key` | the key or prefix, where there is one |
/// | `asked` | how many keys, scans, changes or commits were handed in, where it may be many |
/// | `objects`, `bytes` | how much was read or written, in the end |
/// | `error` | the [kind](crate::kv::Error::kind) of failure, in the end |
///
/// The same is [counted](Self::counts) for each operation, whether anybody listens or not.
/// Values are never shown.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use kvjob::kv::wrap::{Operation, Traced};
/// use kvjob::kv::{Memory, Object, Store};
///
/// let store = Traced::new(Memory::new());
/// store.set(Object::new("key", "value")).await?;
/// let counts = store.counts(Operation::Set);
/// assert_eq!((counts.calls, counts.objects_written, counts.bytes), (1, 1, 8));
/// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Traced<S> {
    inner: S,
    counters: [Counters; Operation::ALL.len()],
}

/// What may be asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::set`].
    Set,
    /// [`Store::get`].
    Get,
    /// [`Store::scan`].
    Scan,
    /// [`Store::remove`].
    Remove,
    /// [`Store::delete`].
    Delete,
    /// [`Store::get_many`].
    GetMany,
    /// [`Store::scan_many`].
    ScanMany,
    /// [`Store::start`].
    Start,
    /// [`Store::stop`].
    Stop,
    /// [`Store::health`].
    Health,
    /// [`Atomic::commit`].
    Commit,
    /// [`Atomic::commit_all`].
    CommitAll,
    /// [`Watch::watch`].
    Watch,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Set,
        Self::Get,
        Self::Scan,
        Self::Remove,
        Self::Delete,
        Self::GetMany,
        Self::ScanMany,
        Self::Start,
        Self::Stop,
        Self::Health,
        Self::Commit,
        Self::CommitAll,
        Self::Watch,
    ];

    /// What it is called in spans: the name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Scan => "scan",
            Self::Remove => "remove",
            Self::Delete => "delete",
            Self::GetMany => "get_many",
            Self::ScanMany => "scan_many",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Health => "health",
            Self::Commit => "commit",
            Self::CommitAll => "commit_all",
            Self::Watch => "watch",
        }
    }
}

/// What was counted of one operation since the store was wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls that were begun.
    pub calls: u64,
    /// Errors, failed conditions among them; of `commit_all` those of each commit.
    pub errors: u64,
    /// Objects that were read.
    pub objects_read: u64,
    /// Objects that were set or removed, checks left out. What a `delete` removed is not known.
    pub objects_written: u64,
    /// Bytes of the keys and values of these.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    objects_read: AtomicU64,
    objects_written: AtomicU64,
    bytes: AtomicU64,
}

/// What one call came to.
#[derive(Clone, Copy, Default)]
struct Measure {
    errors: usize,
    read: usize,
    written: usize,
    bytes: usize,
}

impl<S: Store> Traced<S> {
    /// Tells what is asked of `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            counters: Default::default(),
        }
    }

    /// The store below.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// What was counted of this operation so far.
    pub fn counts(&self, operation: Operation) -> Counts {
        let Some(counters) = self.counters.get(operation as usize) else {
            return Counts::default();
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            calls: read(&counters.calls),
            errors: read(&counters.errors),
            objects_read: read(&counters.objects_read),
            objects_written: read(&counters.objects_written),
            bytes: read(&counters.bytes),
        }
    }

    /// The span of a call, which begins.
    fn span(&self, operation: Operation, key: Option<&Key>, asked: Option<usize>) -> Span {
        if let Some(counters) = self.counters.get(operation as usize) {
            counters.calls.fetch_add(1, Ordering::Relaxed);
        }
        debug_span!(
            "kv",
            store = self.inner.name(),
            operation = operation.name(),
            key = key.map(display),
            asked,
            objects = Empty,
            bytes = Empty,
            error = Empty,
        )
    }

    /// Makes a call within its span, and counts what it came to.
    async fn observe<T>(
        &self,
        operation: Operation,
        span: Span,
        call: impl Future<Output = Result<T>>,
        measure: impl FnOnce(&T) -> Measure,
    ) -> Result<T> {
        let outcome = call.instrument(span.clone()).await;
        let measure = match &outcome {
            Ok(done) => measure(done),
            Err(error) => {
                span.record("error", debug(error.kind()));
                Measure {
                    errors: 1,
                    ..Measure::default()
                }
            }
        };
        self.count(operation, &span, measure);
        outcome
    }

    fn count(&self, operation: Operation, span: &Span, measure: Measure) {
        let Some(counters) = self.counters.get(operation as usize) else {
            return;
        };
        span.record("objects", measure.read + measure.written);
        span.record("bytes", measure.bytes);
        for (counter, more) in [
            (&counters.errors, measure.errors),
            (&counters.objects_read, measure.read),
            (&counters.objects_written, measure.written),
            (&counters.bytes, measure.bytes),
        ] {
            if more > 0 {
                counter.fetch_add(more as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Measure {
    fn nothing<T>(_: &T) -> Self {
        Self::default()
    }

    fn read<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut measure = Self::default();
        for object in objects {
            measure.read += 1;
            measure.bytes += object.size();
        }
        measure
    }

    fn written(bytes: usize) -> Self {
        Self {
            written: 1,
            bytes,
            ..Self::default()
        }
    }

    fn changes(changes: &[Change]) -> Self {
        let mut measure = Self::default();
        for change in changes.iter().filter(|change| !change.is_check()) {
            measure.written += 1;
            measure.bytes += change.size();
        }
        measure
    }

    fn add(&mut self, other: Self) {
        self.errors += other.errors;
        self.read += other.read;
        self.written += other.written;
        self.bytes += other.bytes;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Traced<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        let operation = Operation::Set;
        let (span, size) = (self.span(operation, Some(&object.key), None), object.size());
        let call = self.inner.set(object);
        self.observe(operation, span, call, |()| Measure::written(size))
            .await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let operation = Operation::Get;
        let span = self.span(operation, Some(key), None);
        let call = self.inner.get(key);
        self.observe(operation, span, call, |found| Measure::read(found))
            .await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let operation = Operation::Scan;
        let begun = self.span(operation, Some(&scan.prefix), None);
        let call = self.inner.scan(scan);
        self.observe(operation, begun, call, |page| Measure::read(&page.objects))
            .await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        let operation = Operation::Remove;
        let span = self.span(operation, Some(&object.key), None);
        let call = self.inner.remove(object);
        self.observe(operation, span, call, |()| {
            Measure::written(object.key.len())
        })
        .await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        let operation = Operation::Delete;
        let span = self.span(operation, Some(prefix), None);
        let call = self.inner.delete(prefix);
        self.observe(operation, span, call, Measure::nothing).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        let operation = Operation::GetMany;
        let span = self.span(operation, None, Some(keys.len()));
        let call = self.inner.get_many(keys);
        self.observe(operation, span, call, |found| {
            Measure::read(found.iter().flatten())
        })
        .await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let operation = Operation::ScanMany;
        let span = self.span(operation, None, Some(scans.len()));
        let call = self.inner.scan_many(scans);
        self.observe(operation, span, call, |pages| {
            Measure::read(pages.iter().flat_map(|page| &page.objects))
        })
        .await
    }

    async fn start(&self) -> Result<()> {
        let span = self.span(Operation::Start, None, None);
        let call = self.inner.start();
        self.observe(Operation::Start, span, call, Measure::nothing)
            .await
    }

    async fn stop(&self) -> Result<()> {
        let span = self.span(Operation::Stop, None, None);
        let call = self.inner.stop();
        self.observe(Operation::Stop, span, call, Measure::nothing)
            .await
    }

    async fn health(&self) -> Result<Health> {
        let span = self.span(Operation::Health, None, None);
        let call = self.inner.health();
        self.observe(Operation::Health, span, call, Measure::nothing)
            .await
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
        self.inner.watch().is_some().then_some(self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Atomic for Traced<S> {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let operation = Operation::Commit;
        let span = self.span(operation, None, Some(changes.len()));
        let measure = Measure::changes(&changes);
        let call = async { atomic_of(&self.inner)?.commit(changes).await };
        self.observe(operation, span, call, |()| measure).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let operation = Operation::CommitAll;
        let span = self.span(operation, None, Some(commits.len()));
        let measures: Vec<Measure> = commits.iter().map(|c| Measure::changes(c)).collect();
        let outcomes = match atomic_of(&self.inner) {
            Ok(atomic) => atomic.commit_all(commits).instrument(span.clone()).await,
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut total = Measure::default();
        for (outcome, measure) in outcomes.iter().zip(measures) {
            match outcome {
                Ok(()) => total.add(measure),
                Err(error) => {
                    // The last one stays.
                    span.record("error", debug(error.kind()));
                    total.errors += 1;
                }
            }
        }
        self.count(operation, &span, total);
        outcomes
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Watch for Traced<S> {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let span = self.span(Operation::Watch, Some(prefix), None);
        let call = async { watch_of(&self.inner)?.watch(prefix).await };
        self.observe(Operation::Watch, span, call, Measure::nothing)
            .await
    }

    fn announce(&self, keys: Vec<Key>) {
        if let Some(watch) = self.inner.watch() {
            watch.announce(keys);
        }
    }
}
