//! Values of others under our keys, as a bag allows: they get a clear error, and neither they nor
//! the jobs are lost.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use kvjob::job::{
    Error, Failure, Job, Level, LogQuery, LogStore as _, Query, QueueStore as _, Retry, State,
    StateStore as _,
};
use kvjob::kv::{ErrorKind, Key, Object};
use kvjob_tests::{Fixture, Space, within};

/// Less than any record of ours, which begins with its version.
const SMALLER: &[u8] = b"\x00who wrote this";
/// More than any.
const LARGER: &[u8] = b"\xffwho wrote this";

async fn on_every_bag(test: impl AsyncFn(Fixture)) {
    let bags = [
        Fixture::bag().await,
        Fixture::five_methods_bag().await,
        Fixture::redb_bag().await,
    ];
    for bag in bags {
        assert!(!bag.store.unique_keys());
        within(test(bag)).await;
    }
}

/// Puts a value of others beside each record of this space, and returns them.
async fn intrude(f: &Fixture, space: Space, value: &'static [u8]) -> Vec<Object> {
    let mut keys: Vec<Key> = f
        .space(space)
        .await
        .into_iter()
        .map(|one| one.key)
        .collect();
    keys.dedup();
    assert!(!keys.is_empty(), "{space:?}");
    let mut foreign = Vec::new();
    for key in keys {
        f.put(key.as_bytes().to_vec(), value).await;
        foreign.push(Object::new(key, value));
    }
    foreign
}

/// Whether all of them are where they were.
async fn still_there(f: &Fixture, foreign: &[Object]) -> bool {
    let all = f.raw(Vec::new()).await;
    foreign.iter().all(|one| all.contains(one))
}

/// That these values, and no others, are in the quarantine, whole.
async fn put_aside(f: &Fixture, foreign: &[Object]) {
    let records = f.jobs.quarantine(9, None).await.unwrap().items;
    let mut found = Vec::new();
    for record in records {
        let record = f.jobs.quarantined(record.id).await.unwrap().unwrap();
        found.push(Object::new(Key::new(record.key), record.value));
    }
    found.sort();
    assert_eq!(found, foreign);
}

#[tokio::test]
async fn a_smaller_value_that_hides_a_header_is_told_and_put_aside_and_the_job_runs() {
    on_every_bag(async |f| {
        let job = f.add("t").await;
        let other = f.add("t").await;
        let key = Fixture::key(Space::Job, job.id);
        f.put(key.clone(), SMALLER).await;
        let foreign = [Object::new(key.clone(), SMALLER)];
        match f.jobs.get(job.id).await {
            Err(Error::Store(error)) => {
                assert_eq!(*error.kind(), ErrorKind::Corrupt);
                let key = Key::from(key).to_string();
                assert!(error.to_string().contains(&key), "{error}");
            }
            found => panic!("{found:?}"),
        }
        assert!(still_there(&f, &foreign).await);

        let mut claimed = f.claim(9).await;
        claimed.extend(f.claim(9).await);
        claimed.sort_by_key(|one| one.job.id);
        let ids: Vec<_> = claimed.iter().map(|one| one.job.id).collect();
        assert_eq!(ids, [job.id, other.id]);
        put_aside(&f, &foreign).await;
        for one in claimed {
            f.jobs.complete(&one.lease).await.unwrap();
        }
        let states = f.states(job.id).await;
        assert_eq!(states, [State::Created, State::Running, State::Completed]);
    })
    .await;
}

/// A job's life with everything it can have.
async fn live(f: &Fixture, job: &Job) -> Vec<State> {
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.id, job.id);
    let line = ("line".to_owned(), BTreeMap::new());
    f.jobs
        .log(job.id, Level::Info, line.0, line.1)
        .await
        .unwrap();
    let failure = Failure::new("no").retry(Retry::Never);
    f.jobs.fail(&claimed.lease, failure).await.unwrap();
    f.jobs.retry(&Query::new()).await.unwrap();
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.payload, job.payload);
    f.jobs.complete(&claimed.lease).await.unwrap();
    f.states(job.id).await
}

#[tokio::test]
async fn a_job_runs_beside_larger_values_as_if_they_were_not_there() {
    on_every_bag(async |f| {
        let wanted = || kvjob_tests::text("t", &"x".repeat(600)).key("k");
        let lonely = f.enqueue(wanted()).await.job;
        let expected = live(&f, &lonely).await;
        f.jobs.purge(&Query::new()).await.unwrap();

        let job = f.enqueue(wanted()).await.job;
        let mut foreign = Vec::new();
        for space in [Space::Job, Space::Payload, Space::Unique] {
            foreign.extend(intrude(&f, space, LARGER).await);
        }
        assert_eq!(f.job(job.id).await.payload, job.payload);
        assert!(!f.enqueue(wanted()).await.is_new);
        assert_eq!(live(&f, &job).await, expected);
        assert!(f.jobs.logs(&LogQuery::new(job.id)).await.is_ok());
        assert!(still_there(&f, &foreign).await);
        put_aside(&f, &[]).await;
        // Alone under the job key it cannot be passed over: it is told, and stays.
        let refused = f.jobs.enqueue(wanted()).await.unwrap_err();
        assert!(refused.to_string().contains("version 255"), "{refused}");
        assert!(still_there(&f, &foreign).await);
    })
    .await;
}

#[tokio::test]
async fn a_value_beside_a_worker_record_costs_no_lease_and_no_attempt() {
    on_every_bag(async |f| {
        for value in [SMALLER, LARGER] {
            let job = f.add("t").await;
            let claimed = f.claim_one().await;
            assert_eq!(claimed.job.id, job.id);
            let foreign = intrude(&f, Space::Worker, value).await;
            // The lease runs out, and is found although its record is hidden.
            f.pass(61);
            let mut expired = f.jobs.expire().await.unwrap();
            expired.extend(f.jobs.expire().await.unwrap());
            assert_eq!(expired, [job.id], "{value:?}");
            let aside = f.jobs.quarantine(9, None).await.unwrap().items.len();
            assert!(aside == 1 || still_there(&f, &foreign).await);
            let again = f.job(job.id).await;
            assert_eq!((again.attempts, again.state), (1, State::Scheduled));
            f.jobs.cancel(&Query::new()).await.unwrap();
        }
    })
    .await;
}
