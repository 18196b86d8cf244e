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
        let waiting = Waiting {
            lane: header.lane.clone(),
            priority: header.priority,
            payload_stored: header.payload_stored(),
        };
        view.put_new(
            cx.keys.scheduled(header.run_at(), id),
            header::encode(&waiting)?,
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
    let value = if lane.flags.is_empty() && !header.payload_stored() {
        Vec::new()
    } else {
        let lane = Lane {
            flags: lane.flags.clone(),
            ..Lane::default()
        };
        let payload_stored = header.payload_stored();
        header::encode(&Waiting {
            lane,
            payload_stored,
            ..Waiting::default()
        })?
    };
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
