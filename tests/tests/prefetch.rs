//! Jobs that workers claim ahead, on stores as they are, under the system's clock: serial queues
//! stay serial, attempts are exact, and no last attempt is spent on waiting.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use kvjob::job::{
    CheckEvent, JobId, KvStore, LaneFilter, LaneStore as _, NewJob, Options, Query,
    QueueStore as _, Rate, State, StateStore as _, Store as _,
};
use kvjob::kv::{self, Durability, Memory};
use kvjob::worker::{Builder, Context, Control, Event, Worker};
use kvjob_tests::within;
use tokio::sync::watch;

const QUEUES: usize = 5;
const JOBS: usize = 150;
const WORKERS: usize = 4;

async fn on_memory<T: Future<Output = ()>>(test: impl FnOnce(Arc<KvStore>) -> T) {
    on(Arc::new(Memory::new()), test).await;
}

async fn on_redb<T: Future<Output = ()>>(test: impl FnOnce(Arc<KvStore>) -> T) {
    let directory = tempfile::tempdir().unwrap();
    let options = kvjob_redb::Options::new().durability(Durability::Memory);
    let store = options.open(directory.path().join("jobs.redb")).unwrap();
    on(Arc::new(store), test).await;
}

async fn on<T: Future<Output = ()>>(
    store: Arc<dyn kv::Store>,
    test: impl FnOnce(Arc<KvStore>) -> T,
) {
    let jobs = KvStore::open(store, Options::default()).await.unwrap();
    let jobs = Arc::new(jobs);
    within(test(jobs.clone())).await;
    let checked = jobs.check(false, |event| {
        if let CheckEvent::Found(finding) = event {
            panic!("{finding:?}");
        }
    });
    checked.await.unwrap();
    jobs.stop().await.unwrap();
}

macro_rules! on_memory_and_redb {
    ($($test:ident),* $(,)?) => {
        mod memory {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::on_memory(super::$test).await;
            }
        )*}
        mod redb {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::on_redb(super::$test).await;
            }
        )*}
    };
}

on_memory_and_redb![
    serial_queues_stay_serial_whoever_claims_ahead,
    jobs_that_are_given_back_are_not_counted_as_attempts,
    a_job_on_its_last_attempt_is_never_claimed_ahead,
    the_rate_of_a_task_holds_for_what_is_claimed_ahead_too,
];

fn worker(jobs: &Arc<KvStore>) -> Builder {
    Worker::builder(jobs.clone()).handle_signals(false)
}

async fn add(jobs: &KvStore, new: impl IntoIterator<Item = NewJob>) -> Vec<JobId> {
    let added = jobs.enqueue_many(new.into_iter().collect()).await.unwrap();
    added.into_iter().map(|added| added.job.id).collect()
}

/// Notes who is inside a queue, and who met another there.
#[derive(Clone, Default)]
struct Inside {
    of: Arc<Mutex<HashMap<String, JobId>>>,
    met: Arc<AtomicUsize>,
}

impl Inside {
    async fn queue_of(&self, context: &Context) {
        let job = context.job();
        let queue = job.queue.clone().unwrap();
        let before = self.of.lock().unwrap().insert(queue.clone(), job.id);
        self.met
            .fetch_add(usize::from(before.is_some()), Ordering::SeqCst);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.of.lock().unwrap().remove(&queue);
    }
}

async fn serial_queues_stay_serial_whoever_claims_ahead(jobs: Arc<KvStore>) {
    let new = (0..JOBS).map(|number| {
        let task = ["single", "many"][number / QUEUES % 2];
        let job = NewJob::new(task, &number).unwrap();
        job.queue(format!("queue-{}", number % QUEUES))
    });
    let ids = add(&jobs, new).await;
    let inside = Inside::default();
    let runs = (0..WORKERS).map(|_| {
        let (single, many) = (inside.clone(), inside.clone());
        let worker = worker(&jobs)
            .concurrency(3)
            .prefetch(8)
            .handler("single", move |context: Context| {
                let inside = single.clone();
                async move { inside.queue_of(&context).await }
            })
            .batch("many", 4, move |batch: Vec<Context>| {
                let inside = many.clone();
                async move {
                    join_all(batch.iter().map(|context| inside.queue_of(context))).await;
                }
            });
        worker.build().unwrap()
    });
    let runs: Vec<Worker> = runs.collect();
    let controls: Vec<_> = runs.iter().map(Worker::control).collect();
    let ended = AtomicUsize::new(0);
    let listen = join_all(runs.iter().map(Worker::events).map(async |mut events| {
        while let Ok(event) = events.recv().await {
            if matches!(event, Event::Ended { .. })
                && ended.fetch_add(1, Ordering::SeqCst) + 1 == JOBS
            {
                controls.iter().for_each(Control::stop);
            }
        }
    }));
    let runs = join_all(runs.into_iter().map(Worker::run));
    let (ran, _) = futures::join!(runs, listen);
    assert!(ran.iter().all(Result::is_ok), "{ran:?}");
    assert_eq!(inside.met.load(Ordering::SeqCst), 0);
    for id in ids {
        let job = jobs.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
    }
}

