//! The conformance suite and the model test on a redb file, with one value a key and as a bag.

#![allow(clippy::unwrap_used, reason = "tests")]

use kvjob::kv::Store as _;
use kvjob::testkit::Factory;
use kvjob_redb::{Options, Redb};
use tempfile::TempDir;

struct InFile {
    directory: TempDir,
    options: Options,
}

fn in_file(options: Options) -> InFile {
    let directory = tempfile::tempdir().unwrap();
    InFile { directory, options }
}

impl Factory for InFile {
    type Store = Redb;

    async fn open(&self) -> Redb {
        let path = self.directory.path().join("conformance.redb");
        self.options.open(path).unwrap()
    }

    async fn reopen(&self, store: Redb) -> Option<Redb> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

mod unique {
    use super::*;
    kvjob::testkit::conformance!(in_file(Options::new()));
}

mod bag {
    use super::*;
    kvjob::testkit::conformance!(in_file(Options::new().bag()));
}
