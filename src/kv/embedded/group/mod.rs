//! Conditions and writes of a group of commits: what each finds, and what all together write. The
//! two kinds of store have an overlay each. Knows no thread, no queue and no engine.

mod bag;
mod unique;

use bytes::Bytes;

use crate::kv::{Change, Key, Range, Result, Write};

/// What becomes of a group.
#[derive(Debug)]
pub(in crate::kv) struct Decided<'a> {
    /// The outcome of each commit, at its place, once the writes are applied.
    pub(in crate::kv) outcomes: Vec<Result<()>>,
    /// What the commits that went through write together.
    pub(in crate::kv) writes: Vec<Write<'a>>,
}

/// Checks the conditions of each commit against what is stored and the commits before it. `get`
/// and `scan` read what is stored, as [`Engine`](crate::kv::Engine) does; keys without conditions
/// are not read.
pub(in crate::kv) fn decide<'a>(
    unique_keys: bool,
    commits: impl Iterator<Item = &'a [Change]> + Clone,
    get: impl FnOnce(&[Key]) -> Result<Vec<Option<Bytes>>>,
    scan: impl FnMut(&Range, &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>,
) -> Result<Decided<'a>> {
    if unique_keys {
        let mut overlay = unique::Overlay::over(commits.clone());
        if !overlay.unread().is_empty() {
            let stored = get(overlay.unread())?;
            overlay.fill(stored)?;
        }
        Ok(Decided {
            outcomes: commits.map(|changes| overlay.commit(changes)).collect(),
            writes: overlay.writes(),
        })
    } else {
        let mut overlay = bag::Overlay::over(commits.clone());
        overlay.fill(scan)?;
        Ok(Decided {
            outcomes: commits.map(|changes| overlay.commit(changes)).collect(),
            writes: overlay.writes(),
        })
    }
}
