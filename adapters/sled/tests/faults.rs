//! Files that fail or are damaged, and what sled cannot bear: what was acknowledged is there
//! afterwards, callers are told what they must know, and nothing panics or grows without end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use kvjob::kv::{Atomic, Change, Durability, ErrorKind, Object, Scan, Store};
use kvjob_sled::Sled;
use kvjob_trials::errand;
use kvjob_trials::faults::{self, pair};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.sled");
    (directory, path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    };
    entries.map(size).sum()
}

/// All keys, walked in pages of this many.
async fn keys(store: &Sled, scan: Scan, page: usize) -> Vec<Vec<u8>> {
    let mut scan = scan.limit(page);
    let mut keys = Vec::new();
    loop {
        let page = store.scan(scan.clone()).await.unwrap();
        keys.extend(page.objects.iter().map(|it| it.key.as_bytes().to_vec()));
        match page.next {
            Some(next) => scan = scan.after(next),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn a_sync_that_fails_leaves_its_callers_in_doubt_and_closes_the_store() {
    let (_directory, path) = place();
    let store = kvjob_sled::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    fs::remove_dir(path.join("blobs")).unwrap();
    let error = store.set(Object::new("b", "1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unknown);
    assert!(error.to_string().contains("may or may not"), "{error}");
    let error = store.set(Object::new("c", "1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(error.to_string().contains("open it again"), "{error}");
    let error = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    drop(store);
    let store = kvjob_sled::open(&path).unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
    assert!(store.get(&"c".into()).await.unwrap().is_none());
}

/// Not a test, but the process whose files may not grow.
#[cfg(unix)]
#[tokio::test]
#[ignore = "another test runs it"]
async fn one_who_may_not_write_much() {
    let store = kvjob_sled::open(errand()).unwrap();
    let (count, ..) = faults::until_it_closes(&store, 0).await;
    println!("\nacknowledged {count}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_disk_too_full_to_grow_on_closes_the_store_and_leaves_nothing_half() {
    for blocks in [4000, 5300, 7001] {
        let (_directory, path) = place();
        let bytes = 512 * blocks;
        let victim = "one_who_may_not_write_much";
        let count = faults::acknowledged_without_room(bytes, victim, &path);
        assert!(count > 1, "some went through");
        let store = kvjob_sled::open(&path).unwrap();
        faults::has_all(&store, count).await;
        store.commit(pair(count)).await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_never_taken_for_data() {
    let (directory, path) = place();
    let store = kvjob_sled::open(&path).unwrap();
    for n in 0..200u8 {
        store.set(Object::new(&[n, 1], vec![n; 300])).await.unwrap();
    }
    drop(store);
    // From now on a snapshot speaks of what is in the file.
    drop(kvjob_sled::open(&path).unwrap());
    let log = fs::read(path.join("db")).unwrap();
    let mut refused = 0;
    for at in (0..log.len()).step_by(29_989) {
        let damaged = directory.path().join(format!("damaged at {at}"));
        copy(&path, &damaged);
        let mut log = log.clone();
        let end = log.len().min(at + 40);
        log[at..end].fill(0x5a);
        fs::write(damaged.join("db"), log).unwrap();
        let read = match kvjob_sled::open(&damaged) {
            Ok(store) => store.scan(Scan::prefix("")).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(page) => {
                let wrong = |it: &Object| it.value[..] != [it.key.as_bytes()[0]; 300];
                assert!(!page.objects.iter().any(wrong), "damaged at {at}");
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
            }
        }
    }
    assert!(refused > 0, "some damage is seen");
}

#[tokio::test]
async fn keys_with_many_ff_are_walked_in_both_directions() {
    // sled walks backwards over them in circles, until it panics.
    let (_directory, path) = place();
    let store = kvjob_sled::Options::new()
        .durability(Durability::Memory)
        .open(&path)
        .unwrap();
    let mut wanted = Vec::new();
    for high in 0..40u8 {
        for many in 0..24 {
            let mut key = vec![high];
            key.extend(vec![0xff; many]);
            wanted.push(key.clone());
            key.push(many.try_into().unwrap());
            wanted.push(key);
        }
    }
    wanted.sort();
    wanted.dedup();
    for keys in wanted.chunks(100) {
        let changes = keys.iter().map(|key| Change::put(key.clone(), ""));
        store.commit(changes.collect()).await.unwrap();
    }
    for page in [1, 7, 1000] {
        assert!(keys(&store, Scan::prefix(""), page).await == wanted);
        let mut backwards = keys(&store, Scan::prefix("").reverse(), page).await;
        backwards.reverse();
        assert!(backwards == wanted, "pages of {page}");
    }
}

#[tokio::test]
async fn large_values_that_change_leave_nothing_behind() {
    // sled puts what is larger than 128 KiB in files of their own, and leaves them there.
    let (_directory, path) = place();
    let store = kvjob_sled::Options::new()
        .durability(Durability::Memory)
        .open(&path)
        .unwrap();
    for n in 0..200u8 {
        let length = 1000 * usize::from(n);
        let value = vec![n; length];
        let object = Object::new(&[b'k', n % 4], value.clone());
        store.set(object.clone()).await.unwrap();
        assert!(store.get(&object.key).await.unwrap() == Some(object));
    }
    store.delete(&"k".into()).await.unwrap();
    store.stop().await.unwrap();
    let tree = sled::open(&path).unwrap().open_tree("kvjob").unwrap();
    assert_eq!(tree.len(), 0, "pieces without an object");
    assert!(fs::read_dir(path.join("blobs")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_value_that_has_lost_a_piece_is_corrupt() {
    let (_directory, path) = place();
    let store = kvjob_sled::open(&path).unwrap();
    store.set(Object::new("k", vec![1; 9000])).await.unwrap();
    store.stop().await.unwrap();
    drop(store);
    let tree = sled::open(&path).unwrap().open_tree("kvjob").unwrap();
    let (last, _) = tree.last().unwrap().unwrap();
    tree.remove(last).unwrap();
    drop(tree);
    let store = kvjob_sled::open(&path).unwrap();
    let error = store.get(&"k".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("piece of the value of k"),
        "{error}"
    );
}

#[tokio::test]
async fn one_key_written_again_and_again_does_not_bloat_the_file() {
    let (_directory, path) = place();
    let store = kvjob_sled::Options::new()
        .durability(Durability::Memory)
        .open(&path)
        .unwrap();
    for n in 0..5_000u32 {
        let object = Object::new("the one key", n.to_be_bytes().to_vec());
        store.set(object).await.unwrap();
    }
    store.stop().await.unwrap();
    assert!(size(&path) < 16 << 20, "{} bytes for one key", size(&path));
}
