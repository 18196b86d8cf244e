//! Several stores on one file: in one process and in several, some of which are killed. No change is
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
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Event, Key, Object, Ownership, Store as _, Watch};
use kvjob_sqlite::rusqlite::Connection;
use kvjob_sqlite::{Options, Sqlite};

/// Set for another process: the path.
const PATH: &str = "KVJOB_SQLITE_SHARED";
/// Counters that all processes count up.
const COUNTERS: u64 = 3;
/// What each process counts.
const COUNTS: u64 = 150;

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.db"), directory)
}

fn open(path: &Path) -> Sqlite {
    let options = Options::new().busy_timeout(Duration::from_secs(60));
    options.shared().open(path).unwrap()
}

fn counter(n: u64) -> Key {
    Key::from(format!("counter/{}", n % COUNTERS).as_str())
}

async fn count_of(store: &Sqlite, key: &Key) -> (u64, Change) {
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
async fn count_up(store: &Sqlite, n: u64) -> u64 {
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

async fn sum(store: &Sqlite) -> u64 {
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
    let store = open(&path);
    for _ in 0..3 {
        let mut other = Other::start("holding", &path);
        other.says("holding");
        let set = tokio::spawn({
            let object = Object::new("a", "1");
            let store = open(&path);
            async move { store.set(object).await }
        });
        other.kill();
        set.await.unwrap().unwrap();
        store.set(Object::new("b", "1")).await.unwrap();
        assert!(store.get(&"half".into()).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_one_process_see_each_others_changes_and_lose_none() {
    let (path, _directory) = place();
    let stores = [open(&path), open(&path)].map(Arc::new);
    let counting = (0..8).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        tokio::spawn(async move {
            for n in 0..30 {
                count_up(&store, n).await;
            }
        })
    });
    for counting in counting.collect::<Vec<_>>() {
        counting.await.unwrap();
    }
    for store in &stores {
        assert_eq!(sum(store).await, 240);
    }
}

#[tokio::test]
async fn a_watcher_hears_of_its_own_process_what_and_of_others_that() {
    let (path, _directory) = place();
    let [here, there] = [open(&path), open(&path)];
    there.set(Object::new("a", "before")).await.unwrap();
    let mut heard = Watch::watch(&here, &Key::from("a")).await.unwrap();
    here.set(Object::new("a", "1")).await.unwrap();
    assert_eq!(heard.next().await, Some(Event::Changed("a".into())));
    for n in 0..5 {
        there.set(Object::new("b", vec![n])).await.unwrap();
        assert_eq!(heard.next().await, Some(Event::Lagged));
    }
    // Of its own alone nothing is lost.
    for n in 0..5 {
        here.set(Object::new("a", vec![n])).await.unwrap();
        assert_eq!(heard.next().await, Some(Event::Changed("a".into())));
    }
    here.stop().await.unwrap();
    assert_eq!(heard.next().await, None);
}

#[tokio::test]
async fn who_shares_and_who_will_not_keep_each_other_out() {
    let (path, _directory) = place();
    let shared = open(&path);
    let error = kvjob_sqlite::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(shared);
    let alone = kvjob_sqlite::open(&path).unwrap();
    let error = Options::new().shared().open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(alone);
    open(&path);
}

#[tokio::test]
async fn a_whole_group_waits_for_others_once_and_is_a_conflict_then() {
    let (path, _directory) = place();
    let patience = Duration::from_millis(200);
    let options = Options::new().busy_timeout(patience);
    let store = options.shared().open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits = (0..100u8).map(|n| vec![Change::put(&[b'k', n], "1")]);
    let begin = Instant::now();
    for outcome in store.commit_all(commits.collect()).await {
        assert_eq!(outcome.unwrap_err().kind(), &ErrorKind::Conflict);
    }
    assert!(begin.elapsed() < 20 * patience, "{:?}", begin.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn opening_a_store_takes_no_locks_from_the_users_connections() {
    use std::os::unix::fs::MetadataExt as _;

    let (path, _directory) = place();
    let own = Connection::open(&path).unwrap();
    own.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (what TEXT)")
        .unwrap();
    // SQLite's lock on the database, without which another process takes itself for the only one.
    let file = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
    let is_locked = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|lock| lock.contains(&file))
    };
    assert!(is_locked());
    let alone = kvjob_sqlite::open(&path).unwrap();
    assert!(is_locked());
    drop(alone);
    assert!(is_locked());
    let [one, other] = [open(&path), open(&path)];
    assert!(is_locked());
    drop(one);
    let error = kvjob_sqlite::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
    assert!(is_locked());
    drop(other);
}
