//! Lost answers, conflicts and competitors: nothing is lost, nothing is done twice (protocol
//! rules 2 and 15).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvjob::job::{
    Backoff, Claim, Failure, HistoryQuery, JobId, KvStore, Level, LogQuery, LogStore as _, NewJob,
    Options, Payload, Query, QueueStore as _, Selector, State, StateStore as _,
};
use kvjob::kv::wrap::{Fault, Faulty};
use kvjob::kv::{Memory, Store as _};
use kvjob_tests::{Fixture, Space, text, within};

/// What a commit may meet and still go through in the end.
const WAYS: [&[Fault]; 10] = [
    &[Fault::Conflict],
    &[Fault::Transient],
    &[Fault::ConditionFailed],
    &[Fault::LostBefore],
    &[Fault::LostAfter],
    &[Fault::LostBefore, Fault::LostAfter],
    &[Fault::LostAfter, Fault::LostBefore],
    &[Fault::LostAfter, Fault::Transient, Fault::LostBefore],
    &[
        Fault::Conflict,
        Fault::ConditionFailed,
        Fault::LostAfter,
        Fault::Conflict,
    ],
    &[
        Fault::Transient,
        Fault::Transient,
        Fault::Conflict,
        Fault::ConditionFailed,
        Fault::ConditionFailed,
    ],
];

