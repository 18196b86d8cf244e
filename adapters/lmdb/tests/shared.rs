//! Several processes on one file, some of which are killed. No change is lost, conditions hold, and
//! nobody is held up by the dead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;
use kvjob::kv::{Durability, ErrorKind, Event, Key, Object, Store as _, Watch};
use kvjob_lmdb::{Lmdb, Options};
use kvjob_trials::{Process, errand, shared};

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.lmdb"), directory)
}

fn open(path: impl AsRef<Path>) -> Lmdb {
    Options::new().shared().open(path).unwrap()
}

/// Not a test, but a process that counts.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn counting() {
    shared::counting(&open(errand())).await;
}

/// Not a test, but a process that is killed in the middle of a transaction.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn holding() {
    shared::holding(&open(errand())).await;
}

/// Not a test, but a process that is killed while it reads.
#[test]
#[ignore = "another test runs it"]
fn reading() {
    let options = Options::new().shared();
    let env = options.environment(errand(), 0).unwrap();
    let _reading = env.static_read_txn().unwrap();
    println!("\nreading");
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn processes_that_count_at_once_lose_no_count_also_where_one_is_killed() {
    let (path, _directory) = place();
    shared::count_at_once(&path, || open(&path)).await;
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_transaction_holds_up_nobody() {
    let (path, _directory) = place();
    let store = Arc::new(open(&path));
    shared::kill_a_holder(&path, store.clone(), &*store).await;
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_reads_keeps_no_space() {
    let (path, _directory) = place();
    let options = Options::new().shared().durability(Durability::Memory);
    let store = options.open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let mut other = Process::start("reading", &path);
    other.says("reading");
    other.kill();
    for n in 0..1500u32 {
        let value = vec![u8::try_from(n % 251).unwrap(); 80 << 10];
        store.set(Object::new("the one key", value)).await.unwrap();
    }
    let length = std::fs::metadata(path).unwrap().len();
    assert!(length < 40 << 20, "{length} bytes for 80 KB");
}

#[tokio::test]
async fn a_watcher_hears_of_its_own_process_what_and_of_others_that() {
    let (path, _directory) = place();
    let store = open(&path);
    let mut heard = Watch::watch(&store, &Key::from("a")).await.unwrap();
    // Of its own alone nothing is lost.
    for n in 0..5 {
        store.set(Object::new("b", vec![n])).await.unwrap();
        store.set(Object::new("a", vec![n])).await.unwrap();
        assert_eq!(heard.next().await, Some(Event::Changed("a".into())));
    }
    let other = Process::start("counting", &path);
    assert_eq!(heard.next().await, Some(Event::Lagged));
    other.end();
    store.stop().await.unwrap();
    let rest: Vec<_> = heard.collect().await;
    assert!(rest.iter().all(|event| event == &Event::Lagged));
}

#[tokio::test]
async fn who_shares_and_who_will_not_keep_each_other_out() {
    let (path, _directory) = place();
    let shared = || Options::new().shared().open(&path);
    shared::keep_each_other_out(shared, || kvjob_lmdb::open(&path));
}

#[tokio::test]
async fn a_process_opens_it_once() {
    let (path, _directory) = place();
    let _store = open(&path);
    let error = Options::new().shared().open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
}

#[tokio::test]
async fn what_outgrows_a_smaller_map_of_another_process_is_told_with_what_to_do() {
    let (path, _directory) = place();
    let options = Options::new().shared().map_size(1 << 20);
    let store = options.open(&path).unwrap();
    Process::start("filling", &path).end();
    for error in [
        store.get(&"a".into()).await.unwrap_err(),
        store.set(Object::new("a", "1")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(
            error.to_string().contains("same Options::map_size"),
            "{error}"
        );
    }
    store.stop().await.unwrap();
    let store = open(&path);
    assert!(store.get(&"large".into()).await.unwrap().is_some());
}

/// Not a test, but a process that stores something large.
#[tokio::test]
#[ignore = "another test runs it"]
async fn filling() {
    let store = open(errand());
    store
        .set(Object::new("large", vec![1; 4 << 20]))
        .await
        .unwrap();
    store.stop().await.unwrap();
}
