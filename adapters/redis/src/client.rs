//! The connection to the server that has our keys: found, lost, and found again. What is sent by
//! it is [`scripts`](crate::scripts)' and the store's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Result};
use redis::{Arg, Cmd, Value, cmd};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Node;
use crate::connection::{Connection, Dialer, Listener, Name, text};
use crate::error::{self, Refusal, Remedy};
use crate::scripts::{self, Names};

/// How long to wait before something is tried a second time; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How much goes out in one trip.
const COMMANDS_AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 32 << 20;
/// How often a cluster may send us from node to node.
const HOPS: usize = 5;

/// Whether what is sent changes anything, and so must not be sent again when no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) struct Client {
    dialer: Dialer,
    pub(crate) names: Names,
    /// How long a call may take in all.
    pub(crate) patience: Duration,
    current: RwLock<Option<Arc<Connection>>>,
    /// Held while a connection is looked for.
    search: Mutex<Search>,
    /// How many searches have failed.
    failures: AtomicU64,
    stopped: AtomicBool,
}

/// What is known of where the server is.
#[derive(Debug, Default)]
struct Search {
    /// The node that a cluster named last.
    named: Option<Node>,
    /// Further nodes of the cluster.
    others: Vec<Node>,
    /// Why the last search failed.
    failure: Option<Error>,
}

