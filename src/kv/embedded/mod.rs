//! [`Embedded`]: a full store over a synchronous [`Engine`]. Here are its face and its reads;
//! the writer thread, the queue before it, the conditions of a group, transactions shared with the
//! user, and what helps an engine past removed keys have a file each.

mod gaps;
mod group;
mod queue;
mod shared;
mod sharing;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use gaps::Gaps;
pub(super) use group::decide;
use queue::{Closing, Request, Work};
pub(super) use shared::panic_text;
use shared::{Open, Shared};
use sharing::Sharing;
use writer::Writer;

use super::{
    Atomic, Change, Durability, Engine, Error, ErrorKind, FileLock, Health, Hub, Key, Limits,
    Object, Ownership, Page, PageBuilder, Result, Scan, Shareable, Store, Watch, Watcher,
    check_commit,
};

/// How an [`Embedded`] store is opened.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// When an acknowledged change is on disk.
    pub durability: Durability,
    /// What keeps other processes out; released when the engine has been closed.
    pub lock: Option<FileLock>,
}

impl Options {
    /// A store of this durability, without a lock: for an engine that keeps others out by
    /// itself, or has no files.
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            lock: None,
        }
    }

    /// Holds this lock for as long as the engine is open.
    #[must_use]
    pub fn lock(mut self, lock: FileLock) -> Self {
        self.lock = Some(lock);
        self
    }
}

/// A store over an engine in this process.
///
/// One thread of its own does all writing: it takes the commits that wait, checks the conditions
/// of each against the engine and the commits before it, applies all in one engine transaction
/// with one sync, and answers each caller (group commit). Callers share syncs simply by being
/// many. A commit whose conditions fail fails alone. Commits of one caller keep their order.
///
/// Reads are made at once by whoever asks, or on Tokio's blocking threads where they may take
/// long. A commit whose future is dropped after it was sent is carried out nevertheless.
///
/// # When the engine fails
///
/// Where the engine cannot say what is on disk (a failed sync, a panic), the callers of that
/// group get [`Unknown`](ErrorKind::Unknown), and the store closes itself: every later call
/// answers [`Closed`](ErrorKind::Closed) with the reason. Open it again to go on with what is on
/// disk. Nothing that is in doubt is ever acknowledged later.
///
/// # Closing
///
/// [`stop`](Store::stop) finishes what was sent, syncs, and lets go of the files. Dropping the
/// store does the same and waits for it (some seconds at most), so that the files can be opened
/// again at once; in async code prefer `stop`.
pub struct Embedded<E: Engine> {
    shared: Arc<Shared<E>>,
    durability: Durability,
    ownership: Ownership,
    writer: ThreadId,
    /// Disconnected when the thread is through. The mutex only makes it `Sync`.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl<E: Engine> Embedded<E> {
    /// Reads of more objects than this are made on a blocking thread.
    const INLINE_OBJECTS: usize = 1000;
    /// How long dropping it waits for the writer thread.
    const DROP_PATIENCE: Duration = Duration::from_secs(10);
    /// Commits that [`commit_all`](Atomic::commit_all) sends at once.
    const SENT_AT_ONCE: usize = queue::CAPACITY / 4;

    /// Makes a store of this engine.
    ///
    /// # Errors
    /// [`Backend`](ErrorKind::Backend) if the writer thread cannot be started.
    pub fn open(engine: E, options: Options) -> Result<Self> {
        Self::start(engine, options, None)
    }

    /// Makes a store of an engine whose files other processes may have open, too. Conditions are
    /// then checked inside the engine's write transaction, in which the whole group is applied. A
    /// watcher hears of what others wrote, within 20 ms or so, as
    /// [`Lagged`](super::Event::Lagged): what it was, nobody says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(engine: E, options: Options) -> Result<Self>
    where
        E: Shareable,
    {
        Self::start(engine, options, Some(Sharing::of_engine()))
    }

    fn start(engine: E, options: Options, sharing: Option<Sharing<E>>) -> Result<Self> {
        let Options { durability, lock } = options;
        let hub = Hub::new();
        let shared = Arc::new(Shared::new(Open {
            engine,
            hub: hub.clone(),
            _lock: lock,
        }));
        let ownership = match &sharing {
            Some(_) => Ownership::Shared,
            None => Ownership::Exclusive,
        };
        let writer = Writer::new(Arc::clone(&shared), hub, durability, sharing);
        let (running, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("kvjob-{}", shared.name))
            .spawn(move || {
                writer.run();
                drop::<mpsc::Sender<()>>(running);
            })
            .map_err(|error| {
                let message = format!(
                    "{}: could not start the writer thread: {error}; is the limit of threads reached?",
                    shared.name
                );
                Error::new(ErrorKind::Backend, message).with_source(error)
            })?;
        Ok(Self {
            shared,
            durability,
            ownership,
            writer: thread.thread().id(),
            ended: Mutex::new(ended),
        })
    }

    /// When an acknowledged change is on disk.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Sends work to the writer and waits for the answer.
    async fn write(&self, work: Work<E>) -> Result<()> {
        let (request, answer) = Request::new(work);
        self.shared
            .queue
            .push(&self.shared.name, vec![request])
            .await;
        answer.await.unwrap_or_else(|_| Err(self.unanswered()))
    }

    fn unanswered(&self) -> Error {
        let message = format!(
            "{}: the writer thread ended without an answer",
            self.shared.name
        );
        Error::new(ErrorKind::Unknown, message)
    }

