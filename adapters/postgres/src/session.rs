//! Connections: how one is made, what is prepared on it, and how it is replaced when it is lost.
//! What is asked over it is said elsewhere.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use kvjob::kv::{Durability, Error, ErrorKind, Result};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::{Client, Config, Connection, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::schema::Table;
use crate::{commit, error, read};

/// How long the first pause is before connecting again; each further one is twice as long.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

/// The server, and how it is reached.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// For messages: hosts, database and user, and no password.
    pub(crate) address: String,
    /// How long an answer may take, and how long the server is looked for.
    pub(crate) timeout: Duration,
    pub(crate) durability: Durability,
}

impl Server {
    /// A new connection, whose other half the caller must poll, and the statements that are to be
    /// run on it before anything else.
    pub(crate) async fn connect(
        &self,
        deadline: Instant,
    ) -> Result<(Client, Connection<Socket, Stream>)> {
        match timeout_at(deadline, self.config.connect(self.tls.clone())).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(failed)) => Err(error::connecting(&self.address, &failed)),
            Err(_) => Err(self.no_answer("connect to it")),
        }
    }

    /// What makes a connection fit for the store, whatever server, database and user are set to.
    ///
    /// Each statement of a commit must see what was committed before it; scans and look-ups
    /// must go by the index however few rows there were when the planner last looked; and a
    /// statement that waits too long must end on the server before its caller gives up, for then
    /// it is known that nothing was applied.
    pub(crate) fn setup(&self) -> String {
        let millis = |part: u32| (self.timeout * part / 10).as_millis().max(1);
        let durable = match self.durability {
            // A stronger one than `on` stays.
            Durability::Immediate => {
                "SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'"
            }
            _ => "SET synchronous_commit = off",
        };
        format!(
            "SET default_transaction_isolation = 'read committed'; \
             SET statement_timeout = {}; SET lock_timeout = {}; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
             SET enable_bitmapscan = off; SET jit = off; {durable}",
            millis(8),
            millis(5),
        )
    }

    /// The error of an answer that did not come.
    pub(crate) fn no_answer(&self, attempt: &str) -> Error {
        let message = format!(
            "PostgreSQL at {} gave no answer within {:?}, asked to {attempt}",
            self.address, self.timeout
        );
        Error::new(ErrorKind::Transient, message)
    }
}

/// A connection in use.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    _connection: Task,
}

/// What is asked again and again.
pub(crate) struct Statements {
    pub(crate) get: Statement,
    pub(crate) commit: Statement,
    /// By direction, forward first, and with values first in each.
    pub(crate) scans: [[Statement; 2]; 2],
}

impl Session {
    async fn open(server: &Server, table: &Table, deadline: Instant) -> Result<Arc<Self>> {
        let (client, connection) = server.connect(deadline).await?;
        let connection = Task::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to PostgreSQL was lost: {error}");
            }
        });
        let prepare = async {
            let sql = [
                read::get(table),
                commit::sql(&table.commit),
                read::scan(table, false, false),
                read::scan(table, false, true),
                read::scan(table, true, false),
                read::scan(table, true, true),
            ];
            // All in one trip.
            let prepared = try_join_all(sql.iter().map(|sql| client.prepare(sql)));
            let setup = server.setup();
            let ((), prepared) = tokio::try_join!(client.batch_execute(&setup), prepared)?;
            Ok::<_, tokio_postgres::Error>(prepared)
        };
        let prepared = match timeout_at(deadline, prepare).await {
            Ok(prepared) => prepared.map_err(|failed| error::opening("get ready", &failed))?,
            Err(_) => return Err(server.no_answer("prepare statements")),
        };
        let prepared = <[Statement; 6]>::try_from(prepared);
        let [get, commit, forward, forward_keys, reverse, reverse_keys] =
            prepared.map_err(|_| Error::new(ErrorKind::Backend, "statements went astray"))?;
        Ok(Arc::new(Self {
            client,
            statements: Statements {
                get,
                commit,
                scans: [[forward, forward_keys], [reverse, reverse_keys]],
            },
            _connection: connection,
        }))
    }
}

/// A place for a session, made anew when it is lost.
pub(crate) struct Link {
    server: Arc<Server>,
    table: Arc<Table>,
    session: Mutex<Option<Arc<Session>>>,
}

impl Link {
    pub(crate) fn new(server: Arc<Server>, table: Arc<Table>) -> Self {
        Self {
            server,
            table,
            session: Mutex::default(),
        }
    }

    /// The session, connected within this time.
    pub(crate) async fn session(&self, deadline: Instant) -> Result<Arc<Session>> {
        let Ok(mut place) = timeout_at(deadline, self.session.lock()).await else {
            return Err(self.server.no_answer("connect to it"));
        };
        if let Some(session) = place.as_ref().filter(|it| !it.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        *place = None;
        let mut pause = FIRST_PAUSE;
        loop {
            match Session::open(&self.server, &self.table, deadline).await {
                Ok(session) => {
                    *place = Some(Arc::clone(&session));
                    return Ok(session);
                }
                Err(error) if error::passes(&error) && Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go of a session that is of no more use.
    pub(crate) async fn give_up(&self, session: &Arc<Session>) {
        let mut place = self.session.lock().await;
        if place.as_ref().is_some_and(|it| Arc::ptr_eq(it, session)) {
            *place = None;
        }
    }

    /// Lets go of the session, whichever it is.
    pub(crate) async fn close(&self) {
        *self.session.lock().await = None;
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
