//! Opening and reopening: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kvjob::kv::{Atomic, Change, Cursor, Error, ErrorKind, Key, Object, Result, Scan, Store};
use kvjob_fjall::Fjall;
use kvjob_fjall::fjall::{self, SingleWriterTxDatabase};
use kvjob_trials::{Process, opening};
use tempfile::TempDir;

fn place() -> (PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.fjall"), directory)
}

fn open(path: &Path) -> Result<Fjall> {
    kvjob_fjall::open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

/// Every file under a directory, but for those of locks.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none_or(|ending| ending != "lock") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A store in which something is.
async fn filled(path: &Path) {
    let store = kvjob_fjall::open(path).unwrap();
    for n in 0..100u8 {
        store.set(Object::new(&[n], vec![n; 1000])).await.unwrap();
    }
    store.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    opening::keeps_what_was_stored(open).await;
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
}

#[tokio::test]
async fn a_directory_that_another_program_has_open_is_in_use() {
    let (path, _directory) = place();
    filled(&path).await;
    let other = SingleWriterTxDatabase::builder(&path).open().unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    assert!(error.to_string().contains("stop that one"), "{error}");
    drop(other);
    kvjob_fjall::open(&path).unwrap();
}

#[tokio::test]
async fn a_store_lives_in_an_open_database_beside_keyspaces_of_its_user() {
    let (path, _directory) = place();
    let database = SingleWriterTxDatabase::builder(&path).open().unwrap();
    let orders = database.keyspace("orders", Default::default).unwrap();
    orders.insert("7", "a book").unwrap();
    let options = kvjob_fjall::Options::new();
    let store = options.open_database(database.clone()).unwrap();
    let error = options.open_database(database.clone()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
    store.set(Object::new("7", "ship it")).await.unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects, [Object::new("7", "ship it")]);
    store.stop().await.unwrap();
    assert_eq!(orders.get("7").unwrap().as_deref(), Some(&b"a book"[..]));
    drop((orders, database));
    let store = kvjob_fjall::open(&path).unwrap();
    assert!(store.get(&"7".into()).await.unwrap().is_some());
}

#[test]
fn a_database_of_another_program_is_refused() {
    let (path, _directory) = place();
    let other = SingleWriterTxDatabase::builder(&path).open().unwrap();
    let songs = other.keyspace("songs", Default::default).unwrap();
    songs.insert("1", "la").unwrap();
    drop((songs, other));
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("fjall database of another program"), "{text}");
    let other = SingleWriterTxDatabase::builder(&path).open().unwrap();
    assert!(other.keyspace_exists("songs"));
    assert_eq!(other.keyspace_count(), 1, "left as it is");
}

#[test]
fn a_file_is_refused_and_left_as_it_is() {
    opening::refuses_files(open, &["", "some notes"], "it is a file");
}

#[test]
fn a_directory_of_another_program_is_refused_and_left_as_it_is() {
    for (name, content) in [("notes.txt", "some notes"), ("version", "2.1")] {
        let (path, _directory) = place();
        fs::create_dir(&path).unwrap();
        fs::write(path.join(name), content).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("directory of another program"), "{text}");
        assert_eq!(files(&path), [path.join(name)]);
    }
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
    let unfinished = directory.path().join("jobs.fjall.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("0.jnl"), [0; 100]).unwrap();
    filled(&path).await;
    assert!(!unfinished.exists());
}

#[test]
fn a_missing_directory_is_named_with_what_to_do() {
    opening::names_a_missing_directory(open);
}

#[cfg(unix)]
#[test]
fn a_directory_one_may_not_write_in_is_named_with_what_to_do() {
    opening::names_a_directory_one_may_not_write_in(open);
}

/// Not a test, but the process whose current directory is gone.
#[cfg(unix)]
#[test]
#[ignore = "another test runs it"]
fn homeless() {
    let (path, _directory) = place();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().contains("current directory"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_process_whose_current_directory_is_gone_is_told_so() {
    let (path, _directory) = place();
    fs::create_dir(&path).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "rmdir \"$PWD\" && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .current_dir(&path);
    Process::run(shell, "homeless", "").end();
}

#[tokio::test]
async fn other_formats_are_told_from_damage() {
    for (format, kind, what) in [
        (2, ErrorKind::Unsupported, "upgrade it"),
        (4, ErrorKind::TooNew, "newer fjall (format 4)"),
    ] {
        let (path, _directory) = place();
        filled(&path).await;
        fs::write(path.join("version"), [b'F', b'J', b'L', format]).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &kind, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn what_fjall_would_make_anew_is_missed_instead() {
    for part in ["keyspaces/0/current", "0.jnl"] {
        let (path, _directory) = place();
        filled(&path).await;
        fs::remove_file(path.join(part)).unwrap();
        let before = files(&path);
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("is missing"), "{error}");
        assert_eq!(files(&path), before, "left as it is");
    }
}

#[tokio::test]
async fn what_fjall_would_not_survive_is_damage() {
    let (path, _directory) = place();
    filled(&path).await;
    fs::create_dir(path.join("keyspaces/lost+found")).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_prefix_larger_than_a_batch_is_deleted_and_nothing_beside_it() {
    let (path, _directory) = place();
    let store = kvjob_fjall::open(&path).unwrap();
    let changes = |name: &str| {
        let key = |n: u32| [name.as_bytes(), &n.to_be_bytes()].concat();
        (0..2500)
            .map(|n| Change::put(key(n), "x"))
            .collect::<Vec<_>>()
    };
    store.commit(changes("a")).await.unwrap();
    store.commit(vec![Change::put("b", "")]).await.unwrap();
    store.delete(&"a".into()).await.unwrap();
    drop(store);
    let store = kvjob_fjall::open(&path).unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects, [Object::new("b", "")]);
    store.commit(changes("a")).await.unwrap();
    store.delete(&"".into()).await.unwrap();
    let page = store.scan(Scan::prefix("")).await.unwrap();
    assert!(page.objects.is_empty());
}

#[tokio::test]
async fn the_largest_key_and_value_are_taken() {
    opening::takes_the_largest(open).await;
}

#[tokio::test]
async fn a_scan_from_beyond_the_largest_key_finds_what_is_behind() {
    let (path, _directory) = place();
    let store = kvjob_fjall::open(&path).unwrap();
    let largest = Object::new(vec![7; store.limits().key_bytes], "");
    let behind = Object::new(&[8], "");
    let both = [&largest, &behind].map(|object| Change::put(object.key.clone(), ""));
    store.commit(both.to_vec()).await.unwrap();
    let too_long = Key::from(vec![7; 100_000]);
    let page = store.scan(Scan::prefix(too_long.clone())).await.unwrap();
    assert!(page.objects.is_empty());
    let cursor = Cursor::after(too_long.clone());
    let forward = Scan::prefix("").after(cursor);
    let page = store.scan(forward.clone()).await.unwrap();
    assert_eq!(page.objects, [behind]);
    let page = store.scan(forward.reverse()).await.unwrap();
    assert_eq!(page.objects, [largest]);
    store.delete(&too_long).await.unwrap();
}

/// fjall's own type of errors, for what a test of it says.
#[test]
fn an_error_of_fjalls_keeps_its_source() {
    let error = kvjob_fjall::error(fjall::Error::Poisoned);
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(std::error::Error::source(&error).is_some());
}
