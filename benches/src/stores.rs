//! The backends that are measured.

use std::sync::Arc;

use kvjob::job::{KvStore, Options};
use kvjob::kv::{self, Durability, Memory};
#[cfg(feature = "servers")]
use kvjob_servers::Server;
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
    #[cfg(feature = "servers")]
    Redis,
}

/// Where a store lives.
#[derive(Debug)]
pub(crate) struct Home {
    // It ends before its folder does.
    #[cfg(feature = "servers")]
    server: Option<Server>,
    folder: TempDir,
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
            #[cfg(feature = "servers")]
            Self::Redis => "redis",
        }
    }

    /// A new job store, and what it lives in.
    pub(crate) async fn open(self, durability: Durability) -> Result<(KvStore, Home)> {
        #[cfg_attr(not(feature = "servers"), expect(unused_mut))]
        let mut home = Home {
            #[cfg(feature = "servers")]
            server: None,
            folder: TempDir::new()?,
        };
        let folder = &home.folder;
        let store: Arc<dyn kv::Store> = match self {
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
            #[cfg(feature = "servers")]
            Self::Redis => {
                let server = home.server.insert(redis(folder.path(), durability));
                Arc::new(kvjob_redis::open(&kvjob_servers::redis::url(server)).await?)
            }
        };
        Ok((KvStore::open(store, Options::default()).await?, home))
    }
}

/// A Redis that keeps its data in this folder, and syncs it as often.
#[cfg(feature = "servers")]
pub(crate) fn redis(folder: &std::path::Path, durability: Durability) -> Server {
    let (appendonly, appendfsync) = match durability {
        Durability::Immediate => ("yes", "always"),
        Durability::Memory => ("no", "no"),
        _ => ("yes", "everysec"),
    };
    kvjob_servers::redis::redis_with(&[
        "--dir",
        &folder.display().to_string(),
        "--appendonly",
        appendonly,
        "--appendfsync",
        appendfsync,
    ])
}
