//! The conformance suite and the model test on a LMDB file, at each durability.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kvjob::kv::{Durability, Store as _};
use kvjob::testkit::Factory;
use kvjob_lmdb::{Lmdb, Options};
use tempfile::TempDir;

struct InFile {
    directory: TempDir,
    durability: Durability,
}

impl InFile {
    fn new(durability: Durability) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            durability,
        }
    }
}

impl Factory for InFile {
    type Store = Lmdb;

    async fn open(&self) -> Lmdb {
        let options = Options::new().durability(self.durability);
        options
            .open(self.directory.path().join("conformance.lmdb"))
            .unwrap()
    }

    async fn reopen(&self, store: Lmdb) -> Option<Lmdb> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

mod immediate {
    use super::*;

    kvjob::testkit::conformance!(InFile::new(Durability::Immediate));
}

mod interval {
    use super::*;

    kvjob::testkit::conformance!(InFile::new(Durability::Interval(Duration::from_millis(20))));
}

mod memory {
    use super::*;

    kvjob::testkit::conformance!(InFile::new(Durability::Memory));
}
