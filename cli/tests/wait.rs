//! Waiting for a job, and the value it completed with.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;

use common::Place;
use kvjob::job::{
    Claim, Failure, JobId, KvStore, NewJob, Options, Payload, QueueStore as _, Retry, Store as _,
};

/// A store with a job that completed with a value, one without, one that failed and one that
/// waits, in this order.
fn furnished() -> (Place, [JobId; 4]) {
    let place = Place::new();
    let url = format!("redb:{}", place.path("kvjob.redb").display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ids = runtime.block_on(async {
        let store = kvjob_any::open(&url).await.unwrap();
        let jobs = KvStore::open(Arc::clone(&store), Options::default())
            .await
            .unwrap();
        let mut ids = Vec::new();
        for task in ["value", "none", "bad", "waits"] {
            let job = NewJob::new(task, &()).unwrap();
            ids.push(jobs.enqueue(job).await.unwrap().job.id);
        }
        let claims = jobs.claim(Claim::new("w").max(3)).await.unwrap().jobs;
        let value = Payload::from_json("{\"pages\":\"3\u{9b}2J\"}").unwrap();
        let leases: Vec<_> = claims.into_iter().map(|claimed| claimed.lease).collect();
        jobs.complete_with(&leases[0], value).await.unwrap();
        jobs.complete(&leases[1]).await.unwrap();
        let failure = Failure::new("no paper").retry(Retry::Never);
        jobs.fail(&leases[2], failure).await.unwrap();
        jobs.stop().await.unwrap();
        store.stop().await.unwrap();
        ids
    });
    (place, ids.try_into().unwrap())
}

#[test]
fn a_job_is_waited_for_and_its_value_printed() {
    let (place, [value, none, bad, waits]) = furnished();
    let wait = |id: &JobId, more: &[&str]| {
        let id = id.to_string();
        place.kvjob(&[&["wait", &id], more].concat())
    };
    let answer = wait(&value, &[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.out, "{\"pages\":\"3\\u009b2J\"}\n");
    let ended = wait(&value, &["--json"]).json();
    assert_eq!(
        (&ended["state"], &ended["id"]),
        (&"completed".into(), &value.to_string().into())
    );
    assert_eq!(ended["result"]["pages"], "3\u{9b}2J");

    let answer = wait(&none, &[]);
    assert_eq!((answer.code, &*answer.out), (Some(0), ""), "{answer:?}");

    let answer = wait(&bad, &[]);
    assert_eq!((answer.code, &*answer.out), (Some(1), ""), "{answer:?}");
    assert!(answer.err.contains("is failed: no paper"), "{answer:?}");

    let answer = wait(&waits, &["--timeout", "10ms"]);
    assert_eq!((answer.code, &*answer.out), (Some(4), ""), "{answer:?}");
    assert!(
        answer.err.contains("had not ended after 10ms"),
        "{answer:?}"
    );

    let nobody = JobId::from_bytes([7; 16]);
    let answer = wait(&nobody, &[]);
    assert_eq!((answer.code, &*answer.out), (Some(1), ""), "{answer:?}");
    assert!(answer.err.contains("kvjob list"), "{answer:?}");
}

#[test]
fn show_prints_the_value() {
    let (place, [value, ..]) = furnished();
    let shown = place.ok(&["show", &value.to_string()]).out;
    assert!(shown.contains("result:      {\"pages\":"), "{shown}");
    let shown = place.ok(&["show", &value.to_string(), "--json"]).json();
    assert_eq!(shown["job"]["result"]["pages"], "3\u{9b}2J");
}
