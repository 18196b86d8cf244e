//! The conformance suite and the model test on a directory of RocksDB's, for each durability.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kvjob::kv::{Durability, Store as _};
use kvjob::testkit::Factory;
use kvjob_rocksdb::RocksDb;
use tempfile::TempDir;

struct InDirectory(TempDir, Durability);

impl InDirectory {
    fn new(durability: Durability) -> Self {
        Self(tempfile::tempdir().unwrap(), durability)
    }
}

impl Factory for InDirectory {
    type Store = RocksDb;

    async fn open(&self) -> RocksDb {
        kvjob_rocksdb::Options::new()
            .durability(self.1)
            .open(self.0.path().join("conformance.rocksdb"))
            .unwrap()
    }

    async fn reopen(&self, store: RocksDb) -> Option<RocksDb> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

mod immediate {
    use super::*;
    kvjob::testkit::conformance!(InDirectory::new(Durability::Immediate));
}

mod interval {
    use super::*;
    kvjob::testkit::conformance!(InDirectory::new(Durability::Interval(
        Duration::from_millis(5)
    )));
}

mod memory {
    use super::*;
    kvjob::testkit::conformance!(InDirectory::new(Durability::Memory));
}
