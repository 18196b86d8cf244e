//! A process that commits to SQLite is killed at random moments, again and again: while it opens,
//! while it writes, while SQLite moves its log. The next one must find every commit that was
//! acknowledged, at each durability, none by halves, and the user's orders beside them. See
//! [`kvjob_trials::kill`] for the rest, and for `KVJOB_KILLS` and `KVJOB_SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;

use kvjob::kv::{Durability, Result, Store, Transaction as _};
use kvjob_sqlite::rusqlite::Connection;
use kvjob_sqlite::{Options, Sqlite};
use kvjob_trials::kill::{self, Victim};

/// Every so many commits is made together with an order of the user's.
const ORDERED: u64 = 5;

struct Killed(Sqlite);

impl Victim for Killed {
    fn open(path: &Path, durability: Durability) -> Self {
        Self(Options::new().durability(durability).open(path).unwrap())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, numbers: Range<u64>) -> Result<()> {
        if !numbers.clone().any(|n| n.is_multiple_of(ORDERED)) {
            return kill::commit(self.store(), numbers).await;
        }
        let with_orders = self.0.with_transaction(move |transaction| {
            for n in numbers {
                if n.is_multiple_of(ORDERED) {
                    let insert = "INSERT INTO orders VALUES (?1)";
                    let inserted = transaction.sqlite().execute(insert, [n.cast_signed()]);
                    inserted.map_err(kvjob_sqlite::error)?;
                }
                transaction.change(&kill::changes(n))?;
            }
            Ok(())
        });
        with_orders.await
    }

    async fn check(&self, commits: u64) {
        let counted = self.0.with_transaction(|transaction| {
            let count = "SELECT count(*) FROM orders";
            let count = transaction
                .sqlite()
                .query_row(count, [], |row| row.get::<_, i64>(0));
            count.map_err(kvjob_sqlite::error)
        });
        let count = counted.await.unwrap().cast_unsigned();
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
    let path = directory.path().join("kill.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        .unwrap();
    drop(connection);
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
