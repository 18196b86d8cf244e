//! What the callers and the writer thread have in common: the open engine, and how it is reached
//! while the store may be closing.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};

use tokio::sync::watch;

use super::queue::{Closing, Queue};
use crate::kv::{Engine, Error, ErrorKind, FileLock, Hub, Limits, Result};

/// Fields are dropped in this order: the lock goes when the files are closed.
pub(super) struct Open<E> {
    pub(super) engine: E,
    pub(super) hub: Hub,
    pub(super) _lock: Option<FileLock>,
}

pub(super) struct Shared<E> {
    pub(super) name: String,
    pub(super) unique_keys: bool,
    pub(super) limits: Limits,
    pub(super) queue: Queue<E>,
    /// Only the writer thread ever locks it for writing, once, to close. So a reader that cannot
    /// have it at once knows that the store is closing, and nobody waits for a long scan but the
    /// writer thread.
    open: RwLock<Option<Open<E>>>,
    /// Set before anybody hears of a failure, so that no later read answers from what is in
    /// doubt.
    failed: AtomicBool,
    ended: watch::Sender<bool>,
}

impl<E: Engine> Shared<E> {
    pub(super) fn new(open: Open<E>) -> Self {
        Self {
            name: open.engine.name().to_owned(),
            unique_keys: open.engine.unique_keys(),
            limits: open.engine.limits(),
            queue: Queue::new(),
            open: RwLock::new(Some(open)),
            failed: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        }
    }

    /// Calls `with` with what is open. `Closed` if nothing is.
    pub(super) fn with_open<T>(&self, with: impl FnOnce(&Open<E>) -> Result<T>) -> Result<T> {
        let open = match self.open.try_read() {
            Ok(open) => open,
            Err(TryLockError::Poisoned(open)) => open.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(self.closed()),
        };
        match open.as_ref() {
            Some(open) if !self.failed.load(Ordering::Acquire) => with(open),
            _ => Err(self.closed()),
        }
    }

    /// Calls the engine. A panic of it becomes an error of kind `Unknown`, for it may have come
    /// half-way through anything.
    pub(super) fn call<T>(&self, call: impl FnOnce(&E) -> Result<T>) -> Result<T> {
        self.with_open(|open| {
            catch_unwind(AssertUnwindSafe(|| call(&open.engine))).unwrap_or_else(|panic| {
                let message = format!("{} panicked: {}", self.name, panic_text(&*panic));
                Err(Error::new(ErrorKind::Unknown, message))
            })
        })
    }

    /// As [`call`](Self::call), for what changes nothing: no answer of it is in doubt.
    pub(super) fn read<T>(&self, read: impl FnOnce(&E) -> Result<T>) -> Result<T> {
        self.call(read).map_err(|error| {
            if error.maybe_applied() {
                Error::new(ErrorKind::Backend, error.to_string())
            } else {
                error
            }
        })
    }

    /// The error of whoever comes too late.
    pub(super) fn closed(&self) -> Error {
        self.queue.closed(&self.name)
    }

    /// Nothing is read or written from now on.
    pub(super) fn fail(&self, why: String) {
        tracing::error!(store = self.name, reason = why, "the store closes itself");
        self.failed.store(true, Ordering::Release);
        self.queue.close(Closing::Failed(why));
    }

    /// Lets go of the engine and its lock once the last reader is done. For the writer thread
    /// alone.
    pub(super) fn let_go(&self) {
        let open = self
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(open))) {
            let text = panic_text(&*panic);
            tracing::error!(store = self.name, reason = text, "panicked while closing");
        }
        self.ended.send_replace(true);
    }

    /// Waits until the engine is let go of.
    pub(super) async fn ended(&self) {
        // Fails only without a sender, which is in `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// What a panic said.
pub(in crate::kv) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
