//! The queue before the writer thread: callers push and wait for room without blocking a thread,
//! the writer takes whole groups. What is done with them is [`super::writer`]'s.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::kv::{Change, Error, ErrorKind, Key, Result};

/// Commits in one group, at most: beyond, the wait of the first grows and the gain is small.
pub(super) const GROUP_COMMITS: usize = 256;
/// Bytes in one group, at most, unless its first commit alone is larger.
pub(super) const GROUP_BYTES: usize = 1 << 20;
/// Requests that may wait. Beyond, callers wait for room.
pub(super) const CAPACITY: usize = 1024;

/// Runs a user's body in an engine's transaction; returns the keys it put.
pub(super) type Transact<E> = Box<dyn FnOnce(&E) -> Result<Vec<Key>> + Send>;

/// What the writer is asked to do.
pub(super) enum Work<E> {
    Commit(Vec<Change>),
    Delete(Key),
    Transact(Transact<E>),
    /// Begins to look for writes of others.
    Watch,
}

/// Where a caller waits for its answer. It may have gone away.
#[derive(Debug)]
pub(super) struct Reply(Option<oneshot::Sender<Result<()>>>);

impl Reply {
    /// Answers; once.
    pub(super) fn send(&mut self, answer: Result<()>) {
        if let Some(reply) = self.0.take() {
            // Fails only where the caller's future was dropped: its change stands nevertheless.
            let _ = reply.send(answer);
        }
    }
}

/// Work and who waits for it.
pub(super) struct Request<E> {
    work: Work<E>,
    reply: Reply,
}

impl<E> Request<E> {
    pub(super) fn new(work: Work<E>) -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, answer) = oneshot::channel();
        let reply = Reply(Some(reply));
        (Self { work, reply }, answer)
    }
}

/// One commit of a group.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    pub(super) reply: Reply,
}

/// What the writer does next.
pub(super) enum Next<E> {
    Group {
        commits: Vec<Pending>,
        bytes: usize,
    },
    Delete(Key, Reply),
    Transact(Transact<E>, Reply),
    Watch(Reply),
    /// The time given to [`Queue::next`] came first.
    Due,
    /// Closed, and everything that was sent before has been taken.
    Closed,
}

/// Why nothing is taken any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Stopped,
    /// The store could no longer keep its promises; this is why.
    Failed(String),
}

pub(super) struct Queue<E> {
    state: Mutex<State<E>>,
    arrived: Condvar,
    room: Semaphore,
}

