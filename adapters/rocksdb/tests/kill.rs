//! A process that commits to RocksDB is killed at random moments, again and again: while it opens,
//! while it writes, while RocksDB flushes and compacts. See [`kvjob_trials::kill`] for what must
//! hold, and for `KVJOB_KILLS` and `KVJOB_SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use kvjob::kv::{Durability, Store};
use kvjob_rocksdb::RocksDb;
use kvjob_trials::kill::{self, Victim};

struct Killed(RocksDb);

impl Victim for Killed {
    fn open(path: &Path, durability: Durability) -> Self {
        let options = kvjob_rocksdb::Options::new().durability(durability);
        Self(options.cache_bytes(4 << 20).open(path).unwrap())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }
}

/// Not a test, but the process that is killed.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn victim() {
    kill::victim::<Killed>().await;
}

fn killed_again_and_again(durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill.rocksdb");
    kill::again_and_again::<Killed>(&path, durability);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    killed_again_and_again(Durability::Immediate);
}

#[test]
fn that_holds_without_a_sync_too() {
    killed_again_and_again(Durability::Memory);
}
