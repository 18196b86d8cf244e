//! A transaction that the user shares with the store: how its body gets to the writer thread, and
//! what it returned back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::Embedded;
use super::queue::Work;
use super::shared::panic_text;
use crate::kv::{Engine, Error, ErrorKind, Result, Transactional};

impl<E: Engine> Embedded<E> {
    /// Runs `body` in a write transaction of the engine, so that the user's own data and the
    /// store's change together or not at all. `Ok` commits, durably whatever the store's
    /// [`Durability`](crate::kv::Durability); `Err` and a panic roll back.
    ///
    /// It runs on the writer thread, between groups: every commit of the store waits until it
    /// returns, so be short. Use the store only through the transaction (see
    /// [`Transaction`](crate::kv::Transaction)); awaiting or blocking on the store's own commits
    /// inside, also by way of another thread, **deadlocks**.
    ///
    /// If the returned future is dropped the body still runs, once it was sent.
    ///
    /// # Errors
    /// What `body` returned, or as [`commit`](crate::kv::Atomic::commit).
    pub async fn with_transaction<R, F>(&self, body: F) -> Result<R>
    where
        E: Transactional,
        F: FnOnce(&mut E::Transaction<'_>) -> Result<R> + Send + 'static,
        R: Send + 'static,
    {
        // What the body returned takes this way around the engine and the writer, so that an
        // error of the user's is never mistaken for one that closes the store.
        let returned = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&returned);
        let transact = move |engine: &E| {
            let mut body = Some(body);
            engine.transact(&mut |transaction| {
                let Some(body) = body.take() else {
                    return Err(Error::new(ErrorKind::Backend, "a transaction ran twice"));
                };
                let value = catch_unwind(AssertUnwindSafe(|| body(transaction)))
                    .unwrap_or_else(|panic| Err(panicked_body(panic_text(&*panic))));
                let outcome = match &value {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Error::new(ErrorKind::Backend, error.to_string())),
                };
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                outcome
            })
        };
        let outcome = self.write(Work::Transact(Box::new(transact))).await;
        let returned = returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (outcome, returned) {
            (Ok(()), Some(value)) => value,
            (Err(error), Some(Err(returned))) if error.kind() == &ErrorKind::Backend => {
                Err(returned)
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => {
                let message = "the engine committed a transaction without running its body";
                Err(Error::new(ErrorKind::Backend, message))
            }
        }
    }
}

fn panicked_body(text: &str) -> Error {
    let message =
        format!("the body of a transaction panicked, and the transaction was rolled back: {text}");
    Error::new(ErrorKind::Backend, message)
}
