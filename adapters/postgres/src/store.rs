//! The store: which connection answers what, what is tried again, and where it ends.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use kvjob::kv::{
    Atomic, Change, Error, ErrorKind, Health, Key, Limits, Object, Ownership, Page, Result, Scan,
    Store, Watch, Watcher, check_commit,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::schema::{Name, Table};
use crate::session::{FIRST_PAUSE, LAST_PAUSE, Link, Server, Session};
use crate::transaction::Transaction;
use crate::watch::{Bell, Line};
use crate::writer::{Commit, Queue, Writer};
use crate::{LIMITS, error, health, read, schema};

/// Connections for reads: a long page on one does not hold up the other.
const READERS: usize = 2;
/// Connections for commits, a task each.
const WRITERS: usize = 2;
/// Callers whose commits wait; beyond it they wait to send them.
const MOST_WAITING: usize = 1024;
/// Objects that [`Store::delete`] removes in one transaction.
const PIECE: i64 = 2000;
/// The oldest server that is known to do: older ones are maintained by nobody.
const OLDEST: i32 = 13;

/// A store in a table of a PostgreSQL database, which [`open`](crate::open) opens.
///
/// It lives on the Tokio runtime it was opened on. Dropping it finishes the commits that were
/// sent, in the background; [`stop`](Store::stop) waits for them.
pub struct Postgres {
    server: Arc<Server>,
    table: Arc<Table>,
    readers: [Link; READERS],
    next: AtomicUsize,
    open: RwLock<Option<Open>>,
}

/// What ends with [`Store::stop`].
struct Open {
    queue: mpsc::Sender<Vec<Commit>>,
    bell: Arc<Bell>,
    writers: Vec<JoinHandle<()>>,
    line: JoinHandle<()>,
    ended: DropGuard,
}

impl Postgres {
    pub(crate) async fn open(server: Server, name: &Name) -> Result<Self> {
        let server = Arc::new(server);
        let table = Arc::new(first_look(&server, name).await?);
        let connection = || Link::new(Arc::clone(&server), Arc::clone(&table));
        let bell = Arc::new(Bell::default());
        let ended = CancellationToken::new();
        let line = Line::open(
            Arc::clone(&server),
            table.channel.clone(),
            Arc::clone(&bell),
            ended.clone(),
        );
        let line = line.await?;
        let (queue, taken) = mpsc::channel(MOST_WAITING);
        let taken: Queue = Arc::new(Mutex::new(taken));
        let readers: [Link; READERS] = std::array::from_fn(|_| connection());
        let writing: [Link; WRITERS] = std::array::from_fn(|_| connection());
        // What keeps a connection from being made is told now, and not by the first call.
        let deadline = Instant::now() + server.timeout;
        let all = readers.iter().chain(&writing);
        try_join_all(all.map(|link| link.session(deadline))).await?;
        let writers = writing.into_iter().map(|link| {
            let (server, taken, bell) = (server.clone(), taken.clone(), bell.clone());
            tokio::spawn(Writer::new(server, link, taken, bell).run())
        });
        let writers = writers.collect();
        let open = Open {
            queue,
            bell,
            writers,
            line,
            ended: ended.drop_guard(),
        };
        Ok(Self {
            readers,
            server,
            table,
            next: AtomicUsize::new(0),
            open: RwLock::new(Some(open)),
        })
    }

    /// This store's side of a transaction that you opened, on a connection of your own to the same
    /// database: see [`Transaction`].
    pub fn within<'t>(&self, transaction: &'t tokio_postgres::Transaction<'t>) -> Transaction<'t> {
        Transaction::new(transaction, Arc::clone(&self.table))
    }

