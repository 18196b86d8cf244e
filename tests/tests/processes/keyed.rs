//! Sixteen tasks in each of four processes add jobs under few keys, in every mode, take what waits
//! and end it in every way. Each add returns a job, and in the end no two wait under one key, and
//! nothing is at odds.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use kvjob::job::{
    CheckEvent, Claim, Done, Error, Failure, KeyMode, KvStore, NewJob, Query, QueueStore as _,
    Retry, State, StateStore as _, Store as _,
};
use kvjob_servers::{Server, postgres, redis};

use super::PROCESSES;
use super::process::{self, Orders};

/// Callers in each process, and how often each of them adds a job.
const CALLERS: usize = 16;
const TURNS: usize = 20;
const KEYS: usize = 3;

#[test]
fn on_redis_keyed_adds_always_return_a_job_and_leave_one_waiting() {
    let server = redis::redis();
    let url = redis::url(&server);
    one_waits_under_each_key(&server, &url);
}

#[test]
fn on_postgres_keyed_adds_always_return_a_job_and_leave_one_waiting() {
    let server = postgres::postgres();
    let url = postgres::url(&server);
    one_waits_under_each_key(&server, &url);
}

/// One of the processes.
#[test]
fn keyed_process() {
    if let Some(orders) = Orders::given() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(contend(&orders));
    }
}

fn one_waits_under_each_key(_server: &Server, url: &str) {
    let start = |number| {
        let name = format!("process-{number}");
        process::start_as(
            "keyed::keyed_process",
            url,
            CALLERS,
            &name,
            Path::new("none"),
        )
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    for mut child in children {
        let status = child.wait();
        assert!(status.success(), "a process failed: {status}");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(look(url));
}

async fn contend(orders: &Orders) {
    let store = kvjob_any::open(orders.url()).await.unwrap();
    let jobs = KvStore::open(store.clone(), process::options())
        .await
        .unwrap();
    join_all((0..orders.workers()).map(|caller| call(&jobs, caller))).await;
    jobs.stop().await.unwrap();
    store.stop().await.unwrap();
}

async fn call(jobs: &KvStore, caller: usize) {
    for turn in 0..TURNS {
        let payload = "x".repeat((caller * 331 + turn * 97) % 1000);
        let mode = KeyMode::ALL[(caller + turn) % 3];
        let key = format!("key-{}", turn % KEYS);
        let job = NewJob::new("t", &payload).unwrap().key(key).key_mode(mode);
        let added = jobs.enqueue(job).await.unwrap();
        if added.done != Done::Unchanged {
            let stored: String = added.job.payload.parse().unwrap();
            assert_eq!(stored, payload, "another's arguments");
        }
        let claim = Claim::new(format!("worker-{caller}"));
        for claimed in jobs.claim(claim).await.unwrap().jobs {
            let failure = Failure::new("no").retry(Retry::After(Duration::ZERO));
            let ended = match turn % 3 {
                0 => jobs.complete(&claimed.lease).await,
                1 => jobs.abandon(&claimed.lease).await,
                _ => jobs.fail(&claimed.lease, failure).await.map(drop),
            };
            assert!(
                matches!(ended, Ok(()) | Err(Error::LeaseLost { .. })),
                "{ended:?}"
            );
        }
    }
}

async fn look(url: &str) {
    let store = kvjob_any::open(url).await.unwrap();
    let jobs = KvStore::open(store, process::options()).await.unwrap();
    let mut query = Query::new().states([State::Scheduled, State::Ready]);
    let mut keys = HashSet::new();
    loop {
        let page = jobs.lookup(&query).await.unwrap();
        for job in page.items {
            if let Some(key) = job.key {
                assert!(keys.insert(key.clone()), "two jobs wait under {key}");
            }
        }
        match page.next {
            Some(next) => query = query.cursor(next),
            None => break,
        }
    }
    let stats = jobs.stats().await.unwrap();
    assert!(stats.total > KEYS as u64, "nothing was done: {stats:?}");
    assert_eq!(stats.quarantined, 0, "a record was taken for broken");
    let checked = jobs.check(false, |event| {
        if let CheckEvent::Found(finding) = event {
            panic!("{finding:?}");
        }
    });
    checked.await.unwrap();
    jobs.stop().await.unwrap();
}
