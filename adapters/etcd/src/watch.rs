//! Being told of puts by etcd: one watch of all our keys for a whole store, from the first
//! watcher on, however many there are. Readers and writers are not known here.
//!
//! A watch that broke begins again at whatever is newest then, and everybody is told that
//! something may be lost: looking once at everything after an outage is cheaper than going
//! through all that happened meanwhile, and needs no history that may be gone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::kv::{Error, ErrorKind, Hub, Key, Result, Watcher};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::members::Members;
use crate::proto::{WatchCreateRequest, WatchFilter, WatchRequest, WatchUnion};
use crate::store::closed;
use crate::txn::KeySpace;

/// Pauses before a watch that broke begins again: the first one, doubled until the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The watch of a store.
pub(crate) struct Watches {
    members: Arc<Members>,
    space: KeySpace,
    listening: Mutex<Listening>,
}

enum Listening {
    /// Nobody has asked yet.
    Idle,
    On {
        hub: Hub,
        state: watch::Receiver<State>,
        _task: AbortOnDropHandle<()>,
    },
    Closed,
}

/// Whether what is put now will be heard.
#[derive(Clone, Debug)]
enum State {
    Starting,
    Heard,
    /// Not, for this reason; it is tried again.
    Deaf(Error),
}

impl Watches {
    pub(crate) fn new(members: Arc<Members>, space: KeySpace) -> Self {
        Self {
            members,
            space,
            listening: Mutex::new(Listening::Idle),
        }
    }

    /// A watcher of keys that begin with `prefix`, once etcd watches.
    pub(crate) async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let (watcher, mut state) = self.subscribe(prefix)?;
        let heard = state.wait_for(|state| !matches!(state, State::Starting));
        match timeout(self.members.timeout(), heard).await {
            // While a watch is broken a watcher has nothing to miss: it is told to look at
            // everything once the watch is back.
            Ok(Ok(state)) => match &*state {
                State::Deaf(error) if !error.is_retryable() => Err(error.clone()),
                State::Deaf(_) | State::Heard | State::Starting => Ok(watcher),
            },
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                let message = "etcd did not begin to watch in time";
                Err(Error::new(ErrorKind::Transient, message))
            }
        }
    }

    fn subscribe(&self, prefix: &Key) -> Result<(Watcher, watch::Receiver<State>)> {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Listening::Idle = &*listening {
            let hub = Hub::new();
            let (told, state) = watch::channel(State::Starting);
            let ear = Ear {
                members: Arc::clone(&self.members),
                space: self.space.clone(),
                hub: hub.clone(),
                told,
            };
            *listening = Listening::On {
                hub,
                state,
                _task: AbortOnDropHandle::new(tokio::spawn(ear.listen())),
            };
        }
        match &*listening {
            Listening::On { hub, state, .. } => Ok((hub.subscribe(prefix), state.clone())),
            Listening::Idle | Listening::Closed => Err(closed()),
        }
    }

    /// Ends every watcher.
    pub(crate) fn close(&self) {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *listening = Listening::Closed;
    }
}

/// What listens to etcd.
struct Ear {
    members: Arc<Members>,
    space: KeySpace,
    hub: Hub,
    told: watch::Sender<State>,
}

impl Ear {
    async fn listen(self) {
        let (first, longest) = PAUSES;
        let mut pause = first;
        loop {
            let Err(broken) = self.hear().await;
            if matches!(*self.told.borrow(), State::Heard) {
                pause = first;
            }
            self.told.send_replace(State::Deaf(broken));
            self.members.try_another();
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Listens until the watch breaks.
    async fn hear(&self) -> Result<std::convert::Infallible> {
        let create = WatchCreateRequest {
            key: self.space.prefix(),
            range_end: self.space.end(),
            filters: vec![WatchFilter::NoDelete.into()],
        };
        let request = WatchRequest {
            request_union: Some(WatchUnion::Create(create)),
        };
        // etcd ends the watch with the stream of requests.
        let requests = futures::stream::iter([request]).chain(futures::stream::pending());
        let mut stream = self.members.watch(requests).await?;
        loop {
            let heard = stream.message().await;
            let heard = heard.map_err(|status| broken(&status.to_string()))?;
            let heard = heard.ok_or_else(|| broken("etcd ended it"))?;
            if heard.canceled {
                return Err(broken(&heard.cancel_reason));
            }
            if heard.created {
                let before = self.told.send_replace(State::Heard);
                if !matches!(before, State::Starting) {
                    self.hub.announce_lagged();
                }
            }
            if !self.hub.is_idle() {
                let put = heard.events.into_iter().filter_map(|event| event.kv);
                // A key that is none of ours was not asked for.
                self.hub
                    .announce(put.filter_map(|put| self.space.inner(&put.key).ok()));
            }
        }
    }
}

fn broken(why: &str) -> Error {
    let kind = if why.contains("permission denied") {
        ErrorKind::Backend
    } else {
        ErrorKind::Transient
    };
    Error::new(kind, format!("the watch of etcd broke: {why}"))
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}
