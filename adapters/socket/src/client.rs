//! The other side: a store that is reached through the process that holds it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use kvjob::kv::{
    Atomic, Change, Error, ErrorKind, Health, Hub, Key, Limits, Object, Ownership, Page, Result,
    Scan, Store, Watch, Watcher, check_commit,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::place::{Short, is_ours};
use crate::wire::{self, Ask, Call, Codec, Hello, MOST_BYTES, NO_CALL, Tell, Told};

/// How long a holder may take to greet: one that does not is stopped, or hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store that another process holds, reached through the [socket](crate::Socket) it listens on.
///
/// It is [`Shared`](Ownership::Shared), whatever the store is to its holder. Values and commits
/// are at most 8 MiB, pages too, whatever their byte budget. When the holder ends, every call
/// answers [`Closed`](ErrorKind::Closed), and one that was under way
/// [`Unknown`](ErrorKind::Unknown) if it was to change something.
pub struct Remote {
    name: String,
    unique_keys: bool,
    has_watch: bool,
    limits: Limits,
    wire: Arc<Wire>,
    ids: AtomicU64,
    tasks: [AbortHandle; 2],
}

/// What the tasks of a connection and its callers share.
struct Wire {
    /// Frames to send. As many as there are callers, for each waits for its answer.
    asks: mpsc::UnboundedSender<Bytes>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    waiting: HashMap<u64, oneshot::Sender<Result<Told>>>,
    watches: HashMap<u64, Hub>,
    /// Why there are no answers any more.
    ended: Option<String>,
}

