//! kvjob on [Redis](https://redis.io) (7.0 or newer) and [Valkey](https://valkey.io): one store
//! for many processes on many machines. Here are opening and options.
//!
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_redis::open("redis://localhost:6379").await?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! # The URL
//!
//! | URL | server |
//! |---|---|
//! | `redis://[user:password@]host[:port][/database]` | Redis or Valkey; `valkey://` is the same |
//! | `rediss://...` | the same over TLS; `valkeys://` is the same |
//! | `redis://host1,host2:port,...` | several that stand for each other: nodes of a cluster, or a primary and its replicas, of which the primary is found |
//! | `redis+unix://[user:password@]/path` | a socket of this machine |
//!
//! Of a cluster one node is enough to find the others. What is not a letter or a digit in a
//! password is percent-encoded.
//!
//! # What is promised
//!
//! How durable a change is once it was acknowledged is the server's to say, and chosen in its
//! configuration, not here; [`health`](kvjob::kv::Store::health) warns of what a user would not
//! expect.
//!
//! | the server's `appendonly`, `appendfsync` | an acknowledged change survives |
//! |---|---|
//! | `yes`, `always` | `kill -9` of the server, a crash of its machine and power loss |
//! | `yes`, `everysec` | `kill -9` of the server; a crash of its machine may take the last second or two |
//! | `yes`, `no` | `kill -9` of the server; a crash of its machine may take half a minute |
//! | `no` | nothing: a restart brings back the last snapshot, if there is one |
//!
//! A commit is one script in one round trip. It is there as a whole or not at all, for other
//! clients and after a crash: Redis writes what a script did to its file as one transaction, and
//! ignores one whose end is missing. All of a page is read at one time.
//!
//! Calls wait for a server that is away, [10 s](Options::timeout) at most, and the store finds it
//! again by itself. Reads, and what was surely not done, are tried again; a write that was sent and
//! not answered is [`Unknown`](ErrorKind::Unknown), and by the time the store answers the next call
//! it was done or never will be, unless the server is another one by then.
//!
//! [`watch`](kvjob::kv::Store::watch) hears of puts of every process at once. After a gap it says
//! [`Lagged`](kvjob::kv::Event::Lagged).
//!
//! # What is not
//!
//! - **A failover may take acknowledged changes with it.** Redis answers before its replicas have a
//!   change. The server's `min-replicas-to-write` makes that rarer, and nothing rules it out.
//! - All keys of a namespace are on one node of a cluster, and in the memory of that node: a
//!   namespace does not grow by adding nodes.
//! - While a slot of a cluster is moved calls for its namespace wait, until they give up as
//!   [`Transient`](ErrorKind::Transient).
//! - Everything is in the server's memory, keys twice. When that is full puts are refused as
//!   [`TooLarge`](ErrorKind::TooLarge), and what only removes still works. The server must not make
//!   room by itself (`maxmemory-policy noeviction`, the default).
//! - Sentinels are not asked.
//!
//! # In the server
//!
//! A namespace is two keys and a channel: `{kvjob}:index`, a sorted set in which every score is 0,
//! `{kvjob}:values`, a hash, and `{kvjob}:changed`. Nothing else is touched. A user needs
//! `+@connection +@read +@write +@scripting +ssubscribe +spublish +info +cluster|nodes
//! +cluster|info +config|get ~{kvjob}:* &{kvjob}:*`; without `config|get` health knows less.
//!
//! The crate builds [ring](https://docs.rs/ring) for TLS, which needs a C compiler.

mod address;
mod client;
mod connection;
mod error;
mod health;
mod info;
mod scripts;
mod store;
mod tls;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Limits, Result};

pub use store::Redis;

use address::Address;
use client::Client;
use connection::Dialer;
use scripts::Names;

/// The largest things it takes. While a script runs the server serves nobody else, so they are
/// much smaller than what Redis itself would take.
pub const LIMITS: Limits = Limits {
    key_bytes: 64 << 10,
    value_bytes: 16 << 20,
    commit_bytes: 16 << 20,
    commit_changes: 4 << 10,
};

/// Opens the store in the server of this URL, under the namespace `kvjob`. See [`Options`] for
/// more.
///
/// # Errors
/// As [`Options::open`].
pub async fn open(url: &str) -> Result<Redis> {
    Options::new().open(url).await
}

/// How a store is opened.
///
/// ```no_run
/// # async fn open() -> kvjob::kv::Result<()> {
/// use std::time::Duration;
///
/// let store = kvjob_redis::Options::new()
///     .namespace("shop")
///     .timeout(Duration::from_secs(30))
///     .ca_file("/etc/shop/redis-ca.pem")
///     .open("rediss://ada:secret@redis.example:6380")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    namespace: String,
    timeout: Duration,
    tls: tls::Files,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: "kvjob".to_owned(),
            timeout: Duration::from_secs(10),
            tls: tls::Files::default(),
        }
    }
}

impl Options {
    /// The namespace `kvjob`, a time-out of 10 s, and the system's certificates.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the names of the store's keys in the server begin with. Stores of different namespaces
    /// share a server and do not see each other.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long a call may take in all: looking for the server, waiting for its answer, and trying
    /// again where that is safe.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A file, in PEM, of those who vouch for the server of a `rediss:` URL, instead of those the
    /// system trusts.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// Files, in PEM, of the certificate and its key that we show to the server of a `rediss:`
    /// URL.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// Connects, looks at what is there, and opens the store.
    ///
    /// # Errors
    /// [`Transient`](ErrorKind::Transient) where the server cannot be reached, or is not ready;
    /// [`Backend`](ErrorKind::Backend) where one may not log in or use it;
    /// [`Unsupported`](ErrorKind::Unsupported) for a URL or an option that is none, a server older
    /// than Redis 7.0, or a namespace under which something else is, which is left as it is;
    /// [`Corrupt`](ErrorKind::Corrupt) where a part of the store is missing. Each at once, with
    /// the address and what to do.
    pub async fn open(&self, url: &str) -> Result<Redis> {
        let address = Address::parse(url)?;
        if self.namespace.is_empty()
            || self.namespace.len() > 128
            || self.namespace.contains(['{', '}'])
        {
            let message = format!(
                "cannot use {:?} as a namespace in Redis: it must have 1 to 128 bytes, without {{ \
                 and }}",
                self.namespace
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let tls = if address.tls {
            let files = self.tls.clone();
            let read = tokio::task::spawn_blocking(move || files.read()).await;
            Some(read.map_err(|source| {
                let message = format!("cannot read certificates: {source}");
                Error::new(ErrorKind::Backend, message).with_source(source)
            })??)
        } else {
            None
        };
        let dialer = Dialer {
            address,
            tls,
            // So that there is time for another node, or another attempt.
            patience: self.timeout / 3,
        };
        let names = Names::new(&self.namespace);
        let client = Client::open(dialer, names, self.timeout).await?;
        health::check(&client).await?;
        Ok(Redis::new(client))
    }
}
