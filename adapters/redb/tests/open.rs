//! Opening, reopening, compacting: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use kvjob::kv::{Atomic, Change, Error, ErrorKind, Object, Result, Store};
use kvjob_redb::Redb;
use kvjob_redb::{Options, redb};
use kvjob_trials::opening;

fn open(path: &Path) -> Result<Redb> {
    kvjob_redb::open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    opening::keeps_what_was_stored(open).await;
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let _store = open(&path).unwrap();
    let error = kvjob_redb::compact(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
}

#[tokio::test]
async fn a_crash_while_a_file_was_made_leaves_no_file_that_cannot_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let half_made = directory.path().join("jobs.redb.new");
    // redb writes the first bytes of a new file last.
    fs::write(&half_made, vec![0; 1 << 20]).unwrap();
    let store = kvjob_redb::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.stop().await.unwrap();
    assert!(!half_made.exists());
    let store = kvjob_redb::open(&path).unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[test]
fn a_file_that_another_program_has_open_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let _other = redb::Database::create(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    assert!(error.to_string().contains("stop that one"), "{error}");
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let long = "some notes that are longer than redb's magic number";
    opening::refuses_files(open, &["x", long], "file of another program");
}

#[tokio::test]
async fn a_store_of_the_other_kind_is_refused_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = [
        (Options::new(), Options::new().bag(), "open it without"),
        (Options::new().bag(), Options::new(), "open it with"),
    ];
    for (n, (kind, other, advice)) in kinds.into_iter().enumerate() {
        let path = directory.path().join(format!("{n}.redb"));
        let store = kind.open(&path).unwrap();
        store.set(Object::new("a", "1")).await.unwrap();
        store.stop().await.unwrap();

        let error = other.open(&path).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        let text = error.to_string();
        for told in [
            &path.display().to_string(),
            "bag",
            "one value a key",
            advice,
        ] {
            assert!(text.contains(told), "{text}");
        }

        let store = kind.open(&path).unwrap();
        let found = store.get(&"a".into()).await.unwrap();
        assert_eq!(found, Some(Object::new("a", "1")));
    }
}

#[test]
fn a_directory_is_refused() {
    opening::refuses_directories(open);
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

/// A store's file, with one byte changed where both commit slots hold it.
fn damaged(path: &Path, within_slot: usize, byte: u8) {
    drop(kvjob_redb::open(path).unwrap());
    let mut bytes = fs::read(path).unwrap();
    for slot in [64, 192] {
        *bytes.get_mut(slot + within_slot).unwrap() = byte;
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_newer_file_format_is_told_from_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    damaged(&path, 0, 200);
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::TooNew, "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn an_older_file_format_says_how_to_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    damaged(&path, 0, 2);
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(
        error.to_string().contains("upgrade it with redb 2.6"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_cut_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    drop(kvjob_redb::open(&path).unwrap());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, bytes.get(..8192).unwrap()).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn compacting_gives_space_back_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let store = kvjob_redb::open(&path).unwrap();
    for n in 0..64u8 {
        // What is kept stands behind what goes, so that closing alone cannot cut the file.
        for key in [[b'x', n], [b'k', n]] {
            let change = Change::put(&key, vec![n; 128 << 10]);
            store.commit(vec![change]).await.unwrap();
        }
    }
    store.delete(&"x".into()).await.unwrap();
    store.stop().await.unwrap();
    let compacted = kvjob_redb::compact(&path).unwrap();
    assert!(compacted.after < compacted.before * 2 / 3, "{compacted:?}");
    let store = kvjob_redb::open(&path).unwrap();
    assert!(store.get(&b"k\x3f".into()).await.unwrap().is_some());
}

#[test]
fn compacting_what_is_not_there_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.redb");
    let error = kvjob_redb::compact(&path).unwrap_err();
    assert!(error.to_string().contains("cannot compact"), "{error}");
    assert!(!path.exists());
}