    fn with_open<R>(&self, ask: impl FnOnce(&Open) -> R) -> Result<R> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(ask).ok_or_else(|| {
            let message = "the store in PostgreSQL was stopped; open it again";
            Error::new(ErrorKind::Closed, message)
        })
    }

    /// Asks over a reader's connection, and again over a new one where it is lost.
    async fn ask<R, F>(&self, attempt: &str, ask: impl Fn(Arc<Session>) -> F) -> Result<R>
    where
        F: Future<Output = Result<R, tokio_postgres::Error>>,
    {
        self.with_open(|_| ())?;
        let deadline = Instant::now() + self.server.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let (link, session) = self.reader(deadline).await?;
            let failed = match timeout_at(deadline, ask(Arc::clone(&session))).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => {
                    link.give_up(&session).await;
                    return Err(self.server.no_answer(attempt));
                }
            };
            let error = error::reading(&failed);
            if !error::passes(&error) || Instant::now() + pause >= deadline {
                return Err(error.context(format_args!("cannot {attempt}")));
            }
            // A statement that was stopped says nothing against its connection.
            if failed.as_db_error().is_none() {
                link.give_up(&session).await;
            }
            self.with_open(|_| ())?;
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn reader(&self, deadline: Instant) -> Result<(&Link, Arc<Session>)> {
        let [first, second] = &self.readers;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let link = if turn.is_multiple_of(READERS) {
            first
        } else {
            second
        };
        Ok((link, link.session(deadline).await?))
    }

    /// Hands over commits that were checked; they are made in their order.
    async fn send(&self, commits: Vec<Vec<Change>>) -> Result<Vec<oneshot::Receiver<Result<()>>>> {
        let queue = self.with_open(|open| open.queue.clone())?;
        let deadline = Instant::now() + self.server.timeout;
        let (commits, answers) = commits
            .into_iter()
            .map(|changes| Commit::new(changes, deadline))
            .unzip();
        match timeout_at(deadline, queue.send(commits)).await {
            Ok(Ok(())) => Ok(answers),
            Ok(Err(_)) => self.with_open(|_| Vec::new()),
            Err(_) => Err(self.server.no_answer("take a commit, with many before it")),
        }
    }

    /// A commit of one change.
    async fn change(&self, change: Change) -> Result<()> {
        let answers = self.send(vec![vec![change]]).await?;
        outcome(answers.into_iter().next()).await
    }
}

/// What became of a commit that was handed over.
async fn outcome(answer: Option<oneshot::Receiver<Result<()>>>) -> Result<()> {
    let unanswered = || {
        let message = "the store in PostgreSQL ended before it answered a commit, which may have \
                       been applied or not";
        Err(Error::new(ErrorKind::Unknown, message))
    };
    match answer {
        Some(answer) => answer.await.unwrap_or_else(|_| unanswered()),
        None => unanswered(),
    }
}

