//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::job::{
    self, Claim, KvStore, NewJob, Query, QueueStore as _, Receipt, StateStore as _, Store as _,
};
use kvjob::kv::{
    Change, Durability, Error, ErrorKind, Event, Key, Object, Scan, Store, Transaction as _, Watch,
};
use kvjob_sqlite::rusqlite::{self, Connection};
use kvjob_sqlite::{Options, Sqlite, Transaction};

fn store() -> (Sqlite, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL);
             CREATE TABLE parcels (
                 of INTEGER REFERENCES orders DEFERRABLE INITIALLY DEFERRED
             );",
        )
        .unwrap();
    (kvjob_sqlite::open(&path).unwrap(), path, directory)
}

fn run(transaction: &Transaction<'_>, sql: &str) -> Result<(), Error> {
    let done = transaction.sqlite().execute_batch(sql);
    done.map_err(kvjob_sqlite::error)
}

fn order(transaction: &Transaction<'_>, id: u64) -> Result<(), Error> {
    run(
        transaction,
        &format!("INSERT INTO orders VALUES ({id}, 'a book')"),
    )
}

/// The orders in the file, as another connection sees them.
fn orders(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let count = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0));
    count.unwrap()
}

/// That nothing of this transaction is there, and that the store goes on.
async fn assert_neither(store: &Sqlite, path: &Path) {
    assert_eq!(orders(path), 0);
    assert!(store.get(&"ship/7".into()).await.unwrap().is_none());
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
}

#[tokio::test]
async fn both_sides_are_saved_together_and_watchers_are_told() {
    let (store, path, _directory) = store();
    let mut heard = Watch::watch(&store, &Key::from("ship/")).await.unwrap();
    let seen = path.clone();
    let answer = store
        .with_transaction(move |transaction| {
            order(transaction, 7)?;
            transaction.change(&[Change::create("ship/7", "soon"), Change::put("x", "")])?;
            assert_eq!(orders(&seen), 0, "nobody sees it before it is committed");
            Ok("placed")
        })
        .await;
    assert_eq!(answer.unwrap(), "placed");
    assert_eq!(heard.next().await, Some(Event::Changed("ship/7".into())));
    assert!(store.get(&"ship/7".into()).await.unwrap().is_some());
    assert_eq!(orders(&path), 1);
}

#[tokio::test]
async fn an_error_saves_neither_side() {
    let (store, path, _directory) = store();
    store.set(Object::new("ship/8", "already")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "1")])?;
        transaction.change(&[Change::create("ship/8", "soon")])
    });
    let error = outcome.await.unwrap_err();
    let indices = vec![0];
    assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
    assert_neither(&store, &path).await;
}

#[tokio::test]
async fn a_panic_saves_neither_side_and_the_store_goes_on() {
    let (store, path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        let missing: u32 = "not a number".parse().unwrap();
        Ok(missing)
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    assert_neither(&store, &path).await;
}

#[tokio::test]
async fn an_error_of_sqlites_is_given_to_the_caller_as_it_is() {
    let (store, path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("ship/7", "soon")])?;
        run(transaction, "INSERT INTO customers VALUES ('ada')")
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("no such table: customers"));
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<rusqlite::Error>());
    assert_neither(&store, &path).await;
}

#[tokio::test]
async fn what_sqlite_refuses_at_the_commit_saves_neither_side() {
    let (store, path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        // Is only checked at the end.
        run(transaction, "INSERT INTO parcels VALUES (8)")
    });
    let error = outcome.await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    assert_neither(&store, &path).await;
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
        let (store, path, _directory) = store();
        let outcome = store.with_transaction(move |transaction| {
            order(transaction, 7)?;
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
        assert_neither(&store, &path).await;
    }
}

#[tokio::test]
async fn a_savepoint_takes_back_what_came_after_it_on_both_sides() {
    let (store, path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 6)?;
        run(transaction, "SAVEPOINT here")?;
        order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        run(transaction, "ROLLBACK TO here")?;
        transaction.change(&[Change::put("ship/6", "soon")])
    });
    outcome.await.unwrap();
    assert_eq!(orders(&path), 1);
    let keys = ["ship/6", "ship/7"].map(Key::from);
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(
        found.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false]
    );
}

#[tokio::test]
async fn it_reads_what_it_wrote_in_both_directions() {
    let (store, _path, _directory) = store();
    store.set(Object::new("a/1", "")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("a/2", ""), Change::put("b", "")])?;
        let scan = Scan::prefix("a/");
        let mut seen = Vec::new();
        for range in [scan.range(true), scan.reverse().range(true)] {
            transaction.scan(&range, &mut |key, _| {
                seen.push(Key::from(key));
                true
            })?;
        }
        Ok(seen)
    });
    let seen = outcome.await.unwrap();
    let wanted = ["a/1", "a/2", "a/2", "a/1"].map(Key::from);
    assert_eq!(seen, wanted);
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
    let (store, _path, _directory) = store();
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

/// An order and the job that mails it, in one transaction.
async fn order_with_mail(
    store: &Sqlite,
    jobs: &KvStore,
    also: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<Receipt, Error> {
    let jobs = jobs.clone();
    store
        .with_transaction(move |transaction| {
            order(transaction, 7)?;
            let mail = NewJob::new("mail", "ada")?.key("order/7");
            let (enqueued, receipt) = jobs.enqueue_within(transaction, mail)?;
            assert!(enqueued.is_new);
            also()?;
            Ok(receipt)
        })
        .await
}

async fn mails(jobs: &KvStore) -> usize {
    jobs.lookup(&Query::new()).await.unwrap().items.len()
}

#[tokio::test]
async fn an_order_and_its_mail_are_saved_together_or_neither() {
    let (store, path, _directory) = store();
    let store = Arc::new(store);
    let jobs = KvStore::open(store.clone(), job::Options::default());
    let jobs = jobs.await.unwrap();

    let out_of_books = || Err(Error::new(ErrorKind::Backend, "out of books"));
    let rolled_back = order_with_mail(&store, &jobs, out_of_books).await;
    assert_eq!(rolled_back.unwrap_err().to_string(), "out of books");
    assert_eq!((orders(&path), mails(&jobs).await), (0, 0));

    let panicked = order_with_mail(&store, &jobs, || panic!("out of paper")).await;
    assert!(panicked.unwrap_err().to_string().contains("out of paper"));
    assert_eq!((orders(&path), mails(&jobs).await), (0, 0));

    let saved = order_with_mail(&store, &jobs, || Ok(())).await;
    saved.unwrap().committed().await;
    assert_eq!((orders(&path), mails(&jobs).await), (1, 1));
    let claimed = jobs.claim(Claim::new("postman")).await.unwrap().jobs;
    assert_eq!(claimed.len(), 1);

    jobs.stop().await.unwrap();
    store.stop().await.unwrap();
    let store = Arc::new(kvjob_sqlite::open(&path).unwrap());
    let jobs = KvStore::open(store, job::Options::default()).await.unwrap();
    assert_eq!((orders(&path), mails(&jobs).await), (1, 1));
}
