//! A disk that fails or holds something else than was written: callers are told what they must
//! know, and what was acknowledged is there afterwards.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kvjob::kv::{Atomic as _, Durability, ErrorKind, Object, Scan, Store as _};
use kvjob_rocksdb::RocksDb;
use kvjob_trials::errand;
use kvjob_trials::faults::{self, pair};
use rocksdb::DB;
use tempfile::TempDir;

fn place() -> (PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.rocksdb"), directory)
}

fn unsynced(path: &Path) -> RocksDb {
    let options = kvjob_rocksdb::Options::new().durability(Durability::Memory);
    options.open(path).unwrap()
}

/// Not a test, but the process that gets no room.
#[tokio::test]
#[ignore = "another test runs it"]
async fn full() {
    let store = unsynced(Path::new(&errand()));
    let (count, error, _) = faults::until_it_closes(&store, 0).await;
    let text = error.to_string();
    assert!(text.contains("could not bring changes to disk"), "{text}");
    println!("\nacknowledged {count}");
}

#[tokio::test]
async fn without_room_callers_are_left_in_doubt_and_the_store_closes() {
    let (path, _directory) = place();
    drop(unsynced(&path));
    // A log is longer.
    let count = faults::acknowledged_without_room(4 << 20, "full", &path);
    assert!(count > 0);
    let store = kvjob_rocksdb::open(&path).unwrap();
    faults::has_all(&store, count).await;
}

fn tables(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|it| it == "sst"))
        .collect()
}

/// A store whose objects are in tables, and these.
async fn with_tables(path: &Path) -> Vec<PathBuf> {
    let store = unsynced(path);
    store.commit(pair(0)).await.unwrap();
    store.stop().await.unwrap();
    let database = DB::open_cf(&rocksdb::Options::default(), path, ["kvjob"]).unwrap();
    let family = database.cf_handle("kvjob").unwrap();
    database.flush_cf(family).unwrap();
    tables(path)
}

#[tokio::test]
async fn damage_in_a_table_is_told_and_not_taken_for_absence() {
    let (path, _directory) = place();
    for table in with_tables(&path).await {
        let file = OpenOptions::new().write(true).open(table).unwrap();
        // In the value of its first object.
        file.write_all_at(&[0; 100], 5000).unwrap();
    }
    let store = kvjob_rocksdb::open(&path).unwrap();
    let error = store.get(&"left/0".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    let error = store.scan(Scan::prefix("left")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    store
        .set(Object::new("the store", "goes on"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_table_is_damage() {
    let (path, _directory) = place();
    for table in with_tables(&path).await {
        fs::remove_file(table).unwrap();
    }
    let error = kvjob_rocksdb::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_missing_list_of_tables_is_damage() {
    let (path, _directory) = place();
    with_tables(&path).await;
    let current = fs::read_to_string(path.join("CURRENT")).unwrap();
    fs::remove_file(path.join(current.trim())).unwrap();
    let error = kvjob_rocksdb::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_failure_in_the_background_closes_the_store_and_loses_nothing() {
    let (path, _directory) = place();
    let store = unsynced(&path);
    // What is held in memory cannot be written to a table any more, nor a new log be begun.
    let hidden = path.with_extension("hidden");
    fs::rename(&path, &hidden).unwrap();
    fs::write(&path, "").unwrap();
    let (count, error) = faults::until_it_fails(&store, 0).await;
    assert_eq!(error.kind(), &ErrorKind::Unknown, "{error}");
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::rename(&hidden, &path).unwrap();
    let store = kvjob_rocksdb::open(&path).unwrap();
    faults::has_all(&store, count).await;
}
