//! What callers send to the planner, and how they are answered.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::super::keys::KeySpace;
use super::super::ops::Operation;
use super::super::ops::claim::{Got, Wanted};
use super::super::plan::{Context, Effect, View};
use super::super::{Error, Result};
use crate::kv::{Event, Key, Object};

/// What callers send to the planner.
pub(super) enum Request {
    Operation(Box<dyn Planned>),
    Claim(Wanted, oneshot::Sender<Result<Got>>),
    /// A log line, which nobody waits for.
    Line(Object),
    /// What follows from a commit that the user made.
    Committed(Vec<Effect>),
    /// What another process may have done.
    Heard(Vec<Event>),
    Stop(oneshot::Sender<()>),
}

/// An operation and whoever waits for it.
#[async_trait]
pub(super) trait Planned: Send + Sync {
    fn reads(&self, keys: &KeySpace) -> Vec<Key>;
    /// Plans it; an error is remembered as its answer.
    async fn plan(&mut self, cx: &Context<'_>, view: &mut View<'_>);
    /// Whether planning failed, and so wrote nothing.
    fn failed(&self) -> bool;
    /// Whether planning failed for a reason that passes.
    fn retryable(&self) -> bool;
    /// Answers with what was planned last, or with this error.
    fn answer(self: Box<Self>, error: Option<Error>);
}

/// An [`Operation`] as a [`Planned`].
pub(super) struct Waiter<O: Operation> {
    pub(super) operation: O,
    pub(super) output: Option<Result<O::Output>>,
    pub(super) reply: oneshot::Sender<Result<O::Output>>,
}

impl<O: Operation> Waiter<O>
where
    O::Output: Sync,
{
    /// An operation for whose answer nobody waits.
    pub(super) fn nobody(operation: O) -> Box<dyn Planned> {
        let (reply, _) = oneshot::channel();
        Box::new(Self {
            operation,
            output: None,
            reply,
        })
    }
}

#[async_trait]
impl<O: Operation> Planned for Waiter<O>
where
    O::Output: Sync,
{
    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        self.operation.reads(keys)
    }

    async fn plan(&mut self, cx: &Context<'_>, view: &mut View<'_>) {
        self.output = Some(self.operation.plan(cx, view).await);
    }

    fn failed(&self) -> bool {
        matches!(self.output, Some(Err(_)))
    }

    fn retryable(&self) -> bool {
        matches!(&self.output, Some(Err(error)) if error.is_retryable())
    }

    fn answer(self: Box<Self>, error: Option<Error>) {
        let answer = match (error, self.output) {
            (None, Some(output)) => output,
            (Some(error), _) => Err(error),
            (None, None) => Err(Error::Stopped),
        };
        // A caller who left does not want to know.
        let _ = self.reply.send(answer);
    }
}

/// The requests that are planned together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) operations: VecDeque<Box<dyn Planned>>,
    pub(super) claims: VecDeque<(Wanted, oneshot::Sender<Result<Got>>)>,
    pub(super) lines: VecDeque<Object>,
    pub(super) committed: Vec<Effect>,
    pub(super) heard: Vec<Event>,
    pub(super) stop: Option<oneshot::Sender<()>>,
}

impl Group {
    pub(super) fn add(&mut self, request: Request) {
        match request {
            Request::Operation(operation) => self.operations.push_back(operation),
            Request::Claim(wanted, reply) => self.claims.push_back((wanted, reply)),
            Request::Line(line) => self.lines.push_back(line),
            Request::Committed(effects) => self.committed.extend(effects),
            Request::Heard(events) => self.heard.extend(events),
            Request::Stop(reply) => self.stop = Some(reply),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.operations.len() + self.claims.len()
    }

    /// Whether anybody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.len() > 0 || !self.committed.is_empty() || self.stop.is_some()
    }
}
