//! The writer thread: takes groups from the queue, has their conditions checked, applies each in
//! one engine transaction, answers, and syncs when it is time to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::group::{Decided, decide};
use super::queue::{GROUP_COMMITS, Next, Pending};
use super::shared::{Shared, panic_text};
use super::sharing::{self, Committed, Sharing};
use crate::kv::{Change, Durability, Engine, Error, ErrorKind, Hub, Key, Result, Write};

/// Groups and bytes that may be unsynced, whatever the durability: an engine's file and memory
/// grow with what it could not yet sync (redb's by some 60 KB a group).
const UNSYNCED_GROUPS: usize = 1000;
const UNSYNCED_BYTES: usize = 64 << 20;
/// How long the writer waits for a caller it has just answered, at most.
const PATIENCE: Duration = Duration::from_micros(200);
/// A shorter wait than this costs more than a group can save.
const WORTHWHILE: Duration = Duration::from_micros(10);

pub(super) struct Writer<E: Engine> {
    shared: Arc<Shared<E>>,
    hub: Hub,
    durability: Durability,
    unsynced: Option<Unsynced>,
    /// Where other processes write, too.
    sharing: Option<Sharing<E>>,
    /// When others are looked for next, while somebody watches.
    look_at: Option<Instant>,
    /// How many callers there were when the last group was answered, waiting or answered.
    expected: usize,
    /// How long the last group took the engine.
    took: Duration,
}

struct Unsynced {
    since: Instant,
    groups: usize,
    bytes: usize,
}

/// The store has failed, everyone whose work was in hand has been told, and the thread must end.
struct Failed;

impl<E: Engine> Writer<E> {
    pub(super) fn new(
        shared: Arc<Shared<E>>,
        hub: Hub,
        durability: Durability,
        sharing: Option<Sharing<E>>,
    ) -> Self {
        Self {
            shared,
            hub,
            durability,
            unsynced: None,
            sharing,
            look_at: None,
            expected: 0,
            took: Duration::ZERO,
        }
    }

