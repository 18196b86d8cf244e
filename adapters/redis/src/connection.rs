//! One connection to one server: made, greeted, looked at, and used by many callers at once. What
//! is done when it is lost is [`client`](crate::client)'s.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvjob::kv::{ErrorKind, Result};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError,
    RedisResult, Value, cmd,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::{Address, Node};
use crate::error;
use crate::info::Info;
use crate::scripts;

/// The oldest server whose scripts have what ours need: flags, and questions about permissions.
const OLDEST: u32 = 7;

/// How connections are made.
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    /// How long one attempt may take.
    pub(crate) patience: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("address", &self.address)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A connection to a server that has our scripts. It ends when it is dropped.
pub(crate) struct Connection {
    link: MultiplexedConnection,
    driver: JoinHandle<()>,
    retired: AtomicBool,
    pub(crate) node: Node,
    pub(crate) info: Info,
    /// What the server calls it.
    name: Option<Name>,
}

/// Who hears what a server tells without being asked.
pub(crate) type Listener = Arc<dyn AsyncPushSender>;

/// What a server calls one of its connections: its number, which is given anew after a restart,
/// and its address as the server sees it.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    node: Node,
    id: String,
    address: String,
}

/// What a server can be reached by.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Dialer {
    /// Connects to this node. `old` is a connection that was given up: the server forgets it
    /// first, so that nothing that was sent by it is done later. `listener` hears what the server
    /// tells without being asked, also that the connection ended.
    pub(crate) async fn dial(
        &self,
        node: &Node,
        old: Option<&Name>,
        listener: Option<Listener>,
    ) -> Result<Connection> {
        let prepared = async {
            let connected = self.connect(node, listener).await;
            let mut connection = connected.map_err(|source| error::connecting(node, source))?;
            connection.prepare(old).await?;
            Ok(connection)
        };
        timeout(self.patience, prepared).await.unwrap_or_else(|_| {
            let why = format_args!("no answer within {:?}", self.patience);
            Err(error::unusable(node, ErrorKind::Transient, why))
        })
    }

    async fn connect(&self, node: &Node, listener: Option<Listener>) -> RedisResult<Connection> {
        let stream = self.stream(node).await?;
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("kvjob", env!("CARGO_PKG_VERSION"))
            .set_db(self.address.database);
        if let Some(password) = &self.address.password {
            login = login.set_password(password);
            login = login.set_username(self.address.user.as_deref().unwrap_or("default"));
        }
        // Each call has a time-out of its own.
        let mut config = AsyncConnectionConfig::new().set_response_timeout(None);
        if let Some(listener) = listener {
            config = config.set_push_sender(listener);
        }
        let (link, driver) = MultiplexedConnection::new_with_config(&login, stream, config).await?;
        Ok(Connection {
            link,
            driver: tokio::spawn(driver),
            retired: AtomicBool::new(false),
            node: node.clone(),
            info: Info::default(),
            name: None,
        })
    }

    async fn stream(&self, node: &Node) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match node {
            Node::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Node::Tcp { host, port } => (host, *port),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

impl Connection {
    /// Has the server forget the old connection, looks at what it is, and gives it our scripts.
    async fn prepare(&mut self, old: Option<&Name>) -> Result<()> {
        let mut greeting = Vec::new();
        if let Some(old) = old.filter(|old| old.node == self.node) {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(&old.id);
            kill.arg("ADDR").arg(&old.address);
            // Refused to some users; what was sent and not answered may then be done late.
            greeting.push(kill);
        }
        let mut name = cmd("CLIENT");
        name.arg("INFO");
        greeting.extend([name, cmd("INFO")]);
        let mut answers = self.ask(greeting).await?;
        let info = answers.pop().unwrap_or(Ok(Value::Nil));
        let info = info.map_err(|source| error::connecting(&self.node, source))?;
        self.info = Info::read(&text(info));
        if let Some(major) = self.info.major_version()
            && major < OLDEST
        {
            let why = format_args!(
                "it is Redis {}, and at least Redis {OLDEST}.0 or any Valkey is needed",
                self.info.version()
            );
            return Err(error::unusable(&self.node, ErrorKind::Unsupported, why));
        }
        if let Some(Ok(client)) = answers.pop() {
            self.name = Name::read(&self.node, &text(client));
        }
        for answer in self.ask(scripts::load().collect()).await? {
            answer.map_err(|source| error::connecting(&self.node, source))?;
        }
        Ok(())
    }

    async fn ask(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>> {
        self.send(&commands)
            .await
            .map_err(|source| error::connecting(&self.node, source))
    }

    /// Sends commands together, and waits for the answers to all of them; the answer to one may be
    /// an error. Fails where they were lost.
    pub(crate) async fn send(&self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        let mut link = self.link.clone();
        let answers: RedisResult<Vec<RedisResult<Value>>> =
            pipeline.ignore_errors().query_async(&mut link).await;
        let answers = answers?;
        if answers.len() == commands.len() {
            Ok(answers)
        } else {
            let why = "the server gave another number of answers than it was asked for";
            Err(RedisError::from((redis::ErrorKind::Parse, why)))
        }
    }

    /// Whether something sent now would surely not arrive.
    pub(crate) fn is_lost(&self) -> bool {
        self.retired.load(Ordering::Relaxed) || self.driver.is_finished()
    }

    /// Has it not be used for anything new.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("node", &self.node)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl Name {
    /// Reads it from what CLIENT INFO answers: `id=7 addr=127.0.0.1:50614 ...`.
    fn read(node: &Node, text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = text.split_ascii_whitespace();
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            node: node.clone(),
            id: field("id")?.to_owned(),
            address: field("addr")?.to_owned(),
        })
    }
}

/// The text of an answer; empty where it is none.
pub(crate) fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => String::new(),
    }
}
