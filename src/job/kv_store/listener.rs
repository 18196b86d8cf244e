//! Hearing what other processes do to a store, so that nobody waits for the next look around
//! (protocol rules 13 and 21).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{BoxStream, select_all};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::request::Request;
use crate::clock::Clock;
use crate::kv::{self, Event, Key, Store, Watch, Watcher};

/// Events handed on at once.
const MOST_AT_ONCE: usize = 256;
/// How long to wait where watching failed. Meanwhile jobs of others are found by looking around.
const PAUSE: Duration = Duration::from_secs(1);

/// The task that listens. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Listener(AbortHandle);

impl Listener {
    /// Tells the planner of puts under these prefixes. It must not keep the planner alive, so it
    /// has no sender of its own.
    pub(super) fn start(
        source: Arc<dyn Watch>,
        prefixes: Vec<Key>,
        requests: mpsc::WeakSender<Request>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let task = tokio::spawn(async move {
            loop {
                match watch(&*source, &prefixes).await {
                    Ok(events) => listen(events, &requests).await,
                    Err(error) if *error.kind() == kv::ErrorKind::Closed => return,
                    Err(error) => tracing::warn!("cannot watch what others do: {error}"),
                }
                if requests.strong_count() == 0 {
                    return;
                }
                clock.sleep_until(clock.monotonic() + PAUSE).await;
            }
        });
        Self(task.abort_handle())
    }

    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a store tells itself; nothing where it tells nothing.
pub(super) struct Told(pub(super) Arc<dyn Store>);

#[async_trait]
impl Watch for Told {
    async fn watch(&self, prefix: &Key) -> kv::Result<Watcher> {
        match self.0.watch() {
            Some(watch) => watch.watch(prefix).await,
            None => Ok(futures::stream::pending().boxed()),
        }
    }
}

async fn watch(watch: &dyn Watch, prefixes: &[Key]) -> kv::Result<BoxStream<'static, Event>> {
    let mut watchers = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        watchers.push(watch.watch(prefix).await?);
    }
    // What was put before that may have been missed.
    let missed = futures::stream::once(async { Event::Lagged });
    Ok(missed.chain(select_all(watchers)).boxed())
}

/// Hands on what is heard, until the store or the planner is gone.
async fn listen(events: BoxStream<'static, Event>, requests: &mpsc::WeakSender<Request>) {
    let mut heard = events.ready_chunks(MOST_AT_ONCE);
    while let Some(events) = heard.next().await {
        let Some(requests) = requests.upgrade() else {
            return;
        };
        if requests.send(Request::Heard(events)).await.is_err() {
            return;
        }
    }
}
