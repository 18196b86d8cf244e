//! Job keys: which enqueue adds a job, and which finds the one that is there.

use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{
    Backoff, Failure, Job, JobId, NewJob, Query, QueueStore as _, Retry, Selector, State,
    StateStore as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    no_job_with_that_key_stores_one,
    a_waiting_job_is_left_unchanged_but_for_its_revision,
    a_job_that_waits_for_a_retry_is_left_unchanged,
    a_running_job_is_left_unchanged,
    a_failed_job_is_left_unchanged,
    the_key_is_free_when_its_job_completes,
    a_retained_key_is_free_when_its_job_is_purged,
    a_dequeued_job_frees_its_key,
    the_key_of_a_canceled_job_is_free_when_it_is_purged,
    a_key_belongs_to_its_tenant_and_namespace,
    one_batch_with_one_key_stores_one_job,
    many_callers_with_one_key_store_one_job,
    a_key_whose_job_was_put_aside_is_free,
];

fn keyed(payload: &str) -> NewJob {
    text("t", payload).key("the key")
}

/// Enqueues under the key again, which must find `job` as it was, but for its revision.
async fn finds(f: &Fixture, job: &Job) {
    let before = f.job(job.id).await;
    let again = keyed("new")
        .priority(7)
        .max_attempts(2)
        .run_at(f.in_seconds(99));
    let found = f.enqueue(again).await;
    assert!(!found.is_new);
    let mut expected = before;
    expected.revision += 1;
    assert_eq!(found.job, expected);
    assert_eq!(f.job(job.id).await, expected);
    assert_eq!(f.space(Space::Job).await.len(), 1);
}

async fn no_job_with_that_key_stores_one(f: Fixture) {
    let added = f.enqueue(keyed("first")).await;
    assert!(added.is_new);
    assert_eq!(added.job.key.as_deref(), Some("the key"));
    let other = f.enqueue(text("t", "").key("another key")).await;
    assert!(other.is_new);
}

async fn a_waiting_job_is_left_unchanged_but_for_its_revision(f: Fixture) {
    let ready = f.enqueue(keyed("first")).await.job;
    finds(&f, &ready).await;
    finds(&f, &ready).await;
    f.claim_one().await;
}

async fn a_job_that_waits_for_a_retry_is_left_unchanged(f: Fixture) {
    let job = f.enqueue(keyed("first")).await.job;
    let claimed = f.claim_one().await;
    let failure = Failure::new("no").retry(Retry::After(Duration::from_secs(50)));
    f.jobs.fail(&claimed.lease, failure).await.unwrap();
    finds(&f, &job).await;
    let found = f.job(job.id).await;
    assert_eq!(
        (found.attempts, found.last_error.as_deref()),
        (1, Some("no"))
    );
    f.pass(50);
    assert_eq!(f.claim_one().await.job.attempts, 2);
}

async fn a_running_job_is_left_unchanged(f: Fixture) {
    let job = f.enqueue(keyed("first")).await.job;
    let claimed = f.claim_one().await;
    finds(&f, &job).await;
    assert!(f.claim(9).await.is_empty());
    // The revision moved, the lease did not.
    f.jobs.complete(&claimed.lease).await.unwrap();
}

async fn a_failed_job_is_left_unchanged(f: Fixture) {
    let job = f.enqueue(keyed("first")).await.job;
    let claimed = f.claim_one().await;
    let failure = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&claimed.lease, failure).await.unwrap();
    finds(&f, &job).await;
    assert!(f.claim(9).await.is_empty());
    f.jobs.retry(&Query::new()).await.unwrap();
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert!(f.enqueue(keyed("second")).await.is_new);
}

async fn the_key_is_free_when_its_job_completes(f: Fixture) {
    let first = f.enqueue(keyed("first")).await.job.id;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let second = f.enqueue(keyed("second")).await;
    assert!(second.is_new);
    assert_ne!(second.job.id, first);
    // Purging the first does not free the key of the second.
    let gone = f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(gone.items, [first]);
    finds(&f, &second.job).await;
}