/// Runs a test against a store that fails in each of these ways.
async fn in_every_way(test: impl AsyncFn(Fixture, Arc<Faulty<Memory>>, &'static [Fault])) {
    for way in WAYS {
        let store = Arc::new(Faulty::new(Memory::new(), 0));
        let fixture = Fixture::on(store.clone(), None).await;
        let clock = fixture.clock.clone();
        let impatient = async {
            loop {
                clock.wait_for_sleepers(1).await;
                clock.advance(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        };
        let both = async {
            tokio::select! {
                () = test(fixture, store.clone(), way) => (),
                () = impatient => (),
            }
        };
        within(both).await;
        assert!(store.is_done(), "{way:?} was not met");
    }
}

#[tokio::test]
async fn a_job_is_stored_once() {
    in_every_way(async |f, store, way| {
        store.next_writes(way.iter().copied());
        let added = f.enqueue(text("t", "").key("k")).await;
        assert!(added.is_new, "{way:?}");
        assert_eq!(f.space(Space::Job).await.len(), 1, "{way:?}");
        assert_eq!(f.space(Space::Ready).await.len(), 1, "{way:?}");
        assert_eq!(f.states(added.job.id).await, [State::Created]);
        assert!(!f.enqueue(text("t", "").key("k")).await.is_new);
    })
    .await;
}

#[tokio::test]
async fn a_job_is_claimed_once() {
    in_every_way(async |f, store, way| {
        let id = f.add("t").await.id;
        store.next_writes(way.iter().copied());
        let claimed = f.claim(9).await;
        assert_eq!(claimed.len(), 1, "{way:?}");
        assert_eq!(claimed[0].job.attempts, 1, "{way:?}");
        assert_eq!(f.job(id).await, claimed[0].job, "{way:?}");
        assert_eq!(f.states(id).await, [State::Created, State::Running]);
        assert!(f.space(Space::Ready).await.is_empty());
        f.jobs.complete(&claimed[0].lease).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_job_is_completed_once() {
    in_every_way(async |f, store, way| {
        let id = f.enqueue(text("t", "").key("k")).await.job.id;
        let claimed = f.claim_one().await;
        store.next_writes(way.iter().copied());
        let done = f.jobs.complete(&claimed.lease).await;
        assert!(done.is_ok(), "{way:?}: {done:?}");
        let states = f.states(id).await;
        assert_eq!(states, [State::Created, State::Running, State::Completed]);
        assert!(f.enqueue(text("t", "").key("k")).await.is_new);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_fails_once() {
    in_every_way(async |f, store, way| {
        let backoff = Backoff::Fixed {
            wait: Duration::from_secs(3600),
        };
        let id = f.enqueue(text("t", "").backoff(backoff)).await.job.id;
        let claimed = f.claim_one().await;
        store.next_writes(way.iter().copied());
        let outcome = f.jobs.fail(&claimed.lease, Failure::new("no")).await;
        assert!(outcome.is_ok(), "{way:?}: {outcome:?}");
        assert_eq!(outcome.unwrap().state, State::Scheduled);
        let states = f.states(id).await;
        assert_eq!(states, [State::Created, State::Running, State::Scheduled]);
        assert_eq!(f.space(Space::Scheduled).await.len(), 1, "{way:?}");
    })
    .await;
}

#[tokio::test]
async fn a_job_is_dequeued_once() {
    in_every_way(async |f, store, way| {
        let ids = [f.add("t").await.id, f.add("t").await.id];
        store.next_writes(way.iter().copied());
        let first = f.jobs.dequeue_next(&Selector::default()).await.unwrap();
        assert_eq!(first.unwrap().id, ids[0], "{way:?}");
        assert_eq!(f.listed().await, [ids[1]], "{way:?}");
        let states = f.states(ids[0]).await;
        assert_eq!(states, [State::Created, State::Taken]);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_extended_or_given_back_once() {
    in_every_way(async |f, store, way| {
        let id = f.add("t").await.id;
        let claimed = f.claim_one().await;
        let leases = [claimed.lease.clone()];
        store.next_writes(way.iter().copied());
        f.jobs
            .heartbeat(&leases, Duration::from_secs(300))
            .await
            .unwrap();
        store.next_writes(way.iter().copied());
        let answer = f.jobs.abandon(&claimed.lease).await;
        assert!(answer.is_ok(), "{way:?}: {answer:?}");
        assert_eq!(f.states(id).await.len(), 3, "{way:?}");
        assert_eq!(f.listed().await, [id]);
    })
    .await;
}

#[tokio::test]
async fn log_lines_survive_what_their_commit_meets() {
    in_every_way(async |f, store, way| {
        let id = f.add("t").await.id;
        for number in 0..3 {
            let message = number.to_string();
            f.jobs
                .log(id, Level::Info, message, BTreeMap::new())
                .await
                .unwrap();
        }
        store.next_writes(way.iter().copied());
        f.claim_one().await;
        let lines = f.jobs.logs(&LogQuery::new(id)).await.unwrap().items;
        assert_eq!(lines.len(), 3, "{way:?}");
    })
    .await;
}

#[tokio::test]
async fn steps_and_lines_are_cleared_once_and_told() {
    in_every_way(async |f, store, way| {
        let id = f.add("t").await.id;
        for number in 0..3 {
            let line = f
                .jobs
                .log(id, Level::Info, number.to_string(), BTreeMap::new());
            line.await.unwrap();
        }
        f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
        store.next_writes(way.iter().copied());
        let query = HistoryQuery::new(id);
        let steps = f.jobs.clear_history(&query).await.unwrap().items;
        assert_eq!(steps.len(), 3, "{way:?}");
        assert!(f.states(id).await.is_empty(), "{way:?}");
        store.next_writes(way.iter().copied());
        let query = LogQuery::new(id);
        let lines = f.jobs.clear_logs(&query).await.unwrap().items;
        assert_eq!(lines.len(), 3, "{way:?}");
        assert!(f.space(Space::Log).await.is_empty(), "{way:?}");
    })
    .await;
}

/// Whoever clears a history does not take away what tells another that its commit landed.
#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_known_although_its_step_was_cleared() {
    let below = Arc::new(Memory::new());
    let store = Arc::new(Faulty::new(below.clone(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let other = KvStore::open(below, f.options()).await.unwrap();
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    // It lands, and is then tried again, after a pause that is long enough.
    store.next_writes([Fault::LostAfter, Fault::Transient]);
    let clear = async {
        f.clock.wait_for_sleepers(1).await;
        let cleared = other.clear_history(&HistoryQuery::new(id)).await;
        assert_eq!(cleared.unwrap().items.len(), 3);
        loop {
            f.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    };
    let done = async {
        tokio::select! {
            done = f.jobs.complete(&claimed.lease) => done,
            () = clear => unreachable!(),
        }
    };
    within(done).await.unwrap();
    assert!(store.is_done());
    assert!(f.states(id).await.is_empty(), "it was cleared before");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lives_again_before_the_commit_keeps_its_history() {
    let below = Arc::new(Memory::new());
    let store = Arc::new(Faulty::new(below.clone(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let other = KvStore::open(below, f.options()).await.unwrap();
    let id = f.add("t").await.id;
    let query = Query::new().id(id);
    f.jobs.cancel(&query).await.unwrap();
    // What is to be cleared is planned, and on its way for a long time.
    store.next_writes([Fault::Late(Duration::from_secs(3600))]);
    let retry = async {
        while !store.is_done() {
            tokio::task::yield_now().await;
        }
        other.retry(&query).await.unwrap().items.len()
    };
    let steps = HistoryQuery::new(id);
    let (cleared, retried) = tokio::join!(f.jobs.clear_history(&steps), retry);
    assert_eq!(retried, 1);
    assert!(cleared.unwrap().items.is_empty());
    let states = [State::Created, State::Canceled, State::Ready];
    assert_eq!(f.states(id).await, states);
}

#[tokio::test]
async fn a_long_history_is_cleared_in_few_small_commits() {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let id = f.add("t").await.id;
    for _ in 0..500 {
        f.jobs.abandon(&f.claim_one().await.lease).await.unwrap();
    }
    f.jobs.cancel(&Query::new().id(id)).await.unwrap();
    assert!(f.space(Space::History).await.len() > 128);
    for (limit, most_commits) in [(100, 1), (10_000, 4)] {
        let before = store.commits().len();
        let query = HistoryQuery::new(id).limit(limit);
        let page = f.jobs.clear_history(&query).await.unwrap();
        assert_eq!(page.items.len(), if limit == 100 { 100 } else { 902 });
        let commits = store.commits()[before..].to_vec();
        assert!(commits.len() <= most_commits, "{commits:?}");
        assert!(commits.iter().all(|changes| *changes <= 65), "{commits:?}");
    }
    assert!(f.space(Space::History).await.is_empty());
}

#[tokio::test]
async fn a_line_does_not_come_back_when_nobody_knows_whether_its_job_was_removed() {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let id = f.add("t").await.id;
    let query = Query::new().id(id);
    f.jobs.cancel(&query).await.unwrap();
    let line = f
        .jobs
        .log(id, Level::Info, "last".to_owned(), BTreeMap::new());
    line.await.unwrap();
    store.next_writes([Fault::LostAfter]);
    assert!(f.jobs.purge(&query).await.is_err());
    f.jobs.expire().await.unwrap();
    assert!(f.space(Space::Job).await.is_empty());
    assert!(f.space(Space::Log).await.is_empty());
}

#[tokio::test]
async fn a_batch_of_mixed_operations_is_done_once() {
    in_every_way(async |f, store, way| {
        for _ in 0..6 {
            f.add("t").await;
        }
        let claimed = f.claim(4).await;
        store.next_writes(way.iter().copied());
        let (one, two, three, four, five) = tokio::join!(
            f.jobs.complete(&claimed[0].lease),
            f.jobs.fail(&claimed[1].lease, Failure::new("no")),
            f.jobs.abandon(&claimed[2].lease),
            f.jobs.enqueue(text("t", "")),
            f.jobs.claim(Claim::new("w").max(9).tasks(["t"])),
        );
        one.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        two.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        three.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        assert!(four.unwrap().is_new, "{way:?}");
        // Two that waited, one that was given back, one that is new.
        let mut ids: Vec<JobId> = five.unwrap().jobs.iter().map(|one| one.job.id).collect();
        ids.extend(f.claim(9).await.iter().map(|one| one.job.id));
        assert_eq!(ids.len(), 4, "{way:?}");
        for job in f.jobs.lookup(&Query::new()).await.unwrap().items {
            f.states(job.id).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_reaches_the_caller_and_changes_nothing() {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    store.next_writes([Fault::Broken]);
    assert!(f.jobs.enqueue(text("t", "")).await.is_err());
    assert!(f.space(Space::Job).await.is_empty());
    let id = f.add("t").await.id;
    store.next_writes([Fault::Broken]);
    assert!(f.jobs.claim(Claim::new("w")).await.is_err());
    let claimed = f.claim_one().await;
    assert_eq!((claimed.job.id, claimed.job.attempts), (id, 1));
    store.next_writes([Fault::Broken]);
    assert!(f.jobs.complete(&claimed.lease).await.is_err());
    f.jobs.complete(&claimed.lease).await.unwrap();
}

#[tokio::test]
async fn a_commit_holds_a_mebibyte_at_most_unless_one_job_is_larger() {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let payload = |bytes: usize| Payload::of(&"x".repeat(bytes)).unwrap();
    let before = store.commits().len();
    let added = (0..20).map(|_| {
        let job = NewJob::with_payload("t", payload(200 << 10));
        f.jobs.enqueue(job)
    });
    for one in futures::future::join_all(added).await {
        one.unwrap();
    }
    // Three keys a job: five of them fit.
    assert_eq!(store.commits()[before..], [15, 15, 15, 15]);
    // The largest payload there is goes alone, with a line logged before it in a commit before.
    let id = f.add("t").await.id;
    let before = store.commits().len();
    let line = "y".repeat(100 << 10);
    let fields = BTreeMap::new();
    f.jobs.log(id, Level::Info, line, fields).await.unwrap();
    let largest = NewJob::with_payload("t", payload((1 << 20) - 2));
    f.jobs.enqueue(largest).await.unwrap();
    assert_eq!(store.commits()[before..], [1, 3]);
}

#[tokio::test]
async fn calls_that_meet_share_a_commit() {
    let store = Arc::new(Faulty::new(Memory::new(), 0));
    let f = Fixture::on(store.clone(), None).await;
    let before = store.commits().len();
    let added = (0..100).map(|_| f.jobs.enqueue(text("t", "")));
    for one in futures::future::join_all(added).await {
        one.unwrap();
    }
    assert_eq!(store.commits()[before..], [200]);
    // A life touches five keys, and a worker record for each batch.
    let before = store.commits().len();
    let claimed = f.claim(100).await;
    assert_eq!(store.commits()[before..], [201]);
    let done = claimed.iter().map(|one| f.jobs.complete(&one.lease));
    for one in futures::future::join_all(done).await {
        one.unwrap();
    }
    assert_eq!(store.commits()[before + 1..], [100]);
}

/// Enqueues, claims and completes with many tasks; every job must be completed exactly once.
async fn all_are_done_once(stores: Vec<KvStore>, tasks: usize, count: usize) {
    let jobs_of_a_task = count / tasks;
    let done = Arc::new(Mutex::new(HashMap::<JobId, u32>::new()));
    let workers: Vec<_> = (0..tasks)
        .map(|number| {
            let store = stores[number % stores.len()].clone();
            let done = done.clone();
            tokio::spawn(async move {
                for n in 0..jobs_of_a_task {
                    let job = NewJob::new(format!("task-{}", n % 3), &n).unwrap();
                    store.enqueue(job).await.unwrap();
                }
                while done.lock().unwrap().len() < count {
                    let claim = Claim::new(format!("worker-{number}")).max(1 + number % 5);
                    let claims = store.claim(claim).await.unwrap();
                    for claimed in &claims.jobs {
                        assert_eq!(claimed.job.attempts, 1);
                        store.complete(&claimed.lease).await.unwrap();
                        *done.lock().unwrap().entry(claimed.job.id).or_default() += 1;
                    }
                    if claims.jobs.is_empty() {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        within(worker).await.unwrap();
    }
    let done = done.lock().unwrap();
    assert_eq!(done.len(), count);
    assert!(done.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_complete_every_job_exactly_once() {
    let store = Arc::new(Memory::new());
    let jobs = KvStore::open(store.clone(), Options::default())
        .await
        .unwrap();
    all_are_done_once(vec![jobs.clone()], 64, 64 * 78).await;
    check_all_completed(&jobs, 64 * 78).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn competing_stores_complete_every_job_exactly_once() {
    let store = Arc::new(Memory::new());
    let open = || KvStore::open(store.clone(), Options::default());
    let both = vec![open().await.unwrap(), open().await.unwrap()];
    all_are_done_once(both.clone(), 16, 2000).await;
    check_all_completed(&both[0], 2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn competing_stores_on_a_file_complete_every_job_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = kvjob_redb::Options::new()
        .durability(kvjob::kv::Durability::Memory)
        .open(directory.path().join("jobs.redb"))
        .unwrap();
    let store = Arc::new(store);
    let open = || KvStore::open(store.clone(), Options::default());
    let both = vec![open().await.unwrap(), open().await.unwrap()];
    all_are_done_once(both.clone(), 16, 800).await;
    check_all_completed(&both[1], 800).await;
    store.stop().await.unwrap();
}

async fn check_all_completed(jobs: &KvStore, count: u64) {
    let stats = jobs.stats().await.unwrap();
    assert_eq!(stats.states, BTreeMap::from([(State::Completed, count)]));
    let page = jobs.lookup(&Query::new().limit(50)).await.unwrap();
    for job in page.items {
        let steps = jobs.history(job.id).await.unwrap();
        let life: Vec<State> = steps.iter().map(|step| step.state).collect();
        assert_eq!(life, [State::Created, State::Running, State::Completed]);
    }
    assert!(jobs.list(1, None).await.unwrap().items.is_empty());
}
