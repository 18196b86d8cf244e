//! Where waiting jobs stand. Only these functions touch the waiting spaces (protocol rule 10).
//!
//! Of a job with a queue key, they are the doors to its [serial queue](super::serial).

use super::header::{self, Header};
use super::keys::{KeySpace, Waiting};
use super::plan::{Context, Effect, View};
use super::serial::{Queue, Standing};
use super::{JobId, Lane, Result};

/// Puts a waiting job where it belongs: to be claimed now, or scheduled for later. Its header,
/// which the caller writes in the same commit, learns which.
pub(crate) async fn place(
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
        due(cx, view, id, header).await
    }
}

/// Puts a due job into its lane, or its queue.
pub(crate) async fn due(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    if let Some(mut queue) = Queue::of(cx, view, header).await? {
        queue.insert(&header.lane, Standing::of(id, header));
        return queue.close(cx, view).await;
    }
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
        queue: header.queue_hash(),
    }
}

/// What stands under a job's `ready` or `wait` key.
pub(crate) fn ready_entry(header: &Header) -> Waiting {
    Waiting {
        lane: Lane {
            flags: header.lane.flags.clone(),
            ..Lane::default()
        },
        payload_stored: header.payload_stored(),
        queue: header.queue_hash(),
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
pub(crate) async fn unplace(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    // One that was scheduled may have been promoted since; the header does not say.
    if header.scheduled {
        view.remove(cx.keys.scheduled(header.run_at(), id));
    }
    if header.scheduled && header.run_at() > cx.now.after(cx.max_skew) {
        return Ok(());
    }
    let (priority, run_at) = (header.priority, header.run_at());
    if let Some(mut queue) = Queue::of(cx, view, header).await? {
        view.remove(if queue.record().exposes(id) {
            cx.keys.ready(&header.lane, priority, run_at, id)
        } else {
            queue.wait_key(cx.keys, &header.lane, Standing::of(id, header))
        });
        queue.leave(id);
        return queue.close(cx, view).await;
    }
    view.remove(cx.keys.ready(&header.lane, priority, run_at, id));
    Ok(())
}

/// A running job does so no more: its queue serves the next one.
pub(crate) async fn release(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &Header,
) -> Result<()> {
    match header.queue_hash() {
        Some(queue) => forget(cx, view, queue, id).await,
        None => Ok(()),
    }
}

/// A job of this queue runs no more, and is not exposed any more, as far as it was.
pub(crate) async fn forget(
    cx: &Context<'_>,
    view: &mut View<'_>,
    queue: [u8; 16],
    id: JobId,
) -> Result<()> {
    let mut queue = Queue::open(cx, view, queue).await?;
    if queue.record().runs(id) || queue.record().exposes(id) {
        queue.leave(id);
    }
    queue.close(cx, view).await
}

/// Puts a waiting job where it belongs, wherever it stood.
pub(crate) async fn anew(
    cx: &Context<'_>,
    view: &mut View<'_>,
    id: JobId,
    header: &mut Header,
) -> Result<()> {
    let (priority, run_at) = (header.priority, header.run_at());
    view.remove(cx.keys.scheduled(run_at, id));
    view.remove(cx.keys.ready(&header.lane, priority, run_at, id));
    if let Some(mut queue) = Queue::of(cx, view, header).await? {
        view.remove(queue.wait_key(cx.keys, &header.lane, Standing::of(id, header)));
        queue.leave(id);
        queue.close(cx, view).await?;
    }
    place(cx, view, id, header).await
}
