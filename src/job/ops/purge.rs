//! A final job is removed with all that belongs to it.

use async_trait::async_trait;

use super::super::header::{Header, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, View};
use super::super::transition;
use super::super::{JobId, Result};
use super::{Operation, enqueue};
use crate::clock::Timestamp;
use crate::kv::{ErrorKind, Key, Scan};

/// Satellites removed in one plan; a job that has more is removed in several.
const PAGE: usize = 64;

/// Removes a final job, or a part of it (rule 19).
pub(in crate::job) struct Purge(pub(in crate::job) JobId);

/// What a purge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::job) enum Purged {
    /// There is no such job, or it is not final.
    Nothing,
    /// The job is gone.
    Whole,
    /// More satellites are left: plan it again.
    Partly,
}

#[async_trait]
impl Operation for Purge {
    type Output = Purged;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.job(self.0)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Purged> {
        let (id, key) = (self.0, cx.keys.job(self.0));
        let Some(value) = view.get(&key).await? else {
            return Ok(Purged::Nothing);
        };
        let mut header = match Header::decode(&key, &value) {
            Ok(header) => header,
            Err(error) if *error.kind() == ErrorKind::TooNew => return Ok(Purged::Nothing),
            Err(error) => return Err(error.into()),
        };
        if !header.state(cx.now).is_final() {
            return Ok(Purged::Nothing);
        }
        if header.phase != Phase::Deleting {
            if let (true, Some(ended_at)) =
                (transition::needs_attention(header.phase), header.ended_at)
            {
                view.remove(cx.keys.attention(Timestamp::from_micros(ended_at), id));
            }
            enqueue::free_key(cx, view, id, &header).await?;
        }
        let mut room = PAGE.min(cx.max_changes.saturating_sub(8)).max(1);
        for prefix in [cx.keys.histories(id), cx.keys.logs(id)] {
            let (objects, all) = view
                .scan(Scan::prefix(prefix).limit(room).keys_only())
                .await?;
            room -= objects.len();
            for object in objects {
                view.remove(object.key);
            }
            if !all || room == 0 {
                // Nothing accepts the job any more, and whoever purges goes on from here.
                header.phase = Phase::Deleting;
                transition::write(cx, view, id, &mut header)?;
                return Ok(Purged::Partly);
            }
        }
        if header.payload_stored() {
            view.remove(cx.keys.payload(id));
        }
        view.replace(key, None);
        Ok(Purged::Whole)
    }
}
