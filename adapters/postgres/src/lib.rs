//! kvjob on [PostgreSQL](https://www.postgresql.org) (13 or newer): a durable store for several
//! processes, in a table of its own, in a database that may hold your tables, too. Here are opening
//! and options.
//!
//! ```no_run
//! # async fn greet() -> kvjob::kv::Result<()> {
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_postgres::open("postgres://ada:secret@localhost/shop").await?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! | [`Durability`] | PostgreSQL's `synchronous_commit` | an acknowledged change survives |
//! |---|---|---|
//! | `Immediate` (default) | `on`, or a stronger one that the server or the user is set to | a crash of the server and of its machine, and power loss, as long as the server's `fsync` is on |
//! | `Interval(d)` | `off`, and a sync when it is due | the loss of this process; a crash of the *server* may lose the changes of the last `d`, those that were acknowledged included |
//! | `Memory` | `off` | the same, up to what the server's WAL writer left behind (three times `wal_writer_delay`, 0.6 s by default) |
//!
//! In every mode a commit is there as a whole or not at all. Whether it survives the loss of the
//! machine for good is for replication: with `synchronous_standby_names` set, `Immediate` waits for
//! the standby.
//!
//! A commit is one round trip, and one transaction. Commits that wait for each other in this
//! process go together, so throughput grows with the number of callers; and each is answered for
//! itself. Conditions hold against every other process: rows are locked and then compared, in the
//! order of their keys. A page of a scan, and what `get_many` finds, is of one moment.
//!
//! Watchers in other processes hear of a put some milliseconds after it. A process tells the others
//! beside the commits, many at once where there are many, and of very many keys by their prefixes.
//!
//! While the server is away calls wait for it, ten seconds [by default](Options::timeout), and the
//! store comes back by itself. Reads are tried again. A commit whose answer was lost is
//! [`Unknown`](ErrorKind::Unknown), and is not; after a *time-out* it may still be carried out
//! later, by a server that stood still.
//!
//! # Together with your own tables
//!
//! A job can be stored in a transaction that you opened on a connection of your own, so that an
//! order and the job that mails it are both there, or neither is:
//!
//! ```no_run
//! # async fn order() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use kvjob::job::{KvStore, NewJob, Options};
//! use kvjob_postgres::tokio_postgres::{NoTls, connect};
//!
//! let url = "postgres://ada:secret@localhost/shop";
//! let store = Arc::new(kvjob_postgres::open(url).await?);
//! let jobs = KvStore::open(store.clone(), Options::default()).await?;
//! let (mut shop, connection) = connect(url, NoTls).await?;
//! tokio::spawn(connection);
//!
//! let transaction = shop.transaction().await?;
//! transaction.execute("INSERT INTO orders (id, what) VALUES (7, 'a book')", &[]).await?;
//! let mut within = store.within(&transaction);
//! let (_, receipt) = jobs.enqueue_within_async(&mut within, NewJob::new("mail", "ada")?).await?;
//! transaction.commit().await?;
//! // Wakes workers that wait, here and in other processes.
//! receipt.committed().await;
//! # Ok(()) }
//! ```
//!
//! # In the database
//!
//! [`open`] makes a table, `kvjob` unless [told otherwise](Options::table), and a function,
//! `kvjob_commit_1`, in the same schema, and uses nothing else. The user needs `CREATE` on the
//! schema the first time, and then `SELECT, INSERT, UPDATE, DELETE` on the table and `EXECUTE` on
//! the function. A store takes five connections.
//!
//! Rows of a queue are rewritten and removed all the time, so the table is made with room in each
//! page (`fillfactor = 80`: most rewrites then touch no index) and is vacuumed when 2 % of it and
//! 2,000 rows are dead. Change that by `ALTER TABLE ... SET (...)`. A transaction that stays open
//! for long, anybody's, keeps vacuum from clearing away, and claims become slow:
//! [`health`](kvjob::kv::Store::health) warns of one.
//!
//! # What is not
//!
//! - Poolers in transaction or statement mode (pgbouncer and the like) cannot stand in between:
//!   statements are prepared, and settings made, for a session.
//! - Nothing else may write to the table but this crate. Reading it is harmless.
//! - TLS is used where the server has it (`sslmode=prefer`), and then always checks the server's
//!   certificate and name, unlike libpq. For a certificate that the system does not know, name its
//!   authority ([`ca_file`](Options::ca_file)), or say `sslmode=disable`.
//! - Of two commits which each *remove*, without a condition, a key that is not there and that the
//!   other one puts, also without a condition, both puts may stay.
//! - The crate builds ring, for TLS, and needs a C compiler for it.

