//! Telling watchers, here and in other processes, what was put: by `NOTIFY`, beside the commits.
//!
//! A `NOTIFY` inside a commit would make all commits of a database wait for each other, so it goes
//! over a connection of its own, after them. A short silence follows each message, the longer the
//! more it told: what is put meanwhile is told together. Keys that do not fit into one message are
//! cut to prefixes that stand for them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::kv::{Event, Hub, Key, Result, Watcher};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket, Statement};
use tokio_util::sync::CancellationToken;

use crate::error;
use crate::session::{FIRST_PAUSE, LAST_PAUSE, Server, Stream};

/// How long a process keeps silent after it told the others something: at least, more for each key,
/// and at most. A few jobs are to be heard of in a moment, many must not cost a message each.
const SHORTEST_SILENCE: Duration = Duration::from_millis(1);
const SILENCE_A_KEY: Duration = Duration::from_micros(250);
const LONGEST_SILENCE: Duration = Duration::from_millis(10);
/// Bytes of a message: PostgreSQL takes less than 8,000.
const MOST_BYTES: usize = 7900;
/// Keys that wait to be told; beyond it everything is said to have changed.
const MOST_WAITING: usize = 4096;

/// What writers ring when they have put something.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// The watchers of this process. The empty key tells them that something was lost.
    hub: Hub,
    waiting: Mutex<BTreeSet<Key>>,
    rung: Notify,
}

impl Bell {
    /// Tells everybody that these keys were put. Never blocks.
    pub(crate) fn put(&self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        self.wait(keys.iter().cloned());
        self.hub.announce(keys);
    }

    fn wait(&self, keys: impl IntoIterator<Item = Key>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(keys);
        if waiting.len() > MOST_WAITING {
            waiting.clear();
            waiting.insert(Key::EMPTY);
        }
        drop(waiting);
        self.rung.notify_one();
    }

    fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the watchers of this process what others put.
    fn heard(&self, message: &str) {
        self.hub.announce(decode(message));
    }

    fn lagged(&self) {
        self.hub.announce([Key::EMPTY]);
    }

    pub(crate) fn watch(&self, prefix: &Key) -> Watcher {
        let prefix = prefix.clone();
        let events = self.hub.subscribe(&Key::EMPTY);
        let heard = events.filter_map(move |event| {
            let event = match event {
                Event::Changed(key) if key.is_empty() => Some(Event::Lagged),
                // It may stand for keys under the prefix, too.
                Event::Changed(key) if !key.starts_with(&prefix) && !prefix.starts_with(&key) => {
                    None
                }
                event => Some(event),
            };
            std::future::ready(event)
        });
        heard.boxed()
    }
}

/// The connection that tells and listens.
pub(crate) struct Line {
    server: Arc<Server>,
    channel: String,
    bell: Arc<Bell>,
    /// Asks it to say what is still to be said, and to end.
    ended: CancellationToken,
}

/// One connection of it.
struct Connected {
    client: Client,
    notify: Statement,
    /// Ends when the connection is lost.
    listening: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// How long to keep silent after so many keys.
fn silence_after(keys: usize) -> Duration {
    let keys = u32::try_from(keys).unwrap_or(u32::MAX);
    let silence = SHORTEST_SILENCE.saturating_add(SILENCE_A_KEY.saturating_mul(keys));
    silence.min(LONGEST_SILENCE)
}

/// How a connection came to its end.
enum End {
    Lost,
    Asked,
}

impl Line {
    /// Connects, and goes on in the background until it is asked to end.
    pub(crate) async fn open(
        server: Arc<Server>,
        channel: String,
        bell: Arc<Bell>,
        ended: CancellationToken,
    ) -> Result<JoinHandle<()>> {
        let line = Self {
            server,
            channel,
            bell,
            ended,
        };
        let connected = line.connect().await?;
        Ok(tokio::spawn(line.run(connected)))
    }

    async fn run(self, mut connected: Connected) {
        loop {
            match self.serve(&mut connected).await {
                End::Asked => return,
                End::Lost => {}
            }
            drop(connected);
            let again = tokio::select! {
                again = self.connect_again() => again,
                () = self.ended.cancelled() => return,
            };
            connected = again;
            // What others put meanwhile went past.
            self.bell.lagged();
        }
    }

    /// Tells the others, until the connection is lost.
    async fn serve(&self, connected: &mut Connected) -> End {
        loop {
            let asked = tokio::select! {
                () = self.bell.rung.notified() => false,
                () = self.ended.cancelled() => true,
                _ = &mut connected.listening => return End::Lost,
            };
            let waiting = self.bell.take();
            let silence = silence_after(waiting.len());
            if !waiting.is_empty() {
                let told = self.tell(connected, &waiting).await;
                if told.is_err() && !asked {
                    self.bell.wait(waiting);
                    return End::Lost;
                }
            }
            if asked {
                return End::Asked;
            }
            tokio::select! {
                () = sleep(silence) => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    async fn tell(&self, connected: &Connected, keys: &BTreeSet<Key>) -> Result<(), ()> {
        let message = encode(keys);
        let arguments: [&(dyn ToSql + Sync); 2] = [&self.channel, &message];
        let tell = connected.client.execute(&connected.notify, &arguments);
        match timeout(self.server.timeout, tell).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failed)) => {
                tracing::debug!("could not tell of changes: {}", error::writing(&failed));
                Err(())
            }
            Err(_) => Err(()),
        }
    }

