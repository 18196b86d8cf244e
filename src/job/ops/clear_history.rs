//! Steps are cleared from the history of a job that has ended.
//!
//! A job that lives keeps its own. The header is compared (rule 4), so that one that is retried
//! meanwhile keeps what is not yet cleared; and since nobody spills steps without writing the
//! header, nothing but a check changes the chunks meanwhile.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::super::header::{self, StoredStep};
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::{JobId, Result, Step, transition};
use super::Operation;
use crate::kv::{self, Key, Scan};

/// Chunks changed in one plan; more are cleared in several.
const MOST_CHUNKS: usize = 64;

/// Clears steps of a job.
#[derive(Clone)]
pub(in crate::job) struct ClearHistory {
    pub(in crate::job) id: JobId,
    /// Their numbers.
    pub(in crate::job) steps: BTreeSet<u32>,
}

/// What was cleared.
#[derive(Default)]
pub(in crate::job) struct ClearedSteps {
    pub(in crate::job) steps: Vec<Step>,
    /// Some are left: plan it again.
    pub(in crate::job) more: bool,
}

#[async_trait]
impl Operation for ClearHistory {
    type Output = ClearedSteps;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<ClearedSteps> {
        let mut done = ClearedSteps::default();
        let Some(mut header) = transition::read(cx, view, self.id).await? else {
            return Ok(done);
        };
        if !header.state(cx.now).is_final() {
            return Ok(done);
        }
        let mut cleared = header.history.clear(&self.steps);
        if header.history.has_spilled() {
            done.more = self.clear_chunks(cx, view, &mut cleared).await?;
        }
        cleared.sort_by_key(|step| step.number);
        cleared.dedup_by_key(|step| step.number);
        if let Some(last) = cleared.last() {
            let behind = last.number.saturating_add(1);
            header.history.cleared = header.history.cleared.max(behind);
            transition::write(cx, view, self.id, &mut header)?;
        }
        done.steps = cleared.iter().map(StoredStep::to_step).collect();
        Ok(done)
    }
}

impl ClearHistory {
    /// Clears what stands in chunks. Says whether some is left.
    async fn clear_chunks(
        &self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        cleared: &mut Vec<StoredStep>,
    ) -> Result<bool> {
        let prefix = cx.keys.histories(self.id);
        // On a bag a commit changes one chunk of a job.
        if view.writes(&prefix) {
            return Ok(true);
        }
        let mut room = MOST_CHUNKS.min(cx.max_changes.saturating_sub(1)).max(1);
        let mut scan = Scan::prefix(prefix);
        loop {
            let (chunks, all) = view.scan(scan.clone()).await?;
            let last = chunks.last().map(kv::Cursor::after_object);
            for chunk in chunks {
                let body = cx.keys.read_history(self.id, &chunk)?;
                let steps: Vec<StoredStep> = header::decode(&chunk.key, body)?;
                let (gone, kept): (Vec<_>, Vec<_>) = steps
                    .into_iter()
                    .partition(|step| self.steps.contains(&step.number));
                if gone.is_empty() {
                    continue;
                }
                if room == 0 || view.writes(&chunk.key) {
                    return Ok(true);
                }
                room -= 1;
                // It is named by its value, for on a bag others stand under its key.
                if kept.is_empty() {
                    view.remove_object(&chunk);
                } else {
                    let body = header::encode(&kept)?;
                    let again = cx.keys.same_history(self.id, &chunk, &body)?;
                    view.replace_object(&chunk, again.value);
                }
                cleared.extend(gone);
            }
            match last {
                Some(last) if !all => scan = scan.after(last),
                _ => return Ok(false),
            }
        }
    }
}
