//! The backends that are measured.

use std::sync::Arc;

use kvjob::job::{KvStore, Options};
use kvjob::kv::{self, Durability, Memory};
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
        }
    }

    /// A new job store, and the folder it lives in.
    pub(crate) async fn open(self, durability: Durability) -> Result<(KvStore, TempDir)> {
        let folder = TempDir::new()?;
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
            #[cfg(feature = "full")]
            Self::Rocksdb => Arc::new(
                kvjob_rocksdb::Options::new()
                    .durability(durability)
                    .open(folder.path().join("jobs.rocksdb"))?,
            ),
        };
        Ok((KvStore::open(store, Options::default()).await?, folder))
    }
}
