//! One file a backend: what it promises, and how a URL opens it.

mod etcd;
mod fjall;
mod lmdb;
mod memory;
mod path;
mod postgres;
mod redb;
mod redis;
mod rocksdb;
mod sled;
mod sqlite;

use std::pin::Pin;
use std::sync::Arc;

use kvjob::kv::{self, Limits, Ownership, Result};

use crate::StoreUrl;

/// A backend that can be named in a URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backend {
    /// What its stores are called; also the feature that brings it.
    pub name: &'static str,
    /// The schemes of its URLs, the usual one first.
    pub schemes: &'static [&'static str],
    /// What its URLs look like, without options.
    pub url: &'static str,
    /// The options its URLs take beside `namespace=NAME`, each as `name=value`, or `name` where
    /// it takes no value.
    pub options: &'static [&'static str],
    /// What an acknowledged change survives.
    pub durability: &'static str,
    /// Whether it applies several changes as one.
    pub atomic: bool,
    /// Whether it tells of changes.
    pub watch: bool,
    /// Whether several processes may have it open.
    pub ownership: Ownership,
    /// The largest things it takes, where it is compiled in.
    pub limits: Option<Limits>,
    /// Opens one, where it is compiled in.
    open: Option<Open>,
}

/// Opens the store of a URL.
type Open = fn(StoreUrl) -> Opening;
type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn kv::Store>>> + Send>>;

/// The option of most that are on disk.
const DURABILITY: &str = "durability=immediate|interval:100ms|memory";

/// The option of those on disk that several processes may have open if all say so.
const SHARED: &str = "shared";

/// Every backend there is, also those that are not compiled in.
pub fn backends() -> Vec<Backend> {
    vec![
        memory::backend(),
        redb::backend(),
        fjall::backend(),
        rocksdb::backend(),
        lmdb::backend(),
        sqlite::backend(),
        sled::backend(),
        redis::backend(),
        postgres::backend(),
        etcd::backend(),
    ]
}

impl Backend {
    /// Whether it is compiled in. Else the feature of its name must be enabled.
    pub fn is_enabled(&self) -> bool {
        self.open.is_some()
    }

    /// Whether its URLs name a path of the file system.
    pub fn is_on_disk(&self) -> bool {
        self.url.ends_with("PATH")
    }

    /// Whether its URLs take this option.
    pub(crate) fn takes(&self, option: &str) -> bool {
        let mut names = self.options.iter().map(|it| it.split('=').next());
        option == "namespace" || names.any(|name| name == Some(option))
    }

    /// Whether this option of its URLs takes no value.
    pub(crate) fn is_flag(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    /// The options its URLs take, for people.
    pub(crate) fn known_options(&self) -> String {
        let mut known = "namespace=NAME".to_owned();
        for option in self.options {
            known += ", ";
            known += option;
        }
        known
    }

    pub(crate) async fn open(&self, url: StoreUrl) -> Result<Arc<dyn kv::Store>> {
        match self.open {
            Some(open) => open(url).await,
            None => Err(url.refused(format_args!(
                "it is not compiled in; build kvjob-any with the feature {}",
                self.name
            ))),
        }
    }
}
