//! Opening and closing the store a command works on.
//!
//! A store that one process holds alone is [held](Opened::hold) by the commands that work it off:
//! they listen on a socket beside it. Those that look and steer [reach](Opened::open) it through
//! that one where they cannot have it themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvjob::job::{self, DEFAULT_NAMESPACE, KvStore, Namespace, Options, Retention};
use kvjob::kv::{self, ErrorKind, Ownership};
use kvjob_any::StoreUrl;
use kvjob_socket::{Remote, Socket, path_beside};
use tokio::time::sleep;

use crate::args::Global;
use crate::error::{Error, Result};
use crate::output;

/// The store where none is named.
pub(crate) const DEFAULT: &str = "redb:./kvjob.redb";

/// How long a store that is in use is asked for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// A store that was opened.
pub(crate) struct Opened {
    below: Arc<dyn kv::Store>,
    pub(crate) jobs: Arc<dyn job::Store>,
    kv: KvStore,
    socket: Option<Socket>,
}

/// A store as it can be watched.
pub(crate) enum Watched {
    /// Its changes are seen, whoever makes them.
    Live(Opened),
    /// One process alone may have it, and none does but this one, which is not to keep it.
    Idle(Opened),
}

impl Opened {
    /// To look at and steer, also while another process works it off.
    pub(crate) async fn open(global: &Global, missing: Missing) -> Result<Self> {
        open_with(global, missing, reach, KvStore::open).await
    }

    /// To watch it; as it stands, for a look changes nothing.
    pub(crate) async fn watch(global: &Global) -> Result<Watched> {
        let open = KvStore::open_to_check;
        let opened = open_with(global, Missing::Refuse, reach, open).await?;
        Ok(match opened.below.ownership() {
            Ownership::Exclusive => Watched::Idle(opened),
            _ => Watched::Live(opened),
        })
    }

    /// To watch it through the process that holds it, if one does.
    pub(crate) async fn watch_held(global: &Global) -> Result<Option<Self>> {
        let url: StoreUrl = global.store.parse()?;
        let Some(below) = join(&url).await? else {
            return Ok(None);
        };
        let open = KvStore::open_to_check;
        let opened = open_with(global, Missing::Refuse, async move |_| Ok(below), open).await?;
        Ok(Some(opened))
    }

    /// What only a store of keys and values can do.
    pub(crate) fn kv(&self) -> &KvStore {
        &self.kv
    }

    /// To work it off, removing what is older than this; others reach it through this process if
    /// they cannot have it themselves.
    pub(crate) async fn hold(
        global: &Global,
        missing: Missing,
        retention: Retention,
    ) -> Result<Self> {
        let open = |below, options: Options| KvStore::open(below, options.retention(retention));
        let mut opened = open_with(global, missing, open_alone, open).await?;
        opened.listen(&global.store.parse()?);
        Ok(opened)
    }

    /// As it stands, to be checked.
    pub(crate) async fn open_to_check(global: &Global) -> Result<Self> {
        open_with(global, Missing::Refuse, reach, KvStore::open_to_check).await
    }

    /// Lets others in, where this process keeps them out otherwise. Work goes on without.
    fn listen(&mut self, url: &StoreUrl) {
        if self.below.ownership() != Ownership::Exclusive || !is_on_disk(url) {
            return;
        }
        match Socket::listen(Arc::clone(&self.below), path_beside(&url.path)) {
            Ok(socket) => {
                self.kv.hear(socket.writes());
                self.socket = Some(socket);
            }
            Err(error) => output::note(&format!(
                "the store cannot be looked at or steered meanwhile: {error}"
            )),
        }
    }

    /// Stores what is still on its way, and closes the files.
    pub(crate) async fn close(self) -> Result<()> {
        // While the store is still ours alone.
        if let Some(socket) = self.socket {
            socket.close().await;
        }
        let stopped = self.jobs.stop().await;
        self.below.stop().await?;
        Ok(stopped?)
    }
}

/// A job store as a whole, to be copied from or to.
pub(crate) struct Whole {
    below: Arc<dyn kv::Store>,
    pub(crate) namespace: Namespace,
    url: StoreUrl,
}

impl Whole {
    /// To be copied from, also while another process works it off.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let url: StoreUrl = url.parse()?;
        refuse_missing(&url)?;
        let below = reach(&url).await?;
        Self::over(below, url).await
    }

    /// To be copied to, by this process alone.
    pub(crate) async fn open_to_fill(url: &str) -> Result<Self> {
        let url: StoreUrl = url.parse()?;
        let below = open_alone(&url).await?;
        Self::over(below, url).await
    }

    /// The one at another URL, which may be another namespace of this very store.
    pub(crate) async fn open_beside(&self, url: &str) -> Result<Self> {
        let other: StoreUrl = url.parse()?;
        if !is_same_place(&self.url, &other) {
            return Self::open_to_fill(url).await;
        }
        if namespace(&self.url) == namespace(&other) {
            return Err(Error::new(format!(
                "{} and {other} are the same job store",
                self.url
            )));
        }
        Self::over(Arc::clone(&self.below), other).await
    }

    async fn over(below: Arc<dyn kv::Store>, url: StoreUrl) -> Result<Self> {
        match Namespace::open(Arc::clone(&below), namespace(&url)).await {
            Ok(namespace) => Ok(Self {
                below,
                namespace,
                url,
            }),
            Err(error) => {
                // What stopped it from opening is what matters.
                let _ = below.stop().await;
                Err(error.into())
            }
        }
    }

    /// Whether there is anything at this URL, as far as a path tells.
    pub(crate) fn is_there(url: &str) -> Result<bool> {
        Ok(refuse_missing(&url.parse()?).is_ok())
    }

    /// Its URL without a password.
    pub(crate) fn url(&self) -> String {
        self.url.to_string()
    }

    /// Closes the files.
    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.below.stop().await?)
    }
}

