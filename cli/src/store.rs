//! Opening and closing the store a command works on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvjob::job::{self, DEFAULT_NAMESPACE, KvStore, Namespace, Options, Retention};
use kvjob::kv::{self, ErrorKind};
use kvjob_any::StoreUrl;
use tokio::time::sleep;

use crate::args::Global;
use crate::error::{Error, Result};

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
}

impl Opened {
    pub(crate) async fn open(global: &Global, missing: Missing) -> Result<Self> {
        Self::open_keeping(global, missing, Retention::new()).await
    }

    /// Opens it to remove what is older than this.
    pub(crate) async fn open_keeping(
        global: &Global,
        missing: Missing,
        retention: Retention,
    ) -> Result<Self> {
        let open = |below, options: Options| KvStore::open(below, options.retention(retention));
        let (opened, _) = open_with(global, missing, open).await?;
        Ok(opened)
    }

    /// As it stands, to be checked.
    pub(crate) async fn open_to_check(global: &Global) -> Result<(Self, KvStore)> {
        open_with(global, Missing::Refuse, KvStore::open_to_check).await
    }

    /// Stores what is still on its way, and closes the files.
    pub(crate) async fn close(self) -> Result<()> {
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
    pub(crate) async fn open(url: &str, missing: Missing) -> Result<Self> {
        let url: StoreUrl = url.parse()?;
        if missing == Missing::Refuse {
            refuse_missing(&url)?;
        }
        let below = open_below(&url).await?;
        Self::over(below, url).await
    }

    /// The one at another URL, which may be another namespace of this very store.
    pub(crate) async fn open_beside(&self, url: &str) -> Result<Self> {
        let other: StoreUrl = url.parse()?;
        if !is_same_place(&self.url, &other) {
            return Self::open(url, Missing::Create).await;
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
    open: impl AsyncFnOnce(Arc<dyn kv::Store>, Options) -> job::Result<KvStore>,
) -> Result<(Opened, KvStore)> {
    let url: StoreUrl = global.store.parse()?;
    if missing == Missing::Refuse {
        refuse_missing(&url)?;
    }
    let below = open_below(&url).await?;
    let mut options = Options::default();
    if let Some(namespace) = &url.namespace {
        options = options.namespace(namespace);
    }
    let error = match open(below.clone(), options).await {
        Ok(store) => {
            let jobs: Arc<dyn job::Store> = Arc::new(store.clone());
            return Ok((Opened { below, jobs }, store));
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

/// Opens what the URL names. One that is in use is asked for again for a moment: when kvjob is
/// killed while it starts a command, that one's process holds the lock until it is the command.
async fn open_below(url: &StoreUrl) -> Result<Arc<dyn kv::Store>> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match url.open().await {
            Ok(below) => return Ok(below),
            Err(error) if *error.kind() != ErrorKind::InUse => return Err(error.into()),
            Err(_) if Instant::now() < patience => sleep(PATIENCE / 10).await,
            Err(error) => {
                return Err(Error::from(error).advice("Wait for it to end, or stop it."));
            }
        }
    }
}

/// A look at a store must not make one.
fn refuse_missing(url: &StoreUrl) -> Result<()> {
    let is_on_disk = url.backend().is_some_and(|backend| backend.is_on_disk());
    if !is_on_disk || url.path.is_empty() || Path::new(&url.path).exists() {
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
