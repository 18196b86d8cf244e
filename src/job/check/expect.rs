//! The keys a header asks for: the one list that is held against the store from both ends.

use super::super::header::{self, Header, Phase};
use super::super::keys::{KeySpace, Space, Waiting};
use super::super::unique::{self, Unique};
use super::super::{JobId, Result, place, retention};
use crate::kv::Key;

/// The key of a job in one of the spaces in which it has one at most; `None` if it has none there.
/// A waiting job has one in `ready`, one in `scheduled` and, with a queue, one in `wait`, and stands
/// under one of them.
pub(super) fn key(keys: &KeySpace, space: Space, id: JobId, header: &Header) -> Option<Key> {
    match space {
        Space::Ready if header.phase == Phase::Waiting => {
            Some(keys.ready(&header.lane, header.priority, header.run_at(), id))
        }
        Space::Scheduled if header.phase == Phase::Waiting => {
            Some(keys.scheduled(header.run_at(), id))
        }
        Space::Wait if header.phase == Phase::Waiting => {
            let hash = header.queue_hash()?;
            Some(keys.wait(&hash, &header.lane, header.priority, header.run_at(), id))
        }
        Space::Attention => retention::attention(keys, id, header).map(|(key, _)| key),
        Space::Retention if header.phase == Phase::Deleting => Some(keys.removal(id)),
        Space::Signal if header.phase == Phase::Running && header.cancel_requested => {
            let holder = header.holder.as_ref()?;
            Some(keys.signal(&holder.incarnation, id))
        }
        Space::Unique => {
            let unique = unique::kept(id, header)?;
            Some(keys.unique(&unique.tenant, &unique.text))
        }
        Space::Payload => header.payload_key(keys, id),
        Space::Result if header.result_stored() => Some(keys.result(id)),
        _ => None,
    }
}

/// Whether the key of [`key`] must be there; otherwise it may be.
pub(super) fn is_required(space: Space) -> bool {
    matches!(
        space,
        Space::Attention | Space::Signal | Space::Unique | Space::Payload | Space::Result
    )
}

/// What stands under a waiting job's key.
pub(super) fn waiting(space: Space, header: &Header) -> Waiting {
    match space {
        Space::Scheduled => place::scheduled_entry(header),
        _ => place::ready_entry(header),
    }
}

/// The value that stands under a key of [`key`], of the spaces that can be built from headers.
pub(super) fn value(keys: &KeySpace, space: Space, id: JobId, header: &Header) -> Result<Vec<u8>> {
    match space {
        Space::Attention => {
            let entry = retention::attention(keys, id, header);
            Ok(entry.map_or(Vec::new(), |(_, value)| value.to_vec()))
        }
        Space::Ready | Space::Wait => place::ready_value(header),
        Space::Scheduled => place::scheduled_value(header),
        Space::Unique => match unique::kept(id, header) {
            Some(unique) => header::encode::<Unique>(&unique),
            None => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}
