//! The conformance suite and the model test on a LMDB file, at each durability, alone and
//! as one of several.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kvjob::kv::{Durability, Store as _};
use kvjob::testkit::Factory;
use kvjob_lmdb::{Lmdb, Options};
use tempfile::TempDir;

struct InFile {
    directory: TempDir,
    options: Options,
}

impl InFile {
    fn new(durability: Durability) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            options: Options::new().durability(durability),
        }
    }

    fn shared(durability: Durability) -> Self {
        let alone = Self::new(durability);
        Self {
            options: alone.options.shared(),
            ..alone
        }
    }
}

impl Factory for InFile {
    type Store = Lmdb;

    async fn open(&self) -> Lmdb {
        self.options
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

mod shared {
    use super::*;

    kvjob::testkit::conformance!(InFile::shared(Durability::Immediate));
}

mod shared_interval {
    use super::*;

    kvjob::testkit::conformance!(InFile::shared(Durability::Interval(Duration::from_millis(
        20
    ))));
}