    /// The thread's whole life. Whatever happens in it, callers are answered and the engine is
    /// let go of.
    pub(super) fn run(mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            // Not the engine's panic, which is caught where it is called, but a bug in here.
            let why = format!("its writer thread panicked: {}", panic_text(&*panic));
            self.shared.fail(why);
        }
        let Self { shared, hub, .. } = self;
        shared.queue.refuse_all(&shared.name);
        // Else the watchers' streams would not end.
        drop(hub);
        shared.let_go();
    }

    fn serve(&mut self) {
        loop {
            self.look_for_others();
            self.gather();
            let outcome = match self.shared.queue.next(self.due()) {
                Next::Group { commits, bytes } => self.group(commits, bytes),
                Next::Delete(prefix, mut reply) => {
                    let done = self.apply(&[Write::DeletePrefix(&prefix)], prefix.len());
                    self.settle(done, |answer| reply.send(answer))
                }
                Next::Transact(body, mut reply) => {
                    let done = self.shared.call(body).map(|put| {
                        // Its sync took along everything before it.
                        self.unsynced = None;
                        self.hub.announce(put);
                    });
                    self.settle(done, |answer| reply.send(answer))
                }
                Next::Watch(mut reply) => {
                    reply.send(self.begin_to_look());
                    Ok(())
                }
                Next::Due => self.sync_if_due(),
                Next::Closed => {
                    let _ = self.sync_now();
                    return;
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Callers who were just answered are back within microseconds. Lets them, so that one sync
    /// serves them together with those who wait already: else the two halves take turns, and
    /// each syncs while the other waits.
    fn gather(&mut self) {
        let expected = std::mem::take(&mut self.expected).min(GROUP_COMMITS);
        let patience = (self.took / 8).min(PATIENCE);
        if expected > 1 && patience > WORTHWHILE {
            self.shared.queue.gather(expected, patience);
        }
    }

    /// Applies a group and answers each of its callers.
    fn group(&mut self, mut commits: Vec<Pending>, bytes: usize) -> Result<(), Failed> {
        match self.attempt(&commits, bytes) {
            Ok(outcomes) => {
                self.expected = self.shared.queue.len() + commits.len();
                // By reference: what they changed is freed when all have been answered, while
                // they are on their way back.
                for (commit, outcome) in commits.iter_mut().zip(outcomes) {
                    commit.reply.send(outcome);
                }
                Ok(())
            }
            Err(error) if commits.len() > 1 && is_of_one(&error) => self.one_by_one(commits),
            Err(error) => self.settle(Err(error), |answer| {
                for commit in &mut commits {
                    commit.reply.send(answer.clone());
                }
            }),
        }
    }

    /// A group that failed as a whole: what was wrong with one commit must not fail the others.
    fn one_by_one(&mut self, commits: Vec<Pending>) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for mut commit in commits {
            if outcome.is_err() {
                commit.reply.send(Err(self.shared.closed()));
            } else {
                let bytes = commit.changes.iter().map(Change::size).sum();
                outcome = self.group(vec![commit], bytes);
            }
        }
        outcome
    }

    /// Applies a group in one engine transaction. The outcome of each commit, or the error that
    /// is everyone's. Nobody is answered before all is applied, also not the commits that fail:
    /// they may do so only for what others of the group would have written.
    fn attempt(&mut self, commits: &[Pending], bytes: usize) -> Result<Vec<Result<()>>> {
        if let Some(Sharing { commit, .. }) = &self.sharing {
            let commit = *commit;
            let Committed { outcomes, put } =
                self.written(bytes, |engine, sync| commit(engine, commits, sync))?;
            self.hub.announce(put);
            return Ok(outcomes);
        }
        let Decided { outcomes, writes } = decide(
            self.shared.unique_keys,
            commits.iter().map(|commit| &*commit.changes),
            |keys| self.shared.call(|engine| engine.get(keys)),
            |range, visit| self.shared.call(|engine| engine.scan(range, visit)),
        )?;
        if !writes.is_empty() {
            self.apply(&writes, bytes)?;
        }
        Ok(outcomes)
    }

    /// Has the engine apply these writes, with a sync if it is time for one, and tells watchers.
    fn apply(&mut self, writes: &[Write<'_>], bytes: usize) -> Result<()> {
        self.written(bytes, |engine, sync| engine.apply(writes, sync))?;
        if !self.hub.is_idle() {
            self.hub.announce(writes.iter().filter_map(put_key));
        }
        Ok(())
    }

    /// Has the engine write so many bytes, with a sync if it is time for one.
    fn written<T>(&mut self, bytes: usize, write: impl FnOnce(&E, bool) -> Result<T>) -> Result<T> {
        let now = Instant::now();
        let (since, groups, bytes) = match &self.unsynced {
            None => (now, 1, bytes),
            Some(before) => (
                before.since,
                before.groups + 1,
                before.bytes.saturating_add(bytes),
            ),
        };
        let sync = groups >= UNSYNCED_GROUPS
            || bytes >= UNSYNCED_BYTES
            || match self.durability {
                Durability::Immediate => true,
                Durability::Interval(every) => now.duration_since(since) >= every,
                Durability::Memory => false,
            };
        let done = self.shared.call(|engine| write(engine, sync))?;
        self.took = now.elapsed();
        self.unsynced = (!sync).then_some(Unsynced {
            since,
            groups,
            bytes,
        });
        Ok(done)
    }

    /// From now on, others are looked for. What they wrote before is of no interest.
    fn begin_to_look(&mut self) -> Result<()> {
        if let (Some(sharing), None) = (&self.sharing, self.look_at) {
            self.shared.read(sharing.others_wrote)?;
            self.look_at = Some(Instant::now() + sharing::EVERY);
        }
        Ok(())
    }

    /// Tells the watchers if others have written, at its time.
    fn look_for_others(&mut self) {
        let (Some(sharing), Some(at)) = (&self.sharing, self.look_at) else {
            return;
        };
        let now = Instant::now();
        if now < at {
            return;
        }
        if self.hub.is_idle() {
            self.look_at = None;
            return;
        }
        self.look_at = Some(now + sharing::EVERY);
        let others_wrote = sharing.others_wrote;
        // Where it cannot be said they may have, and whoever looks then hears why.
        if self.shared.read(others_wrote).unwrap_or(true) {
            self.hub.announce_lagged();
        }
    }

    /// When there is something to do although nothing was sent.
    fn due(&self) -> Option<Instant> {
        [self.sync_at(), self.look_at].into_iter().flatten().min()
    }

    /// When the oldest unsynced write must be synced.
    fn sync_at(&self) -> Option<Instant> {
        match (self.durability, &self.unsynced) {
            (Durability::Interval(every), Some(unsynced)) => {
                // An interval beyond the clock's reach is never due.
                unsynced.since.checked_add(every)
            }
            _ => None,
        }
    }

    fn sync_if_due(&mut self) -> Result<(), Failed> {
        match self.sync_at() {
            Some(at) if at <= Instant::now() => self.sync_now(),
            _ => Ok(()),
        }
    }

    fn sync_now(&mut self) -> Result<(), Failed> {
        if self.unsynced.is_none() {
            return Ok(());
        }
        match self.shared.call(E::sync) {
            Ok(()) => {
                self.unsynced = None;
                Ok(())
            }
            Err(error) => {
                // Nobody waits for it, and what it would have brought to disk has long been
                // acknowledged: whatever its kind, later calls must hear of it.
                let why = format!("changes that were acknowledged could not be synced: {error}");
                self.shared.fail(why);
                Err(Failed)
            }
        }
    }

    /// Answers with the outcome of the work in hand, after closing the store if it is one that
    /// closes it.
    fn settle(&self, outcome: Result<()>, answer: impl FnOnce(Result<()>)) -> Result<(), Failed> {
        let fatal = outcome.as_ref().err().filter(|error| is_fatal(error));
        let failed = if let Some(error) = fatal {
            self.shared.fail(error.to_string());
            Err(Failed)
        } else {
            Ok(())
        };
        answer(outcome);
        failed
    }
}

/// Whether the store must close itself after this error.
fn is_fatal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Closed)
}

/// Whether the other commits of a group may go through without the one that was at fault. A
/// conflict is with somebody outside, who was waited for: to wait again for each would take long.
fn is_of_one(error: &Error) -> bool {
    !is_fatal(error) && error.kind() != &ErrorKind::Conflict
}

fn put_key(write: &Write<'_>) -> Option<Key> {
    match write {
        Write::Put { key, .. } => Some((*key).clone()),
        Write::Remove(_) | Write::RemovePair { .. } | Write::DeletePrefix(_) => None,
    }
}