/// Makes sure that the server will do, and that the table is there.
async fn first_look(server: &Server, name: &Name) -> Result<Table> {
    const LOOK: &str = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()";
    let deadline = Instant::now() + server.timeout;
    let (client, connection) = server.connect(deadline).await?;
    let looking = async {
        let failed = |failed| error::opening("ask the server what it is", &failed);
        let row = client.query_one(LOOK, &[]).await.map_err(failed)?;
        refuse_old(row.try_get(0).map_err(failed)?)?;
        if row.try_get(1).map_err(failed)? {
            let message = "this server is a standby, which only reads: name the primary, or \
                           several hosts and target_session_attrs=read-write";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let setup = server.setup();
        client.batch_execute(&setup).await.map_err(failed)?;
        schema::open(&client, name).await
    };
    let found = tokio::select! {
        found = timeout_at(deadline, looking) => {
            found.unwrap_or_else(|_| Err(server.no_answer("make sure of the table")))
        }
        lost = connection => match lost {
            Err(failed) => Err(error::opening("stay connected", &failed)),
            Ok(()) => Err(server.no_answer("stay connected")),
        },
    };
    found
        .map_err(|error| error.context(format_args!("cannot open the store at {}", server.address)))
}

fn refuse_old(version: i32) -> Result<()> {
    // 9.6.1 is 90601, 15.18 is 150018.
    let major = version / 10_000;
    if major < OLDEST {
        let message = format!(
            "the server is PostgreSQL {major}, and kvjob needs {OLDEST} or a newer one: upgrade it"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(())
}

#[async_trait]
impl Store for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn set(&self, object: Object) -> Result<()> {
        LIMITS.check_object(&object)?;
        self.change(Change::put(object.key, object.value)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let found = self.scan_many(vec![scan]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        LIMITS.check_key(&object.key)?;
        self.change(Change::remove(object.key.clone())).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        let scan = Scan::prefix(prefix.clone()).range(true);
        let (start, end) = read::bounds(&scan);
        let sql = read::delete_sql(&self.table);
        loop {
            self.with_open(|_| ())?;
            let deadline = Instant::now() + self.server.timeout;
            let (link, session) = self.reader(deadline).await?;
            let delete = read::delete(&session, &sql, (&start, &end), PIECE);
            let Ok(found) = timeout(self.server.timeout, delete).await else {
                link.give_up(&session).await;
                let error = self.server.no_answer("delete a prefix");
                let message = format!("{error}; part of it may be deleted");
                return Err(Error::new(ErrorKind::Unknown, message));
            };
            match found.map_err(|failed| error::writing(&failed)) {
                Ok(found) if found < PIECE => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    if error.maybe_applied() {
                        link.give_up(&session).await;
                    }
                    return Err(error.context(format_args!("deleting the prefix {prefix}")));
                }
            }
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        keys.iter().try_for_each(|key| LIMITS.check_key(key))?;
        if keys.is_empty() {
            self.with_open(|_| ())?;
            return Ok(Vec::new());
        }
        self.ask("get objects", |session| async move {
            read::objects(&session, keys).await
        })
        .await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let scans = scans.as_slice();
        self.ask("scan", |session| async move {
            read::pages(&session, scans).await
        })
        .await
    }

    async fn stop(&self) -> Result<()> {
        let open = self
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Open {
            queue,
            bell,
            writers,
            line,
            ended,
        }) = open
        else {
            return Ok(());
        };
        drop(queue);
        let mut outcome = Ok(());
        // Each commit that waits may wait for the server and for the answer.
        if timeout(self.server.timeout * 2, join_all(writers))
            .await
            .is_err()
        {
            outcome = Err(self.server.no_answer("finish the commits that were sent"));
        }
        // Now it knows everything that is to be told.
        drop(bell);
        drop(ended);
        if timeout(Duration::from_secs(1), line).await.is_err() {
            tracing::debug!("stopped before others were told of the last changes");
        }
        for reader in &self.readers {
            reader.close().await;
        }
        outcome
    }

    async fn health(&self) -> Result<Health> {
        self.ask("look how the server fares", |session| async move {
            health::look(&session, &self.table, self.server.durability).await
        })
        .await
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn ownership(&self) -> Ownership {
        Ownership::Shared
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

#[async_trait]
impl Atomic for Postgres {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let outcomes = self.commit_all(vec![changes]).await;
        outcomes.into_iter().next().unwrap_or(Ok(()))
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let checked: Vec<Result<bool>> = commits
            .iter()
            .map(|changes| check_commit(changes, &LIMITS).map(|()| !changes.is_empty()))
            .collect();
        let sent = commits
            .into_iter()
            .zip(&checked)
            .filter(|(_, checked)| matches!(checked, Ok(true)))
            .map(|(changes, _)| changes);
        let answers = self.send(sent.collect()).await;
        let mut outcomes = Vec::with_capacity(checked.len());
        let mut answers = answers.map(Vec::into_iter);
        for checked in checked {
            outcomes.push(match (checked, &mut answers) {
                (Err(refused), _) => Err(refused),
                (Ok(false), Ok(_)) => Ok(()),
                (Ok(_), Err(error)) => Err(error.clone()),
                (Ok(true), Ok(answers)) => outcome(answers.next()).await,
            });
        }
        outcomes
    }
}

#[async_trait]
impl Watch for Postgres {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        // The connection that listens is there, or watchers will be told that they missed
        // something once it is there again.
        self.with_open(|open| open.bell.watch(prefix))
    }

    fn announce(&self, keys: Vec<Key>) {
        // A store that was stopped has nobody to tell.
        let _ = self.with_open(|open| open.bell.put(keys));
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("server", &self.server.address)
            .field("table", &self.table.name)
            .field("durability", &self.server.durability)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused() {
        for version in [90_601, 120_022] {
            let error = refuse_old(version).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Unsupported);
        }
        for version in [130_000, 150_018, 180_001] {
            refuse_old(version).unwrap();
        }
    }
}