mod address;
mod commit;
mod error;
mod health;
mod read;
mod schema;
mod session;
mod store;
mod transaction;
mod watch;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kvjob::kv::{self, Durability, ErrorKind, Limits, Result};

use address::Address;
use schema::Name;
use session::Server;

pub use store::Postgres;
/// The tokio-postgres this was built with, for [`Postgres::within`].
pub use tokio_postgres;
pub use transaction::Transaction;

/// The largest things a store takes. A key must fit into an entry of the index.
pub const LIMITS: Limits = Limits {
    key_bytes: 2688,
    value_bytes: 16 << 20,
    commit_bytes: 16 << 20,
    commit_changes: 16 << 10,
};

/// Opens the store of this database, durable at once, and makes its table if it is not there. See
/// [`Options`] for more.
///
/// # Errors
/// As [`Options::open`].
pub async fn open(url: &str) -> Result<Postgres> {
    Options::new().open(url).await
}

/// How a store is opened.
///
/// ```no_run
/// # async fn shop() -> kvjob::kv::Result<()> {
/// let store = kvjob_postgres::Options::new()
///     .table("jobs.kvjob")
///     .ca_file("/etc/ssl/company.pem")
///     .open("postgres://ada:secret@db.example/shop?sslmode=require")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Options {
    durability: Durability,
    table: String,
    timeout: Duration,
    password: Option<String>,
    ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Immediate,
            table: "kvjob".to_owned(),
            timeout: Duration::from_secs(10),
            password: None,
            ca_file: None,
        }
    }
}

impl Options {
    /// Durable at once, in the table `kvjob`, with a time-out of 10 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// When an acknowledged change is on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The store's table, `TABLE` or `SCHEMA.TABLE`; without a schema it is looked for in the
    /// user's `search_path`, and made in the first schema of it.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// How long the server is looked for while it is away, and how long an answer may take. At
    /// half of it a commit that waits for the lock of another transaction ends, as
    /// [`Conflict`](ErrorKind::Conflict). At least 10 ms.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(10));
        self
    }

    /// The password, where it should not stand in a URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// A PEM file with the certificates to trust instead of the system's, as `sslrootcert` in a
    /// URL.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Opens the store of this database, and makes its table and function if they are not there.
    ///
    /// The URL is libpq's, `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`.
    ///
    /// # Errors
    /// [`Transient`](ErrorKind::Transient) if the server cannot be reached, is starting, or has no
    /// connection left; [`Backend`](ErrorKind::Backend) if it refuses the user, the password, the
    /// database or a right, or its certificate is not to be trusted;
    /// [`Unsupported`](ErrorKind::Unsupported) for a URL or option that cannot be read, a server
    /// that is too old or only reads, and a table of that name that is another program's, which is
    /// left as it is. Each says where and what to do, and none has the password.
    pub async fn open(&self, url: &str) -> Result<Postgres> {
        let name = Name::parse(&self.table)?;
        let Address {
            mut config,
            mut files,
        } = Address::parse(url)?;
        if let Some(password) = &self.password {
            config.password(password);
        }
        if let Some(path) = &self.ca_file {
            files.ca = Some(path.clone());
        }
        address::complete(&mut config, self.timeout);
        let reading = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || address::tls(&config, &files))
        };
        let tls = reading.await.map_err(|failed| {
            let message = format!("cannot read certificates: {failed}");
            kv::Error::new(ErrorKind::Backend, message)
        })??;
        let server = Server {
            address: address::printed(&config),
            config,
            tls,
            timeout: self.timeout,
            durability: self.durability,
        };
        Postgres::open(server, &name).await
    }
}

/// Without the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("durability", &self.durability)
            .field("table", &self.table)
            .field("timeout", &self.timeout)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}
