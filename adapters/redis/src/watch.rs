//! Being told of puts: each commit's script publishes the keys it put, and one connection of the
//! store listens for as long as somebody watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Hub, Key, Result, Watcher};
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::connection::Connection;
use crate::error::{self, Refusal};

/// How long to wait before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The watchers of a store.
#[derive(Debug)]
pub(crate) struct Watching(Mutex<Option<Inner>>);

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    hub: Hub,
    /// Whether the server tells us, and why not.
    listens: watch::Sender<Result<()>>,
    /// From the first watcher on.
    listener: Option<JoinHandle<()>>,
}

impl Watching {
    pub(crate) fn new(client: &Arc<Client>) -> Self {
        let not_yet = Error::new(ErrorKind::Transient, "nobody listens yet");
        Self(Mutex::new(Some(Inner {
            client: Arc::clone(client),
            hub: Hub::new(),
            listens: watch::Sender::new(Err(not_yet)),
            listener: None,
        })))
    }

    /// A watcher, once the server tells us.
    pub(crate) async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let (watcher, mut listens, patience) = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let inner = inner.as_mut().ok_or_else(error::closed)?;
            let ended = inner.listener.as_ref().is_none_or(JoinHandle::is_finished);
            if ended {
                inner.listener = Some(tokio::spawn(listen(
                    Arc::clone(&inner.client),
                    inner.hub.clone(),
                    inner.listens.clone(),
                )));
            }
            let patience = inner.client.patience;
            (
                inner.hub.subscribe(prefix),
                inner.listens.subscribe(),
                patience,
            )
        };
        let decided = |listens: &Result<()>| match listens {
            Ok(()) => true,
            Err(error) => !error.is_retryable(),
        };
        if let Ok(Err(_)) = timeout(patience, listens.wait_for(decided)).await {
            return Err(error::closed());
        }
        listens.borrow().clone()?;
        Ok(watcher)
    }

    /// Ends every watcher.
    pub(crate) fn stop(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = None;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
    }
}

/// Listens, and does so again whenever it ends, until it is aborted.
async fn listen(client: Arc<Client>, hub: Hub, listens: watch::Sender<Result<()>>) {
    let mut pause = PAUSE;
    let mut listened = false;
    while !client.is_stopped() {
        let ended = Arc::new(Notify::new());
        match subscribe(&client, &hub, &ended).await {
            Ok(connection) => {
                if listened {
                    // Nobody told us of what was put in between.
                    hub.announce_lagged();
                }
                listened = true;
                pause = PAUSE;
                listens.send_modify(|listens| *listens = Ok(()));
                let lost = keep(&client, &connection, &ended).await;
                listens.send_modify(|listens| *listens = Err(lost));
            }
            Err(error) => {
                listens.send_modify(|listens| *listens = Err(error));
            }
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// A connection by which the server tells us of puts; `ended` is notified when it does not any
/// longer.
async fn subscribe(client: &Client, hub: &Hub, ended: &Arc<Notify>) -> Result<Connection> {
    let (hub, ended) = (hub.clone(), Arc::clone(ended));
    let listener = move |told: PushInfo| {
        match told.kind {
            PushKind::SMessage => match told.data.get(1).and_then(keys) {
                Some(keys) => hub.announce(keys),
                None => hub.announce_lagged(),
            },
            PushKind::Disconnection | PushKind::SUnsubscribe => ended.notify_one(),
            _ => {}
        }
        Ok::<(), ()>(())
    };
    let connection = client.listen(Arc::new(listener)).await?;
    let mut subscribe = cmd("SSUBSCRIBE");
    subscribe.arg(&client.names.channel);
    let answers = timeout(client.patience, connection.send(&[subscribe])).await;
    let answers = answers.map_err(|_| gone(&connection))?;
    let answers = answers.map_err(|source| gone(&connection).with_source(source))?;
    for answer in answers {
        answer.map_err(|source| match error::answered(&connection, &source) {
            Refusal::Again(_, error) | Refusal::Final(error) => error,
        })?;
    }
    Ok(connection)
}

/// Waits until the connection has ended, and asks now and then whether it has.
async fn keep(client: &Client, connection: &Connection, ended: &Notify) -> Error {
    let often = client.patience / 3;
    loop {
        if timeout(often, ended.notified()).await.is_ok() {
            break;
        }
        let answer = timeout(often, connection.send(&[cmd("PING")])).await;
        if !matches!(answer, Ok(Ok(_))) {
            break;
        }
    }
    gone(connection)
}

fn gone(connection: &Connection) -> Error {
    let message = format!(
        "the connection to the server at {} that tells of changes was lost",
        connection.node
    );
    Error::new(ErrorKind::Transient, message)
}

/// The keys in a message: each behind its length and a colon. None stands for any key.
fn keys(message: &Value) -> Option<Vec<Key>> {
    let Value::BulkString(message) = message else {
        return None;
    };
    let mut rest = message.as_slice();
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let colon = rest.iter().position(|byte| *byte == b':')?;
        let (length, key) = rest.split_at_checked(colon)?;
        let length = std::str::from_utf8(length).ok()?.parse().ok()?;
        let (key, next) = key.get(1..)?.split_at_checked(length)?;
        keys.push(Key::from(key));
        rest = next;
    }
    (!keys.is_empty()).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Option<Vec<Key>> {
        keys(&Value::BulkString(message.to_vec()))
    }

    #[test]
    fn a_message_holds_keys_of_any_bytes() {
        let expected: [Key; 3] = ["a".into(), "1:b".into(), b"\x00\xff:".into()];
        assert_eq!(read(b"1:a3:1:b3:\x00\xff:").unwrap(), expected);
    }

    #[test]
    fn a_message_that_holds_none_stands_for_any() {
        for message in [b"".as_slice(), b"a", b"1:", b":a", b"2:a", b"-1:a", b"1:a9"] {
            assert_eq!(read(message), None);
        }
        assert!(keys(&Value::Nil).is_none());
    }
}
