//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, reason = "tests")]

use futures::StreamExt as _;
use kvjob::kv::{
    Change, Error, ErrorKind, Event, Key, Object, Scan, Store, Transaction as _, Watch,
};
use kvjob_redb::redb::{ReadableDatabase as _, TableDefinition};
use kvjob_redb::{Redb, Transaction, redb};

const ORDERS: TableDefinition<u64, &str> = TableDefinition::new("orders");

fn store() -> (Redb, std::path::PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    (kvjob_redb::open(&path).unwrap(), path, directory)
}

fn order(transaction: &Transaction<'_>, id: u64) -> Result<(), Error> {
    let mut orders = transaction
        .redb()
        .open_table(ORDERS)
        .map_err(kvjob_redb::error)?;
    orders.insert(id, "a book").map_err(kvjob_redb::error)?;
    Ok(())
}

fn orders(path: &std::path::Path) -> Option<u64> {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let orders = transaction.open_table(ORDERS).ok()?;
    redb::ReadableTableMetadata::len(&orders).ok()
}

#[tokio::test]
async fn both_sides_are_saved_together_and_watchers_are_told() {
    let (store, path, _directory) = store();
    let mut heard = Watch::watch(&store, &Key::from("ship/")).await.unwrap();
    let answer = store
        .with_transaction(|transaction| {
            order(transaction, 7)?;
            transaction.change(&[Change::create("ship/7", "soon"), Change::put("x", "")])?;
            Ok("placed")
        })
        .await;
    assert_eq!(answer.unwrap(), "placed");
    assert_eq!(heard.next().await, Some(Event::Changed("ship/7".into())));
    assert!(store.get(&"ship/7".into()).await.unwrap().is_some());
    store.stop().await.unwrap();
    assert_eq!(orders(&path), Some(1));
}

#[tokio::test]
async fn an_error_saves_neither_side() {
    let (store, path, _directory) = store();
    store.set(Object::new("ship/7", "already")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 7)?;
        transaction.change(&[Change::put("other", "1")])?;
        transaction.change(&[Change::create("ship/7", "soon")])
    });
    let error = outcome.await.unwrap_err();
    let indices = vec![0];
    assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
    assert!(store.get(&"other".into()).await.unwrap().is_none());
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
    store.stop().await.unwrap();
    assert_eq!(orders(&path), None);
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
    outcome.await.unwrap_err();
    assert!(store.get(&"ship/7".into()).await.unwrap().is_none());
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
    store.stop().await.unwrap();
    assert_eq!(orders(&path), None);
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
async fn on_a_bag_it_changes_pairs_and_reads_what_it_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let store = kvjob_redb::Options::new().bag().open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        order(transaction, 7)?;
        transaction.change(&[Change::put("a", "2"), Change::create("b", "1")])?;
        let refused = transaction.change(&[Change::create("a", "3")]).is_err();
        transaction.change(&[Change::replace("a", "1", Some("0".into()))])?;
        Ok((refused, transaction.get(&["a".into(), "c".into()])?))
    });
    let (refused, found) = outcome.await.unwrap();
    assert!(refused, "there is a value");
    assert_eq!(found, [Some("0".into()), None]);
    let pairs = store.scan(Scan::prefix("")).await.unwrap().objects;
    let wanted = [("a", "0"), ("a", "2"), ("b", "1")].map(|(k, v)| Object::new(k, v));
    assert_eq!(pairs, wanted);
    store.stop().await.unwrap();
    assert_eq!(orders(&path), Some(1));
}

#[tokio::test]
async fn the_stores_own_table_cannot_be_opened_behind_its_back() {
    let (store, _path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        let own: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kvjob");
        let opened = transaction.redb().open_table(own);
        assert!(opened.is_err());
        assert!(transaction.redb().delete_table(own).is_err());
        Ok(())
    });
    outcome.await.unwrap();
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
}
