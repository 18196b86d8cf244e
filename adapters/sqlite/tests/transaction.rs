//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use kvjob::kv::{Change, Durability, ErrorKind, Key, Object, Result, Store as _, Transaction as _};
use kvjob_sqlite::rusqlite::{self, Connection};
use kvjob_sqlite::{Engine, Options, Sqlite, Transaction};
use kvjob_trials::transaction::{self, Shop, saved_neither};

#[derive(Clone)]
struct Bookshop {
    path: PathBuf,
    options: Options,
}

impl Shop for Bookshop {
    type Engine = Engine;

    fn open(directory: &Path, durability: Durability) -> Self {
        let path = directory.join("shop.db");
        let tables = "
            CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS parcels (
                of INTEGER REFERENCES orders DEFERRABLE INITIALLY DEFERRED
            );";
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(tables).unwrap();
        let options = Options::new().durability(durability);
        Self { path, options }
    }

    fn store(&self) -> Sqlite {
        self.options.open(&self.path).unwrap()
    }

    fn order(&self, transaction: &mut Transaction<'_>, id: u8) -> Result<()> {
        let insert = format!("INSERT INTO orders VALUES ({id}, 'a book')");
        run(transaction, &insert)?;
        assert_eq!(self.orders(), 0, "nobody sees it before it is committed");
        Ok(())
    }

    /// The orders in the file, as another connection sees them.
    fn orders(&self) -> u64 {
        let connection = Connection::open(&self.path).unwrap();
        let count = connection.query_row("SELECT count(*) FROM orders", [], |row| {
            row.get::<_, i64>(0)
        });
        count.unwrap().cast_unsigned()
    }
}

fn store() -> (Sqlite, Bookshop, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let shop = Bookshop::open(directory.path(), Durability::Immediate);
    (shop.store(), shop, directory)
}

fn run(transaction: &Transaction<'_>, sql: &str) -> Result<()> {
    let done = transaction.sqlite().execute_batch(sql);
    done.map_err(kvjob_sqlite::error)
}

#[tokio::test]
async fn both_sides_are_saved_together_and_watchers_are_told() {
    transaction::both_sides::<Bookshop>().await;
}

#[tokio::test]
async fn an_error_saves_neither_side() {
    transaction::an_error::<Bookshop>().await;
}

#[tokio::test]
async fn a_panic_saves_neither_side_and_the_store_goes_on() {
    transaction::a_panic::<Bookshop>().await;
}

#[tokio::test]
async fn it_reads_what_it_wrote_in_both_directions() {
    transaction::reads::<Bookshop>().await;
}

#[tokio::test]
async fn an_order_and_its_mail_are_saved_together_or_neither() {
    transaction::order_and_mail::<Bookshop>().await;
}

#[tokio::test]
async fn an_error_of_sqlites_is_given_to_the_caller_as_it_is() {
    let (store, shop, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("ship/7", "soon")])?;
        run(transaction, "INSERT INTO customers VALUES ('ada')")
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("no such table: customers"));
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<rusqlite::Error>());
    saved_neither(&shop, store).await;
}

#[tokio::test]
async fn what_sqlite_refuses_at_the_commit_saves_neither_side() {
    let (store, shop, _directory) = store();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        // Is only checked at the end.
        run(transaction, "INSERT INTO parcels VALUES (8)")
    });
    let error = outcome.await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    saved_neither(&shop, store).await;
}

#[tokio::test]
async fn a_body_that_ends_the_transaction_itself_saves_nothing() {
    for end in [
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK; INSERT INTO orders VALUES (8, 'late')",
        "ROLLBACK; BEGIN; INSERT INTO orders VALUES (8, 'late')",
        "COMMIT; BEGIN; INSERT INTO orders VALUES (8, 'late')",
        // SQLite itself rolls back, and the body passes over it.
        "INSERT OR ROLLBACK INTO orders VALUES (7, 'twice')",
    ] {
        let (store, shop, _directory) = store();
        let within = shop.clone();
        let outcome = store.with_transaction(move |transaction| {
            within.order(transaction, 7)?;
            transaction.change(&[Change::put("ship/7", "soon")])?;
            let _ = run(transaction, end);
            let _ = run(transaction, "INSERT INTO orders VALUES (9, 'later')");
            let _ = transaction.change(&[Change::put("ship/9", "soon")]);
            Ok(())
        });
        let error = outcome.await.expect_err(end);
        assert_eq!(error.kind(), &ErrorKind::Backend);
        assert!(error.to_string().contains("nothing of it was saved"));
        assert!(store.get(&"ship/9".into()).await.unwrap().is_none());
        saved_neither(&shop, store).await;
    }
}

#[tokio::test]
async fn a_savepoint_takes_back_what_came_after_it_on_both_sides() {
    let (store, shop, _directory) = store();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 6)?;
        run(transaction, "SAVEPOINT here")?;
        within.order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        run(transaction, "ROLLBACK TO here")?;
        transaction.change(&[Change::put("ship/6", "soon")])
    });
    outcome.await.unwrap();
    assert_eq!(shop.orders(), 1);
    let keys = ["ship/6", "ship/7"].map(Key::from);
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(
        found.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false]
    );
}

#[tokio::test]
async fn it_is_synced_whatever_the_durability_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let long = Durability::Interval(Duration::from_secs(1 << 30));
    for durability in [Durability::Immediate, long, Durability::Memory] {
        let store = Options::new().durability(durability).open(&path).unwrap();
        store.set(Object::new("a", "1")).await.unwrap();
        let outcome = store.with_transaction(|transaction| {
            let mode = transaction
                .sqlite()
                .pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
            mode.map_err(kvjob_sqlite::error)
        });
        let full = 2;
        assert_eq!(outcome.await.unwrap(), full, "{durability}");
        store.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_temporary_table_of_the_same_name_changes_nothing() {
    let (store, _shop, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        run(transaction, "CREATE TEMP TABLE kvjob (key, value)")?;
        transaction.change(&[Change::put("a", "1")])
    });
    outcome.await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
    store.set(Object::new("b", "1")).await.unwrap();
    let count: i64 = store
        .with_transaction(|transaction| {
            let count =
                transaction
                    .sqlite()
                    .query_row("SELECT count(*) FROM temp.kvjob", [], |row| row.get(0));
            count.map_err(kvjob_sqlite::error)
        })
        .await
        .unwrap();
    assert_eq!(count, 0);
}
