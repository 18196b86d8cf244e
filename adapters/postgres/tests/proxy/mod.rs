//! A server between a store and its server, which counts round trips and cuts connections at a
//! moment of the test's choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the next connection that is used is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    Never,
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
    cut: AtomicU8,
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

    /// Cuts the next connection that is used, once.
    pub(crate) fn cut(&self, cut: Cut) {
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether what [`cut`](Self::cut) asked for is still to come.
    pub(crate) fn is_to_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst) != Cut::Never as u8
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
    fn cuts(&self, cut: Cut) -> bool {
        let (now, never) = (cut as u8, Cut::Never as u8);
        let cut = &self.cut;
        cut.compare_exchange(now, never, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// Passes everything on until one side closes, or the connection is cut.
async fn pass(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut answered = true;
    let (mut asked, mut told) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            count = from_client.read(&mut asked) => {
                if answered {
                    shared.trips.fetch_add(1, Ordering::SeqCst);
                }
                answered = false;
                if shared.cuts(Cut::BeforeTheServer) || !on(count, &asked, &mut to_server).await {
                    break;
                }
            }
            count = from_server.read(&mut told) => {
                answered = true;
                if shared.cuts(Cut::BeforeTheClient) || !on(count, &told, &mut to_client).await {
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
