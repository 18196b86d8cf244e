//! What [`Embedded`](super::Embedded) promises whatever the engine, on one that can be told what
//! to do.

mod bags;
mod closing;
mod durability;
mod engine;
mod groups;
mod reads;
mod sharing;
mod transactions;

use std::future::Future;
use std::pin::Pin;

use futures::FutureExt as _;

use crate::kv::{Change, ErrorKind, Result};

fn put(key: &'static str, value: &'static str) -> Vec<Change> {
    vec![Change::put(key, value)]
}

fn create(key: &'static str, value: &'static str) -> Vec<Change> {
    vec![Change::create(key, value)]
}

/// Polls these futures in their order, once each, so that what they ask for has been sent.
fn send<F: Future<Output = Result<()>> + Send>(
    futures: impl IntoIterator<Item = F>,
) -> Vec<Pin<Box<F>>> {
    let mut sent = Vec::new();
    for future in futures {
        let mut future = Box::pin(future);
        // Unconstrained, for Tokio lets a task go only so far in one go.
        let answer = tokio::task::unconstrained(future.as_mut()).now_or_never();
        assert!(answer.is_none(), "not answered yet");
        sent.push(future);
    }
    sent
}

fn kind(result: Result<()>) -> ErrorKind {
    result.unwrap_err().kind().clone()
}
