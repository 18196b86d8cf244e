//! Opening and reopening: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use kvjob::kv::{Error, ErrorKind, Object, Result, Store};
use kvjob_sled::Sled;
use kvjob_trials::opening;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.sled");
    (directory, path)
}

fn open(path: &Path) -> Result<Sled> {
    kvjob_sled::open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

/// A store with an object in it, closed.
async fn filled(path: &Path) {
    let store = kvjob_sled::open(path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.stop().await.unwrap();
}

async fn is_filled(path: &Path) -> bool {
    let store = kvjob_sled::open(path).unwrap();
    store.get(&"a".into()).await.unwrap().is_some()
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    opening::keeps_what_was_stored(open).await;
}

#[tokio::test]
async fn a_store_that_was_closed_opens_again_at_once() {
    let (_directory, path) = place();
    for n in 0..50u8 {
        let store = kvjob_sled::open(&path).unwrap();
        store.set(Object::new(&[n + 1], "1")).await.unwrap();
    }
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
}

#[test]
fn a_database_that_another_program_has_open_is_in_use() {
    let (_directory, path) = place();
    let _other = sled::open(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    assert!(error.to_string().contains("stop that one"), "{error}");
}

#[tokio::test]
async fn the_other_trees_of_a_database_are_left_alone() {
    let (_directory, path) = place();
    let own = sled::open(&path).unwrap();
    own.insert("mine", "1").unwrap();
    own.open_tree("orders").unwrap().insert("7", "2").unwrap();
    drop(own);
    filled(&path).await;
    let store = kvjob_sled::open(&path).unwrap();
    store.delete(&"".into()).await.unwrap();
    store.stop().await.unwrap();
    let own = sled::open(&path).unwrap();
    assert_eq!(own.get("mine").unwrap().unwrap(), "1");
    let orders = own.open_tree("orders").unwrap();
    assert_eq!(orders.get("7").unwrap().unwrap(), "2");
}

#[test]
fn a_file_is_refused_and_left_as_it_is() {
    opening::refuses_files(open, &["", "some notes"], "it is a file");
}

#[test]
fn a_directory_of_another_program_is_refused_and_left_as_it_is() {
    for name in ["notes.txt", "metadata", "db.old", "conf"] {
        let (_directory, path) = place();
        fs::create_dir(&path).unwrap();
        fs::write(path.join(name), "some notes").unwrap();
        fs::write(path.join("more"), "").unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().contains("another program"), "{error}");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    }
}

#[tokio::test]
async fn an_empty_directory_and_one_half_made_by_a_crash_are_made_a_store() {
    let (_directory, path) = place();
    fs::create_dir(&path).unwrap();
    filled(&path).await;
    for made in [&[][..], &["conf"], &["conf", "db"]] {
        let (_directory, path) = place();
        fs::create_dir_all(path.join("blobs")).unwrap();
        for name in made {
            fs::write(path.join(name), "").unwrap();
        }
        filled(&path).await;
        assert!(is_filled(&path).await);
    }
}

#[tokio::test]
async fn a_snapshot_that_a_kill_cut_off_is_no_obstacle() {
    // sled takes the last name for the newest snapshot, also where it says "generating", and
    // refuses the database: https://github.com/spacejam/sled/issues/1527.
    let (_directory, path) = place();
    filled(&path).await;
    filled(&path).await;
    let snapshot = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("snap.").then_some(name)
    };
    let entries = fs::read_dir(&path).unwrap();
    let found: Vec<_> = entries.filter_map(|it| snapshot(it.unwrap())).collect();
    assert!(!found.is_empty(), "sled makes snapshots");
    for name in found {
        fs::write(path.join(format!("{name}.generating")), "half").unwrap();
    }
    sled::open(&path).unwrap_err();
    assert!(is_filled(&path).await);
}

#[tokio::test]
async fn a_database_of_another_sled_is_refused_and_says_which() {
    let (_directory, path) = place();
    filled(&path).await;
    let conf = fs::read(path.join("conf")).unwrap();
    let at = conf.windows(4).position(|part| part == b"0.34").unwrap();
    let mut other = conf.clone();
    other.get_mut(at..at + 4).unwrap().copy_from_slice(b"0.33");
    fs::write(path.join("conf"), other).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("0.33"), "{error}");
    fs::write(path.join("conf"), conf).unwrap();
    assert!(is_filled(&path).await);
}

#[tokio::test]
async fn a_damaged_snapshot_is_corrupt() {
    let (_directory, path) = place();
    filled(&path).await;
    filled(&path).await;
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::write(entry.path(), "not what sled wrote").unwrap();
        }
    }
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::Corrupt);
    assert!(error.to_string().contains("restore it"), "{error}");
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
