//! An order is saved and its mail enqueued together, or neither is (protocol rule 18).

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{
    Claim, Done, Enqueued, Error, KeyMode, KvStore, NewJob, Options, Query, QueueStore as _,
    Receipt, StateStore as _, Store as _,
};
use kvjob::kv::{self, ErrorKind, Store as _};
use kvjob::testkit::ManualClock;
use kvjob_redb::redb::{ReadableDatabase as _, TableDefinition};
use kvjob_redb::{Redb, Transaction, redb};
use kvjob_tests::within;

const ORDERS: TableDefinition<u64, &str> = TableDefinition::new("orders");

struct Shop {
    path: std::path::PathBuf,
    store: Arc<Redb>,
    jobs: KvStore,
    _directory: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.redb");
        let store = Arc::new(kvjob_redb::open(&path).unwrap());
        let jobs = KvStore::open(store.clone(), Options::default())
            .await
            .unwrap();
        Self {
            path,
            store,
            jobs,
            _directory: directory,
        }
    }

    /// Saves an order and does what is asked for with the same transaction.
    async fn order<R: Send + 'static>(
        &self,
        id: u64,
        also: impl FnOnce(&KvStore, &mut Transaction<'_>) -> kv::Result<R> + Send + 'static,
    ) -> kv::Result<R> {
        let jobs = self.jobs.clone();
        self.store
            .with_transaction(move |transaction| {
                save(transaction, id)?;
                also(&jobs, transaction)
            })
            .await
    }

    /// The mails that wait, and the orders that are saved, in the file.
    async fn close(self) -> (usize, u64) {
        let mails = self.jobs.lookup(&Query::new()).await.unwrap().items.len();
        self.jobs.stop().await.unwrap();
        self.store.stop().await.unwrap();
        let database = redb::Database::open(&self.path).unwrap();
        let transaction = database.begin_read().unwrap();
        let orders = transaction.open_table(ORDERS).map_or(0, |orders| {
            redb::ReadableTableMetadata::len(&orders).unwrap()
        });
        (mails, orders)
    }
}

fn save(transaction: &Transaction<'_>, id: u64) -> kv::Result<()> {
    let orders = transaction.redb().open_table(ORDERS);
    let mut orders = orders.map_err(kvjob_redb::error)?;
    orders.insert(id, "a book").map_err(kvjob_redb::error)?;
    Ok(())
}

fn mail(to: &str) -> NewJob {
    NewJob::new("mail", to).unwrap()
}

fn enqueue(
    jobs: &KvStore,
    transaction: &mut Transaction<'_>,
    job: NewJob,
) -> kv::Result<(Enqueued, Receipt)> {
    Ok(jobs.enqueue_within(transaction, job)?)
}

