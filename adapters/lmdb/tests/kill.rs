//! A process that commits to LMDB is killed at random moments, again and again: while it makes the
//! file, while it opens it, while it writes. The next one must find every commit that was
//! acknowledged, at each durability, none by halves, and the user's orders beside them. See
//! [`kvjob_trials::kill`] for the rest, and for `KVJOB_KILLS` and `KVJOB_SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use kvjob::kv::{Atomic as _, Durability, Result, Store, Transaction as _};
use kvjob_lmdb::heed::types::{Bytes, Unit};
use kvjob_lmdb::heed::{CommitOrAbort, Database};
use kvjob_lmdb::{Lmdb, Options};
use kvjob_trials::kill::{self, Victim};
use kvjob_trials::{Process, errand};

/// Every so many commits is made together with an order of the user's.
const ORDERED: u64 = 5;

struct Killed {
    store: Lmdb,
    /// The user's.
    orders: Database<'static, Bytes, Unit>,
}

impl Victim for Killed {
    fn open(path: &Path, durability: Durability) -> Self {
        let options = Options::new().durability(durability);
        let env = options.environment(path, 1).unwrap();
        let orders = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
            opener
                .create_database(txn, Some("orders"))
                .map(CommitOrAbort::<_, ()>::Commit)
        });
        let orders: Result<_, kvjob_lmdb::heed::Error> = orders;
        Self {
            store: options.open_in(env).unwrap(),
            orders: orders.unwrap().unwrap_commit(),
        }
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn commit(&self, numbers: Range<u64>) -> Result<()> {
        if !numbers.clone().any(|n| n.is_multiple_of(ORDERED)) {
            return kill::commit(self.store(), numbers).await;
        }
        let orders = self.orders;
        let with_orders = self.store.with_transaction(move |transaction| {
            for n in numbers {
                if n.is_multiple_of(ORDERED) {
                    let order = orders.put(transaction.lmdb(), &n.to_be_bytes(), &());
                    order.map_err(kvjob_lmdb::error)?;
                }
                transaction.change(&kill::changes(n))?;
            }
            Ok(())
        });
        with_orders.await
    }

    async fn check(&self, commits: u64) {
        let orders = self.orders;
        let counted = self.store.with_transaction(move |transaction| {
            let count = orders.len(transaction.lmdb());
            count.map_err(kvjob_lmdb::error)
        });
        let count = counted.await.unwrap();
        assert_eq!(count, commits.div_ceil(ORDERED), "{commits} commits");
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
    let path = directory.path().join("kill.lmdb");
    kill::again_and_again::<Killed>(&path, durability);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    killed_again_and_again(Durability::Immediate);
}

#[test]
fn nothing_acknowledged_is_lost_without_a_sync_either() {
    killed_again_and_again(Durability::Memory);
}

/// Not a test, but the process that is killed while it makes a file.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn maker() {
    println!("\nmaking");
    let store = kvjob_lmdb::open(errand()).unwrap();
    store.commit(kill::changes(0)).await.unwrap();
    println!("made");
}

#[tokio::test]
async fn a_file_that_is_half_made_can_be_opened() {
    let (kills, mut random) = kill::kills(20);
    for round in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.lmdb");
        let mut maker = Process::start("maker", &path);
        maker.says("making");
        std::thread::sleep(Duration::from_micros(random.below(4000)));
        let made = maker.kill().iter().any(|line| line == "made");
        let store = kvjob_lmdb::open(&path).unwrap();
        let found = kill::commits(&store).await;
        assert!(found == 1 || !made, "round {round}");
    }
}
