//! The backends that are measured.

use std::sync::Arc;

use kvjob::job::{KvStore, Options};
use kvjob::kv::{self, Durability, Memory};
#[cfg(feature = "servers")]
use kvjob_servers::{Server, etcd, postgres, redis};
use tempfile::TempDir;

use crate::Result;

/// A backend that is measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Backend {
    Memory,
    Redb,
    Fjall,
    Sled,
    #[cfg(feature = "full")]
    Sqlite,
    #[cfg(feature = "full")]
    Lmdb,
    #[cfg(feature = "full")]
    Rocksdb,
    #[cfg(feature = "servers")]
    Redis,
    #[cfg(feature = "servers")]
    Valkey,
    #[cfg(feature = "servers")]
    Etcd,
    #[cfg(feature = "servers")]
    Postgres,
}

/// Where a store lives: gone with this.
pub(crate) enum Home {
    Folder(TempDir),
    #[cfg(feature = "servers")]
    Server {
        url: String,
        _server: Box<Server>,
    },
}

#[cfg(feature = "servers")]
impl Home {
    /// Where the server is, if it is one.
    pub(crate) fn url(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Server { url, .. } => Some(url),
        }
    }
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            #[cfg(feature = "full")]
            Self::Sqlite => "sqlite",
            #[cfg(feature = "full")]
            Self::Lmdb => "lmdb",
            #[cfg(feature = "full")]
            Self::Rocksdb => "rocksdb",
            #[cfg(feature = "servers")]
            Self::Redis => "redis",
            #[cfg(feature = "servers")]
            Self::Valkey => "valkey",
            #[cfg(feature = "servers")]
            Self::Etcd => "etcd",
            #[cfg(feature = "servers")]
            Self::Postgres => "postgres",
        }
    }

    /// A new place for stores; of a server the server itself.
    #[cfg_attr(
        not(feature = "servers"),
        expect(clippy::unused_self, reason = "all have the same then")
    )]
    pub(crate) fn home(self) -> Result<Home> {
        #[cfg(feature = "servers")]
        if let Some(home) = self.server() {
            return Ok(home);
        }
        Ok(Home::Folder(TempDir::new()?))
    }

    /// A server that has just been started.
    #[cfg(feature = "servers")]
    fn server(self) -> Option<Home> {
        let (server, url): (_, fn(&Server) -> String) = match self {
            Self::Redis => (redis::redis(), redis::url),
            Self::Valkey => (redis::valkey(), redis::url),
            Self::Etcd => (etcd::etcd(), etcd::url),
            Self::Postgres => (postgres::postgres(), postgres::url),
            _ => return None,
        };
        let url = url(&server);
        let server = Box::new(server);
        Some(Home::Server {
            url,
            _server: server,
        })
    }

    /// A new job store, and where it lives.
    pub(crate) async fn open(self, durability: Durability) -> Result<(KvStore, Home)> {
        let home = self.home()?;
        let store = self.store(&home, durability).await?;
        Ok((KvStore::open(store, Options::default()).await?, home))
    }

    /// The store at this place. Only a server has several at a time.
    #[cfg_attr(
        not(feature = "servers"),
        expect(clippy::unused_async, reason = "only servers are waited for")
    )]
    pub(crate) async fn store(
        self,
        home: &Home,
        durability: Durability,
    ) -> Result<Arc<dyn kv::Store>> {
        #[cfg_attr(
            not(feature = "servers"),
            expect(
                clippy::infallible_destructuring_match,
                reason = "there are no others then"
            )
        )]
        let folder = match home {
            Home::Folder(folder) => folder,
            // How durable it is, the server says: these are synced before they answer.
            #[cfg(feature = "servers")]
            Home::Server { url, .. } => return Ok(kvjob_any::open(url).await?),
        };
        Ok(match self {
            Self::Memory => Arc::new(Memory::new()),
            Self::Redb => Arc::new(
                kvjob_redb::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.redb"))?,
            ),
            Self::Fjall => Arc::new(
                kvjob_fjall::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.fjall"))?,
            ),
            Self::Sled => Arc::new(
                kvjob_sled::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.sled"))?,
            ),
            #[cfg(feature = "full")]
            Self::Sqlite => Arc::new(
                kvjob_sqlite::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.db"))?,
            ),
            #[cfg(feature = "full")]
            Self::Lmdb => Arc::new(
                kvjob_lmdb::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.lmdb"))?,
            ),
            #[cfg(feature = "full")]
            Self::Rocksdb => Arc::new(
                kvjob_rocksdb::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.rocksdb"))?,
            ),
            #[cfg(feature = "servers")]
            Self::Redis | Self::Valkey | Self::Etcd | Self::Postgres => {
                return Err("a server has no folder".into());
            }
        })
    }

    /// Whether it lives in a server.
    pub(crate) fn is_served(self) -> bool {
        match self {
            #[cfg(feature = "servers")]
            Self::Redis | Self::Valkey | Self::Etcd | Self::Postgres => true,
            _ => false,
        }
    }
}
