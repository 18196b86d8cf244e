//! A job store takes any store: one without commits gets its journal by itself.

use std::sync::Arc;

use kvjob::job::{
    Claim, Error, KvStore, NewJob, Options, QueueStore as _, State, StateStore as _, Store as _,
};
use kvjob::kv::ErrorKind;
use kvjob::kv::wrap::Journaled;

use super::below::{Fate, Plan};
use super::{both_kinds, records};

async fn open(store: Arc<dyn kvjob::kv::Store>, namespace: &str) -> KvStore {
    let options = Options::default().namespace(namespace);
    KvStore::open(store, options).await.unwrap()
}

fn job() -> NewJob {
    NewJob::new("greet", "world").unwrap().key("once")
}

#[tokio::test]
async fn a_job_runs_on_a_store_without_commits() {
    for data in both_kinds() {
        let jobs = open(Arc::new(data.clone()), "jobs").await;
        let id = jobs.enqueue(job()).await.unwrap().job.id;
        assert!(!jobs.enqueue(job()).await.unwrap().is_new);
        jobs.stop().await.unwrap();

        let jobs = open(Arc::new(data.clone()), "jobs").await;
        let claimed = jobs
            .claim(Claim::new("worker"))
            .await
            .unwrap()
            .jobs
            .remove(0);
        assert_eq!(claimed.job.id, id);
        jobs.complete(&claimed.lease).await.unwrap();
        let states = jobs
            .history(id)
            .await
            .unwrap()
            .into_iter()
            .map(|step| step.state);
        let states: Vec<State> = states.collect();
        assert_eq!(states, [State::Created, State::Running, State::Completed]);
        assert!(records(&data).await.is_empty());
    }
}

#[tokio::test]
async fn an_enqueue_is_whole_or_absent_wherever_the_store_dies() {
    for data in both_kinds() {
        for at in 0.. {
            let data = super::fresh(&data);
            let plan = Plan {
                at,
                fate: Fate::Fails,
                dies: true,
            };
            let below = super::below::Below::new(&data, Some(plan));
            let options = Options::default().namespace("jobs");
            let enqueued = match KvStore::open(below.clone(), options).await {
                Ok(jobs) => jobs.enqueue(job()).await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(enqueued, !below.has_met());
            let jobs = open(Arc::new(data.clone()), "jobs").await;
            // Where it is not there it can be enqueued, and where it is it can be claimed.
            let again = jobs.enqueue(job()).await.unwrap();
            assert!(!enqueued || !again.is_new);
            assert_eq!(
                jobs.claim(Claim::new("worker").max(9))
                    .await
                    .unwrap()
                    .jobs
                    .len(),
                1
            );
            if enqueued {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_job_store_that_was_replaced_says_closed() {
    for data in both_kinds() {
        let first = open(Arc::new(data.clone()), "jobs").await;
        let second = open(Arc::new(data.clone()), "jobs").await;
        let refused = first.enqueue(job()).await.unwrap_err();
        let Error::Store(refused) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refused.kind(), &ErrorKind::Closed);
        second.enqueue(job()).await.unwrap();
    }
}

#[tokio::test]
async fn several_job_stores_share_a_journal() {
    for data in both_kinds() {
        let journal = Arc::new(Journaled::new(data));
        let red = open(journal.clone(), "red").await;
        let blue = open(journal, "blue").await;
        for jobs in [&red, &blue, &red] {
            jobs.enqueue(NewJob::new("greet", "world").unwrap())
                .await
                .unwrap();
        }
        assert_eq!(red.list(9, None).await.unwrap().items.len(), 2);
        assert_eq!(blue.list(9, None).await.unwrap().items.len(), 1);
    }
}