    /// Reads from the engine: here if it is `short`, else on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        short: bool,
        read: impl FnOnce(&E) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !short => {
                let shared = Arc::clone(&self.shared);
                let done = runtime.spawn_blocking(move || shared.read(read)).await;
                done.unwrap_or_else(|error| {
                    let message = format!("{}: a long read was given up", self.shared.name);
                    Err(Error::new(ErrorKind::Transient, message).with_source(error))
                })
            }
            // Under an executor that is not Tokio there is no thread to move to.
            _ => self.shared.read(read),
        }
    }
}

fn scan_now(engine: &impl Engine, scan: &Scan) -> Result<Page> {
    let range = scan.range(engine.unique_keys());
    let mut page = PageBuilder::new(scan);
    // Some ordered maps panic on a range that ends before it starts.
    if !range.is_empty() {
        engine.scan(&range, &mut |key, value| page.offer(key, value))?;
    }
    Ok(page.finish())
}

fn object(key: &Key, value: Option<Bytes>) -> Option<Object> {
    value.map(|value| Object {
        key: key.clone(),
        value,
    })
}

#[async_trait]
impl<E: Engine> Store for Embedded<E> {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn unique_keys(&self) -> bool {
        self.shared.unique_keys
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.shared.limits.check_object(&object)?;
        let change = Change::put(object.key, object.value);
        self.write(Work::Commit(vec![change])).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.shared.limits.check_key(key)?;
        let keys = std::slice::from_ref(key);
        let mut values = self.shared.read(|engine| engine.get(keys))?;
        Ok(values.pop().and_then(|value| object(key, value)))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let short =
            scan.limit <= Self::INLINE_OBJECTS && scan.byte_budget <= Scan::DEFAULT_BYTE_BUDGET;
        self.read(short, move |engine| scan_now(engine, &scan))
            .await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.shared.limits.check_key(&object.key)?;
        let Object { key, value } = object.clone();
        if self.shared.unique_keys {
            return self.write(Work::Commit(vec![Change::remove(key)])).await;
        }
        let change = Change::replace(key, value, None);
        let removed = self.write(Work::Commit(vec![change])).await;
        removed.or_else(|error| match error.kind() {
            // The pair is not there.
            ErrorKind::ConditionFailed { .. } => Ok(()),
            _ => Err(error),
        })
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.write(Work::Delete(prefix.clone())).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        for key in keys {
            self.shared.limits.check_key(key)?;
        }
        let values = if keys.len() <= Self::INLINE_OBJECTS {
            self.shared.read(|engine| engine.get(keys))?
        } else {
            let keys = keys.to_vec();
            self.read(false, move |engine| engine.get(&keys)).await?
        };
        Ok(keys
            .iter()
            .zip(values)
            .map(|(key, value)| object(key, value))
            .collect())
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let limit = scans
            .iter()
            .fold(0usize, |sum, scan| sum.saturating_add(scan.limit));
        let budget = scans
            .iter()
            .fold(0usize, |most, scan| most.max(scan.byte_budget));
        let short = limit <= Self::INLINE_OBJECTS && budget <= Scan::DEFAULT_BYTE_BUDGET;
        self.read(short, move |engine| {
            scans.iter().map(|scan| scan_now(engine, scan)).collect()
        })
        .await
    }

    async fn stop(&self) -> Result<()> {
        self.shared.queue.close(Closing::Stopped);
        self.shared.ended().await;
        match self.shared.queue.closing() {
            Some(closing @ Closing::Failed(_)) => Err(closing.error(&self.shared.name)),
            _ => Ok(()),
        }
    }

    async fn health(&self) -> Result<Health> {
        let mut health = self.read(false, E::health).await?;
        if self.durability == Durability::Memory {
            let warning = format!(
                "{}: opened with durability=memory: a crash may lose any acknowledged change",
                self.shared.name
            );
            health.warnings.push(warning);
        }
        Ok(health)
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn ownership(&self) -> Ownership {
        self.ownership
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

#[async_trait]
impl<E: Engine> Atomic for Embedded<E> {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &self.shared.limits)?;
        self.write(Work::Commit(changes)).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(commits.len());
        let mut requests = Vec::new();
        for changes in commits {
            if let Err(refused) = check_commit(&changes, &self.shared.limits) {
                answers.push(Err(refused));
                continue;
            }
            let (request, answer) = Request::new(Work::Commit(changes));
            requests.push(request);
            answers.push(Ok(answer));
            if requests.len() >= Self::SENT_AT_ONCE {
                let full = std::mem::take(&mut requests);
                self.shared.queue.push(&self.shared.name, full).await;
            }
        }
        self.shared.queue.push(&self.shared.name, requests).await;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(self.unanswered())),
                Err(refused) => Err(refused),
            });
        }
        outcomes
    }
}

#[async_trait]
impl<E: Engine> Watch for Embedded<E> {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let subscribed = self.shared.with_open(|open| Ok(open.hub.subscribe(prefix)));
        if self.ownership == Ownership::Shared {
            self.write(Work::Watch).await?;
        }
        subscribed
    }
}

impl<E: Engine> fmt::Debug for Embedded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("engine", &self.shared.name)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl<E: Engine> Drop for Embedded<E> {
    fn drop(&mut self) {
        self.shared.queue.close(Closing::Stopped);
        if thread::current().id() == self.writer {
            // The body of a transaction held the last handle: the thread goes on after it.
            return;
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(Self::DROP_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                store = self.shared.name,
                "dropped, but its writer thread is still busy and goes on in the background"
            );
        }
    }
}
