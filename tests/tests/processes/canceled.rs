//! Two processes run a job each until it is canceled, which a third one does.

use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{
    Job, KvStore, NewJob, Options, Query, QueueStore as _, ResultStore as _, State,
    StateStore as _, Store as _,
};
use kvjob::worker::{Context, Outcome, Worker};
use kvjob_servers::{Server, postgres, redis};
use kvjob_tests::within;

use super::process::{Endless, Orders};

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn on_redis_a_cancellation_reaches_the_handler_in_any_process() {
    let server = redis::redis();
    let url = redis::url(&server);
    each_is_canceled_where_it_runs(&server, &url);
}

#[test]
fn on_postgres_a_cancellation_reaches_the_handler_in_any_process() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    each_is_canceled_where_it_runs(&server, &url);
}

/// One of the processes: runs a job at a time, as long as it is let.
#[test]
fn canceled_process() {
    if let Some(orders) = Orders::given() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(work(&orders));
    }
}

async fn open(url: &str) -> KvStore {
    let store = kvjob_any::open(url).await.unwrap();
    KvStore::open(store, Options::default()).await.unwrap()
}

async fn work(orders: &Orders) {
    let handler = async |context: Context| {
        context.cancelled().cancelled().await;
        Outcome::Retry("interrupted".to_owned())
    };
    let worker = Worker::builder(Arc::new(open(orders.url()).await)).handler("t", handler);
    worker.build().unwrap().run().await.unwrap();
}

fn each_is_canceled_where_it_runs(_server: &Server, url: &str) {
    let start = |name| Endless::start_as("canceled::canceled_process", url, name);
    let children = [start("one"), start("other")];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(within(cancel(url)));
    children.into_iter().for_each(Endless::kill);
}

async fn cancel(url: &str) {
    let jobs = open(url).await;
    // What others do is heard from here on.
    let mut activity = jobs.activity();
    let new = [1, 2].map(|number| NewJob::new("t", &number).unwrap());
    let added = jobs.enqueue_many(new.into()).await.unwrap();
    let running = loop {
        activity.mark_unchanged();
        let running = Query::new().states([State::Running]);
        let running: Vec<Job> = jobs.lookup(&running).await.unwrap().items;
        if running.len() == 2 {
            break running;
        }
        // A claim is no news to those who claim: it is looked for now and then.
        let _ = tokio::time::timeout(Duration::from_millis(50), activity.changed()).await;
    };
    assert_ne!(running[0].worker, running[1].worker, "one process has both");
    for added in added {
        let id = added.job.id;
        let asked = jobs.cancel(&Query::new().id(id)).await.unwrap();
        assert_eq!(asked.items.len(), 1);
        let ended = jobs.wait(id, PATIENCE).await.unwrap();
        assert_eq!(ended.state, State::Canceled, "{ended:?}");
    }
    jobs.stop().await.unwrap();
}
