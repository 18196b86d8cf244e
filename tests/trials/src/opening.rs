//! What is promised of a store in a file or a directory when it is opened, and what its user reads
//! when it cannot be.

use std::fs;
use std::path::Path;

use kvjob::kv::{Error, ErrorKind, Object, Result, Store};

/// Fails if the store is opened, or the error does not name its path.
pub fn refused<S: Store>(path: &Path, open: impl Fn(&Path) -> Result<S>) -> Error {
    let error = open(path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    error
}

fn refused_as<S: Store>(path: &Path, open: impl Fn(&Path) -> Result<S>, says: &str) -> Error {
    let error = refused(path, open);
    assert!(error.to_string().contains(says), "{error}");
    error
}

/// What was stored is there after a stop and after a drop. Returns the names of what a stop leaves
/// of a store that is called `jobs`.
pub async fn keeps_what_was_stored<S: Store>(open: impl Fn(&Path) -> Result<S>) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    let store = open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.stop().await.unwrap();
    let left = fs::read_dir(directory.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> = left.collect();
    left.sort();
    let store = open(&path).unwrap();
    store.set(Object::new("b", "1")).await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    let found = store.get_many(&["a".into(), "b".into()]).await.unwrap();
    assert!(found.iter().all(Option::is_some));
    left
}

/// A store that is open is not opened twice.
pub fn is_not_opened_twice<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    let store = open(&path).unwrap();
    let error = refused_as(&path, &open, "already open in this process");
    assert_eq!(error.kind(), &ErrorKind::InUse);
    drop(store);
    open(&path).unwrap();
}

/// A file of another program, which has one of these contents, is refused with these words and left
/// as it is.
pub fn refuses_files<S: Store>(open: impl Fn(&Path) -> Result<S>, contents: &[&str], says: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    for content in contents {
        fs::write(&path, content).unwrap();
        let error = refused_as(&path, &open, says);
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert_eq!(&fs::read_to_string(&path).unwrap(), content);
    }
}

/// A store that is to be a file is not made of a directory.
pub fn refuses_directories<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let error = refused_as(directory.path(), open, "it is a directory");
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
}

/// A missing directory is named, with what to do.
pub fn names_a_missing_directory<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere").join("jobs");
    refused_as(&path, open, "nowhere does not exist; create it");
}

/// A directory one may not write in is named, with what to do.
#[cfg(unix)]
pub fn names_a_directory_one_may_not_write_in<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).unwrap();
    allow(&locked, 0o500);
    if fs::write(locked.join("probe"), "").is_ok() {
        // The superuser may write everywhere.
        return;
    }
    refused_as(&locked.join("jobs"), open, "must be allowed to write");
}

/// A file one may not write is named, with what to do.
#[cfg(unix)]
pub fn names_a_file_one_may_not_write<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    drop(open(&path).unwrap());
    allow(&path, 0o400);
    if fs::OpenOptions::new().append(true).open(&path).is_ok() {
        // The superuser may write everywhere.
        return;
    }
    refused_as(&path, open, "must be allowed");
}

#[cfg(unix)]
fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The largest key and value are taken, and are there afterwards.
pub async fn takes_the_largest<S: Store>(open: impl Fn(&Path) -> Result<S>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    let store = open(&path).unwrap();
    let limits = store.limits();
    let key = vec![0xff; limits.key_bytes];
    let value = vec![7; limits.value_bytes - limits.key_bytes];
    let largest = Object::new(key.clone(), value.clone());
    store.set(largest).await.unwrap();
    store.stop().await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    let found = store.get(&key.clone().into()).await.unwrap();
    assert!(found.is_some_and(|object| object.value == value));
    let too_long = [key, vec![0]].concat();
    let error = store.set(Object::new(too_long, "")).await.unwrap_err();
    let too_large = matches!(error.kind(), ErrorKind::TooLarge { .. });
    assert!(too_large, "{error}");
}
