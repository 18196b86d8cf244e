//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::job::{
    self, Claim, KvStore, NewJob, Query, QueueStore as _, Receipt, StateStore as _, Store as _,
};
use kvjob::kv::{
    Change, Durability, Error, ErrorKind, Event, Key, Object, Scan, Store, Transaction as _, Watch,
};
use kvjob_lmdb::heed::types::{Bytes, Str};
use kvjob_lmdb::heed::{self, CommitOrAbort, Database, Env, WithoutTls};
use kvjob_lmdb::{Lmdb, Options, Transaction};

/// The user's side: an environment with orders in it.
#[derive(Clone)]
struct Shop {
    env: Env<WithoutTls>,
    orders: Database<'static, Bytes, Str>,
}

impl Shop {
    fn open(path: &std::path::Path) -> Self {
        let options = Options::new().map_size(1 << 20);
        let env = options.environment(path.join("shop.lmdb"), 1).unwrap();
        let txn = env.write_txn().unwrap();
        let orders = env
            .create_databases_and_commit(txn, |opener, txn| {
                opener
                    .create_database::<Bytes, Str>(txn, Some("orders"))
                    .map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(|error: heed::Error| error.to_string());
        let orders = orders.unwrap().unwrap_commit();
        Self { env, orders }
    }

    fn store(&self) -> Lmdb {
        Options::new().open_in(self.env.clone()).unwrap()
    }

    /// The orders, as everybody sees them.
    fn orders(&self) -> u64 {
        self.orders.len(&self.env.read_txn().unwrap()).unwrap()
    }

    fn order(&self, transaction: &mut Transaction<'_>, id: u8) -> Result<(), Error> {
        let put = self.orders.put(transaction.lmdb(), &[id], "a book");
        put.map_err(kvjob_lmdb::error)
    }

    /// That nothing of a transaction is there, and that the store goes on.
    async fn assert_neither(&self, store: &Lmdb) {
        assert_eq!(self.orders(), 0);
        assert!(store.get(&"ship/7".into()).await.unwrap().is_none());
        store
            .set(Object::new("the store", "goes on"))
            .await
            .unwrap();
    }
}

fn shop() -> (Lmdb, Shop, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::open(directory.path());
    (shop.store(), shop, directory)
}

#[tokio::test]
async fn both_sides_are_saved_together_and_watchers_are_told() {
    let (store, shop, _directory) = shop();
    let mut heard = Watch::watch(&store, &Key::from("ship/")).await.unwrap();
    let within = shop.clone();
    let answer = store
        .with_transaction(move |transaction| {
            within.order(transaction, 7)?;
            transaction.change(&[Change::create("ship/7", "soon"), Change::put("x", "")])?;
            assert_eq!(within.orders(), 0, "nobody sees it before it is committed");
            Ok("placed")
        })
        .await;
    assert_eq!(answer.unwrap(), "placed");
    assert_eq!(heard.next().await, Some(Event::Changed("ship/7".into())));
    assert!(store.get(&"ship/7".into()).await.unwrap().is_some());
    assert_eq!(shop.orders(), 1);
}

#[tokio::test]
async fn an_error_saves_neither_side() {
    let (store, shop, _directory) = shop();
    store.set(Object::new("ship/8", "already")).await.unwrap();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "1")])?;
        transaction.change(&[Change::create("ship/8", "soon")])
    });
    let error = outcome.await.unwrap_err();
    let indices = vec![0];
    assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
    shop.assert_neither(&store).await;
}

#[tokio::test]
async fn a_panic_saves_neither_side_and_the_store_goes_on() {
    let (store, shop, _directory) = shop();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        let missing: u32 = "not a number".parse().unwrap();
        Ok(missing)
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    shop.assert_neither(&store).await;
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
    shop.assert_neither(&store).await;
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
        shop.assert_neither(&store).await;
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
async fn it_reads_what_it_wrote_in_both_directions() {
    let (store, _shop, _directory) = shop();
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

/// An order and the job that mails it, in one transaction.
async fn order_with_mail(
    store: &Lmdb,
    shop: &Shop,
    jobs: &KvStore,
    also: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<Receipt, Error> {
    let jobs = jobs.clone();
    let shop = shop.clone();
    store
        .with_transaction(move |transaction| {
            shop.order(transaction, 7)?;
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
    for durability in [Durability::Immediate, Durability::Memory] {
        let directory = tempfile::tempdir().unwrap();
        let shop = Shop::open(directory.path());
        let options = Options::new().durability(durability);
        let store = Arc::new(options.open_in(shop.env.clone()).unwrap());
        let jobs = KvStore::open(store.clone(), job::Options::default());
        let jobs = jobs.await.unwrap();

        let out_of_books = || Err(Error::new(ErrorKind::Backend, "out of books"));
        let rolled_back = order_with_mail(&store, &shop, &jobs, out_of_books).await;
        assert_eq!(rolled_back.unwrap_err().to_string(), "out of books");
        assert_eq!((shop.orders(), mails(&jobs).await), (0, 0));

        let panicked = order_with_mail(&store, &shop, &jobs, || panic!("out of paper")).await;
        assert!(panicked.unwrap_err().to_string().contains("out of paper"));
        assert_eq!((shop.orders(), mails(&jobs).await), (0, 0));

        let saved = order_with_mail(&store, &shop, &jobs, || Ok(())).await;
        saved.unwrap().committed().await;
        assert_eq!((shop.orders(), mails(&jobs).await), (1, 1));
        let claimed = jobs.claim(Claim::new("postman")).await.unwrap().jobs;
        assert_eq!(claimed.len(), 1);

        jobs.stop().await.unwrap();
        store.stop().await.unwrap();
        drop(shop);
        let shop = Shop::open(directory.path());
        let store = Arc::new(shop.store());
        let jobs = KvStore::open(store, job::Options::default()).await.unwrap();
        assert_eq!((shop.orders(), mails(&jobs).await), (1, 1));
    }
}