struct State<E> {
    waiting: VecDeque<Request<E>>,
    closing: Option<Closing>,
    /// The writer sleeps until this many wait: only then is waking it worth a system call.
    wake_at: Option<usize>,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closing: None,
                wake_at: None,
            }),
            arrived: Condvar::new(),
            room: Semaphore::new(CAPACITY),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Nothing in here panics half-way through a change, so that what a poisoned lock guards
        // is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends these requests (at most [`CAPACITY`]), side by side and in this order, once there
    /// is room. On a closed queue each of them is answered with `Closed`.
    pub(super) async fn push(&self, name: &str, requests: Vec<Request<E>>) {
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.acquire_many(count).await {
            // Given back by the writer, when it takes the requests.
            room.forget();
        }
        let mut state = self.state();
        if let Some(closing) = &state.closing {
            let refusals: Vec<_> = requests.iter().map(|_| closing.error(name)).collect();
            drop(state);
            for (mut request, refusal) in requests.into_iter().zip(refusals) {
                request.reply.send(Err(refusal));
            }
            return;
        }
        state.waiting.extend(requests);
        if state
            .wake_at
            .is_some_and(|some| state.waiting.len() >= some)
        {
            state.wake_at = None;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Waits until this many wait, for as long as more keep coming: until none came for
    /// `patience`, or for four times that long in all.
    pub(super) fn gather(&self, expected: usize, patience: Duration) {
        let mut state = self.state();
        for _ in 0..4 {
            let before = state.waiting.len();
            if before >= expected || state.closing.is_some() {
                return;
            }
            state.wake_at = Some(expected);
            let woken = self.arrived.wait_timeout(state, patience);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.wake_at = None;
            if state.waiting.len() == before {
                return;
            }
        }
    }

    /// Waits for something to do, until `due` at the latest.
    pub(super) fn next(&self, due: Option<Instant>) -> Next<E> {
        let mut state = self.state();
        loop {
            let before = state.waiting.len();
            if let Some(next) = state.take() {
                let taken = before - state.waiting.len();
                drop(state);
                self.room.add_permits(taken);
                return next;
            }
            if state.closing.is_some() {
                return Next::Closed;
            }
            state.wake_at = Some(1);
            state = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => self
                    .arrived
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.wake_at = None;
                    return Next::Due;
                }
                Some(left) => {
                    let woken = self.arrived.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.wake_at = None;
        }
    }

    /// Takes nothing further. A failure is remembered over a stop, not the other way round.
    pub(super) fn close(&self, closing: Closing) {
        let mut state = self.state();
        match (&state.closing, &closing) {
            (Some(Closing::Failed(_)), _) | (Some(Closing::Stopped), Closing::Stopped) => {}
            _ => state.closing = Some(closing),
        }
        drop(state);
        self.room.close();
        self.arrived.notify_one();
    }

    /// Answers everything that still waits with `Closed`. For a closed queue.
    pub(super) fn refuse_all(&self, name: &str) {
        let mut state = self.state();
        let refused = std::mem::take(&mut state.waiting);
        drop(state);
        for mut request in refused {
            request.reply.send(Err(self.closed(name)));
        }
    }

    /// Why it is closed, if it is.
    pub(super) fn closing(&self) -> Option<Closing> {
        self.state().closing.clone()
    }

    /// The error that says why it is closed.
    pub(super) fn closed(&self, name: &str) -> Error {
        self.closing().unwrap_or(Closing::Stopped).error(name)
    }
}

impl<E> State<E> {
    /// As many commits from the front as make a group, or the one other thing that is there.
    fn take(&mut self) -> Option<Next<E>> {
        let mut commits = Vec::new();
        let mut bytes = 0usize;
        while let Some(request) = self.waiting.pop_front() {
            match request.work {
                Work::Commit(changes) => {
                    let size = changes.iter().map(Change::size).sum::<usize>();
                    let full =
                        commits.len() >= GROUP_COMMITS || bytes.saturating_add(size) > GROUP_BYTES;
                    if full && !commits.is_empty() {
                        self.waiting.push_front(Request {
                            work: Work::Commit(changes),
                            reply: request.reply,
                        });
                        break;
                    }
                    bytes = bytes.saturating_add(size);
                    commits.push(Pending {
                        changes,
                        reply: request.reply,
                    });
                }
                // Anything else ends the group, for the order must hold, and comes alone.
                work if !commits.is_empty() => {
                    self.waiting.push_front(Request {
                        work,
                        reply: request.reply,
                    });
                    break;
                }
                Work::Delete(prefix) => return Some(Next::Delete(prefix, request.reply)),
                Work::Transact(body) => return Some(Next::Transact(body, request.reply)),
                Work::Watch => return Some(Next::Watch(request.reply)),
            }
        }
        (!commits.is_empty()).then_some(Next::Group { commits, bytes })
    }
}

impl Closing {
    pub(super) fn error(&self, name: &str) -> Error {
        let message = match self {
            Self::Stopped => format!("{name}: the store was stopped; open it again to go on"),
            Self::Failed(why) => format!(
                "{name}: the store closed itself, for it could no longer tell what is on disk; \
                 open it again to go on with what is. The reason was: {why}"
            ),
        };
        Error::new(ErrorKind::Closed, message)
    }
}