fn namespace(url: &StoreUrl) -> &str {
    url.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
}

/// Whether two URLs name the same path of the same backend.
fn is_same_place(one: &StoreUrl, other: &StoreUrl) -> bool {
    let on_disk = |url: &StoreUrl| {
        let backend = url.backend().filter(kvjob_any::Backend::is_on_disk)?;
        Some((backend.name, Path::new(&url.path).canonicalize().ok()?))
    };
    on_disk(one).is_some_and(|one| on_disk(other) == Some(one))
}

async fn open_with(
    global: &Global,
    missing: Missing,
    get: impl AsyncFnOnce(&StoreUrl) -> Result<Arc<dyn kv::Store>>,
    open: impl AsyncFnOnce(Arc<dyn kv::Store>, Options) -> job::Result<KvStore>,
) -> Result<Opened> {
    let url: StoreUrl = global.store.parse()?;
    if missing == Missing::Refuse {
        refuse_missing(&url)?;
    }
    let below = get(&url).await?;
    let mut options = Options::default();
    if let Some(namespace) = &url.namespace {
        options = options.namespace(namespace);
    }
    let error = match open(below.clone(), options).await {
        Ok(store) => {
            let jobs: Arc<dyn job::Store> = Arc::new(store.clone());
            return Ok(Opened {
                below,
                jobs,
                kv: store,
                socket: None,
            });
        }
        Err(error) => error,
    };
    // What stopped it from opening is what matters.
    let _ = below.stop().await;
    let is_corrupt =
        matches!(&error, job::Error::Store(error) if *error.kind() == ErrorKind::Corrupt);
    let message = format!("could not read the jobs in {url}");
    let error = Error::caused(message, error.clone()).advised(&error);
    Err(if is_corrupt {
        let check = command(global, "check");
        error.advice(format!(
            "`{check}` says what is wrong, and with --repair mends what can be mended."
        ))
    } else {
        error
    })
}

/// Opens what the URL names, and no other process has.
async fn open_alone(url: &StoreUrl) -> Result<Arc<dyn kv::Store>> {
    open_or(url, async || Ok(None)).await
}

/// Opens what the URL names, or reaches it through the process that holds it.
async fn reach(url: &StoreUrl) -> Result<Arc<dyn kv::Store>> {
    open_or(url, async || join(url).await).await
}

/// What is reached through the process that holds it, if one does and lets others in.
async fn join(url: &StoreUrl) -> Result<Option<Arc<dyn kv::Store>>> {
    if !is_on_disk(url) {
        return Ok(None);
    }
    let remote = Remote::connect(path_beside(&url.path)).await?;
    Ok(remote.map(|remote| Arc::new(remote) as _))
}

/// Opens what the URL names; where it is in use, what `instead` finds. It is asked for again for a
/// moment: when kvjob is killed while it starts a command, that one's process holds the lock until
/// it is the command; and whoever holds it may be about to listen.
async fn open_or(
    url: &StoreUrl,
    instead: impl AsyncFn() -> Result<Option<Arc<dyn kv::Store>>>,
) -> Result<Arc<dyn kv::Store>> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let in_use = match url.open().await {
            Ok(below) => return Ok(below),
            Err(error) if *error.kind() != ErrorKind::InUse => return Err(error.into()),
            Err(error) => error,
        };
        if let Some(below) = instead().await? {
            return Ok(below);
        }
        if Instant::now() >= patience {
            return Err(Error::from(in_use).advice("Wait for it to end, or stop it."));
        }
        sleep(PATIENCE / 10).await;
    }
}

fn is_on_disk(url: &StoreUrl) -> bool {
    url.backend().is_some_and(|backend| backend.is_on_disk())
}

/// A look at a store must not make one.
fn refuse_missing(url: &StoreUrl) -> Result<()> {
    if !is_on_disk(url) || url.path.is_empty() || Path::new(&url.path).exists() {
        return Ok(());
    }
    let error = Error::new(format!("there is no store at {}", url.path));
    Err(error.advice(format!(
        "`kvjob enqueue` and `kvjob run` make one; --store or KVJOB_STORE names another than {url}."
    )))
}

/// A command to go on with, on the same store; a password is left for its user to fill in.
pub(crate) fn command(global: &Global, words: &str) -> String {
    if global.store == DEFAULT || std::env::var("KVJOB_STORE").as_deref() == Ok(&global.store) {
        return format!("kvjob {words}");
    }
    match global.store.parse::<StoreUrl>() {
        Ok(url) => format!("kvjob {words} --store '{url}'"),
        Err(_) => format!("kvjob {words} --store URL"),
    }
}
