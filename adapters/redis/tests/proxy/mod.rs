//! A server between a store and its server, which counts round trips and cuts connections at a
//! moment of the test's choice.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the next connection that is used is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    Never,
    /// The server does not get what the client sends, or only when it is delivered late.
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
    /// What servers did not get, with the connections on which they would.
    late: Mutex<Vec<(TcpStream, Vec<u8>)>>,
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

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts the next connection that is used, once.
    pub(crate) fn cut(&self, cut: Cut) {
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether what [`cut`](Self::cut) asked for is still to come.
    pub(crate) fn is_to_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst) != Cut::Never as u8
    }

    /// Gives servers what was kept from them, and returns when they have done with it.
    pub(crate) async fn deliver(&self) {
        let late = std::mem::take(&mut *self.shared.late.lock().unwrap());
        assert!(!late.is_empty(), "there is something to deliver");
        for (mut server, bytes) in late {
            // Where the server has closed it, either of these fails or gives nothing.
            let _ = server.write_all(&bytes).await;
            let _ = server.shutdown().await;
            let _ = server.read_to_end(&mut Vec::new()).await;
        }
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
                if shared.cuts(Cut::BeforeTheServer) {
                    let bytes = asked[..count.unwrap()].to_vec();
                    let server = from_server.reunite(to_server).unwrap();
                    shared.late.lock().unwrap().push((server, bytes));
                    return close(from_client, to_client);
                }
                if !on(count, &asked, &mut to_server).await {
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
    close(from_client, to_client);
    close(from_server, to_server);
}

async fn on(count: std::io::Result<usize>, bytes: &[u8], to: &mut OwnedWriteHalf) -> bool {
    match count {
        Ok(count) if count > 0 => to.write_all(&bytes[..count]).await.is_ok(),
        _ => false,
    }
}

/// Closes both directions.
fn close(read: OwnedReadHalf, write: OwnedWriteHalf) {
    drop(read.reunite(write));
}
