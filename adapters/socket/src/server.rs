//! The holder's side: lets others read and write its store, and says what they wrote.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use kvjob::kv::{
    Change, Error, ErrorKind, Event, Hub, Key, Object, Ownership, Result, Scan, Store, Watch,
};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

use crate::place::{Bound, is_ours};
use crate::wire::{self, Ask, Call, Hello, NO_CALL, Tell, Told, WireScan};

/// Those who may be connected at a time.
const MOST_CONNECTIONS: usize = 64;
/// Of one of them: calls under way, and watches.
const MOST_CALLS: usize = 32;
const MOST_WATCHES: usize = 64;
/// How long what is under way may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to wait where the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket on which others reach a store of this process. It ends when this is dropped; let
/// [`close`](Self::close) end it in good order, before the store.
#[derive(Debug)]
pub struct Socket {
    others: Arc<Hub>,
    stop: CancellationToken,
    /// Accepts, and ends once everybody has left.
    accepting: tokio::task::JoinHandle<()>,
    /// Removed before the task lets go of the store, and so of its lock.
    bound: Option<Bound>,
}

impl Socket {
    /// Listens at `path`, which is for this store alone: [`path_beside`](crate::path_beside) it.
    /// A socket that a killed process left there is replaced.
    ///
    /// The job store over it must [hear](kvjob::job::KvStore::hear) of what is
    /// [written](Self::writes) through the socket.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a store that others may have open themselves
    /// ([`Shared`](Ownership::Shared)), for one without [`Atomic`](kvjob::kv::Atomic) (listen for the wrapper that
    /// gives it), and for a path that is too long for a socket; [`Backend`](ErrorKind::Backend)
    /// if the socket cannot be made.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn listen(store: Arc<dyn Store>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refused = |why: &str| {
            let message = format!(
                "cannot listen on {} for {}: {why}",
                path.display(),
                store.name()
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        };
        if store.ownership() != Ownership::Exclusive {
            return refused("others can open it themselves");
        }
        if store.atomic().is_none() {
            return refused("it has no atomic commits; listen for the wrapper that adds them");
        }
        let (bound, listener) = Bound::bind(path)?;
        let listener = UnixListener::from_std(listener).map_err(|error| {
            let message = format!("cannot listen on {}: {error}", path.display());
            Error::new(ErrorKind::Backend, message).with_source(error)
        })?;
        let (stop, others) = (CancellationToken::new(), Arc::new(Hub::new()));
        let host = Arc::new(Host {
            store,
            others: Arc::clone(&others),
            stop: stop.clone(),
        });
        Ok(Self {
            others,
            stop,
            accepting: tokio::spawn(accept(listener, host)),
            bound: Some(bound),
        })
    }

    /// Tells of what others put through this socket, before they hear that it is done.
    pub fn writes(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.others) as _
    }

    /// Lets nobody in any more, finishes what was begun, within seconds, and removes the socket.
    pub async fn close(mut self) {
        self.bound = None;
        self.stop.cancel();
        // It does not panic; and whatever became of it, it is over.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.bound = None;
        self.stop.cancel();
    }
}

