//! A server between a store and its server, which counts round trips and cuts connections at a
//! moment of the test's choice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the connection on which something is asked for is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// The server does not get what the client sends.
    BeforeTheServer,
    /// The client does not get what the server answers.
    BeforeTheClient,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    cut: Mutex<Option<(Cut, &'static str)>>,
    trips: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        let accepts = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&all)));
            }
        });
        Self {
            port: own,
            shared,
            accepts,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the next connection on which the client names `key`, once. (What is told to other
    /// processes, on a connection of its own, names keys in another form.)
    pub(crate) fn cut(&self, cut: Cut, key: &'static str) {
        *self.shared.cut.lock().unwrap() = Some((cut, key));
    }

    /// Whether what [`cut`](Self::cut) asked for is still to come.
    pub(crate) fn is_to_cut(&self) -> bool {
        self.shared.cut.lock().unwrap().is_some()
    }

    /// How often a client has sent something after it was answered, so far.
    pub(crate) fn trips(&self) -> usize {
        self.shared.trips.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl Shared {
    /// How the connection is cut on which this is asked for.
    fn cut_of(&self, asked: &[u8]) -> Option<Cut> {
        let names = |key: &str| asked.windows(key.len()).any(|it| it == key.as_bytes());
        let mut cut = self.cut.lock().unwrap();
        cut.take_if(|(_, key)| names(key)).map(|(cut, _)| cut)
    }
}

/// Passes everything on until one side closes, or the connection is cut.
async fn pass(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut answered = true;
    let mut cut = None;
    let (mut asked, mut told) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            count = from_client.read(&mut asked) => {
                if answered {
                    shared.trips.fetch_add(1, Ordering::SeqCst);
                }
                answered = false;
                let bytes = count.as_ref().map_or(&[][..], |count| &asked[..*count]);
                cut = cut.or_else(|| shared.cut_of(bytes));
                if matches!(cut, Some(Cut::BeforeTheServer))
                    || !on(count, &asked, &mut to_server).await
                {
                    break;
                }
            }
            count = from_server.read(&mut told) => {
                answered = true;
                if cut.is_some() || !on(count, &told, &mut to_client).await {
                    break;
                }
            }
        }
    }
    reunite(from_client, to_client);
    reunite(from_server, to_server);
}

async fn on(count: std::io::Result<usize>, bytes: &[u8], to: &mut OwnedWriteHalf) -> bool {
    match count {
        Ok(count) if count > 0 => to.write_all(&bytes[..count]).await.is_ok(),
        _ => false,
    }
}

/// Closes both directions.
fn reunite(read: OwnedReadHalf, write: OwnedWriteHalf) {
    drop(read.reunite(write));
}
