//! Running until nothing is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvjob::job::State;
use kvjob::worker::Context;

use crate::support::{Bench, SECOND, job, outage, within};

#[tokio::test]
async fn running_once_ends_when_nothing_is_due_and_nothing_runs() {
    let bench = Bench::new().await;
    let future = bench
        .enqueue(job("task").run_at(bench.after(60 * SECOND)))
        .await;
    let failing = bench.add("failing").await;
    bench.add("parent").await;
    let children = Arc::new(AtomicUsize::new(0));
    let count = children.clone();
    let worker = bench
        .worker()
        .concurrency(4)
        .handler("failing", async |_| Err::<(), _>("no"))
        .handler("parent", async |context: Context| {
            tokio::task::yield_now().await;
            context.store().enqueue(job("task")).await.map(drop)
        })
        .handler("task", move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async {}
        });
    within(worker.build().unwrap().run_once()).await.unwrap();
    assert_eq!(children.load(Ordering::SeqCst), 1);
    assert_eq!(bench.get(failing).await.state, State::Scheduled);
    let future = bench.get(future).await;
    assert_eq!((future.state, future.attempts), (State::Scheduled, 0));
}

#[tokio::test]
async fn running_once_gives_up_an_outage_after_five_tries() {
    let bench = Bench::new().await;
    bench.store.fail("claim", usize::MAX, outage());
    let worker = bench
        .worker()
        .handler("task", async |_| ())
        .build()
        .unwrap();
    let run = tokio::spawn(worker.run_once());
    bench.pass_slowly(10 * SECOND).await;
    within(run).await.unwrap().unwrap_err();
    assert_eq!(bench.store.calls("claim"), 5);
}
