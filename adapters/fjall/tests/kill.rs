//! A process that commits to fjall is killed at random moments, again and again: while it opens,
//! while it writes, while fjall flushes and compacts. See [`kvjob_trials::kill`] for what must
//! hold, and for `KVJOB_KILLS` and `KVJOB_SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use kvjob::kv::{Durability, Store};
use kvjob_fjall::Fjall;
use kvjob_trials::kill::{self, Victim};

struct Killed(Fjall);

impl Victim for Killed {
    fn open(path: &Path, durability: Durability) -> Self {
        let options = kvjob_fjall::Options::new().durability(durability);
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
    let path = directory.path().join("kill.fjall");
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
