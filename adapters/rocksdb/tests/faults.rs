//! A disk that fails or holds something else than was written: callers are told what they must
//! know, and what was acknowledged is there afterwards.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kvjob::kv::{Atomic, Change, Durability, ErrorKind, Key, Object, Scan, Store};
use kvjob_rocksdb::RocksDb;
use rocksdb::DB;
use tempfile::TempDir;

/// Set for the process that is not given enough room: the path of its store.
const ORDERS: &str = "KVJOB_ROCKSDB_FULL";

fn place() -> (PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.rocksdb"), directory)
}

/// A pair of keys that stand and fall together.
fn pair(n: u32) -> Vec<Change> {
    let value = vec![u8::try_from(n % 255).unwrap() + 1; 100 << 10];
    vec![
        Change::put(format!("left/{n}").as_str(), value.clone()),
        Change::put(format!("right/{n}").as_str(), value),
    ]
}

async fn has(store: &RocksDb, n: u32) -> bool {
    let keys = [format!("left/{n}"), format!("right/{n}")];
    let keys = keys.map(|key| Key::from(key.as_str()));
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(found[0].is_some(), found[1].is_some(), "half of commit {n}");
    found[0].is_some()
}

fn unsynced(path: &Path) -> RocksDb {
    let options = kvjob_rocksdb::Options::new().durability(Durability::Memory);
    options.open(path).unwrap()
}

/// Commits until one fails, and says how many there were and what the store said.
async fn until_it_fails(store: &RocksDb) -> (u32, kvjob::kv::Error) {
    for n in 0..10_000 {
        if let Err(error) = store.commit(pair(n)).await {
            return (n, error);
        }
    }
    panic!("it never failed");
}

/// Not a test, but the process that gets no room.
#[tokio::test]
#[ignore = "another test runs it"]
async fn full() {
    let store = unsynced(Path::new(&std::env::var(ORDERS).unwrap()));
    let (count, error) = until_it_fails(&store).await;
    assert_eq!(error.kind(), &ErrorKind::Unknown, "{error}");
    let text = error.to_string();
    assert!(text.contains("could not bring changes to disk"), "{text}");
    let error = store.commit(pair(count)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed, "{error}");
    let error = store.get(&"left/0".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed, "{error}");
    println!("\nacknowledged {count}");
}

#[tokio::test]
async fn without_room_callers_are_left_in_doubt_and_the_store_closes() {
    let (path, _directory) = place();
    drop(unsynced(&path));
    // No file may grow beyond 4 MiB (or 8, where a block is a KiB): a log is longer.
    let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" full --exact --ignored --nocapture";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(ORDERS, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("acknowledged "));
    let count: u32 = count.unwrap().parse().unwrap();
    assert!(count > 0);
    let store = kvjob_rocksdb::open(&path).unwrap();
    for n in 0..count {
        assert!(has(&store, n).await, "{n} of {count}");
    }
    // Whole or not at all.
    has(&store, count).await;
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
    let (count, error) = until_it_fails(&store).await;
    assert_eq!(error.kind(), &ErrorKind::Unknown, "{error}");
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::rename(&hidden, &path).unwrap();
    let store = kvjob_rocksdb::open(&path).unwrap();
    for n in 0..count {
        assert!(has(&store, n).await, "{n} of {count}");
    }
    has(&store, count).await;
}
