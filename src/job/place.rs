//! Where waiting jobs stand. Only these two functions touch the waiting spaces (protocol rule 10).

use super::header::{self, Header};
use super::keys::{KeySpace, Waiting};
use super::plan::{Context, Effect, View};
use super::{JobId, Lane, Result};

/// Puts a waiting job where it belongs: to be claimed now, or scheduled for later. Its header,
/// which the caller writes in the same commit, learns which.
pub(crate) fn place(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
) -> Result<()> {
    header.scheduled = header.run_at() > cx.now;
    if header.scheduled {
        view.put_new(
            cx.keys.scheduled(header.run_at(), id),
            scheduled_value(header)?,
        );
        view.effect(Effect::Stirred);
        Ok(())
    } else {
        ready(cx, view, id, header)
    }
}

/// Puts a due job into its lane.
pub(crate) fn ready(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    let lane = &header.lane;
    let value = ready_value(header)?;
    let prefix = cx.keys.lane(lane);
    let position = KeySpace::position(header.priority, header.run_at(), id);
    view.put_new([prefix.as_bytes(), &position].concat().into(), value);
    view.effect(Effect::Ready {
        prefix,
        lane: lane.clone(),
        position,
    });
    Ok(())
}

/// What stands under a job's `scheduled` key.
pub(crate) fn scheduled_entry(header: &Header) -> Waiting {
    Waiting {
        lane: header.lane.clone(),
        priority: header.priority,
        payload_stored: header.payload_stored(),
    }
}

/// What stands under a job's `ready` key.
pub(crate) fn ready_entry(header: &Header) -> Waiting {
    Waiting {
        lane: Lane {
            flags: header.lane.flags.clone(),
            ..Lane::default()
        },
        payload_stored: header.payload_stored(),
        ..Waiting::default()
    }
}

/// [`scheduled_entry`], as it is stored.
pub(crate) fn scheduled_value(header: &Header) -> Result<Vec<u8>> {
    header::encode(&scheduled_entry(header))
}

/// [`ready_entry`], as it is stored: of most jobs, nothing.
pub(crate) fn ready_value(header: &Header) -> Result<Vec<u8>> {
    let entry = ready_entry(header);
    if entry == Waiting::default() {
        return Ok(Vec::new());
    }
    header::encode(&entry)
}

/// Takes a waiting job from where it stands.
pub(crate) fn unplace(cx: &Context<'_>, view: &mut View<'_>, id: JobId, header: &Header) {
    // One that was scheduled may have been promoted since; the header does not say.
    if header.scheduled {
        view.remove(cx.keys.scheduled(header.run_at(), id));
    }
    if !header.scheduled || header.run_at() <= cx.now.after(cx.max_skew) {
        view.remove(
            cx.keys
                .ready(&header.lane, header.priority, header.run_at(), id),
        );
    }
}
