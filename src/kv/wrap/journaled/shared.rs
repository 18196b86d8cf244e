//! What the handles and tasks of one store share: the lock, what closes the store, and how the
//! store below is called. Who owns it is [`super::owner`]'s, what a commit does [`super::commit`]'s.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::record::Mark;
use crate::kv::embedded::panic_text;
use crate::kv::{Error, ErrorKind, Key, Object, Result, Scan, Store};

/// How often a write that must be done is tried, in all.
const TRIES: u32 = 8;
/// The pause after the first try; it doubles. All of them together last 1.3 s.
const PAUSE: Duration = Duration::from_millis(10);

/// What the handles and the tasks of one store share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) inner: S,
    /// A commit holds it for writing, everything else for reading.
    state: Arc<RwLock<State>>,
    closing: OnceLock<Closing>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The mark of this owner, once the store was taken over.
    pub(super) mark: Option<Mark>,
    /// Of the last record.
    pub(super) number: u64,
}

/// Why nothing is answered any more.
#[derive(Debug)]
enum Closing {
    Stopped,
    /// The store could no longer keep its promises; this is why.
    Failed(String),
}

impl<S: Store> Shared<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            state: Arc::default(),
            closing: OnceLock::new(),
        }
    }

    /// Waits until no commit is under way, and keeps others out.
    pub(super) async fn reading(self: &Arc<Self>) -> Result<OwnedRwLockReadGuard<State>> {
        loop {
            let state = Arc::clone(&self.state).read_owned().await;
            self.check_open()?;
            if state.mark.is_some() {
                return Ok(state);
            }
            drop(state);
            self.begin().await?;
        }
    }

    /// Waits until nothing is under way, and keeps everything else out.
    pub(super) async fn writing(self: &Arc<Self>) -> Result<OwnedRwLockWriteGuard<State>> {
        loop {
            let state = Arc::clone(&self.state).write_owned().await;
            self.check_open()?;
            if state.mark.is_some() {
                return Ok(state);
            }
            drop(state);
            self.begin().await?;
        }
    }

    /// Takes the store over, if that was not done yet.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<()> {
        let state = Arc::clone(&self.state).write_owned().await;
        self.check_open()?;
        if state.mark.is_some() {
            return Ok(());
        }
        self.detached(state, |shared, state| shared.take_over(state).boxed())
            .await
    }

    /// Finishes what is under way, and stops the store below.
    pub(super) async fn stop(&self) -> Result<()> {
        let _alone = self.state.write().await;
        // Fails where it is closed already; the first reason stays.
        let _ = self.closing.set(Closing::Stopped);
        self.answer(async { self.inner.stop().await }).await?;
        match self.closing.get() {
            Some(closing @ Closing::Failed(_)) => Err(closing.error(self.inner.name())),
            _ => Ok(()),
        }
    }

    /// Does work to its end, whatever becomes of the caller, and lets go of the lock then.
    pub(super) async fn detached<G: Send + 'static, T: Send + 'static>(
        self: &Arc<Self>,
        guard: G,
        work: impl for<'a> FnOnce(&'a Self, &'a mut G) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let task = async move {
            // Dropped in reverse: who has the lock knows that no task before it is left.
            let mut guard = guard;
            let shared = shared;
            work(&shared, &mut guard).await
        };
        let runtime = Handle::try_current().map_err(|error| {
            let message = format!("{}: a journal needs a Tokio runtime", self.inner.name());
            Error::new(ErrorKind::Unsupported, message).with_source(error)
        })?;
        runtime.spawn(task).await.unwrap_or_else(|cut| {
            let message = format!("{}: the write was cut short", self.inner.name());
            Err(Error::new(ErrorKind::Unknown, message).with_source(cut))
        })
    }

    /// What the store below answers to a write; if it panics, that is an answer lost.
    pub(super) async fn answer<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let text = panic_text(&*panic);
                let message = format!("{} panicked: {text}", self.inner.name());
                Err(Error::new(ErrorKind::Unknown, message))
            })
    }

    /// The same for what changes nothing: no answer of it is in doubt.
    pub(super) async fn read<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.answer(call).await.map_err(|error| {
            if !error.maybe_applied() {
                return error;
            }
            let message = error.to_string();
            Error::new(ErrorKind::Backend, message).with_source(error)
        })
    }

    /// Does what must be done, again if it fails.
    pub(super) async fn insist<'a, T>(
        &self,
        call: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.answer(async { call().await }).await {
                Err(error) if *error.kind() != ErrorKind::Closed => {
                    tracing::debug!(store = self.inner.name(), %error, "the journal tries again");
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.answer(async { call().await }).await
    }

    pub(super) async fn insist_on_set(&self, object: &Object) -> Result<()> {
        self.insist(|| self.inner.set(object.clone())).await
    }

    pub(super) async fn insist_on_remove(&self, object: &Object) -> Result<()> {
        self.insist(|| self.inner.remove(object)).await
    }

    fn check_open(&self) -> Result<()> {
        match self.closing.get() {
            Some(closing) => Err(closing.error(self.inner.name())),
            None => Ok(()),
        }
    }

    /// Answers nothing from now on. The first reason to close stays.
    pub(super) fn close(&self, why: String) -> Error {
        let name = self.inner.name();
        tracing::error!(store = name, reason = why, "the store closes itself");
        let closing = self.closing.get_or_init(|| Closing::Failed(why));
        closing.error(name)
    }

    /// Closes the store over an error that leaves it half changed.
    pub(super) fn in_doubt(&self, what: &str, error: Error) -> Error {
        self.close(format!("{what}: {error}"));
        let message = format!("{}: {what}: {error}", self.inner.name());
        Error::new(ErrorKind::Unknown, message).with_source(error)
    }

    /// All values under a key.
    pub(super) async fn values(&self, key: &Key) -> Result<Vec<Bytes>> {
        if self.inner.unique_keys() {
            let found = self.read(async { self.inner.get(key).await }).await?;
            return Ok(found.map(|object| object.value).into_iter().collect());
        }
        let (mut values, mut scan) = (Vec::new(), Scan::prefix(key.clone()));
        loop {
            let page = self
                .read(async { self.inner.scan(scan.clone()).await })
                .await?;
            for object in page.objects {
                // Of all keys with this prefix it comes first.
                if object.key != *key {
                    return Ok(values);
                }
                values.push(object.value);
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(values),
            }
        }
    }
}

impl Closing {
    fn error(&self, name: &str) -> Error {
        let message = match self {
            Self::Stopped => format!("{name}: the store was stopped; open it again to go on"),
            Self::Failed(why) => {
                format!(
                    "{name}: the store closed itself; open it again to go on. The reason was: {why}"
                )
            }
        };
        Error::new(ErrorKind::Closed, message)
    }
}
