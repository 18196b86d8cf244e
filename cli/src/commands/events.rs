//! What a worker tells, and a scheduler beside it, for the commands that have one.

use kvjob::worker::Event;
use tokio::sync::{broadcast, mpsc};

/// Takes events as they come, so that none is missed while their reader is busy.
pub(super) fn follow<T: Clone + Send + 'static>(
    mut events: broadcast::Receiver<T>,
) -> mpsc::UnboundedReceiver<T> {
    let (to, from) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if to.send(event).is_err() {
                        return;
                    }
                }
                // What was missed is found when the store is looked at.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    from
}

/// What went wrong, where it is not a job's own matter.
pub(super) fn trouble(event: &Event) -> Option<String> {
    match event {
        Event::ClaimFailed { error } => Some(format!("could not take jobs: {error}")),
        Event::HeartbeatFailed { error } => Some(format!("could not keep jobs: {error}")),
        Event::RecordFailed { id, error } => {
            Some(format!("could not record how job {id} ended: {error}"))
        }
        Event::LeaseLost { id } => Some(format!(
            "job {id} was no longer ours when it ended: it may run again"
        )),
        _ => None,
    }
}
