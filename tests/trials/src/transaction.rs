//! A transaction shared with the user: both sides' data is saved together, or neither is.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use kvjob::job::{
    self, Claim, KvStore, NewJob, Query, QueueStore as _, Receipt, StateStore as _, Store as _,
};
use kvjob::kv::{
    Change, Durability, Embedded, Error, ErrorKind, Event, Key, Object, Result, Scan, Store as _,
    Transaction as _, Transactional, Watch,
};

/// A user of an engine, whose orders are beside the store.
pub trait Shop: Clone + Send + 'static {
    /// The engine.
    type Engine: Transactional;

    /// The shop in this directory, with the orders it has there.
    fn open(directory: &Path, durability: Durability) -> Self;

    /// Opens the store beside the orders.
    fn store(&self) -> Embedded<Self::Engine>;

    /// Adds an order. Where others can look meanwhile, they see no order yet.
    ///
    /// # Errors
    /// As the engine says.
    fn order(&self, transaction: &mut Within<'_, Self>, id: u8) -> Result<()>;

    /// How many orders there are, once the store has been stopped.
    fn orders(&self) -> u64;
}

/// A transaction of a shop's engine.
pub type Within<'t, S> = <<S as Shop>::Engine as Transactional>::Transaction<'t>;

fn new<S: Shop>() -> (Embedded<S::Engine>, S, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let shop = S::open(directory.path(), Durability::Immediate);
    (shop.store(), shop, directory)
}

/// Fails if an order or `ship/7` is there, or the store does not go on.
pub async fn saved_neither<S: Shop>(shop: &S, store: Embedded<S::Engine>) {
    assert!(store.get(&"ship/7".into()).await.unwrap().is_none());
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
    store.with_transaction(|_| Ok(())).await.unwrap();
    store.stop().await.unwrap();
    drop(store);
    assert_eq!(shop.orders(), 0);
}

/// Both sides are saved together, and watchers are told.
pub async fn both_sides<S: Shop>() {
    let (store, shop, _directory) = new::<S>();
    let mut heard = Watch::watch(&store, &Key::from("ship/")).await.unwrap();
    let within = shop.clone();
    let answer = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
        transaction.change(&[Change::create("ship/7", "soon"), Change::put("x", "")])?;
        Ok("placed")
    });
    assert_eq!(answer.await.unwrap(), "placed");
    assert_eq!(heard.next().await, Some(Event::Changed("ship/7".into())));
    assert!(store.get(&"ship/7".into()).await.unwrap().is_some());
    store.stop().await.unwrap();
    drop(store);
    assert_eq!(shop.orders(), 1);
}

/// An error saves neither side.
pub async fn an_error<S: Shop>() {
    let (store, shop, _directory) = new::<S>();
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
    saved_neither(&shop, store).await;
}

/// A panic saves neither side, and the store goes on.
pub async fn a_panic<S: Shop>() {
    let (store, shop, _directory) = new::<S>();
    let within = shop.clone();
    let outcome = store.with_transaction(move |transaction| {
        within.order(transaction, 7)?;
        transaction.change(&[Change::put("ship/7", "soon")])?;
        let missing: u32 = "not a number".parse().unwrap();
        Ok(missing)
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("rolled back"), "{error}");
    saved_neither(&shop, store).await;
}

/// It reads what it wrote, in both directions.
pub async fn reads<S: Shop>() {
    let (store, _shop, _directory) = new::<S>();
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
    let wanted = ["a/1", "a/2", "a/2", "a/1"].map(Key::from);
    assert_eq!(outcome.await.unwrap(), wanted);
}

/// An order and the job that mails it, in one transaction. Every order here has the same job key, so
/// that a job of which anything is left is in the way of the next one.
async fn order_with_mail<S: Shop>(
    shop: &S,
    store: &Embedded<S::Engine>,
    jobs: &KvStore,
    id: u8,
    also: fn() -> Result<()>,
) -> Result<Receipt> {
    let (shop, jobs) = (shop.clone(), jobs.clone());
    let ordered = store.with_transaction(move |transaction| {
        shop.order(transaction, id)?;
        let mail = NewJob::new("mail", "ada")?.key("order");
        let (enqueued, receipt) = jobs.enqueue_within(transaction, mail)?;
        assert!(enqueued.is_new);
        also()?;
        Ok(receipt)
    });
    ordered.await
}

async fn mails(jobs: &KvStore) -> usize {
    jobs.lookup(&Query::new()).await.unwrap().items.len()
}

/// An order and the job that mails it are saved together, or neither is.
pub async fn order_and_mail<S: Shop>() {
    for durability in [Durability::Immediate, Durability::Memory] {
        let directory = tempfile::tempdir().unwrap();
        let shop = S::open(directory.path(), durability);
        let (store, jobs) = with_jobs(&shop).await;

        let out_of_books = || Err(Error::new(ErrorKind::Backend, "out of books"));
        let rolled_back = order_with_mail(&shop, &store, &jobs, 5, out_of_books).await;
        assert_eq!(rolled_back.unwrap_err().to_string(), "out of books");
        assert_eq!(mails(&jobs).await, 0);

        let out_of_paper = || panic!("out of paper");
        let panicked = order_with_mail(&shop, &store, &jobs, 6, out_of_paper).await;
        assert!(panicked.unwrap_err().to_string().contains("out of paper"));
        assert_eq!(mails(&jobs).await, 0);

        let saved = order_with_mail(&shop, &store, &jobs, 7, || Ok(())).await;
        saved.unwrap().committed().await;
        assert_eq!(mails(&jobs).await, 1);
        let claimed = jobs.claim(Claim::new("postman")).await.unwrap().jobs;
        assert_eq!(claimed.len(), 1);

        jobs.stop().await.unwrap();
        store.stop().await.unwrap();
        drop((store, jobs));
        assert_eq!(shop.orders(), 1);
        drop(shop);
        let shop = S::open(directory.path(), durability);
        let (_store, jobs) = with_jobs(&shop).await;
        assert_eq!(mails(&jobs).await, 1);
    }
}

async fn with_jobs<S: Shop>(shop: &S) -> (Arc<Embedded<S::Engine>>, KvStore) {
    let store = Arc::new(shop.store());
    let jobs = KvStore::open(store.clone(), job::Options::default());
    (store, jobs.await.unwrap())
}
