//! Job stores over one store that processes share: each stands for a process. Time stands still,
//! so what one learns of the others it has heard, and did not find by looking around.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Clock as _;
use kvjob::job::{
    Claim, JobId, KvStore, LaneFilter, LaneStore as _, Options, Query, QueueStore as _, Rate,
    Store as _,
};
use kvjob::kv::wrap::{Operation, Traced};
use kvjob::kv::{Memory, Store};
use kvjob::testkit::ManualClock;
use kvjob_tests::{Shared, text, within};

const TRIPS: [Operation; 10] = [
    Operation::Set,
    Operation::Get,
    Operation::Scan,
    Operation::Remove,
    Operation::Delete,
    Operation::GetMany,
    Operation::ScanMany,
    Operation::Commit,
    Operation::CommitAll,
    Operation::Health,
];

struct Processes<S> {
    store: Arc<S>,
    clock: ManualClock,
}

impl<S: Store> Processes<S> {
    fn on(store: S) -> Self {
        Self {
            store: Arc::new(store),
            clock: ManualClock::new(7),
        }
    }

    async fn start(&self) -> KvStore {
        let options = Options::default().clock(Arc::new(self.clock.clone()));
        let jobs = KvStore::open(self.store.clone(), options).await.unwrap();
        // Whoever has just come looks for everything once.
        assert!(take(&jobs, 1).await.is_empty());
        jobs
    }
}

async fn take(jobs: &KvStore, max: usize) -> Vec<JobId> {
    let claims = jobs.claim(Claim::new("w").max(max)).await.unwrap();
    claims.jobs.iter().map(|claimed| claimed.lease.id).collect()
}

/// Runs this, and says how often it asked the store.
async fn trips<T>(store: &Traced<impl Store>, work: impl Future<Output = T>) -> (T, u64) {
    let count = || TRIPS.iter().map(|it| store.counts(*it).calls).sum::<u64>();
    let before = count();
    let done = work.await;
    (done, count() - before)
}

async fn a_claim_asks_the_store_three_times(store: Traced<impl Store>) {
    let processes = Processes::on(store);
    let jobs = processes.start().await;
    for task in ["a", "b", "c"] {
        for number in 0..100 {
            let large = "x".repeat(if number % 2 == 0 { 1 } else { 2_000 });
            jobs.enqueue(text(task, &large)).await.unwrap();
        }
    }
    assert_eq!(take(&jobs, 64).await.len(), 64);
    for _ in 0..3 {
        let (taken, trips) = trips(&processes.store, take(&jobs, 64)).await;
        assert_eq!((taken.len(), trips), (64, 3));
    }
    let (taken, trips) = trips(&processes.store, take(&jobs, 64)).await;
    assert_eq!(taken.len(), 300 - 4 * 64, "and then there is none");
    assert!(trips <= 4, "the end is looked for in one more: {trips}");
}

#[tokio::test]
async fn a_claim_of_64_jobs_with_large_arguments_in_three_lanes_asks_a_shared_store_three_times() {
    within(a_claim_asks_the_store_three_times(Traced::new(Shared(
        Memory::new(),
    ))))
    .await;
}

#[tokio::test]
async fn and_so_it_does_with_a_store_of_its_own() {
    within(a_claim_asks_the_store_three_times(Traced::new(
        Memory::new(),
    )))
    .await;
}

