//! kvjob on PostgreSQL.

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
