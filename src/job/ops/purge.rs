//! Jobs that ended are removed with all that belongs to them (protocol rule 19).
//!
//! The satellites of one job may be more than a commit takes. Then its header becomes `Deleting`,
//! which nothing accepts any more, and a `retention` key names it until the header goes, as the
//! last: so whoever removes jobs next finds it without looking for it.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::header::{Header, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, View};
use super::super::transition::{self, Why};
use super::super::{JobId, Result, State, unique};
use super::Operation;
use crate::clock::Timestamp;
use crate::kv::{ErrorKind, Key, Scan};

/// Satellites removed in one plan; a job that has more is removed in several.
const PAGE: usize = 64;

/// Changes a job takes besides its satellites: its header, payload and result, the job key, an
/// `attention` and a `retention` key; and what its caller writes.
const CHANGES: usize = 8;

/// Removes a job that ended, or a part of it.
pub(in crate::job) struct Purge {
    pub(in crate::job) id: JobId,
    /// The states that were asked for: a job that left them since it was found stays.
    pub(in crate::job) states: Arc<[State]>,
    pub(in crate::job) ended_before: Option<Timestamp>,
}

/// What a removal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::job) enum Purged {
    /// There is no such job, or it is not to be removed.
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
        vec![keys.job(self.id)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Purged> {
        let key = cx.keys.job(self.id);
        let Some(value) = view.get(&key).await? else {
            return Ok(Purged::Nothing);
        };
        let header = match Header::decode(&key, &value) {
            Ok(header) => header,
            Err(error) if *error.kind() == ErrorKind::TooNew => return Ok(Purged::Nothing),
            Err(error) => return Err(error.into()),
        };
        let state = header.state(cx.now);
        let asked_for = state.is_final()
            && self.states.contains(&state)
            && self
                .ended_before
                .is_none_or(|before| header.ended_at.is_some_and(|at| at < before.as_micros()));
        if header.phase != Phase::Deleting && !asked_for {
            return Ok(Purged::Nothing);
        }
        let removed = remove(cx, view, vec![(self.id, header)]).await?;
        let purged = removed.first().copied().unwrap_or(Purged::Nothing);
        if purged == Purged::Whole {
            // A header that is gone cannot say who removed it: if the answer is lost, that is said
            // (rule 2).
            view.effect(Effect::Removed {
                id: self.id,
                lease_until: cx.now,
            });
        }
        Ok(purged)
    }
}

/// Removes jobs whose headers were read through the view, in this order, as far as they fit into
/// one commit: says what became of the first ones; the others, of which nothing is said, are as
/// they were.
pub(in crate::job) async fn remove(
    cx: &Context<'_>,
    view: &mut View<'_>,
    jobs: Vec<(JobId, Header)>,
) -> Result<Vec<Purged>> {
    let mut room = PAGE.min(cx.max_changes.saturating_sub(CHANGES)).max(1);
    // The satellites of all of them, found in one trip.
    let mut scans = Vec::with_capacity(jobs.len() * 2);
    for (id, header) in &jobs {
        let some = |prefix| Scan::prefix(prefix).limit(room).keys_only();
        scans.push(some(cx.keys.logs(*id)));
        if header.history.has_spilled() {
            scans.push(some(cx.keys.histories(*id)));
        }
    }
    let mut found = view.scan_many(scans).await?.into_iter();
    let (before, _) = view.size();
    let mut removed = Vec::with_capacity(jobs.len());
    for (id, mut header) in jobs {
        let mut satellites = Vec::new();
        let mut whole = true;
        for (objects, all) in found
            .by_ref()
            .take(1 + usize::from(header.history.has_spilled()))
        {
            satellites.extend(objects);
            whole &= all;
        }
        let (changes, _) = view.size();
        let full = changes - before + satellites.len() + CHANGES > cx.max_changes;
        if (full || satellites.len() > room) && !removed.is_empty() {
            break;
        }
        whole &= satellites.len() <= room;
        satellites.truncate(room);
        room -= satellites.len();
        for object in satellites {
            view.remove(object.key);
        }
        begin(cx, view, id, &header).await?;
        if whole {
            if let Some(payload) = header.payload_key(cx.keys, id) {
                view.remove(payload);
            }
            if header.result_stored() {
                view.remove(cx.keys.result(id));
            }
            if header.phase == Phase::Deleting {
                view.remove(cx.keys.removal(id));
            }
            view.replace(cx.keys.job(id), None);
            removed.push(Purged::Whole);
        } else {
            // Not by `transition::write`, which may add to what is being removed. One step stands
            // for all the plans it takes.
            if header.phase == Phase::Deleting {
                header.history.steps.pop();
                header.history.next = header.history.next.saturating_sub(1);
            }
            header.phase = Phase::Deleting;
            transition::step(cx, &mut header, State::Removed, Why::Nothing);
            header.revision += 1;
            view.put(cx.keys.removal(id), Vec::new());
            view.replace(cx.keys.job(id), Some(header.encode()?.into()));
            removed.push(Purged::Partly);
        }
    }
    Ok(removed)
}

/// Takes a job out of the indexes, if that was not done before.
async fn begin(cx: &Context<'_>, view: &mut View<'_>, id: JobId, header: &Header) -> Result<()> {
    if header.phase == Phase::Deleting {
        return Ok(());
    }
    transition::forget_end(cx, view, id, header);
    unique::free(cx, view, id, header).await
}
