//! Several stores on one file: in one process and in several, some of which are killed. No change is
//! lost, conditions hold, and nobody is held up by the dead.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Event, Key, Object, Store as _, Watch};
use kvjob_sqlite::rusqlite::Connection;
use kvjob_sqlite::{Options, Sqlite};
use kvjob_trials::{errand, shared};

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.db"), directory)
}

fn open(path: impl AsRef<Path>) -> Sqlite {
    let options = Options::new().busy_timeout(Duration::from_secs(60));
    options.shared().open(path).unwrap()
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

#[tokio::test]
async fn processes_that_count_at_once_lose_no_count_also_where_one_is_killed() {
    let (path, _directory) = place();
    shared::count_at_once(&path, || open(&path)).await;
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_transaction_holds_up_nobody() {
    let (path, _directory) = place();
    shared::kill_a_holder(&path, Arc::new(open(&path)), &open(&path)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_one_process_see_each_others_changes_and_lose_none() {
    let (path, _directory) = place();
    let stores = [open(&path), open(&path)].map(Arc::new);
    let counting = (0..8).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        tokio::spawn(async move {
            for n in 0..30 {
                shared::count_up(&store, n).await;
            }
        })
    });
    for counting in counting.collect::<Vec<_>>() {
        counting.await.unwrap();
    }
    for store in &stores {
        assert_eq!(shared::sum(&**store).await, 240);
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
    let shared = || Options::new().shared().open(&path);
    shared::keep_each_other_out(shared, || kvjob_sqlite::open(&path));
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
