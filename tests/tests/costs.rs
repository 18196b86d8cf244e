//! What questions cost: as much as their answers hold, not as the store does. Counted in what is
//! read below.

use std::sync::Arc;

use kvjob::job::{
    JobId, KvStore, Level, LogQuery, LogStore as _, NewJob, Options, Query, QueueStore as _, State,
    StateStore as _, Store as _,
};
use kvjob::kv::Memory;
use kvjob::kv::wrap::{Operation, Traced};

/// Other jobs beside those that are asked for: more than are read at once, and many more.
const OTHERS: [usize; 2] = [1_000, 10_000];
/// Jobs stored in one call.
const AT_ONCE: usize = 5_000;

struct Counted {
    store: Arc<Traced<Memory>>,
    jobs: KvStore,
}

impl Counted {
    /// A store in which so many other jobs wait.
    async fn beside(others: usize) -> Self {
        let store = Arc::new(Traced::new(Memory::new()));
        let jobs = KvStore::open(store.clone(), Options::default()).await;
        let counted = Self {
            store,
            jobs: jobs.unwrap(),
        };
        for first in (0..others).step_by(AT_ONCE) {
            let some = first..others.min(first + AT_ONCE);
            counted.add("other", some.len()).await;
        }
        counted
    }

    async fn add(&self, task: &str, count: usize) -> Vec<JobId> {
        let jobs = (0..count).map(|number| NewJob::new(task, &number).unwrap());
        let added = self.jobs.enqueue_many(jobs.collect()).await.unwrap();
        added.iter().map(|added| added.job.id).collect()
    }

    /// How many calls were made and how many objects read so far.
    fn so_far(&self) -> (u64, u64) {
        let all = Operation::ALL.map(|operation| self.store.counts(operation));
        let calls = all.iter().map(|counts| counts.calls).sum();
        (calls, all.iter().map(|counts| counts.objects_read).sum())
    }

    /// What it takes to ask this.
    async fn cost(&self, question: impl Future<Output = usize>, answers: usize) -> (u64, u64) {
        let before = self.so_far();
        assert_eq!(question.await, answers);
        let after = self.so_far();
        (after.0 - before.0, after.1 - before.1)
    }
}

#[tokio::test]
async fn the_history_and_the_log_of_a_job_cost_what_they_hold() {
    let mut costs = Vec::new();
    for others in OTHERS {
        let f = Counted::beside(others).await;
        let id = f.add("mine", 1).await[0];
        for line in 0..20 {
            let line = format!("line {line}");
            let logged = f.jobs.log(id, Level::Info, line, [].into()).await;
            logged.unwrap();
        }
        f.jobs.cancel(&Query::new().id(id)).await.unwrap();
        let history = async { f.jobs.history(id).await.unwrap().len() };
        let log = async { f.jobs.logs(&LogQuery::new(id)).await.unwrap().items.len() };
        costs.push([f.cost(history, 2).await, f.cost(log, 20).await]);
        f.jobs.stop().await.unwrap();
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn a_page_of_the_list_costs_what_is_on_it() {
    let mut costs = Vec::new();
    for others in OTHERS {
        let f = Counted::beside(others).await;
        let page = async { f.jobs.list(10, None).await.unwrap().items.len() };
        costs.push(f.cost(page, 10).await);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn a_page_of_a_lookup_costs_what_is_on_it() {
    let mut costs = Vec::new();
    for others in OTHERS {
        let f = Counted::beside(others).await;
        let ten = Query::new().limit(10);
        let page = async { f.jobs.lookup(&ten).await.unwrap().items.len() };
        costs.push(f.cost(page, 10).await);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn failed_jobs_are_found_without_passing_the_others() {
    let mut costs = Vec::new();
    for others in OTHERS {
        let f = Counted::beside(others).await;
        let failed = f.add("mine", 3).await;
        f.jobs.fail_jobs(&failed, None).await.unwrap();
        let ended = Query::new().states([State::Failed]);
        let page = async { f.jobs.lookup(&ended).await.unwrap().items.len() };
        costs.push(f.cost(page, 3).await);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn one_of_many_jobs_is_found_changed_and_taken_at_the_cost_of_one() {
    let mut costs = Vec::new();
    for others in OTHERS {
        let f = Counted::beside(others).await;
        let ids = f.add("mine", 3).await;
        let one = Query::new().id(ids[0]);
        let get = async { usize::from(f.jobs.get(ids[0]).await.unwrap().is_some()) };
        let cancel = async { f.jobs.cancel(&one).await.unwrap().items.len() };
        let retry = async { f.jobs.retry(&one).await.unwrap().items.len() };
        let take = async { usize::from(f.jobs.dequeue(ids[1]).await.unwrap().is_some()) };
        let complete = async { f.jobs.complete_jobs(&ids[2..]).await.unwrap().len() };
        costs.push([
            f.cost(get, 1).await,
            f.cost(cancel, 1).await,
            f.cost(retry, 1).await,
            f.cost(take, 1).await,
            f.cost(complete, 1).await,
        ]);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn the_list_over_a_hundred_lanes_takes_few_round_trips() {
    for jobs in [1, 10] {
        let f = Counted::beside(0).await;
        for lane in 0..100 {
            f.add(&format!("task-{lane}"), jobs).await;
        }
        let mut cursor = None;
        for _ in 0..2 {
            let page = async {
                let page = f.jobs.list(50, cursor.take()).await.unwrap();
                cursor = page.next;
                page.items.len()
            };
            let (trips, _) = f.cost(page, 50).await;
            assert!(trips <= 10, "{trips} for lanes of {jobs}");
        }
    }
}
