//! The conformance suite and the model test on a redb file.

#![allow(clippy::unwrap_used, reason = "tests")]

use kvjob::kv::Store as _;
use kvjob::testkit::Factory;
use kvjob_redb::Redb;
use tempfile::TempDir;

struct InFile(TempDir);

impl InFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Factory for InFile {
    type Store = Redb;

    async fn open(&self) -> Redb {
        kvjob_redb::open(self.0.path().join("conformance.redb")).unwrap()
    }

    async fn reopen(&self, store: Redb) -> Option<Redb> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

kvjob::testkit::conformance!(InFile::new());
