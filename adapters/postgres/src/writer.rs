//! Commits on their way: those that wait go together, as one call and one transaction, and each is
//! answered for itself. What a call does is said in [`commit`](super::commit).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use kvjob::kv::{Change, Durability, Error, ErrorKind, Key, Result};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::commit::{Call, Failed};
use crate::error;
use crate::session::{Link, Server, Session};
use crate::watch::Bell;

/// Commits and bytes of one call. One that is larger goes alone.
const MOST_COMMITS: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// How often a call that another transaction was in the way of is made at once again.
const MOST_TRIES: usize = 4;

/// A commit that waits, checked against the limits.
#[derive(Debug)]
pub(crate) struct Commit {
    changes: Vec<Change>,
    /// Until when the server is looked for.
    deadline: Instant,
    answer: oneshot::Sender<Result<()>>,
}

impl Commit {
    pub(crate) fn new(
        changes: Vec<Change>,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<()>>) {
        let (answer, answered) = oneshot::channel();
        let commit = Self {
            changes,
            deadline,
            answer,
        };
        (commit, answered)
    }

    fn answer(self, outcome: Result<()>) {
        // Who no longer waits for it does not need it.
        let _ = self.answer.send(outcome);
    }

    fn has_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    fn bytes(&self) -> usize {
        let before = |change: &Change| match &change.before {
            kvjob::kv::Expect::Value(value) => value.len(),
            _ => 0,
        };
        let sizes = self.changes.iter().map(|it| it.size() + before(it));
        sizes.sum()
    }
}

/// What the writers of one store take their work from: commits of one caller stay together, for
/// they are made in their order.
pub(crate) type Queue = Arc<Mutex<mpsc::Receiver<Vec<Commit>>>>;

/// One of the tasks that make commits, with a connection of its own: while one waits for a lock or
/// the disk, another goes on.
pub(crate) struct Writer {
    server: Arc<Server>,
    link: Link,
    queue: Queue,
    bell: Arc<Bell>,
    /// When what was acknowledged is to be synced, where that is not yet done.
    sync_at: Option<Instant>,
}

/// What became of a call.
enum Outcome {
    Answered(Failed),
    /// The server refused it, whole: another one may pass.
    Refused(Error),
    /// Nobody can make it, or nobody knows what became of it.
    Over(Error),
}