/// What all connections share.
struct Host {
    store: Arc<dyn Store>,
    others: Arc<Hub>,
    stop: CancellationToken,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

async fn accept(listener: UnixListener, host: Arc<Host>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = host.stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) if is_ours(&stream) => {
                    connections.spawn(Connection::serve(stream, Arc::clone(&host)));
                }
                Ok(_) => tracing::warn!("another user was turned away from the socket"),
                Err(error) => {
                    tracing::warn!("the socket could not accept: {error}");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    connections.join_all().await;
}

/// One who is connected.
struct Connection {
    host: Arc<Host>,
    answers: mpsc::Sender<Bytes>,
    calls: JoinSet<()>,
    watches: JoinSet<u64>,
    watching: HashMap<u64, AbortHandle>,
}

impl Connection {
    async fn serve(stream: UnixStream, host: Arc<Host>) {
        let (from, to) = stream.into_split();
        let (answers, answered) = mpsc::channel(MOST_CALLS);
        let mut writing = tokio::spawn(write(answered, to));
        let mut connection = Self {
            host,
            answers,
            calls: JoinSet::new(),
            watches: JoinSet::new(),
            watching: HashMap::new(),
        };
        let mut frames = FramedRead::new(from, wire::codec());
        if let Err(error) = connection.attend(&mut frames).await {
            tracing::warn!("a connection to the socket is cut off: {error}");
            let told = Err(error.into());
            connection.answer(Tell { id: NO_CALL, told }).await;
        }
        // What was begun is finished, so that the holder hears of what it changed.
        let Self {
            mut calls, answers, ..
        } = connection;
        drop(answers);
        let finished = timeout(FAREWELL, async {
            while calls.join_next().await.is_some() {}
            let _ = (&mut writing).await;
        });
        if finished.await.is_err() {
            writing.abort();
            calls.detach_all();
        }
    }

    /// Answers until the other one leaves; an error is what it did wrong.
    async fn attend<R>(&mut self, frames: &mut FramedRead<R, wire::Codec>) -> Result<()>
    where
        R: tokio::io::AsyncRead + Unpin,
    {
        let store = &self.host.store;
        let hello = Hello {
            process: std::process::id(),
            name: store.name().to_owned(),
            unique_keys: store.unique_keys(),
            watch: store.watch().is_some(),
            limits: wire::of_limits(&store.limits()),
        };
        // Fails only where nobody is there any more.
        let _ = self.answers.send(wire::encode(&hello)?).await;
        let stop = self.host.stop.clone();
        loop {
            let answers = self.answers.clone();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = answers.closed() => return Ok(()),
                Some(_) = self.calls.join_next() => {}
                Some(ended) = self.watches.join_next() => {
                    if let Ok(id) = ended {
                        self.watching.remove(&id);
                    }
                }
                frame = frames.next(), if self.calls.len() < MOST_CALLS => match frame {
                    Some(Ok(frame)) => self.take(wire::decode(&frame)?)?,
                    Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                        return Err(Error::new(ErrorKind::TooLarge {
                            what: "bytes through a socket",
                            limit: wire::MAX_FRAME,
                        }, format!("no frame of ours: {error}")));
                    }
                    // It left, perhaps in the middle of a word.
                    None | Some(Err(_)) => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, Ask { id, call }: Ask) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Corrupt, what));
        if id == NO_CALL {
            return wrong("a call without a number");
        }
        let (host, answers) = (Arc::clone(&self.host), self.answers.clone());
        match call {
            Call::Unwatch => {
                if let Some(watch) = self.watching.remove(&id) {
                    watch.abort();
                }
            }
            Call::Watch(_) if self.watching.len() >= MOST_WATCHES => {
                return wrong("more watches than one may have");
            }
            Call::Watch(_) if self.watching.contains_key(&id) => {
                return wrong("two watches of one number");
            }
            Call::Watch(prefix) => {
                let watch = self.watches.spawn(async move {
                    host.watch(id, &prefix.into(), &answers).await;
                    id
                });
                self.watching.insert(id, watch);
            }
            call => {
                self.calls.spawn(async move {
                    let told = host.call(call).await.map_err(Into::into);
                    send(&answers, &Tell { id, told }).await;
                });
            }
        }
        Ok(())
    }

    async fn answer(&self, tell: Tell) {
        send(&self.answers, &tell).await;
    }
}

/// Sends an answer, or that it is too large. Whether anybody still listens does not matter.
async fn send(answers: &mpsc::Sender<Bytes>, tell: &Tell) {
    let frame = wire::encode(tell).or_else(|error| {
        wire::encode(&Tell {
            id: tell.id,
            told: Err(error.context("the answer cannot be sent").into()),
        })
    });
    match frame {
        Ok(frame) => drop(answers.send(frame).await),
        Err(error) => tracing::error!("an answer could not be sent: {error}"),
    }
}

