//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use kvjob::job::{self, KvStore, NewJob, Query, Receipt, StateStore as _, Store as _};
use kvjob::kv::{
    Change, Error, ErrorKind, Event, Key, Object, Scan, Store, Transaction as _, Watch,
};
use kvjob_fjall::fjall::{Readable as _, SingleWriterTxDatabase};
use kvjob_fjall::{Fjall, Transaction};

fn store() -> (Fjall, std::path::PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.fjall");
    (kvjob_fjall::open(&path).unwrap(), path, directory)
}

fn order(transaction: &mut Transaction<'_>, id: u64) -> Result<(), Error> {
    let orders = transaction.keyspace("orders")?;
    let fjall = transaction.fjall();
    fjall.insert(&orders, id.to_be_bytes(), "a book");
    let written = fjall.contains_key(&orders, id.to_be_bytes());
    assert!(written.map_err(kvjob_fjall::error)?);
    Ok(())
}

fn orders(path: &Path) -> usize {
    let database = SingleWriterTxDatabase::builder(path).open().unwrap();
    let orders = database.keyspace("orders", Default::default).unwrap();
    database.read_tx().len(&orders).unwrap()
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
    assert_eq!(orders(&path), 1);
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
    assert_eq!(orders(&path), 0);
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
    // fjall's own lock on transactions was let go of, too.
    store.with_transaction(|_| Ok(())).await.unwrap();
    store.stop().await.unwrap();
    assert_eq!(orders(&path), 0);
}

#[tokio::test]
async fn it_reads_what_it_wrote_in_both_directions() {
    let (store, _path, _directory) = store();
    store.set(Object::new("a/1", "")).await.unwrap();
    store.set(Object::new("a/3", "")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[
            Change::put("a/2", ""),
            Change::remove("a/3"),
            Change::put("b", ""),
        ])?;
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
async fn the_stores_own_keyspace_is_not_handed_out() {
    let (store, _path, _directory) = store();
    let outcome = store.with_transaction(|transaction| {
        for name in ["kvjob", "", &"x".repeat(256)] {
            let error = transaction.keyspace(name).err().unwrap();
            assert_eq!(error.kind(), &ErrorKind::Unsupported);
        }
        Ok(())
    });
    outcome.await.unwrap();
}

/// An order and the job that mails it, in one transaction.
async fn order_with_mail(
    store: &Fjall,
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

#[tokio::test]
async fn an_order_and_its_mail_are_saved_together_or_neither() {
    for (also, saved) in [(None, 1), (Some("out of books"), 0)] {
        let (store, path, _directory) = store();
        let store = Arc::new(store);
        let jobs = KvStore::open(store.clone(), job::Options::default());
        let jobs = jobs.await.unwrap();
        let also = move || match also {
            Some(why) => Err(Error::new(ErrorKind::Backend, why)),
            None => Ok(()),
        };
        match order_with_mail(&store, &jobs, also).await {
            Ok(receipt) => receipt.committed().await,
            Err(error) => assert_eq!(error.to_string(), "out of books"),
        }
        let mails = jobs.lookup(&Query::new()).await.unwrap().items.len();
        assert_eq!(mails, saved);
        jobs.stop().await.unwrap();
        store.stop().await.unwrap();
        drop((jobs, store));
        assert_eq!(orders(&path), saved);
    }
}
