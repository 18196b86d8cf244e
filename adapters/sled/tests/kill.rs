//! A process that commits to sled is killed at random moments, again and again: while it opens,
//! while it writes, while sled cleans up. See [`kvjob_trials::kill`] for what must hold, and for
//! `KVJOB_KILLS` and `KVJOB_SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use kvjob::kv::{Durability, Store};
use kvjob_sled::Sled;
use kvjob_trials::kill::{self, Victim};

struct Killed(Sled);

impl Victim for Killed {
    fn open(path: &Path, durability: Durability) -> Self {
        let options = kvjob_sled::Options::new().durability(durability);
        Self(options.cache_bytes(4 << 20).open(path).unwrap())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    /// sled writes in the background what it is not told to sync.
    fn keeps(durability: Durability) -> bool {
        durability == Durability::Immediate
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
    let path = directory.path().join("kill.sled");
    kill::again_and_again::<Killed>(&path, durability);
    let blobs = std::fs::read_dir(path.join("blobs")).unwrap();
    assert_eq!(blobs.count(), 0, "sled does not remove them");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    killed_again_and_again(Durability::Immediate);
}

#[test]
fn without_a_sync_the_last_commits_are_lost_as_wholes() {
    killed_again_and_again(Durability::Interval(Duration::from_millis(5)));
}
