//! A disk that fails or holds something else than was written: callers are told what they must
//! know, and what was acknowledged is there afterwards.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kvjob::kv::{Atomic as _, Durability, ErrorKind, Object, Scan, Store as _};
use kvjob_fjall::Fjall;
use kvjob_trials::errand;
use kvjob_trials::faults::{self, pair};
use tempfile::TempDir;

fn place() -> (PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.fjall"), directory)
}

fn unsynced(path: &Path) -> Fjall {
    let options = kvjob_fjall::Options::new().durability(Durability::Memory);
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
    // A little more than a new journal, of 64 MiB.
    let count = faults::acknowledged_without_room((64 << 20) + (14 << 10), "full", &path);
    let store = kvjob_fjall::open(&path).unwrap();
    faults::has_all(&store, count).await;
}

#[tokio::test]
async fn a_failure_in_the_background_closes_the_store_with_nothing_in_doubt() {
    let (path, _directory) = place();
    let store = unsynced(&path);
    // What is held in memory cannot be written to a table any more.
    fs::remove_dir_all(path.join("keyspaces/1/tables")).unwrap();
    let (count, error) = faults::until_it_fails(&store, 0).await;
    assert_eq!(error.kind(), &ErrorKind::Closed, "{error}");
    assert!(error.to_string().contains("is the disk full?"), "{error}");
    drop(store);
    let store = kvjob_fjall::open(&path).unwrap();
    assert!(!faults::has_all(&store, count).await);
}

/// A store whose contents are in a table, and the table.
async fn with_table(path: &Path) -> PathBuf {
    let store = unsynced(path);
    let tables = path.join("keyspaces/1/tables");
    for n in 0.. {
        store.commit(pair(n)).await.unwrap();
        let table = fs::read_dir(&tables).unwrap().next();
        if let Some(table) = table {
            store.stop().await.unwrap();
            return table.unwrap().path();
        }
    }
    unreachable!("it would hold everything in memory")
}

#[tokio::test]
async fn damage_in_a_table_is_told_and_not_taken_for_absence() {
    let (path, _directory) = place();
    let table = with_table(&path).await;
    let file = OpenOptions::new().write(true).open(table).unwrap();
    // In the value of its first object.
    file.write_all_at(&[0; 100], 5000).unwrap();
    drop(file);
    let store = kvjob_fjall::open(&path).unwrap();
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
    fs::remove_file(with_table(&path).await).unwrap();
    let error = kvjob_fjall::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_commit_that_a_loss_of_power_tore_is_told() {
    let (path, _directory) = place();
    let store = kvjob_fjall::open(&path).unwrap();
    store.commit(pair(0)).await.unwrap();
    store.stop().await.unwrap();
    drop(store);
    let journal = OpenOptions::new().write(true).open(path.join("0.jnl"));
    // A page that did not come to disk, with others before and behind it that did.
    journal.unwrap().write_all_at(&[0; 4096], 8 * 4096).unwrap();
    let error = kvjob_fjall::open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("loss of power"), "{error}");
}