/// Writes answers until there are no more, or nobody takes them.
async fn write(mut answers: mpsc::Receiver<Bytes>, to: OwnedWriteHalf) {
    let mut frames = FramedWrite::new(to, wire::codec());
    while let Some(frame) = answers.recv().await {
        let written = if answers.is_empty() {
            frames.send(frame).await
        } else {
            frames.feed(frame).await
        };
        if written.is_err() {
            return;
        }
    }
}

impl Host {
    async fn call(&self, call: Call) -> Result<Told> {
        let store = &self.store;
        Ok(match call {
            Call::Set(object) => {
                let object = Object::from(object);
                let key = object.key.clone();
                let done = store.set(object).await;
                self.wrote(&done, || [key]);
                done.map(|()| Told::Done)?
            }
            Call::Get(keys) => {
                let keys: Vec<Key> = keys.into_iter().map(Key::from).collect();
                let found = store.get_many(&keys).await?;
                Told::Values(
                    found
                        .into_iter()
                        .map(|found| found.map(|it| it.value))
                        .collect(),
                )
            }
            Call::Scan(scans) => {
                let scans: Vec<Scan> = scans.into_iter().map(WireScan::into).collect();
                let pages = store.scan_many(scans).await?;
                Told::Pages(pages.into_iter().map(Into::into).collect())
            }
            Call::Remove(object) => store.remove(&object.into()).await.map(|()| Told::Done)?,
            Call::Delete(prefix) => store.delete(&prefix.into()).await.map(|()| Told::Done)?,
            Call::Commit(commits) => self.commit(commits).await?,
            Call::Health => Told::Health(store.health().await?.warnings),
            Call::Watch(_) | Call::Unwatch => Told::Done,
        })
    }

    async fn commit(&self, commits: Vec<Vec<wire::WireChange>>) -> Result<Told> {
        let atomic = self.store.atomic().ok_or_else(|| {
            let message = format!("{} has no atomic commits", self.store.name());
            Error::new(ErrorKind::Unsupported, message)
        })?;
        let commits: Vec<Vec<Change>> = commits
            .into_iter()
            .map(|changes| changes.into_iter().map(Into::into).collect())
            .collect();
        let put: Vec<Vec<Key>> = commits
            .iter()
            .map(|changes| {
                let put = changes
                    .iter()
                    .filter(|change| change.after.is_some() && !change.is_check());
                put.map(|change| change.key.clone()).collect()
            })
            .collect();
        let outcomes = atomic.commit_all(commits).await;
        for (outcome, put) in outcomes.iter().zip(put) {
            self.wrote(outcome, || put);
        }
        let outcomes = outcomes.into_iter().map(|it| it.map_err(Into::into));
        Ok(Told::Outcomes(outcomes.collect()))
    }

    /// Says in this process what was put, or may have been.
    fn wrote<K: IntoIterator<Item = Key>>(&self, outcome: &Result<()>, keys: impl FnOnce() -> K) {
        if outcome.as_ref().is_ok() || outcome.as_ref().is_err_and(Error::maybe_applied) {
            self.others.announce(keys());
        }
    }

    /// Tells of puts, whoever makes them, until it is aborted or the store closes.
    async fn watch(&self, id: u64, prefix: &Key, answers: &mpsc::Sender<Bytes>) {
        let watcher = match self.store.watch() {
            Some(watch) => watch.watch(prefix).await,
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} has no watch", self.store.name()),
            )),
        };
        let mut events = match watcher {
            Ok(events) => events,
            Err(error) => {
                let told = Err(error.into());
                return send(answers, &Tell { id, told }).await;
            }
        };
        let told = Ok(Told::Done);
        send(answers, &Tell { id, told }).await;
        loop {
            let told = match events.next().await {
                Some(Event::Changed(key)) => Told::Changed(key.into_bytes()),
                Some(_) => Told::Lagged,
                None => {
                    return send(
                        answers,
                        &Tell {
                            id,
                            told: Ok(Told::WatchEnded),
                        },
                    )
                    .await;
                }
            };
            send(answers, &Tell { id, told: Ok(told) }).await;
        }
    }
}
