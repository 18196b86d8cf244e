//! Opens any kvjob backend by URL. Each backend is behind a feature of its name; here is only
//! which there are and how a URL reaches them.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use kvjob::kv::Object;
//!
//! let store = kvjob_any::open("memory:").await?;
//! store.set(Object::new("greeting", "hello")).await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! A [`StoreUrl`] is `scheme:path?option=value&option=value`. The path runs up to the first `?`
//! and is taken as it stands: nothing in it is percent-decoded. Options are
//!
//! - `durability=immediate` (the default), `interval:100ms` or `memory`: when an acknowledged
//!   change is on disk;
//! - `namespace=NAME`: for the job layer; opening a store ignores it.

mod url;

use std::sync::Arc;

use kvjob::kv::{self, Durability, Error, Limits, Ownership, Result, Store as _};

pub use url::StoreUrl;

/// A backend that can be named in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backend {
    /// The scheme of its URLs.
    pub name: &'static str,
    /// What its URLs look like.
    pub url: &'static str,
    /// What an acknowledged change survives.
    pub durability: &'static str,
    /// Whether it is compiled in. Else the feature of its name must be enabled.
    pub enabled: bool,
    /// Whether it applies several changes as one.
    pub atomic: bool,
    /// Whether it tells of changes.
    pub watch: bool,
    /// Whether several processes may have it open.
    pub ownership: Ownership,
    /// The largest things it takes, where it is compiled in.
    pub limits: Option<Limits>,
}

/// Every backend there is, also those that are not compiled in.
pub fn backends() -> Vec<Backend> {
    vec![
        Backend {
            name: "memory",
            url: "memory:",
            durability: "nothing: it ends with the process",
            enabled: true,
            atomic: true,
            watch: true,
            ownership: Ownership::Exclusive,
            limits: Some(kv::Memory::new().limits()),
        },
        Backend {
            name: "redb",
            url: "redb:PATH[?durability=immediate|interval:100ms|memory]",
            durability: "kill -9 and power loss (immediate); the same, but for the last interval \
                         (interval); a stop (memory)",
            enabled: cfg!(feature = "redb"),
            atomic: true,
            watch: true,
            ownership: Ownership::Exclusive,
            #[cfg(feature = "redb")]
            limits: Some(kvjob_redb::LIMITS),
            #[cfg(not(feature = "redb"))]
            limits: None,
        },
        Backend {
            name: "sled",
            url: "sled:PATH[?durability=immediate|interval:100ms|memory]",
            durability: "as redb, as far as sled 0.34 can: it is old, and no longer maintained",
            enabled: cfg!(feature = "sled"),
            atomic: true,
            watch: true,
            ownership: Ownership::Exclusive,
            #[cfg(feature = "sled")]
            limits: Some(kvjob_sled::LIMITS),
            #[cfg(not(feature = "sled"))]
            limits: None,
        },
        Backend {
            name: "sqlite",
            url: "sqlite:PATH[?durability=immediate|interval:100ms|memory]",
            durability: "kill -9 and power loss (immediate); the same, but a power loss may take \
                         the last interval (interval); kill -9 (memory)",
            enabled: cfg!(feature = "sqlite"),
            atomic: true,
            watch: true,
            ownership: Ownership::Exclusive,
            #[cfg(feature = "sqlite")]
            limits: Some(kvjob_sqlite::LIMITS),
            #[cfg(not(feature = "sqlite"))]
            limits: None,
        },
    ]
}

/// Opens the store of this URL, and creates it where it is not there.
///
/// # Errors
/// [`Unsupported`](kv::ErrorKind::Unsupported) for a URL that names no backend, or one that is not
/// compiled in, or an option that is not known: the message lists those that are. Otherwise what
/// the backend says.
pub async fn open(url: &str) -> Result<Arc<dyn kv::Store>> {
    url.parse::<StoreUrl>()?.open().await
}

impl StoreUrl {
    /// Opens the store of this URL: see [`open`].
    ///
    /// # Errors
    /// As [`open`].
    #[cfg_attr(
        not(any(feature = "redb", feature = "sled", feature = "sqlite")),
        expect(clippy::unused_async, reason = "only files are waited for")
    )]
    pub async fn open(&self) -> Result<Arc<dyn kv::Store>> {
        match self.scheme.as_str() {
            "memory" => self.open_memory(),
            #[cfg(feature = "redb")]
            "redb" => {
                let open = |path, durability| {
                    let options = kvjob_redb::Options::new().durability(durability);
                    options.open(path)
                };
                self.open_path("a file", open).await
            }
            #[cfg(feature = "sled")]
            "sled" => {
                let open = |path, durability| {
                    let options = kvjob_sled::Options::new().durability(durability);
                    options.open(path)
                };
                self.open_path("a directory", open).await
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                let open = |path, durability| {
                    let options = kvjob_sqlite::Options::new().durability(durability);
                    options.open(path)
                };
                self.open_path("a file", open).await
            }
            name if backends().iter().any(|backend| backend.name == name) => Err(self.refused(
                format_args!("it is not compiled in; build kvjob-any with the feature {name}"),
            )),
            name => Err(self.refused(format_args!("there is no backend {name:?}"))),
        }
    }

    fn open_memory(&self) -> Result<Arc<dyn kv::Store>> {
        if !self.path.is_empty() {
            return Err(self.refused("memory: takes no path"));
        }
        if !matches!(self.durability, None | Some(Durability::Memory)) {
            return Err(self.refused("memory: is never on disk; leave durability out"));
        }
        Ok(Arc::new(kv::Memory::new()))
    }

    /// Opens what is at the path, away from the async threads: after a crash it may take long.
    #[cfg(any(feature = "redb", feature = "sled", feature = "sqlite"))]
    async fn open_path<S: kv::Store>(
        &self,
        what: &str,
        open: impl FnOnce(String, Durability) -> Result<S> + Send + 'static,
    ) -> Result<Arc<dyn kv::Store>> {
        if self.path.is_empty() {
            let why = format_args!("{}: needs the path of {what}", self.scheme);
            return Err(self.refused(why));
        }
        let path = self.path.clone();
        let durability = self.durability.unwrap_or_default();
        let opened = tokio::task::spawn_blocking(move || open(path, durability)).await;
        let store = opened.map_err(|error| {
            let message = format!("cannot open {self}: {error}");
            Error::new(kv::ErrorKind::Backend, message).with_source(error)
        })??;
        Ok(Arc::new(store))
    }

    fn refused(&self, why: impl std::fmt::Display) -> Error {
        url::refused(&self.to_string(), why)
    }
}