async fn a_retained_key_is_free_when_its_job_is_purged(f: Fixture) {
    let retained = || text("t", "").retained_key("the key");
    let first = f.enqueue(retained()).await.job.id;
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let before = f.job(first).await;
    for job in [retained(), keyed("new")] {
        let found = f.enqueue(job).await;
        assert_eq!((found.is_new, found.job), (false, before.clone()));
    }
    f.jobs.purge(&Query::new()).await.unwrap();
    assert!(f.enqueue(retained()).await.is_new);
}

async fn a_dequeued_job_frees_its_key(f: Fixture) {
    for _ in 0..2 {
        assert!(f.enqueue(keyed("")).await.is_new);
        let next = f.jobs.dequeue_next(&Selector::default()).await.unwrap();
        assert!(next.is_some());
    }
    let id = f.enqueue(keyed("")).await.job.id;
    assert!(f.jobs.dequeue(id).await.unwrap().is_some());
    assert!(f.enqueue(keyed("")).await.is_new);
}

async fn the_key_of_a_canceled_job_is_free_when_it_is_purged(f: Fixture) {
    let id = f.enqueue(keyed("")).await.job.id;
    f.jobs.cancel(&Query::new()).await.unwrap();
    assert!(!f.enqueue(keyed("")).await.is_new);
    assert_eq!(f.job(id).await.state, State::Canceled);
    f.jobs.purge(&Query::new()).await.unwrap();
    assert!(f.enqueue(keyed("")).await.is_new);
}

async fn a_key_belongs_to_its_tenant_and_namespace(f: Fixture) {
    let options = f.options().namespace("kvjob2");
    let other = kvjob::job::KvStore::open(f.store.clone(), options)
        .await
        .unwrap();
    let mut ids: Vec<JobId> = Vec::new();
    for tenant in ["", "a", "b"] {
        let job = || keyed("").tenant(tenant);
        let added = f.enqueue(job()).await;
        assert!(added.is_new);
        ids.push(added.job.id);
        assert_eq!(f.enqueue(job()).await.job.id, added.job.id);
        assert!(other.enqueue(job()).await.unwrap().is_new);
    }
    assert_eq!(f.listed().await.len(), 3);
    // Tenant and key are apart, whatever they are made of.
    assert!(f.enqueue(text("t", "").tenant("a").key("bc")).await.is_new);
    assert!(f.enqueue(text("t", "").tenant("ab").key("c")).await.is_new);
}

async fn one_batch_with_one_key_stores_one_job(f: Fixture) {
    let jobs = (0..10).map(|n| keyed(&n.to_string())).collect();
    let added = f.jobs.enqueue_many(jobs).await.unwrap();
    assert!(added[0].is_new);
    for one in &added[1..] {
        assert!(!one.is_new);
        assert_eq!(one.job.id, added[0].job.id);
    }
    assert_eq!(f.job(added[0].job.id).await.revision, 10);
    assert_eq!(f.claim(10).await.len(), 1);
}

async fn many_callers_with_one_key_store_one_job(f: Fixture) {
    let f = Arc::new(f);
    let other = f.another().await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let jobs = if number % 2 == 0 {
                f.jobs.clone()
            } else {
                other.clone()
            };
            let job = keyed(&number.to_string());
            tokio::spawn(async move { jobs.enqueue(job).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    let mut ids: Vec<JobId> = Vec::new();
    for task in tasks {
        // Those who lose a race wait a while for the next try.
        let mut task = task;
        let added = loop {
            tokio::select! {
                added = &mut task => break added.unwrap(),
                () = f.clock.wait_for_sleepers(1) => f.pass(1),
            }
        };
        new += usize::from(added.is_new);
        ids.push(added.job.id);
    }
    ids.dedup();
    assert_eq!((new, ids.len()), (1, 1));
    assert_eq!(f.space(Space::Job).await.len(), 1);
    assert_eq!(f.space(Space::Ready).await.len(), 1);
}

async fn a_key_whose_job_was_put_aside_is_free(f: Fixture) {
    let backoff = Backoff::Default;
    let id = f.enqueue(keyed("").backoff(backoff)).await.job.id;
    f.overwrite(Fixture::key(Space::Job, id), b"\x01garbage")
        .await;
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.jobs.quarantine(9, None).await.unwrap().items.len(), 1);
    assert!(f.enqueue(keyed("")).await.is_new);
    f.claim_one().await;
}