impl Writer {
    pub(crate) fn new(server: Arc<Server>, link: Link, queue: Queue, bell: Arc<Bell>) -> Self {
        Self {
            server,
            link,
            queue,
            bell,
            sync_at: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        loop {
            let queue = Arc::clone(&self.queue);
            let gathered = match self.sync_at {
                None => gather(&queue).await,
                Some(at) => tokio::select! {
                    gathered = gather(&queue) => gathered,
                    () = sleep_until(at) => {
                        self.sync().await;
                        continue;
                    }
                },
            };
            match gathered {
                Some(commits) => self.carry_out(commits).await,
                None => break,
            }
        }
        if self.sync_at.is_some() {
            self.sync().await;
        }
        self.link.close().await;
    }

    /// Makes these commits in their order, as many as can be in one call.
    async fn carry_out(&mut self, commits: VecDeque<Commit>) {
        let mut waiting = commits;
        // So many, at the front, were refused together and are tried alone.
        let mut alone = 0;
        let mut tries = 0;
        while !waiting.is_empty() {
            let most = if alone > 0 { 1 } else { MOST_COMMITS };
            let size = fitting(&waiting, most);
            let before = waiting.len();
            match self.call(&waiting, size).await {
                Outcome::Answered(failed) if failed.is_empty() => {
                    let done: Vec<Commit> = waiting.drain(..size).collect();
                    self.bell.put(puts(&done));
                    self.sync_later();
                    for commit in done {
                        commit.answer(Ok(()));
                    }
                }
                Outcome::Answered(failed) => {
                    // The others were not made, and go again.
                    for (place, indices) in failed.into_iter().rev() {
                        if let Some(commit) = waiting.remove(place) {
                            commit.answer(Err(Error::condition_failed(indices)));
                        }
                    }
                }
                Outcome::Refused(error)
                    if error.kind() == &ErrorKind::Conflict
                        && tries < MOST_TRIES
                        && waiting.front().is_some_and(Commit::has_time) =>
                {
                    tries += 1;
                    continue;
                }
                Outcome::Refused(_) if size > 1 => alone = size,
                Outcome::Refused(error) | Outcome::Over(error) => {
                    for commit in waiting.drain(..size) {
                        commit.answer(Err(error.clone()));
                    }
                }
            }
            tries = 0;
            alone = alone.saturating_sub(before - waiting.len());
        }
    }

    /// Makes the first of those that wait in one call.
    async fn call(&self, waiting: &VecDeque<Commit>, size: usize) -> Outcome {
        let commits = || waiting.iter().take(size);
        let deadline = commits().map(|commit| commit.deadline).max();
        let session = match self
            .link
            .session(deadline.unwrap_or_else(Instant::now))
            .await
        {
            Ok(session) => session,
            Err(error) => return Outcome::Over(error),
        };
        let call = Call::of(commits().map(|commit| commit.changes.as_slice()));
        let run = call.run(&session.client, &session.statements.commit);
        match timeout(self.server.timeout, run).await {
            Ok(Ok(answer)) => match call.failed(&answer) {
                Ok(failed) => Outcome::Answered(failed),
                Err(garbled) => self.lost(&session, garbled).await,
            },
            Ok(Err(failed)) => match error::writing(&failed) {
                error if error.maybe_applied() => self.lost(&session, error).await,
                error => {
                    if error.kind() == &ErrorKind::Transient {
                        // Another server may have taken the place of one that refuses to write.
                        self.link.give_up(&session).await;
                    }
                    Outcome::Refused(error)
                }
            },
            Err(_) => {
                let error = self.server.no_answer("commit");
                let message = format!("{error}; the commit may have been applied or not");
                self.lost(&session, Error::new(ErrorKind::Unknown, message))
                    .await
            }
        }
    }

    async fn lost(&self, session: &Arc<Session>, error: Error) -> Outcome {
        self.link.give_up(session).await;
        Outcome::Over(error)
    }

    fn sync_later(&mut self) {
        if let Durability::Interval(every) = self.server.durability {
            self.sync_at.get_or_insert_with(|| Instant::now() + every);
        }
    }

    /// Brings to disk whatever was committed so far, by anybody: the log is written in order.
    async fn sync(&mut self) {
        const SYNC: &str =
            "BEGIN; SET LOCAL synchronous_commit = on; SELECT txid_current(); COMMIT";
        self.sync_at = None;
        let deadline = Instant::now() + self.server.timeout;
        let synced = match self.link.session(deadline).await {
            Ok(session) => {
                let run = session.client.batch_execute(SYNC);
                match timeout(self.server.timeout, run).await {
                    Ok(Ok(())) => return,
                    Ok(Err(failed)) => {
                        self.link.give_up(&session).await;
                        error::writing(&failed)
                    }
                    Err(_) => {
                        self.link.give_up(&session).await;
                        self.server.no_answer("sync")
                    }
                }
            }
            Err(error) => error,
        };
        tracing::warn!("could not sync the last changes: {synced}");
    }
}

/// Everything that waits, or `None` if there will be nothing any more.
async fn gather(queue: &Mutex<mpsc::Receiver<Vec<Commit>>>) -> Option<VecDeque<Commit>> {
    let mut queue = queue.lock().await;
    let mut commits = VecDeque::from(queue.recv().await?);
    while commits.len() < MOST_COMMITS
        && let Ok(more) = queue.try_recv()
    {
        commits.extend(more);
    }
    Some(commits)
}

/// How many of the first commits fit into one call: their keys are all different, so that they
/// could be made in any order.
fn fitting(waiting: &VecDeque<Commit>, most: usize) -> usize {
    let mut keys: HashSet<&Key> = HashSet::new();
    let (mut size, mut bytes, mut changes) = (0, 0, 0);
    for commit in waiting.iter().take(most) {
        bytes += commit.bytes();
        changes += commit.changes.len();
        let too_much = bytes > MOST_BYTES || changes > crate::LIMITS.commit_changes;
        let touched = commit.changes.iter().any(|it| keys.contains(&it.key));
        if size > 0 && (too_much || touched) {
            break;
        }
        keys.extend(commit.changes.iter().map(|change| &change.key));
        size += 1;
    }
    size
}

fn puts(commits: &[Commit]) -> Vec<Key> {
    let changes = commits.iter().flat_map(|commit| &commit.changes);
    let puts = changes.filter(|change| change.after.is_some() && !change.is_check());
    puts.map(|change| change.key.clone()).collect()
}
