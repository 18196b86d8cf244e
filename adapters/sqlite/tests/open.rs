//! Opening and reopening, beside the user's own tables: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvjob::kv::{Atomic, Change, Error, ErrorKind, Object, Result, Scan, Store};
use kvjob_sqlite::Options;
use kvjob_sqlite::Sqlite;
use kvjob_sqlite::rusqlite::Connection;
use kvjob_trials::opening;

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.db"), directory)
}

fn open(path: &Path) -> Result<Sqlite> {
    Options::new()
        .busy_timeout(Duration::from_millis(1))
        .open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    let left = opening::keeps_what_was_stored(open).await;
    assert_eq!(left, ["jobs", "jobs.lock"], "the log is moved");
}

#[tokio::test]
async fn a_database_with_other_tables_is_used_and_they_stay_as_they_are() {
    let (path, _directory) = place();
    run(
        &path,
        "PRAGMA application_id = 4711; PRAGMA user_version = 12;
         CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT);
         INSERT INTO orders VALUES (7, 'a book');",
    );
    let store = kvjob_sqlite::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    // Also while it is open.
    run(&path, "INSERT INTO orders VALUES (8, 'another')");
    store.delete(&"".into()).await.unwrap();
    store.stop().await.unwrap();
    let kept: (i64, i64, i64) = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT (SELECT count(*) FROM orders), application_id, user_version
             FROM pragma_application_id, pragma_user_version",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(kept, (2, 4711, 12));
}

#[test]
fn another_table_of_our_name_is_refused_and_left_as_it_is() {
    for other in [
        "CREATE TABLE kvjob (id INTEGER PRIMARY KEY, title TEXT)",
        "CREATE TABLE kvjob (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
        "CREATE TABLE KVJOB (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE kvjob (key BLOB, value BLOB NOT NULL, more, PRIMARY KEY (key)) WITHOUT ROWID",
        "CREATE VIEW kvjob AS SELECT x'61' AS key, x'62' AS value",
    ] {
        let (path, _directory) = place();
        run(&path, other);
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("rename that one"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn an_index_of_our_name_is_refused() {
    let (path, _directory) = place();
    run(
        &path,
        "CREATE TABLE orders (what TEXT); CREATE INDEX kvjob ON orders (what)",
    );
    let error = refused(&path);
    assert!(error.to_string().contains("index named kvjob"), "{error}");
}

#[tokio::test]
async fn what_another_program_wrote_into_our_table_is_corrupt() {
    let (path, _directory) = place();
    let store = kvjob_sqlite::open(&path).unwrap();
    run(&path, "INSERT INTO kvjob VALUES (x'61', 'text')");
    let error = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    let error = store.scan(Scan::prefix("")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
}

#[cfg(unix)]
#[test]
fn a_second_name_of_the_file_meets_the_same_lock() {
    let (path, directory) = place();
    let link = directory.path().join("link.db");
    // Also where the file is made by way of it.
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = kvjob_sqlite::open(&link).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    drop(store);
    let _store = kvjob_sqlite::open(&path).unwrap();
    let error = kvjob_sqlite::open(&link).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
}

#[test]
fn a_file_that_another_program_has_locked_is_in_use() {
    let (path, _directory) = place();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE orders (what TEXT); BEGIN EXCLUSIVE")
        .unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("stop that one"), "{error}");
    drop(other);
    kvjob_sqlite::open(&path).unwrap();
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let long = "notes ".repeat(2000);
    opening::refuses_files(open, &["x", &long], "file of another program");
}

#[test]
fn a_directory_is_refused() {
    opening::refuses_directories(open);
}

#[test]
fn a_missing_directory_is_named_with_what_to_do() {
    opening::names_a_missing_directory(open);
}

#[test]
fn what_names_no_file_is_refused() {
    for path in ["", ":memory:"] {
        let error = kvjob_sqlite::open(path).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().contains("choose a path"), "{error}");
    }
}

#[tokio::test]
async fn what_looks_like_a_uri_is_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file:jobs.db?mode=memory");
    let store = kvjob_sqlite::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.stop().await.unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 0);
}

#[cfg(unix)]
#[test]
fn a_file_one_may_not_write_is_named_with_what_to_do() {
    opening::names_a_file_one_may_not_write(open);
}

#[test]
fn a_newer_file_format_is_told_from_damage() {
    let (path, _directory) = place();
    drop(kvjob_sqlite::open(&path).unwrap());
    let written = fs::read(&path).unwrap();
    for version in [18, 19] {
        let mut newer = written.clone();
        newer[version] = 3;
        fs::write(&path, &newer).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::TooNew, "{error}");
        assert_eq!(fs::read(&path).unwrap(), newer);
    }
}

/// A store with more than a few pages in it, whose file is then changed.
async fn damaged(path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let store = kvjob_sqlite::open(path).unwrap();
    for n in 0..64u8 {
        let change = Change::put([b'k', n].as_slice(), vec![n; 2000]);
        store.commit(vec![change]).await.unwrap();
    }
    store.stop().await.unwrap();
    let mut bytes = fs::read(path).unwrap();
    damage(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_file_that_was_cut_is_corrupt() {
    let (path, _directory) = place();
    damaged(&path, |bytes| bytes.truncate(8192)).await;
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("restore it"), "{error}");
}

#[tokio::test]
async fn a_damaged_page_is_corrupt_when_it_is_read() {
    let (path, _directory) = place();
    damaged(&path, |bytes| bytes[8192..].fill(0xa5)).await;
    let store = kvjob_sqlite::open(&path).unwrap();
    let error = store.scan(Scan::prefix("")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    let error = store.set(Object::new("k\u{1}", "1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(!error.maybe_applied(), "{error}");
}
