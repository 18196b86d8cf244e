//! Log lines are removed.
//!
//! Nobody compares them (rule 4), and none is ever written again under the same key: so they go
//! whatever becomes of their jobs meanwhile. Those that wait to be stored stand in the view, before
//! this.

use async_trait::async_trait;

use super::super::keys::KeySpace;
use super::super::log::{self, Place};
use super::super::plan::{Context, View};
use super::super::scheme::Scheme;
use super::super::{LogLine, LogQuery, Result};
use super::Operation;
use crate::kv::{self, Key, Scan};

/// Removes lines of a query, on one page of its scan.
pub(in crate::job) struct ClearLogs {
    pub(in crate::job) query: LogQuery,
    pub(in crate::job) scan: Scan,
    /// The most it removes.
    pub(in crate::job) most: usize,
}

/// What was removed.
#[derive(Default)]
pub(in crate::job) struct ClearedLines {
    pub(in crate::job) lines: Vec<LogLine>,
    pub(in crate::job) looked_at: usize,
    /// The last line that was looked at.
    pub(in crate::job) last: Option<Place>,
    /// Whether there may be more, behind where the scan was read to.
    pub(in crate::job) more: bool,
    pub(in crate::job) read_to: Option<kv::Cursor>,
}

#[async_trait]
impl Operation for ClearLogs {
    type Output = ClearedLines;

    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<ClearedLines> {
        let mut done = ClearedLines {
            read_to: self.scan.after.clone(),
            ..ClearedLines::default()
        };
        // On a bag a commit changes one line of a job, and does not see the others as they are.
        let is_bag = cx.keys.scheme == Scheme::Bag;
        let begins_at = self.scan.after.as_ref().map(kv::Cursor::key);
        if is_bag && begins_at.is_some_and(|key| view.writes(key)) {
            done.more = true;
            return Ok(done);
        }
        let most = self.most.min(cx.max_changes).max(1);
        let (objects, all) = view.scan(self.scan.clone()).await?;
        for object in objects {
            if done.lines.len() >= most || (is_bag && view.writes(&object.key)) {
                done.more = true;
                return Ok(done);
            }
            done.read_to = Some(kv::Cursor::after_object(&object));
            let Some((line, place)) = log::read_for(&self.query, cx.keys, &object)? else {
                continue;
            };
            if self.query.is_behind(&line) {
                return Ok(done);
            }
            done.looked_at += 1;
            done.last = Some(place);
            if self.query.matches(&line) {
                // On a bag it is named by its value: if the answer is lost, nothing tells that this
                // removed it.
                if is_bag {
                    view.remove_object(&object);
                } else {
                    view.remove(object.key);
                }
                done.lines.push(line);
            }
        }
        done.more = !all;
        Ok(done)
    }
}
