//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use kvjob::kv::{Change, Durability, ErrorKind, Object, Result, Store as _, Transaction as _};
use kvjob_lmdb::heed::types::{Bytes, Str};
use kvjob_lmdb::heed::{self, CommitOrAbort, Database, Env, WithoutTls};
use kvjob_lmdb::{Engine, Lmdb, Options, Transaction};
use kvjob_trials::transaction::{self, Shop, saved_neither};

/// The user's side: an environment with orders in it.
#[derive(Clone)]
struct Bookshop {
    options: Options,
    env: Env<WithoutTls>,
    orders: Database<'static, Bytes, Str>,
}

impl Shop for Bookshop {
    type Engine = Engine;

    fn open(directory: &Path, durability: Durability) -> Self {
        let options = Options::new().map_size(1 << 20).durability(durability);
        let env = options.environment(directory.join("shop.lmdb"), 1).unwrap();
        let txn = env.write_txn().unwrap();
        let orders = env
            .create_databases_and_commit(txn, |opener, txn| {
                opener
                    .create_database::<Bytes, Str>(txn, Some("orders"))
                    .map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(|error: heed::Error| error.to_string());
        let orders = orders.unwrap().unwrap_commit();
        Self {
            options,
            env,
            orders,
        }
    }

    fn store(&self) -> Lmdb {
        self.options.open_in(self.env.clone()).unwrap()
    }

    fn order(&self, transaction: &mut Transaction<'_>, id: u8) -> Result<()> {
        let put = self.orders.put(transaction.lmdb(), &[id], "a book");
        put.map_err(kvjob_lmdb::error)?;
        assert_eq!(self.orders(), 0, "nobody sees it before it is committed");
        Ok(())
    }

    /// The orders, as everybody sees them.
    fn orders(&self) -> u64 {
        self.orders.len(&self.env.read_txn().unwrap()).unwrap()
    }
}

fn shop() -> (Lmdb, Bookshop, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let shop = Bookshop::open(directory.path(), Durability::Immediate);
    (shop.store(), shop, directory)
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
async fn an_error_of_lmdbs_is_given_to_the_caller_as_it_is() {
    let (store, shop, _directory) = shop();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        transaction.change(&[Change::put("ship/7", "soon")])?;
        let key = [0; 1000];
        let put = within.orders.put(transaction.lmdb(), &key, "too long");
        put.map_err(kvjob_lmdb::error)
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("MDB_BAD_VALSIZE"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<heed::Error>());
    saved_neither(&shop, store).await;
}

#[tokio::test]
async fn a_map_that_gets_full_saves_neither_side_also_where_the_body_passes_over_it() {
    for passes_over in [false, true] {
        let (store, shop, _directory) = shop();
        let within = shop.clone();
        let outcome = store.with_transaction(move |transaction| {
            within.order(transaction, 7)?;
            transaction.change(&[Change::put("ship/7", "soon")])?;
            let changed = transaction.change(&[Change::put("large", vec![0; 4 << 20])]);
            if passes_over { Ok(()) } else { changed }
        });
        let error = outcome.await.unwrap_err();
        let text = error.to_string();
        if passes_over {
            assert_eq!(error.kind(), &ErrorKind::Backend, "{text}");
            assert!(text.contains("return such errors"), "{text}");
        } else {
            let too_large = matches!(error.kind(), ErrorKind::TooLarge { what: "map", .. });
            assert!(too_large, "{error:?}");
        }
        saved_neither(&shop, store).await;
    }
}

#[tokio::test]
async fn a_nested_transaction_takes_back_what_came_in_it() {
    let (store, shop, _directory) = shop();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 6)?;
        let nested = within.env.nested_write_txn(transaction.lmdb());
        let mut nested = nested.map_err(kvjob_lmdb::error)?;
        let put = within.orders.put(&mut nested, &[7], "a book");
        put.map_err(kvjob_lmdb::error)?;
        nested.abort();
        transaction.change(&[Change::put("ship/6", "soon")])
    });
    outcome.await.unwrap();
    assert_eq!(shop.orders(), 1);
    assert!(store.get(&"ship/6".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn the_users_own_write_transaction_is_waited_for() {
    let (store, shop, _directory) = shop();
    let mut own = shop.env.write_txn().unwrap();
    shop.orders.put(&mut own, &[7], "a book").unwrap();
    let mut set = Box::pin(store.set(Object::new("a", "1")));
    let patience = Duration::from_millis(20);
    let early = tokio::time::timeout(patience, &mut set).await;
    assert!(early.is_err(), "it waits");
    own.commit().unwrap();
    set.await.unwrap();
    assert_eq!(shop.orders(), 1);
}
