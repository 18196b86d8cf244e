//! A disk that is full or fails, a database that is locked, readers and writers in each other's
//! way: what was acknowledged is there afterwards, nothing is half there, and callers are told what
//! they must know.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use kvjob::kv::{Atomic, Change, Durability, ErrorKind, Health, Object, Store};
use kvjob_sqlite::rusqlite::Connection;
use kvjob_sqlite::{Options, Sqlite};
use kvjob_trials::errand;
use kvjob_trials::faults::{self, has, pair};
use kvjob_trials::readers;

const LONG: Durability = Durability::Interval(Duration::from_secs(1 << 30));

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.db"), directory)
}

/// Runs a statement on the connection that writes.
async fn tell(store: &Sqlite, pragma: &'static str) {
    let told = store.with_transaction(move |transaction| {
        let done = transaction.sqlite().execute_batch(pragma);
        done.map_err(kvjob_sqlite::error)
    });
    told.await.unwrap();
}

#[tokio::test]
async fn a_database_that_may_not_grow_refuses_what_does_not_fit_and_goes_on() {
    let (path, _directory) = place();
    let store = kvjob_sqlite::open(&path).unwrap();
    store.commit(pair(0)).await.unwrap();
    tell(&store, "PRAGMA max_page_count = 40").await;
    let error = store.commit(pair(1)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    let text = error.to_string();
    assert!(
        text.contains("full: make room") && text.contains("nothing was applied"),
        "{text}"
    );
    assert!(has(&store, 0).await && !has(&store, 1).await);
    // What fits goes through, also where it waited together with what does not.
    let small = |key: &str| vec![Change::put(key, "1")];
    let outcomes = store
        .commit_all(vec![small("a"), pair(2), small("b")])
        .await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok());
    tell(&store, "PRAGMA max_page_count = 100000").await;
    store.commit(pair(1)).await.unwrap();
    assert!(has(&store, 1).await);
}

#[tokio::test]
async fn a_database_that_stays_locked_is_a_conflict_and_can_still_be_read() {
    let (path, _directory) = place();
    let options = Options::new().busy_timeout(Duration::from_millis(5));
    let store = options.open(&path).unwrap();
    store.commit(pair(0)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.commit(pair(1)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("another connection is writing"), "{text}");
    let error = store.with_transaction(|_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Conflict);
    assert!(has(&store, 0).await && !has(&store, 1).await);
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(pair(1)).await.unwrap();
    assert!(has(&store, 1).await);
}

#[tokio::test]
async fn a_locked_database_keeps_no_acknowledged_change_from_the_disk() {
    let (path, _directory) = place();
    let options = Options::new().busy_timeout(Duration::from_millis(5));
    let store = options.durability(LONG).open(&path).unwrap();
    store.commit(pair(0)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // It syncs, or says that it could not.
    store.stop().await.unwrap();
}

#[tokio::test]
async fn reads_wait_for_no_write() {
    let (path, _directory) = place();
    readers::wait_for_no_write(kvjob_sqlite::open(&path).unwrap()).await;
}

#[tokio::test]
async fn more_readers_than_connections_all_get_their_turn() {
    let (path, _directory) = place();
    let store = kvjob_sqlite::open(&path).unwrap();
    readers::all_get_their_turn(&store, 64).await;
}

#[tokio::test]
async fn the_log_does_not_grow_for_ever_while_readers_take_turns() {
    let (path, _directory) = place();
    let store = Options::new().durability(Durability::Memory).open(&path);
    let store = store.unwrap();
    store.commit(pair(0)).await.unwrap();
    let [mut one, mut other] = [(); 2].map(|()| Connection::open(&path).unwrap());
    let (end, ended) = mpsc::channel::<()>();
    let turns = std::thread::spawn(move || {
        // One is always in its transaction when the other's ends, and each reads for a while.
        let read = "BEGIN; SELECT sum(length(hex(value))) FROM kvjob";
        one.execute_batch(read).unwrap();
        while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
            other.execute_batch(read).unwrap();
            one.execute_batch("COMMIT").unwrap();
            std::mem::swap(&mut one, &mut other);
        }
    });
    for n in 0..1000u32 {
        // Another value each time, for SQLite does not write what is there already.
        let value = vec![u8::try_from(n % 251).unwrap(); 80 << 10];
        store.set(Object::new("the one key", value)).await.unwrap();
    }
    drop(end);
    turns.join().unwrap();
    let length = fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(length < 40 << 20, "{length} bytes for 80 MB");
}

#[tokio::test]
async fn a_transaction_that_is_kept_open_is_warned_of() {
    let (path, _directory) = place();
    let store = Options::new().durability(Durability::Memory).open(&path);
    let store = store.unwrap();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN; SELECT count(*) FROM kvjob")
        .unwrap();
    let long = |health: Health| health.warnings.iter().any(|it| it.contains("MiB"));
    assert!(!long(store.health().await.unwrap()));
    for n in 0..5 {
        let object = Object::new("large", vec![n; 32 << 20]);
        store.set(object).await.unwrap();
    }
    assert!(long(store.health().await.unwrap()));
    other.execute_batch("COMMIT").unwrap();
    for n in 0..5 {
        store
            .set(Object::new("large", vec![n; 8 << 20]))
            .await
            .unwrap();
    }
    assert!(!long(store.health().await.unwrap()), "it is cut");
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_at_once_whatever_the_durability() {
    for durability in [Durability::Immediate, LONG, Durability::Memory] {
        let (path, directory) = place();
        let store = Options::new().durability(durability).open(&path).unwrap();
        for n in 0..100 {
            store.commit(pair(n)).await.unwrap();
        }
        // As a process that is killed leaves them.
        let copy = directory.path().join("copy.db");
        fs::copy(&path, &copy).unwrap();
        let log = |path: &Path| path.with_extension("db-wal");
        fs::copy(log(&path), log(&copy)).unwrap();
        let killed = kvjob_sqlite::open(&copy).unwrap();
        for n in 0..100 {
            assert!(has(&killed, n).await, "{n}");
        }
    }
}

/// Not a test, but the process whose files may not grow.
#[cfg(unix)]
#[tokio::test]
#[ignore = "another test runs it"]
async fn victim() {
    let store = kvjob_sqlite::open(errand()).unwrap();
    let mut n = 0;
    // The log is full before the database is.
    let warned = |health: Health| {
        health
            .warnings
            .iter()
            .any(|it| it.contains("could not be moved"))
    };
    while !warned(store.health().await.unwrap()) {
        store.commit(pair(n)).await.unwrap();
        n += 1;
    }
    let (count, in_doubt, later) = faults::until_it_closes(&store, n).await;
    let text = in_doubt.to_string();
    assert!(text.contains("may or may not be there"), "{text}");
    let text = later.to_string();
    assert!(
        text.contains("disk I/O error") && text.contains("open it again"),
        "{text}"
    );
    println!("\nacknowledged {count}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_fails_in_a_commit_leaves_its_callers_in_doubt_and_closes_the_store() {
    let (path, _directory) = place();
    let acknowledged = faults::acknowledged_without_room(6 << 20, "victim", &path);
    assert!(acknowledged > 50, "{acknowledged}");
    let store = kvjob_sqlite::open(&path).unwrap();
    faults::has_all(&store, acknowledged).await;
    store.commit(pair(acknowledged)).await.unwrap();
}
