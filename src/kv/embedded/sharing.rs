//! What the writer does otherwise where other processes write, too: it decides inside the engine's
//! write transaction, and asks now and then whether others wrote.

use std::time::Duration;

use super::group::{Decided, decide};
use super::queue::Pending;
use crate::kv::{Key, Result, Shareable, Transaction};

/// How often others are looked for, while somebody watches.
pub(super) const EVERY: Duration = Duration::from_millis(20);

/// The two things, of an engine that can do them.
pub(super) struct Sharing<E> {
    pub(super) commit: fn(&E, &[Pending], bool) -> Result<Committed>,
    pub(super) others_wrote: fn(&E) -> Result<bool>,
}

/// What became of a group.
pub(super) struct Committed {
    /// The outcome of each commit, at its place.
    pub(super) outcomes: Vec<Result<()>>,
    pub(super) put: Vec<Key>,
}

impl<E: Shareable> Sharing<E> {
    pub(super) fn of_engine() -> Self {
        Self {
            commit,
            others_wrote: E::others_wrote,
        }
    }
}

fn commit<E: Shareable>(engine: &E, commits: &[Pending], sync: bool) -> Result<Committed> {
    let mut outcomes = Vec::new();
    let put = engine.transact_group(sync, &mut |transaction| {
        let decided = decide(
            transaction.unique_keys(),
            commits.iter().map(|commit| &*commit.changes),
            |keys| transaction.get(keys),
            |range, visit| transaction.scan(range, visit),
        )?;
        let Decided { writes, .. } = decided;
        outcomes = decided.outcomes;
        if writes.is_empty() {
            return Ok(());
        }
        transaction.write(&writes)
    })?;
    Ok(Committed { outcomes, put })
}