#[tokio::test]
async fn the_order_and_its_mail_are_saved_together() {
    within(async {
        let shop = Shop::open().await;
        let outcome = shop.order(7, |jobs, tx| enqueue(jobs, tx, mail("ada")));
        let (enqueued, receipt) = outcome.await.unwrap();
        assert!(enqueued.is_new);
        receipt.committed().await;
        let claimed = shop.jobs.claim(Claim::new("postman")).await.unwrap().jobs;
        assert_eq!(claimed[0].job.id, enqueued.job.id);
        assert_eq!(claimed[0].job.payload.parse::<String>().unwrap(), "ada");
        shop.jobs.complete(&claimed[0].lease).await.unwrap();
        assert_eq!(shop.jobs.history(enqueued.job.id).await.unwrap().len(), 3);
        assert_eq!(shop.close().await, (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_rollback_leaves_neither() {
    within(async {
        let shop = Shop::open().await;
        let outcome = shop.order(7, |jobs, tx| {
            let (_, receipt) = enqueue(jobs, tx, mail("ada").key("order/7"))?;
            drop(receipt);
            Err::<(), _>(kv::Error::new(ErrorKind::Backend, "out of books"))
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "out of books");
        // Its key is free, too.
        let again = shop
            .jobs
            .enqueue(mail("grace").key("order/7"))
            .await
            .unwrap();
        assert!(again.is_new);
        assert_eq!(shop.close().await, (1, 0));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_cannot_be_rolls_the_order_back() {
    within(async {
        let shop = Shop::open().await;
        let outcome = shop.order(7, |jobs, tx| {
            enqueue(jobs, tx, mail("ada").max_attempts(0)).map(drop)
        });
        let error = outcome.await.unwrap_err();
        assert!(error.to_string().contains("max-attempts"), "{error}");
        assert_eq!(shop.close().await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_transaction_sees_its_own_jobs() {
    within(async {
        let shop = Shop::open().await;
        let large = "large ".repeat(1000);
        let outcome = shop.order(7, move |jobs, tx| {
            let (first, _) = enqueue(jobs, tx, mail(&large).key("order/7"))?;
            let (second, receipt) = enqueue(jobs, tx, mail("other").key("order/7"))?;
            let (third, _) = enqueue(jobs, tx, mail("third"))?;
            Ok((first, second, third, receipt))
        });
        let (first, second, third, receipt) = outcome.await.unwrap();
        receipt.committed().await;
        assert!(first.is_new && !second.is_new && third.is_new);
        assert_eq!(first.job.id, second.job.id);
        assert_eq!(second.job.payload.as_str().len(), 6002);
        // And those stored before it.
        let outcome = shop.order(8, |jobs, tx| enqueue(jobs, tx, mail("x").key("order/7")));
        assert_eq!(outcome.await.unwrap().0.job.id, first.job.id);
        assert_eq!(shop.close().await, (2, 2));
    })
    .await;
}

#[tokio::test]
async fn a_job_is_replaced_with_the_order_or_not_at_all() {
    within(async {
        let shop = Shop::open().await;
        let first = shop.jobs.enqueue(mail("ada").key("order/7")).await.unwrap();
        let large = "large ".repeat(1000);
        let replacing = mail(&large).key("order/7").key_mode(KeyMode::Replace);
        let job = replacing.clone();
        let outcome = shop.order(7, |jobs, tx| {
            // Its transaction is rolled back: nobody is to be told.
            let _receipt = enqueue(jobs, tx, job)?;
            Err::<(), _>(kv::Error::new(ErrorKind::Backend, "out of books"))
        });
        outcome.await.unwrap_err();
        let kept = shop.jobs.get(first.job.id).await.unwrap();
        assert_eq!(kept.unwrap(), first.job);
        let outcome = shop.order(8, |jobs, tx| enqueue(jobs, tx, replacing));
        let (enqueued, receipt) = outcome.await.unwrap();
        receipt.committed().await;
        assert_eq!(enqueued.done, Done::Replaced);
        let claimed = shop.jobs.claim(Claim::new("postman")).await.unwrap().jobs;
        assert_eq!(claimed[0].job.payload.parse::<String>().unwrap(), large);
        assert_eq!(shop.close().await, (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_receipt_wakes_those_who_wait() {
    within(async {
        let shop = Shop::open().await;
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
        let outcome = shop.order(7, |jobs, tx| enqueue(jobs, tx, mail("ada")));
        let (_, receipt) = outcome.await.unwrap();
        assert!(
            !activity.has_changed().unwrap(),
            "nothing is known before the receipt"
        );
        receipt.committed().await;
        activity.changed().await.unwrap();
        assert_eq!(
            shop.jobs.claim(Claim::new("w")).await.unwrap().jobs.len(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn without_its_receipt_a_job_is_found_all_the_same() {
    within(async {
        let shop = Shop::open().await;
        let clock = ManualClock::new(1);
        let options = Options::default().clock(Arc::new(clock.clone()));
        let jobs = KvStore::open(shop.store.clone(), options).await.unwrap();
        // The lanes are known, and empty.
        assert!(jobs.claim(Claim::new("w")).await.unwrap().jobs.is_empty());
        let of_same = jobs.clone();
        let outcome = shop.order(7, move |_, tx| enqueue(&of_same, tx, mail("ada")).map(drop));
        outcome.await.unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(jobs.claim(Claim::new("w")).await.unwrap().jobs.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn beside_other_callers_nothing_is_lost_or_doubled() {
    within(async {
        let shop = Arc::new(Shop::open().await);
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..8u64 {
            let shop = Arc::clone(&shop);
            tasks.spawn(async move {
                for n in 0..10 {
                    if caller % 2 == 0 {
                        shop.jobs
                            .enqueue(mail("plain").key(format!("{n}")))
                            .await
                            .map_err(drop)
                            .unwrap();
                    } else {
                        let outcome = shop.order(caller * 100 + n, move |jobs, tx| {
                            enqueue(jobs, tx, mail("within").key(format!("{n}")))
                        });
                        outcome.await.unwrap().1.committed().await;
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let shop = Arc::into_inner(shop).unwrap();
        let listed = shop.jobs.list(100, None).await.unwrap().items.len();
        assert_eq!(listed, 10);
        assert_eq!(shop.close().await, (10, 40));
    })
    .await;
}

#[tokio::test]
async fn the_errors_of_jobs_keep_their_kind() {
    let inner = kv::Error::new(ErrorKind::Conflict, "again");
    assert_eq!(
        *kv::Error::from(Error::Store(inner)).kind(),
        ErrorKind::Conflict
    );
    assert_eq!(*kv::Error::from(Error::Stopped).kind(), ErrorKind::Backend);
}