#[tokio::test]
async fn a_claim_in_vain_asks_once() {
    within(async {
        let processes = Processes::on(Traced::new(Shared(Memory::new())));
        let jobs = processes.start().await;
        let (taken, trips) = trips(&processes.store, take(&jobs, 64)).await;
        assert_eq!((taken.len(), trips), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn many_lanes_are_looked_for_in_few_trips() {
    within(async {
        let processes = Processes::on(Traced::new(Shared(Memory::new())));
        let jobs = processes.start().await;
        let many = (0..200).map(|task| text(&format!("task-{task}"), "x"));
        jobs.enqueue_many(many.collect()).await.unwrap();
        processes.clock.advance(Duration::from_secs(2));
        let one = Claim::new("w");
        let (_, trips) = trips(&processes.store, jobs.claim(one)).await;
        assert!(trips <= 6, "{trips}");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_another_process_stores_is_heard_of_at_once() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let (here, there) = (processes.start().await, processes.start().await);
        let mut activity = here.activity();
        for task in ["first", "second", "first"] {
            // Whatever was heard before is old.
            while take(&here, 1).await.is_empty() {
                activity.mark_unchanged();
                let stored = there.enqueue(text(task, "x").tenant("ada")).await;
                assert!(stored.is_ok());
                activity.changed().await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_better_job_of_another_process_goes_first() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let (here, there) = (processes.start().await, processes.start().await);
        for _ in 0..3 {
            here.enqueue(text("a", "x")).await.unwrap();
        }
        take(&here, 1).await;
        let mut activity = here.activity();
        activity.mark_unchanged();
        let urgent = there.enqueue(text("b", "x").priority(-5)).await.unwrap();
        activity.changed().await.unwrap();
        assert_eq!(take(&here, 1).await, [urgent.job.id]);
    })
    .await;
}

#[tokio::test]
async fn a_scheduled_job_and_a_request_to_stop_are_heard_of() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let (here, there) = (processes.start().await, processes.start().await);
        let mut activity = here.activity();
        let soon = processes.clock.now().after(Duration::from_secs(60));
        there
            .enqueue(text("later", "x").run_at(soon))
            .await
            .unwrap();
        activity.changed().await.unwrap();
        let due = here.claim(Claim::new("w")).await.unwrap().next_due;
        assert_eq!(due, Some(soon));

        let id = here.enqueue(text("a", "x")).await.unwrap().job.id;
        assert_eq!(take(&here, 1).await, [id]);
        activity.mark_unchanged();
        there.cancel(&Query::new().id(id)).await.unwrap();
        activity.changed().await.unwrap();
        assert_eq!(here.canceled().await.unwrap(), [id]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_compete_take_each_job_once() {
    const JOBS: usize = 2_000;
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let first = processes.start_among_others().await;
        let many = (0..JOBS).map(|_| text("a", "x")).collect();
        first.enqueue_many(many).await.unwrap();
        let mut rivals = Vec::new();
        for _ in 0..4 {
            let jobs = processes.start_among_others().await;
            rivals.push(tokio::spawn(async move {
                let mut taken = Vec::new();
                loop {
                    match take(&jobs, 8).await {
                        some if some.is_empty() => return taken,
                        some => taken.extend(some),
                    }
                }
            }));
        }
        let mut taken = Vec::new();
        for rival in rivals {
            taken.extend(rival.await.unwrap());
        }
        assert_eq!(taken.len(), JOBS);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), JOBS);
    })
    .await;
}

impl<S: Store> Processes<S> {
    /// One for which time passes, as those need it who wait a moment after a conflict.
    async fn start_among_others(&self) -> KvStore {
        let jobs = KvStore::open(self.store.clone(), Options::default()).await;
        jobs.unwrap()
    }
}

#[tokio::test]
async fn a_job_store_that_stops_no_longer_listens() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let (here, there) = (processes.start().await, processes.start().await);
        here.stop().await.unwrap();
        there.enqueue(text("a", "x")).await.unwrap();
        assert_eq!(take(&there, 1).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_pause_and_a_resume_in_one_process_are_heard_of_in_another() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let (here, there) = (processes.start().await, processes.start().await);
        let mail = LaneFilter::all().task("mail");
        let id = here.enqueue(text("mail", "x")).await.unwrap().job.id;
        let mut activity = here.activity();
        activity.mark_unchanged();
        there.pause(&mail).await.unwrap();
        activity.changed().await.unwrap();
        assert!(take(&here, 1).await.is_empty());
        activity.mark_unchanged();
        there.resume(&mail).await.unwrap();
        activity.changed().await.unwrap();
        assert_eq!(take(&here, 1).await, [id]);
    })
    .await;
}

#[tokio::test]
async fn two_processes_that_set_different_things_both_have_their_way() {
    within(async {
        let processes = Processes::on(Shared(Memory::new()));
        let here = processes.start_among_others().await;
        let there = processes.start_among_others().await;
        let mail = LaneFilter::all().task("mail");
        let rate = Rate::new(1, Duration::from_secs(1));
        for _ in 0..50 {
            let (paused, limited) =
                futures::join!(here.pause(&mail), there.limit(&mail, Some(rate)));
            assert!(paused.unwrap() && limited.unwrap());
            let set = here.lane_settings(2, None).await.unwrap().items;
            assert_eq!(set.len(), 1);
            assert!(set[0].paused_at.is_some());
            assert_eq!(set[0].rate, Some(rate));
            let (resumed, limited) = futures::join!(there.resume(&mail), here.limit(&mail, None));
            assert!(resumed.unwrap() && limited.unwrap());
        }
    })
    .await;
}
