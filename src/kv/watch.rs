//! Being told that something changed.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::{Key, Result};

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something was put under this key, or under a key it stands for.
    Changed(Key),
    /// Some events were lost: look at everything.
    Lagged,
}

/// The events of one subscription. It ends when the store closes.
pub type Watcher = BoxStream<'static, Event>;

/// A store that tells of changes.
///
/// It is a hint: events may be spurious or coalesced, but one that is lost is announced as
/// [`Event::Lagged`]. Only puts are promised, not removals. Subscribe first, read then.
#[async_trait]
pub trait Watch: Send + Sync {
    /// Tells of puts of keys that begin with `prefix`, made after this returned.
    ///
    /// # Errors
    /// What the backend says.
    async fn watch(&self, prefix: &Key) -> Result<Watcher>;

    /// Tells watchers that these keys were put by a transaction that the store did not commit
    /// itself: one of the user's on a [server](super::AsyncTransaction). Never blocks. Does
    /// nothing where there is no such transaction, which is the default.
    fn announce(&self, keys: Vec<Key>) {
        drop(keys);
    }
}

/// Tells the watchers of one process what was put: the [`Watch`] of every store that lives in it.
#[derive(Clone, Debug)]
pub struct Hub(broadcast::Sender<News>);

/// What a hub passes on.
#[derive(Clone, Debug)]
enum News {
    Put(Arc<[Key]>),
    Lost,
}

impl Hub {
    const CAPACITY: usize = 256;

    /// A hub without watchers.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(Self::CAPACITY))
    }

    /// Whether nobody listens, so that collecting keys for [`announce`](Self::announce) is
    /// wasted work.
    pub fn is_idle(&self) -> bool {
        self.0.receiver_count() == 0
    }

    /// Tells the watchers that these keys were put. Never blocks; a slow watcher lags.
    pub fn announce(&self, keys: impl IntoIterator<Item = Key>) {
        if !self.is_idle() {
            let keys: Arc<[Key]> = keys.into_iter().collect();
            if !keys.is_empty() {
                // Fails only where the last watcher has just left.
                let _ = self.0.send(News::Put(keys));
            }
        }
    }

    /// Tells every watcher that some events were lost, for a hub whose news come from elsewhere.
    pub fn announce_lagged(&self) {
        // Fails only where nobody listens.
        let _ = self.0.send(News::Lost);
    }

    /// A watcher of keys that begin with `prefix`.
    pub fn subscribe(&self, prefix: &Key) -> Watcher {
        let prefix = prefix.clone();
        BroadcastStream::new(self.0.subscribe())
            .flat_map(move |heard| {
                let events: Vec<Event> = match heard {
                    Ok(News::Put(keys)) => keys
                        .iter()
                        .filter(|key| key.starts_with(&prefix))
                        .cloned()
                        .map(Event::Changed)
                        .collect(),
                    Ok(News::Lost) | Err(BroadcastStreamRecvError::Lagged(_)) => {
                        vec![Event::Lagged]
                    }
                };
                futures::stream::iter(events)
            })
            .boxed()
    }
}

#[async_trait]
impl Watch for Hub {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        Ok(self.subscribe(prefix))
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}
