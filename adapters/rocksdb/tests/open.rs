//! Opening and reopening: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use kvjob::kv::{Atomic, Change, Error, ErrorKind, Object, Result, Scan, Store};
use kvjob_rocksdb::RocksDb;
use kvjob_trials::{Process, errand, opening};
use rocksdb::DB;
use tempfile::TempDir;

fn place() -> (PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.rocksdb"), directory)
}

fn open(path: &Path) -> Result<RocksDb> {
    kvjob_rocksdb::open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

/// The names of the files in a directory.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A store in which something is.
async fn filled(path: &Path) {
    let store = kvjob_rocksdb::open(path).unwrap();
    for n in 0..100u8 {
        store.set(Object::new(&[n], vec![n; 1000])).await.unwrap();
    }
    store.stop().await.unwrap();
}

/// What another program does with a database; it says how many objects it has.
fn other(path: &Path, family: &str) -> usize {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let database = DB::open_cf(&options, path, [family]).unwrap();
    let songs = database.cf_handle(family).unwrap();
    database.put_cf(songs, "1", "la").unwrap();
    database
        .full_iterator_cf(songs, rocksdb::IteratorMode::Start)
        .count()
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    opening::keeps_what_was_stored(open).await;
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
}

/// RocksDB's own lock is of a process: this is one that has it, and says so.
#[tokio::test]
async fn a_directory_that_another_program_has_open_is_in_use() {
    let (path, _directory) = place();
    filled(&path).await;
    let other = DB::open_cf(&rocksdb::Options::default(), &path, ["kvjob"]).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("stop that one"), "{error}");
    drop(other);
    kvjob_rocksdb::open(&path).unwrap();
}

/// Not a test, but the process that has it open.
#[tokio::test]
#[ignore = "another test runs it"]
async fn another_process() {
    let path = PathBuf::from(errand());
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("stop that one"), "{error}");
}

#[tokio::test]
async fn so_it_is_for_another_process() {
    let (path, _directory) = place();
    filled(&path).await;
    let _other = DB::open_cf(&rocksdb::Options::default(), &path, ["kvjob"]).unwrap();
    Process::start("another_process", &path).end();
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    for family in ["songs", "default"] {
        let (path, _directory) = place();
        other(&path, family);
        let before = files(&path);
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(
            text.contains("RocksDB database of another program"),
            "{text}"
        );
        assert_eq!(files(&path), before);
        assert_eq!(other(&path, family), 1);
    }
}

#[tokio::test]
async fn a_store_to_which_another_program_added_a_family_is_refused() {
    let (path, _directory) = place();
    filled(&path).await;
    let mut options = rocksdb::Options::default();
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, &path, ["kvjob", "songs"]).unwrap());
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("songs"), "{error}");
}

#[test]
fn a_file_is_refused_and_left_as_it_is() {
    opening::refuses_files(open, &["", "some notes"], "it is a file");
}

#[test]
fn a_directory_of_another_program_is_refused_and_left_as_it_is() {
    let (path, _directory) = place();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes.txt"), "some notes").unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("directory of another program"), "{text}");
    assert_eq!(files(&path), ["notes.txt"]);
}

#[tokio::test]
async fn an_empty_directory_becomes_a_store() {
    let (path, _directory) = place();
    fs::create_dir(&path).unwrap();
    filled(&path).await;
}

#[tokio::test]
async fn what_a_crash_left_of_a_store_that_was_being_made_is_made_anew() {
    let (path, directory) = place();
    let unfinished = directory.path().join("jobs.rocksdb.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("IDENTITY"), "half").unwrap();
    filled(&path).await;
    assert!(!unfinished.exists());
}

#[test]
fn a_missing_directory_is_named_with_what_to_do() {
    opening::names_a_missing_directory(open);
}

#[tokio::test]
async fn what_rocksdb_would_make_anew_is_missed_instead() {
    let (path, _directory) = place();
    filled(&path).await;
    fs::remove_file(path.join("CURRENT")).unwrap();
    let before = files(&path);
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("CURRENT is missing"), "{error}");
    assert_eq!(files(&path), before, "left as it is");
}

#[tokio::test]
async fn a_prefix_is_deleted_whatever_its_size_and_nothing_beside_it() {
    let (path, _directory) = place();
    let store = kvjob_rocksdb::open(&path).unwrap();
    let changes = |name: &[u8]| {
        let key = |n: u32| [name, &n.to_be_bytes()].concat();
        (0..2500)
            .map(|n| Change::put(key(n), "x"))
            .collect::<Vec<_>>()
    };
    store.commit(changes(b"a")).await.unwrap();
    store.commit(vec![Change::put("b", "")]).await.unwrap();
    store.delete(&"a".into()).await.unwrap();
    drop(store);
    let store = kvjob_rocksdb::open(&path).unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects, [Object::new("b", "")]);
    store.commit(changes(b"\xff\xff")).await.unwrap();
    let largest = vec![0xff; store.limits().key_bytes];
    store.set(Object::new(largest, "")).await.unwrap();
    // Of what has no key behind it, too.
    store.delete(&b"\xff\xff".into()).await.unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects, [Object::new("b", "")]);
    store.delete(&"".into()).await.unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert!(page.objects.is_empty());
    store.commit(changes(b"a")).await.unwrap();
    let page = store.scan(Scan::prefix("a")).await.unwrap();
    assert!(page.next.is_some(), "what is put afterwards stays");
}

#[tokio::test]
async fn the_largest_key_and_value_are_taken() {
    opening::takes_the_largest(open).await;
}
