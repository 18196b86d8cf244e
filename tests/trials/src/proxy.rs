//! A server between a store and its server, which counts round trips, cuts connections at a moment
//! of the test's choice, and delivers late what was kept back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the connection on which something is asked for is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The server does not get what the client sends, or only when it is
    /// [delivered](Proxy::deliver) late.
    BeforeTheServer,
    /// The client does not get what the server answers.
    BeforeTheClient,
}

/// A server through which one other server is reached.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    cut: Mutex<Option<(Cut, String)>>,
    trips: AtomicUsize,
    /// What servers did not get, with the connections on which they would.
    late: Mutex<Vec<(TcpStream, Vec<u8>)>>,
}

impl Proxy {
    /// One before the server on this port of the loopback interface.
    pub async fn to(port: u16) -> Self {
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

    /// The port on which it is reached itself.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the next connection on which the client names `key`, once: not one that is made or used
    /// for something else meanwhile.
    pub fn cut(&self, cut: Cut, key: &str) {
        *self.shared.cut.lock().unwrap() = Some((cut, key.to_owned()));
    }

    /// Whether what [`cut`](Self::cut) asked for is still to come.
    pub fn is_to_cut(&self) -> bool {
        self.shared.cut.lock().unwrap().is_some()
    }

    /// Gives servers what was kept from them, and returns when they have done with it.
    pub async fn deliver(&self) {
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
    pub fn trips(&self) -> usize {
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
                if matches!(cut, Some(Cut::BeforeTheServer)) {
                    let server = from_server.reunite(to_server).unwrap();
                    shared.late.lock().unwrap().push((server, bytes.to_vec()));
                    return close(from_client, to_client);
                }
                if !on(count, &asked, &mut to_server).await {
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