impl Remote {
    /// Connects to whoever listens at `path`; `None` if nobody does.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a path that is too long for a socket;
    /// [`Backend`](ErrorKind::Backend) if the socket is another user's, or does not let us in;
    /// [`TooNew`](ErrorKind::TooNew) if the other one speaks a later version;
    /// [`Transient`](ErrorKind::Transient) if it does not answer.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(None);
        }
        let failed = |kind, why: &dyn fmt::Display| {
            let message = format!(
                "cannot reach the holder of the store through {}: {why}",
                path.display()
            );
            Error::new(kind, message)
        };
        let short = Short::of(path)?;
        let stream = match UnixStream::connect(&short.path).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(failed(ErrorKind::Backend, &error).with_source(error)),
            },
        };
        if !is_ours(&stream) {
            return Err(failed(ErrorKind::Backend, &"another user listens there"));
        }
        let (from, to) = stream.into_split();
        let mut frames = FramedRead::new(from, wire::codec());
        let hello = timeout(PATIENCE, frames.next()).await.map_err(|_| {
            let why = format!("no answer within {PATIENCE:?}; it may be stopped");
            failed(ErrorKind::Transient, &why)
        })?;
        let hello = match hello {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(failed(ErrorKind::Backend, &error).with_source(error)),
            // It is about to end.
            None => return Ok(None),
        };
        let hello: Hello =
            wire::decode(&hello).map_err(|error| failed(error.kind().clone(), &error))?;
        Ok(Some(Self::over(&hello, frames, to)))
    }

    fn over(hello: &Hello, frames: FramedRead<OwnedReadHalf, Codec>, to: OwnedWriteHalf) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let wire = Arc::new(Wire {
            asks,
            open: Mutex::default(),
        });
        let name = format!("{} held by process {}", hello.name, hello.process);
        let gone = format!("{name}: that process has ended, or let go of it");
        let reading = tokio::spawn(read(frames, Arc::clone(&wire), gone));
        let writing = tokio::spawn(write(asked, to));
        Self {
            name,
            unique_keys: hello.unique_keys,
            has_watch: hello.watch,
            limits: wire::to_limits(hello.limits),
            wire,
            ids: AtomicU64::new(NO_CALL + 1),
            tasks: [reading.abort_handle(), writing.abort_handle()],
        }
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a call that changes nothing.
    async fn read(&self, call: Call) -> Result<Told> {
        self.call(self.next_id(), call, ErrorKind::Closed).await
    }

    /// Makes a call that may change something.
    async fn write(&self, call: Call) -> Result<Told> {
        self.call(self.next_id(), call, ErrorKind::Unknown).await
    }

    /// Makes a call, and says if its answer is lost that it is of this kind.
    async fn call(&self, id: u64, call: Call, lost: ErrorKind) -> Result<Told> {
        let frame = wire::encode(&Ask { id, call })?;
        let (answer, answered) = oneshot::channel();
        {
            let mut open = self.wire.open();
            if let Some(why) = &open.ended {
                return Err(Error::new(ErrorKind::Closed, why));
            }
            open.waiting.insert(id, answer);
        }
        if self.wire.asks.send(frame).is_err() {
            self.wire.open().waiting.remove(&id);
            return Err(Error::new(ErrorKind::Closed, self.why_ended()));
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(lost, self.why_ended())),
        }
    }

    fn why_ended(&self) -> String {
        let why = self.wire.open().ended.clone();
        why.unwrap_or_else(|| format!("{}: the connection broke", self.name))
    }

    fn unexpected(&self, told: &Told) -> Error {
        let message = format!("{}: an answer to another question: {told:?}", self.name);
        Error::new(ErrorKind::Corrupt, message)
    }

    fn done(&self, told: &Told) -> Result<()> {
        match told {
            Told::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        let asked = keys.iter().map(|key| key.clone().into_bytes()).collect();
        match self.read(Call::Get(asked)).await? {
            Told::Values(values) if values.len() == keys.len() => {
                let found = keys.iter().zip(values);
                let found = found.map(|(key, value)| value.map(|it| Object::new(key.clone(), it)));
                Ok(found.collect())
            }
            other => Err(self.unexpected(&other)),
        }
    }

    async fn scan_all(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let asked = scans.len();
        let scans = scans.into_iter().map(Into::into).collect();
        match self.read(Call::Scan(scans)).await? {
            Told::Pages(pages) if pages.len() == asked => {
                Ok(pages.into_iter().map(Into::into).collect())
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Commits what fits into one frame.
    async fn commit_part(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let count = commits.len();
        let commits = commits
            .into_iter()
            .map(|changes| changes.into_iter().map(Into::into).collect())
            .collect();
        let error = match self.write(Call::Commit(commits)).await {
            Ok(Told::Outcomes(outcomes)) if outcomes.len() == count => {
                let outcomes = outcomes.into_iter();
                return outcomes.map(|it| it.map_err(Error::from)).collect();
            }
            Ok(other) => {
                let error = self.unexpected(&other);
                Error::new(ErrorKind::Unknown, error.to_string())
            }
            Err(error) => error,
        };
        vec![Err(error); count]
    }

    fn end(&self, why: String) {
        self.wire.end(why);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.end(self.why_stopped());
    }
}

impl Remote {
    fn why_stopped(&self) -> String {
        format!("{}: the connection was closed", self.name)
    }
}

impl Wire {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is answered, and no watcher told, from now on. The first reason stays.
    fn end(&self, why: String) {
        let mut open = self.open();
        open.ended.get_or_insert(why);
        open.waiting.clear();
        open.watches.clear();
    }

    fn take(&self, Tell { id, told }: Tell) {
        let mut open = self.open();
        if let Some(waiting) = open.waiting.remove(&id) {
            // A caller who left does not want to know.
            let _ = waiting.send(told.map_err(Into::into));
            return;
        }
        match (open.watches.get(&id), told) {
            (Some(hub), Ok(Told::Changed(key))) => hub.announce([key.into()]),
            (Some(hub), Ok(Told::Lagged)) => hub.announce_lagged(),
            (Some(_), _) => drop(open.watches.remove(&id)),
            (None, _) => {}
        }
    }
}

/// Hands on answers until there are no more.
async fn read(mut frames: FramedRead<OwnedReadHalf, Codec>, wire: Arc<Wire>, gone: String) {
    let why = loop {
        match frames.next().await {
            Some(Ok(frame)) => match wire::decode::<Tell>(&frame) {
                Ok(Tell { id: NO_CALL, told }) => {
                    break match told {
                        Err(fault) => Error::from(fault).to_string(),
                        Ok(told) => format!("an answer to nothing: {told:?}"),
                    };
                }
                Ok(tell) => wire.take(tell),
                Err(error) => break error.to_string(),
            },
            Some(Err(error)) => break format!("{gone} ({error})"),
            None => break gone,
        }
    };
    wire.end(why);
}

/// Sends calls until there is nobody to call, or to be called.
async fn write(mut asks: mpsc::UnboundedReceiver<Bytes>, to: OwnedWriteHalf) {
    let mut frames = FramedWrite::new(to, wire::codec());
    while let Some(frame) = asks.recv().await {
        let written = if asks.is_empty() {
            frames.send(frame).await
        } else {
            frames.feed(frame).await
        };
        if written.is_err() {
            // Whoever reads finds out why.
            return;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn unique_keys(&self) -> bool {
        self.unique_keys
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits.check_object(&object)?;
        let told = self.write(Call::Set(object.into())).await?;
        self.done(&told)
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits.check_key(key)?;
        let found = self.get_all(std::slice::from_ref(key)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let pages = self.scan_all(vec![scan]).await?;
        Ok(pages.into_iter().next().unwrap_or_default())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits.check_key(&object.key)?;
        let told = self.write(Call::Remove(object.clone().into())).await?;
        self.done(&told)
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        let prefix = prefix.clone().into_bytes();
        let told = self.write(Call::Delete(prefix)).await?;
        self.done(&told)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        for key in keys {
            self.limits.check_key(key)?;
        }
        match self.get_all(keys).await {
            Err(error) if is_too_large(&error) && keys.len() > 1 => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    found.push(self.get(key).await?);
                }
                Ok(found)
            }
            answer => answer,
        }
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        match self.scan_all(scans.clone()).await {
            Err(error) if is_too_large(&error) && scans.len() > 1 => {
                let mut pages = Vec::with_capacity(scans.len());
                for scan in scans {
                    pages.push(self.scan(scan).await?);
                }
                Ok(pages)
            }
            answer => answer,
        }
    }

    async fn start(&self) -> Result<()> {
        Ok(())
    }

    /// Leaves; the store goes on with its holder.
    async fn stop(&self) -> Result<()> {
        self.end(self.why_stopped());
        Ok(())
    }

    async fn health(&self) -> Result<Health> {
        match self.read(Call::Health).await? {
            Told::Health(warnings) => {
                let mut health = Health::default();
                health.warnings = warnings;
                Ok(health)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn ownership(&self) -> Ownership {
        Ownership::Shared
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.has_watch.then_some(self)
    }
}

fn is_too_large(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::TooLarge { .. })
}

#[async_trait]
impl Atomic for Remote {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let mut outcomes = self.commit_all(vec![changes]).await;
        outcomes.pop().unwrap_or(Ok(()))
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        let (mut part, mut bytes) = (Vec::new(), 0usize);
        for changes in commits {
            let refused = check_commit(&changes, &self.limits).err();
            let size: usize = changes.iter().map(wire::size).sum();
            if !part.is_empty() && (refused.is_some() || bytes.saturating_add(size) > MOST_BYTES) {
                outcomes.extend(self.commit_part(std::mem::take(&mut part)).await);
                bytes = 0;
            }
            if let Some(error) = refused {
                outcomes.push(Err(error));
            } else {
                bytes = bytes.saturating_add(size);
                part.push(changes);
            }
        }
        if !part.is_empty() {
            outcomes.extend(self.commit_part(part).await);
        }
        outcomes
    }
}

#[async_trait]
impl Watch for Remote {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let (id, hub) = (self.next_id(), Hub::new());
        let events = hub.subscribe(prefix);
        self.wire.open().watches.insert(id, hub);
        // Also where the answer is not waited for.
        let watching = Watching {
            wire: Arc::clone(&self.wire),
            id,
        };
        let prefix = prefix.clone().into_bytes();
        let told = self
            .call(id, Call::Watch(prefix), ErrorKind::Closed)
            .await?;
        self.done(&told)?;
        let events = events.map(move |event| {
            let _ = &watching;
            event
        });
        Ok(events.boxed())
    }
}

/// A watch of the holder's, which ends when this is dropped.
struct Watching {
    wire: Arc<Wire>,
    id: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.wire.open().watches.remove(&self.id);
        let call = Call::Unwatch;
        if let Ok(frame) = wire::encode(&Ask { id: self.id, call }) {
            // Where nobody can be told, there is no watch.
            let _ = self.wire.asks.send(frame);
        }
    }
}
