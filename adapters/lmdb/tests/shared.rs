//! Several processes on one file, some of which are killed. No change is
//! lost, conditions hold, and nobody is held up by the dead.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use futures::StreamExt as _;
use kvjob::kv::{
    Atomic as _, Change, Durability, ErrorKind, Event, Key, Object, Ownership, Store as _, Watch,
};
use kvjob_lmdb::{Lmdb, Options};

/// Set for another process: the path.
const PATH: &str = "KVJOB_LMDB_SHARED";
/// Counters that all processes count up.
const COUNTERS: u64 = 3;
/// What each process counts.
const COUNTS: u64 = 150;

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.lmdb"), directory)
}

fn open(path: &Path) -> Lmdb {
    Options::new().shared().open(path).unwrap()
}

fn counter(n: u64) -> Key {
    Key::from(format!("counter/{}", n % COUNTERS).as_str())
}

async fn count_of(store: &Lmdb, key: &Key) -> (u64, Change) {
    match store.get(key).await.unwrap() {
        Some(Object { key, value }) => {
            let count = u64::from_be_bytes(value[..].try_into().unwrap());
            let after = (count + 1).to_be_bytes().to_vec();
            (count, Change::replace(key, value, Some(after.into())))
        }
        None => (0, Change::create(key.clone(), 1u64.to_be_bytes().to_vec())),
    }
}

/// Counts one of the counters up; how often somebody else was faster.
async fn count_up(store: &Lmdb, n: u64) -> u64 {
    let mut lost = 0;
    loop {
        let (_, change) = count_of(store, &counter(n)).await;
        match store.commit(vec![change]).await {
            Ok(()) => return lost,
            Err(error) => {
                let indices = vec![0];
                let expected = [ErrorKind::ConditionFailed { indices }, ErrorKind::Conflict];
                assert!(expected.contains(error.kind()), "{error}");
                lost += 1;
            }
        }
    }
}

async fn sum(store: &Lmdb) -> u64 {
    let mut sum = 0;
    for n in 0..COUNTERS {
        sum += count_of(store, &counter(n)).await.0;
    }
    sum
}

/// Another process of this program, in one of the functions that are no tests.
struct Other(Child, std::io::Lines<BufReader<ChildStdout>>);

impl Other {
    fn start(what: &str, path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([what, "--exact", "--ignored", "--nocapture"])
            .env(PATH, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    /// Waits until it says this.
    fn says(&mut self, what: &str) {
        let heard = self.1.by_ref().map_while(Result::ok);
        let said = heard.into_iter().any(|line| line == what);
        assert!(said, "it ended before it said {what:?}");
    }

    /// Kills it; what it said before.
    fn kill(mut self) -> Vec<String> {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.1.by_ref().map_while(Result::ok).collect()
    }

    /// Waits for its end; what it said.
    fn end(mut self) -> Vec<String> {
        let said: Vec<_> = self.1.by_ref().map_while(Result::ok).collect();
        assert!(self.0.wait().unwrap().success(), "{said:?}");
        said
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn counts(said: &[String]) -> u64 {
    let counted = |line: &&String| line.starts_with("counted");
    said.iter().filter(counted).count() as u64
}

fn path_given() -> PathBuf {
    std::env::var(PATH).unwrap().into()
}

/// Not a test, but a process that counts.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn counting() {
    let store = open(&path_given());
    println!("\ncounting");
    for n in 0..COUNTS {
        count_up(&store, n).await;
        println!("counted {n}");
    }
    store.stop().await.unwrap();
}

/// Not a test, but a process that is killed in the middle of a transaction.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn holding() {
    let store = open(&path_given());
    let held = store.with_transaction(|transaction| {
        use kvjob::kv::Transaction as _;

        transaction.change(&[Change::put("half", "1")])?;
        println!("\nholding");
        loop {
            std::thread::park();
        }
    });
    let () = held.await.unwrap();
}

/// Not a test, but a process that is killed while it reads.
#[test]
#[ignore = "another test runs it"]
fn reading() {
    let options = Options::new().shared();
    let env = options.environment(path_given(), 0).unwrap();
    let _reading = env.static_read_txn().unwrap();
    println!("\nreading");
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn processes_that_count_at_once_lose_no_count_also_where_one_is_killed() {
    let (path, _directory) = place();
    let mut others: Vec<_> = (0..3).map(|_| Other::start("counting", &path)).collect();
    let store = open(&path);
    assert_eq!(store.ownership(), Ownership::Shared);
    for other in &mut others {
        other.says("counting");
    }
    for n in 0..COUNTS {
        count_up(&store, n).await;
    }
    let killed = counts(&others.pop().unwrap().kill());
    let counted: u64 = others.into_iter().map(|other| counts(&other.end())).sum();
    assert_eq!(counted, 2 * COUNTS);
    let acknowledged = COUNTS + counted + killed;
    let there = sum(&store).await;
    // The last of the one that was killed may have gone through.
    assert!(
        (acknowledged..=acknowledged + 1).contains(&there),
        "{there} of {acknowledged}"
    );
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_transaction_holds_up_nobody() {
    let (path, _directory) = place();
    let store = Arc::new(open(&path));
    for _ in 0..3 {
        let mut other = Other::start("holding", &path);
        other.says("holding");
        let set = tokio::spawn({
            let object = Object::new("a", "1");
            let store = Arc::clone(&store);
            async move { store.set(object).await }
        });
        other.kill();
        set.await.unwrap().unwrap();
        store.set(Object::new("b", "1")).await.unwrap();
        assert!(store.get(&"half".into()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_reads_keeps_no_space() {
    let (path, _directory) = place();
    let options = Options::new().shared().durability(Durability::Memory);
    let store = options.open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let mut other = Other::start("reading", &path);
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
    let other = Other::start("counting", &path);
    assert_eq!(heard.next().await, Some(Event::Lagged));
    other.end();
    store.stop().await.unwrap();
    let rest: Vec<_> = heard.collect().await;
    assert!(rest.iter().all(|event| event == &Event::Lagged));
}

#[tokio::test]
async fn who_shares_and_who_will_not_keep_each_other_out() {
    let (path, _directory) = place();
    let shared = open(&path);
    let error = kvjob_lmdb::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(shared);
    let alone = kvjob_lmdb::open(&path).unwrap();
    let error = Options::new().shared().open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(alone);
    open(&path);
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
    Other::start("filling", &path).end();
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
    let store = open(&path_given());
    store
        .set(Object::new("large", vec![1; 4 << 20]))
        .await
        .unwrap();
    store.stop().await.unwrap();
}