impl Client {
    /// Connects; says at once why that cannot be.
    pub(crate) async fn open(dialer: Dialer, names: Names, patience: Duration) -> Result<Self> {
        let client = Self {
            dialer,
            names,
            patience,
            current: RwLock::default(),
            search: Mutex::default(),
            failures: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        client.look().await?;
        Ok(client)
    }

    /// Sends commands in one trip, or a few where they are large, and waits for the answer to
    /// each. What was surely not done is tried again for a while; a write that was not answered is
    /// not.
    pub(crate) async fn run(&self, commands: &[Cmd], effect: Effect) -> Vec<Result<Value>> {
        let mut answers = Vec::with_capacity(commands.len());
        for trip in trips(commands) {
            answers.extend(self.go(trip, effect).await);
        }
        answers
    }

    async fn go(&self, commands: &[Cmd], effect: Effect) -> Vec<Result<Value>> {
        let deadline = Instant::now() + self.patience;
        let mut answers = Vec::with_capacity(commands.len());
        let mut pause = PAUSE;
        while let Some(rest) = commands
            .get(answers.len()..)
            .filter(|rest| !rest.is_empty())
        {
            let again = match self.attempt(rest, effect, deadline, &mut answers).await {
                Ok(()) => continue,
                Err(again) => again,
            };
            let over = Instant::now() + pause >= deadline;
            if over || !again.is_passing {
                answers.resize_with(commands.len(), || Err(again.error.clone()));
            } else {
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
        answers
    }

    /// One trip. Says why what is not answered then could be sent again.
    async fn attempt(
        &self,
        commands: &[Cmd],
        effect: Effect,
        deadline: Instant,
        answers: &mut Vec<Result<Value>>,
    ) -> Result<(), Again> {
        let connection = self.connection(deadline).await?;
        // A read is worth another try on another connection.
        let share = if effect == Effect::Read { 3 } else { 1 };
        let wait = deadline.saturating_duration_since(Instant::now()) / share;
        let sent = timeout(wait, connection.send(commands)).await;
        let lost = match sent {
            Ok(Ok(replies)) => {
                let replies = replies
                    .into_iter()
                    .map(|reply| reply.map_err(|source| error::answered(&connection, &source)));
                return self.settle(&connection, replies.collect(), answers).await;
            }
            Ok(Err(source)) => {
                let why = "the connection was lost";
                error::lost(&connection.node, why, effect == Effect::Write).with_source(source)
            }
            Err(_) => {
                let why = format!("{wait:?} went by");
                error::lost(&connection.node, &why, effect == Effect::Write)
            }
        };
        connection.retire();
        Err(Again {
            is_passing: effect == Effect::Read,
            error: lost,
        })
    }

    /// Takes the answers in. The last ones of which the server did nothing may be sent again: an
    /// earlier one may not, for it would then come behind one that was sent after it.
    async fn settle(
        &self,
        connection: &Arc<Connection>,
        mut replies: Vec<Result<Value, Refusal>>,
        answers: &mut Vec<Result<Value>>,
    ) -> Result<(), Again> {
        let mut again = None;
        while let Some(reply) = replies.pop() {
            match reply {
                Err(Refusal::Again(remedy, error)) => again = Some((remedy, error)),
                other => {
                    replies.push(other);
                    break;
                }
            }
        }
        answers.extend(replies.into_iter().map(|reply| {
            reply.map_err(|refusal| match refusal {
                Refusal::Again(_, error) | Refusal::Final(error) => error,
            })
        }));
        let Some((remedy, error)) = again else {
            return Ok(());
        };
        match remedy {
            Remedy::LoadScripts => {
                let load: Vec<Cmd> = scripts::load().collect();
                // What comes of it shows when the scripts are called.
                let _ = timeout(self.dialer.patience, connection.send(&load)).await;
            }
            Remedy::Follow(node) => {
                self.search.lock().await.named = Some(node);
                connection.retire();
            }
            Remedy::FindPrimary => connection.retire(),
            Remedy::Wait => {}
        }
        Err(Again {
            is_passing: true,
            error,
        })
    }

    /// The connection, looked for if it is lost: by one caller for all.
    async fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, Again> {
        let rest = deadline.saturating_duration_since(Instant::now());
        let found = timeout(rest, self.look()).await;
        let found = found.unwrap_or_else(|_| {
            let why = format!(
                "no connection to the server at {} within {:?}; nothing was applied",
                self.dialer.address, self.patience
            );
            Err(Error::new(ErrorKind::Transient, why))
        });
        found.map_err(|error| Again {
            is_passing: error.is_retryable(),
            error,
        })
    }

    async fn look(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.current()? {
            return Ok(connection);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let mut search = self.search.lock().await;
        if let Some(connection) = self.current()? {
            return Ok(connection);
        }
        if failures != self.failures.load(Ordering::Relaxed)
            && let Some(failure) = &search.failure
        {
            // Somebody else's search has failed while we waited for it.
            return Err(failure.clone());
        }
        let old = self.kept();
        let old = old.as_ref().and_then(|old| old.name());
        match search.find(self, old, None).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(failure) => {
                search.failure = Some(failure.clone());
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
        }
    }

    /// A connection of its own to the same server, for who listens.
    pub(crate) async fn listen(&self, listener: Listener) -> Result<Connection> {
        if self.is_stopped() {
            return Err(error::closed());
        }
        let mut search = Search::default();
        if let Some(connection) = self.kept() {
            search.named = Some(connection.node.clone());
        }
        search.find(self, None, Some(listener)).await
    }

    /// The connection if it can be used.
    fn current(&self) -> Result<Option<Arc<Connection>>> {
        if self.is_stopped() {
            return Err(error::closed());
        }
        Ok(self.kept().filter(|connection| !connection.is_lost()))
    }

    /// The last connection there was.
    fn kept(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Has every call from now on be refused.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = None;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Search {
    /// Tries the nodes there are, until one takes our writes; the first failure is told.
    async fn find(
        &mut self,
        client: &Client,
        old: Option<&Name>,
        listener: Option<Listener>,
    ) -> Result<Connection> {
        let mut failure = None;
        let named = self.named.take();
        let nodes = named.into_iter().chain(client.dialer.address.nodes.clone());
        let nodes: Vec<Node> = nodes.chain(self.others.clone()).collect();
        for node in nodes {
            match self.follow(client, node, old, listener.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(error::closed))
    }

    /// Goes to a node, and on to the one it names for our keys.
    async fn follow(
        &mut self,
        client: &Client,
        mut node: Node,
        old: Option<&Name>,
        listener: Option<Listener>,
    ) -> Result<Connection> {
        for _ in 0..HOPS {
            let connection = client.dialer.dial(&node, old, listener.clone()).await?;
            let mut asked = vec![client.names.get(&["".into()])];
            if connection.info.is_cluster() {
                let mut nodes = cmd("CLUSTER");
                nodes.arg("NODES");
                asked.push(nodes);
            }
            let patience = client.dialer.patience;
            let answers = timeout(patience, connection.send(&asked)).await;
            let mut answers = match answers {
                Ok(Ok(answers)) => answers.into_iter(),
                Ok(Err(source)) => return Err(error::connecting(&node, source)),
                Err(_) => {
                    let why = format!("no answer within {patience:?}");
                    return Err(error::unusable(&node, ErrorKind::Transient, why));
                }
            };
            let found = answers.next();
            if let Some(Ok(nodes)) = answers.next() {
                self.others = nodes_of_cluster(&node, &text(nodes));
            }
            match found.map(|found| found.map_err(|source| error::answered(&connection, &source))) {
                Some(Err(Refusal::Again(Remedy::Follow(next), _))) => node = next,
                Some(Err(Refusal::Again(_, error))) => return Err(error),
                // Whatever it is, it is told by the call that meets it.
                _ if connection.info.is_replica() => {
                    let why =
                        "it is a replica, which takes no writes; give the address of its primary";
                    // During a failover it may be the primary in a moment.
                    return Err(error::unusable(&node, ErrorKind::Transient, why));
                }
                _ => return Ok(connection),
            }
        }
        let why = "the cluster sends us from node to node";
        Err(error::unusable(&node, ErrorKind::Transient, why))
    }
}

/// What is not answered, and whether it may be sent again.
struct Again {
    is_passing: bool,
    error: Error,
}

/// Commands in groups that a server takes in without much ado.
fn trips(commands: &[Cmd]) -> impl Iterator<Item = &[Cmd]> {
    let mut rest = commands;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |command: &&Cmd| {
            bytes += size(command);
            bytes <= BYTES_AT_ONCE
        };
        let count = rest.iter().take(COMMANDS_AT_ONCE).take_while(fits).count();
        let (trip, left) = rest.split_at_checked(count.max(1))?;
        rest = left;
        Some(trip)
    })
}

fn size(command: &Cmd) -> usize {
    let arguments = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    arguments.sum()
}

/// The nodes in the lines that CLUSTER NODES answers: `id host:port@bus,name flags ...`.
fn nodes_of_cluster(node: &Node, text: &str) -> Vec<Node> {
    let addresses = text.lines().filter_map(|line| {
        let address = line.split(' ').nth(1)?;
        let address = address.split(['@', ',']).next()?;
        node.named_by(address)
    });
    addresses.filter(|named| named != node).collect()
}
