//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use kvjob::kv::{Change, Durability, Object, Result, Scan, Store as _, Transaction as _};
use kvjob_redb::redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};
use kvjob_redb::{Engine, Options, Redb, Transaction, redb};
use kvjob_trials::transaction::{self, Shop};

const ORDERS: TableDefinition<u8, &str> = TableDefinition::new("orders");

#[derive(Clone)]
struct Bookshop {
    path: PathBuf,
    options: Options,
}

impl Shop for Bookshop {
    type Engine = Engine;

    fn open(directory: &Path, durability: Durability) -> Self {
        Self {
            path: directory.join("jobs.redb"),
            options: Options::new().durability(durability),
        }
    }

    fn store(&self) -> Redb {
        self.options.open(&self.path).unwrap()
    }

    fn order(&self, transaction: &mut Transaction<'_>, id: u8) -> Result<()> {
        let orders = transaction.redb().open_table(ORDERS);
        let mut orders = orders.map_err(kvjob_redb::error)?;
        orders.insert(id, "a book").map_err(kvjob_redb::error)?;
        Ok(())
    }

    fn orders(&self) -> u64 {
        let database = redb::Database::open(&self.path).unwrap();
        let transaction = database.begin_read().unwrap();
        match transaction.open_table(ORDERS) {
            Ok(orders) => orders.len().unwrap(),
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => panic!("{error}"),
        }
    }
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
async fn on_a_bag_it_changes_pairs_and_reads_what_it_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Bookshop {
        path: directory.path().join("jobs.redb"),
        options: Options::new().bag(),
    };
    let store = shop.store();
    let within = shop.clone();
    store.set(Object::new("a", "1")).await.unwrap();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
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
    drop(store);
    assert_eq!(shop.orders(), 1);
}

#[tokio::test]
async fn the_stores_own_table_cannot_be_opened_behind_its_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = kvjob_redb::open(directory.path().join("jobs.redb")).unwrap();
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