async fn count(jobs: &KvStore, state: State) -> usize {
    let counts = jobs.stats().await.unwrap();
    let count = counts.states.get(&state).copied().unwrap_or(0);
    usize::try_from(count).unwrap()
}

async fn jobs_that_are_given_back_are_not_counted_as_attempts(jobs: Arc<KvStore>) {
    let new = (0..6).map(|number| {
        let job = NewJob::new("task", &number).unwrap();
        // Half of them in one queue, which the first of them blocks.
        if number % 2 == 0 {
            job.queue("queue")
        } else {
            job
        }
    });
    let ids = add(&jobs, new).await;
    let (begun, mut has_begun) = watch::channel(None);
    let handler = move |context: Context| {
        begun.send_replace(Some(context.job().id));
        std::future::pending::<()>()
    };
    let worker = worker(&jobs).prefetch(10).handler("task", handler);
    let worker = worker.build().unwrap();
    let control = worker.control();
    let run = tokio::spawn(worker.run());
    has_begun.wait_for(Option::is_some).await.unwrap();
    let running = has_begun.borrow().unwrap();
    // Claimed in one go: one of the queue, and the three others.
    assert_eq!(count(&jobs, State::Running).await, 4);
    control.stop_now();
    run.await.unwrap().unwrap();
    assert!(ids.contains(&running));
    for id in ids {
        let job = jobs.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts), (State::Ready, 0));
    }
}

async fn a_job_on_its_last_attempt_is_never_claimed_ahead(jobs: Arc<KvStore>) {
    let new = (0..8).map(|number| {
        let job = NewJob::new("task", &number).unwrap();
        job.max_attempts(if number % 2 == 0 { 1 } else { 2 })
    });
    let ids = add(&jobs, new).await;
    // As each job begins: nobody else is held on his last attempt.
    let store = jobs.clone();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let handler = move |context: Context| {
        let (store, count) = (store.clone(), count.clone());
        async move {
            let running = Query::new().states([State::Running]);
            for job in store.lookup(&running).await.unwrap().items {
                let waits = job.id != context.job().id;
                let last = job.attempts >= job.max_attempts;
                count.fetch_add(usize::from(waits && last), Ordering::SeqCst);
            }
        }
    };
    let worker = worker(&jobs).prefetch(3).handler("task", handler);
    worker.build().unwrap().run_once().await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    for id in ids {
        let job = jobs.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts), (State::Completed, 1));
        let steps = jobs.history(id).await.unwrap().into_iter();
        let begun = steps.filter(|step| step.state == State::Running);
        assert_eq!(begun.count(), 1);
    }
}

async fn the_rate_of_a_task_holds_for_what_is_claimed_ahead_too(jobs: Arc<KvStore>) {
    // One now, and the next in an hour.
    let rate = Rate::new(1, std::time::Duration::from_secs(3600));
    let task = LaneFilter::all().task("limited");
    jobs.limit(&task, Some(rate)).await.unwrap();
    let new = ["limited", "limited", "free", "free"];
    add(&jobs, new.map(|task| NewJob::new(task, &()).unwrap())).await;
    let ran = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = ran.clone();
    let free = Arc::new(AtomicBool::new(false));
    let handler = move |context: Context| {
        let task = context.job().lane.task.clone();
        *seen.lock().unwrap().entry(task).or_insert(0) += 1;
        free.store(true, Ordering::SeqCst);
        async {}
    };
    let worker = worker(&jobs).prefetch(10).fallback(handler);
    let worker = worker.build().unwrap();
    let control = worker.control();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run());
    // Once nothing may go any more.
    let mut ended = 0;
    loop {
        match events.recv().await.unwrap() {
            Event::Ended { .. } => ended += 1,
            Event::ClaimEmpty if ended == 3 => break,
            _ => {}
        }
    }
    control.stop();
    run.await.unwrap().unwrap();
    let expected = [("free".to_owned(), 2), ("limited".to_owned(), 1)];
    assert_eq!(*ran.lock().unwrap(), BTreeMap::from(expected));
}