    async fn connect(&self) -> Result<Connected> {
        let deadline = Instant::now() + self.server.timeout;
        let (client, connection) = self.server.connect(deadline).await?;
        let (tells, mut knows) = oneshot::channel();
        let bell = Arc::clone(&self.bell);
        let listening = tokio::spawn(async move { listen(connection, &mut knows, &bell).await });
        let listen = async {
            // Nobody loses a job where a message does not survive a crash.
            let setup = format!("SET synchronous_commit = off; LISTEN {}", self.channel);
            client.batch_execute(&setup).await?;
            let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
            let notify = client.prepare("SELECT pg_notify($1, $2)").await?;
            Ok::<_, tokio_postgres::Error>((row.try_get::<_, i32>(0)?, notify))
        };
        let failed = match timeout_at(deadline, listen).await {
            Ok(Ok((process, notify))) => {
                // What it said itself it need not hear.
                let _ = tells.send(process);
                return Ok(Connected {
                    client,
                    notify,
                    listening,
                });
            }
            Ok(Err(failed)) => error::opening("listen for changes", &failed),
            Err(_) => self.server.no_answer("listen for changes"),
        };
        listening.abort();
        Err(failed)
    }

    async fn connect_again(&self) -> Connected {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect().await {
                Ok(connected) => return connected,
                Err(error) => {
                    tracing::debug!("watchers hear nothing of others for now: {error}");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }
}

/// Moves a connection on and passes on what is heard, until it is lost.
async fn listen(
    mut connection: Connection<Socket, Stream>,
    knows: &mut oneshot::Receiver<i32>,
    bell: &Bell,
) {
    let mut own = None;
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(heard) = message {
            own = own.or_else(|| knows.try_recv().ok());
            if own != Some(heard.process_id()) {
                bell.heard(heard.payload());
            }
        }
    }
}

/// These keys in one message: as they are if they fit, else cut to prefixes; the empty message
/// says that anything may have changed.
fn encode(keys: &BTreeSet<Key>) -> String {
    for length in [usize::MAX, 64, 48, 32, 24, 16, 12, 8, 4, 2, 1] {
        let mut cut: Vec<&[u8]> = Vec::new();
        for key in keys {
            let key = key.as_bytes();
            let key = key.get(..length).unwrap_or(key);
            // In their order, a key comes right behind what it begins with.
            if !cut
                .last()
                .is_some_and(|last| key.starts_with(last) && length != usize::MAX)
            {
                cut.push(key);
            }
        }
        let bytes: usize = cut.iter().map(|key| key.len() * 2 + 1).sum();
        if bytes <= MOST_BYTES {
            let mut message = String::with_capacity(bytes);
            for (place, key) in cut.iter().enumerate() {
                if place > 0 {
                    message.push(',');
                }
                for byte in *key {
                    // Writing to a string cannot fail.
                    let _ = write!(message, "{byte:02x}");
                }
            }
            return message;
        }
    }
    String::new()
}

/// The keys of a message. What cannot be read may mean anything.
fn decode(message: &str) -> Vec<Key> {
    let key = |text: &str| -> Option<Key> {
        let mut digits = text.chars().map(|c| c.to_digit(16));
        let mut bytes = Vec::with_capacity(text.len() / 2);
        while let Some(high) = digits.next() {
            let byte = high? * 16 + digits.next()??;
            bytes.push(u8::try_from(byte).ok()?);
        }
        Some(bytes.into())
    };
    let keys: Option<Vec<Key>> = message.split(',').map(key).collect();
    keys.unwrap_or_else(|| vec![Key::EMPTY])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: impl IntoIterator<Item = Key>) -> BTreeSet<Key> {
        keys.into_iter().collect()
    }

    #[test]
    fn a_few_keys_are_told_as_they_are() {
        let keys = set(["a", "a/1", "b\0\u{7f}"].map(Key::from));
        assert_eq!(set(decode(&encode(&keys))), keys);
    }

    #[test]
    fn many_keys_are_told_by_prefixes_that_stand_for_all_of_them() {
        for (count, length) in [(100, 300), (5000, 20), (60_000, 7)] {
            let keys = set((0..count).map(|n| {
                let mut key = format!("{n:05}").into_bytes();
                key.resize(length, b'x');
                Key::from(key)
            }));
            let message = encode(&keys);
            assert!(message.len() <= MOST_BYTES);
            let told = decode(&message);
            let stands = |key: &Key| told.iter().any(|it| key.starts_with(it));
            assert!(keys.iter().all(stands), "{count} of {length}");
            assert!(told.len() > 1, "{count} of {length}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_mean_anything() {
        for message in ["", "x", "0", "00,", "00g0", "é"] {
            assert!(decode(message).contains(&Key::EMPTY), "{message}");
        }
    }
}
