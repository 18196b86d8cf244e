//! A transaction of the user's own: an order and its mail are saved together, or neither is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::job::{
    self, Claim, KvStore, NewJob, Query, QueueStore as _, Receipt, StateStore as _, Store as _,
};
use kvjob::kv::{
    AsyncTransaction as _, Atomic as _, Change, ErrorKind, Event, Key, Object, Store as _, Watch,
};
use kvjob_postgres::tokio_postgres::{self, Client, IsolationLevel, NoTls};
use kvjob_postgres::{Options, Postgres};
use kvjob_servers::{Server, postgres};

/// A shop: its own connection, and a job store in the same database.
struct Shop {
    client: Client,
    store: Arc<Postgres>,
    jobs: KvStore,
    server: Server,
}

async fn connect(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres::url(server), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

impl Shop {
    async fn open() -> Self {
        let server = postgres::with(&["fsync=off"]);
        let client = connect(&server).await;
        client
            .batch_execute("CREATE TABLE orders (id bigint PRIMARY KEY, what text NOT NULL)")
            .await
            .unwrap();
        let store = Arc::new(kvjob_postgres::open(&postgres::url(&server)).await.unwrap());
        let jobs = KvStore::open(store.clone(), job::Options::default());
        Self {
            client,
            jobs: jobs.await.unwrap(),
            store,
            server,
        }
    }

    /// Saves an order and enqueues its mail, and commits or not.
    async fn order(&mut self, id: i64, to: &str, commit: bool) -> job::Result<Option<Receipt>> {
        let transaction = self.client.transaction().await.unwrap();
        let order = "INSERT INTO orders VALUES ($1, 'a book')";
        transaction.execute(order, &[&id]).await.unwrap();
        let mail = NewJob::new("mail", to)?.key(format!("order/{id}"));
        let mut within = self.store.within(&transaction);
        let (enqueued, receipt) = self.jobs.enqueue_within_async(&mut within, mail).await?;
        assert!(enqueued.is_new);
        if commit {
            transaction.commit().await.unwrap();
            Ok(Some(receipt))
        } else {
            transaction.rollback().await.unwrap();
            Ok(None)
        }
    }

    /// Orders and mails that are there.
    async fn saved(&self) -> (i64, usize) {
        let orders = self.client.query_one("SELECT count(*) FROM orders", &[]);
        let mails = self.jobs.lookup(&Query::new()).await.unwrap();
        (orders.await.unwrap().get(0), mails.items.len())
    }
}

#[tokio::test]
async fn an_order_and_its_mail_are_saved_together_or_neither() {
    let mut shop = Shop::open().await;
    assert!(shop.order(7, "ada", false).await.unwrap().is_none());
    assert_eq!(shop.saved().await, (0, 0));

    let receipt = shop.order(7, "ada", true).await.unwrap().unwrap();
    receipt.committed().await;
    assert_eq!(shop.saved().await, (1, 1));
    let claimed = shop.jobs.claim(Claim::new("postman")).await.unwrap().jobs;
    assert_eq!(claimed[0].job.payload.parse::<String>().unwrap(), "ada");
    shop.jobs.complete(&claimed[0].lease).await.unwrap();
    assert_eq!(shop.jobs.history(claimed[0].job.id).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_connection_that_is_lost_before_the_commit_saves_neither() {
    let mut shop = Shop::open().await;
    let mut lost = connect(&shop.server).await;
    let transaction = lost.transaction().await.unwrap();
    let order = "INSERT INTO orders VALUES (7, 'a book')";
    transaction.execute(order, &[]).await.unwrap();
    let mail = NewJob::new("mail", "ada").unwrap().key("order/7");
    let mut within = shop.store.within(&transaction);
    let enqueued = shop.jobs.enqueue_within_async(&mut within, mail);
    let (_, receipt) = enqueued.await.unwrap();
    drop(receipt);
    drop(transaction);
    drop(lost);
    // Waits for the locks of the other one, so that its end is known.
    shop.order(7, "grace", true).await.unwrap();
    assert_eq!(shop.saved().await, (1, 1));
}

#[tokio::test]
async fn a_receipt_wakes_those_who_wait_in_this_process_and_in_others() {
    let mut shop = Shop::open().await;
    let other = kvjob_postgres::open(&postgres::url(&shop.server)).await;
    let other = other.unwrap();
    let mut hears = Watch::watch(&other, &Key::EMPTY).await.unwrap();
    let mut activity = shop.jobs.activity();
    assert!(
        shop.jobs
            .claim(Claim::new("w"))
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    activity.mark_unchanged();
    let receipt = shop.order(7, "ada", true).await.unwrap().unwrap();
    assert!(
        !activity.has_changed().unwrap(),
        "nothing is known before the receipt"
    );
    receipt.committed().await;
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, activity.changed())
        .await
        .unwrap()
        .unwrap();
    tokio::time::timeout(patience, hears.next())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_transaction_sees_its_own_jobs_and_those_of_before() {
    let mut shop = Shop::open().await;
    let transaction = shop.client.transaction().await.unwrap();
    let mut within = shop.store.within(&transaction);
    let large = "large ".repeat(1000);
    let first = NewJob::new("mail", &large).unwrap().key("order/7");
    let (first, _) = shop
        .jobs
        .enqueue_within_async(&mut within, first)
        .await
        .unwrap();
    let second = NewJob::new("mail", "other").unwrap().key("order/7");
    let (second, receipt) = shop
        .jobs
        .enqueue_within_async(&mut within, second)
        .await
        .unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!(first.job.id, second.job.id);
    assert_eq!(second.job.payload.as_str().len(), 6002);
    transaction.commit().await.unwrap();
    receipt.committed().await;
    assert_eq!(shop.saved().await, (0, 1));
}

#[tokio::test]
async fn a_savepoint_takes_back_what_came_after_it_on_both_sides() {
    let mut shop = Shop::open().await;
    let mut transaction = shop.client.transaction().await.unwrap();
    let put = [Change::put("kept", "1")];
    shop.store.within(&transaction).change(&put).await.unwrap();
    let savepoint = transaction.savepoint("here").await.unwrap();
    let order = "INSERT INTO orders VALUES (7, 'a book')";
    savepoint.execute(order, &[]).await.unwrap();
    let put = [Change::put("gone", "1")];
    shop.store.within(&savepoint).change(&put).await.unwrap();
    savepoint.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    let found = shop.store.get_many(&["kept".into(), "gone".into()]).await;
    let found: Vec<bool> = found.unwrap().iter().map(Option::is_some).collect();
    assert_eq!((shop.saved().await.0, found), (0, vec![true, false]));
}

#[tokio::test]
async fn a_condition_that_fails_is_told_and_leaves_the_transaction_usable() {
    let mut shop = Shop::open().await;
    shop.store.set(Object::new("a", "1")).await.unwrap();
    let transaction = shop.client.transaction().await.unwrap();
    let mut within = shop.store.within(&transaction);
    let changes = [Change::put("b", "1"), Change::create("a", "2")];
    let error = within.change(&changes).await.unwrap_err();
    let indices = vec![1];
    assert_eq!(error.kind(), &ErrorKind::ConditionFailed { indices });
    let got = within.get(&["a".into(), "b".into()]).await.unwrap();
    assert_eq!(got, [Some("1".into()), None]);
    within.change(&[Change::put("c", "1")]).await.unwrap();
    transaction.commit().await.unwrap();
    let got = shop.store.get(&"c".into()).await.unwrap();
    assert!(got.is_some());
}

#[tokio::test]
async fn a_stricter_isolation_never_believes_what_is_stale() {
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let mut shop = Shop::open().await;
        shop.store.set(Object::new("a", "1")).await.unwrap();
        let begin = shop.client.build_transaction().isolation_level(level);
        let transaction = begin.start().await.unwrap();
        let mut within = shop.store.within(&transaction);
        let keys = ["a".into(), "b".into()];
        let before = within.get(&keys).await.unwrap();
        assert_eq!(before, [Some("1".into()), None]);
        // Somebody else is quicker.
        let quicker = vec![
            Change::replace("a", "1", Some("2".into())),
            Change::put("b", "2"),
        ];
        shop.store.commit(quicker).await.unwrap();
        for stale in [
            Change::replace("a", "1", Some("3".into())),
            Change::create("b", "3"),
        ] {
            let error = shop.store.within(&transaction).change(&[stale]).await;
            let error = error.unwrap_err();
            assert!(!error.maybe_applied(), "{error:?}");
        }
        transaction.rollback().await.unwrap();
        let found = shop.store.get_many(&keys).await.unwrap();
        let values: Vec<_> = found.into_iter().map(|it| it.unwrap().value).collect();
        assert_eq!(values, ["2", "2"]);
    }
}

#[tokio::test]
async fn a_commit_that_waits_for_a_long_transaction_ends_as_a_conflict() {
    let mut shop = Shop::open().await;
    let options = Options::new().timeout(Duration::from_millis(500));
    let impatient = options.open(&postgres::url(&shop.server)).await.unwrap();
    shop.store.set(Object::new("a", "1")).await.unwrap();
    let transaction = shop.client.transaction().await.unwrap();
    let mine = [Change::replace("a", "1", Some("mine".into()))];
    shop.store.within(&transaction).change(&mine).await.unwrap();
    let theirs = vec![Change::replace("a", "1", Some("theirs".into()))];
    let error = impatient.commit(theirs).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Conflict, "{error:?}");
    transaction.commit().await.unwrap();
    let found = shop.store.get(&"a".into()).await.unwrap().unwrap();
    assert_eq!(found.value, "mine");
    let heard = Watch::watch(&impatient, &Key::EMPTY).await.unwrap();
    impatient.stop().await.unwrap();
    let rest: Vec<Event> = heard.collect().await;
    assert!(rest.is_empty(), "{rest:?}");
    shop.jobs.stop().await.unwrap();
}
