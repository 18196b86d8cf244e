//! Scheduled jobs that have become due.

use super::super::header::{self, Header, Phase};
use super::super::keys::Waiting;
use super::super::plan::{Context, View};
use super::super::{JobId, Result, place};
use super::quarantine;
use crate::clock::Timestamp;
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// The most jobs moved at once; the next claim moves the next ones.
const PAGE: usize = 128;

/// Pages read beyond jobs of a newer format, which stay where they are.
const MOST_PAGES: usize = 16;

/// The first page of scheduled jobs that [`plan`] reads.
pub(in crate::job) fn first_scan(cx: &Context<'_>, view: &View<'_>) -> Scan {
    // Each takes a check of its header, an index key removed and one put.
    let room = cx.max_changes.saturating_sub(view.size().0) / 4;
    Scan::prefix(cx.keys.scheduled_all()).limit(PAGE.min(room).max(1))
}

/// Moves what is due from `scheduled` to its lane (rule 11). Returns when the next one will be
/// due.
pub(in crate::job) async fn plan(
    cx: &Context<'_>,
    view: &mut View<'_>,
) -> Result<Option<Timestamp>> {
    let mut scan = first_scan(cx, view);
    for _ in 0..MOST_PAGES {
        let (objects, all) = view.scan(scan.clone()).await?;
        let last = objects
            .last()
            .map(|object| Cursor::after(object.key.clone()));
        let mut due = Vec::new();
        for object in objects {
            match cx.keys.read_scheduled(&object.key) {
                Ok((run_at, id)) if run_at <= cx.now => due.push((object, run_at, id)),
                Ok((run_at, _)) => {
                    move_due(cx, view, due).await?;
                    return Ok(Some(run_at));
                }
                Err(error) => quarantine::index(cx, view, &object, &error.to_string())?,
            }
        }
        let moved = move_due(cx, view, due).await?;
        match last {
            Some(last) if !moved && !all => scan = scan.after(last),
            // More may be due: the next claim moves it, and should come soon.
            _ => return Ok((!all).then_some(cx.now)),
        }
    }
    Ok(None)
}

/// Whether any of them was there to be moved.
async fn move_due(
    cx: &Context<'_>,
    view: &mut View<'_>,
    due: Vec<(Object, Timestamp, JobId)>,
) -> Result<bool> {
    let headers: Vec<Key> = due.iter().map(|(_, _, id)| cx.keys.job(*id)).collect();
    let queues = due.iter().filter_map(|(object, ..)| {
        let waiting = header::decode_or_default::<Waiting>(object);
        waiting.queue.map(|queue| cx.keys.queue(&queue))
    });
    let also: Vec<Key> = headers.iter().cloned().chain(queues).collect();
    view.load(&also).await?;
    let mut moved = false;
    for ((object, run_at, id), key) in due.into_iter().zip(headers) {
        let Some(value) = view.get(&key).await? else {
            view.remove(object.key);
            continue;
        };
        match Header::decode(&key, &value) {
            Ok(header) => {
                if header.phase == Phase::Waiting && header.run_at() == run_at {
                    place::due(cx, view, id, &header).await?;
                }
                // Whoever moves the job at the same time changes its header.
                view.check(key);
                view.remove(object.key);
                moved = true;
            }
            Err(error) if *error.kind() == ErrorKind::TooNew => {
                tracing::warn!(job = %id, "left alone: {error}");
            }
            Err(error) => {
                if quarantine::header(cx, view, &key, &value, &error).await? {
                    view.remove(object.key);
                }
                moved = true;
            }
        }
    }
    Ok(moved)
}
