//! A disk that fails: what was acknowledged is there afterwards, nothing is half there, and
//! callers are told what they must know.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod disk;

use disk::{Disk, Failing};
use kvjob::kv::{Atomic, Change, Durability, ErrorKind, Object, Result, Store};
use kvjob_redb::{Options, Redb};
use kvjob_trials::faults::{self, has, pair};
use std::time::Duration;

const LONG: Durability = Durability::Interval(Duration::from_secs(1 << 30));

fn open(disk: &Disk, durability: Durability) -> Result<Redb> {
    Options::new()
        .durability(durability)
        .cache_bytes(1 << 20)
        .open_backend(disk.clone())
}

#[tokio::test]
async fn whichever_write_to_the_disk_fails_what_was_acknowledged_survives() {
    whichever_write_fails(|disk| open(disk, Durability::Immediate).unwrap()).await;
}

#[tokio::test]
async fn whichever_write_of_a_bag_fails_what_was_acknowledged_survives() {
    let options = Options::new().cache_bytes(1 << 20).bag();
    whichever_write_fails(|disk| options.open_backend(disk.clone()).unwrap()).await;
}

async fn whichever_write_fails(open: impl Fn(&Disk) -> Redb) {
    const COMMITS: u32 = 5;
    for good in 0.. {
        let disk = Disk::default();
        let mut acknowledged = Vec::new();
        {
            // A failure while the file is made loses nothing, for nothing is in it.
            let store = open(&disk);
            disk.fail(Failing::After(good));
            for n in 0..COMMITS {
                match store.commit(pair(n)).await {
                    Ok(()) => acknowledged.push(n),
                    Err(error) => {
                        let text = error.to_string();
                        let told = [ErrorKind::Unknown, ErrorKind::Closed].contains(error.kind());
                        assert!(told, "{text}");
                        assert!(text.contains("No space left"), "{text}");
                    }
                }
            }
        }
        for disk in [disk.after_power_loss(), disk.after_kill()] {
            let store = open(&disk);
            for n in 0..COMMITS {
                let found = has(&store, n).await;
                assert!(found || !acknowledged.contains(&n), "lost {n} after {good}");
            }
            store.commit(pair(COMMITS)).await.unwrap();
        }
        if disk.never_failed() {
            assert_eq!(acknowledged.len(), 5);
            assert!(good > 20, "the loop went through many writes: {good}");
            return;
        }
    }
}

#[tokio::test]
async fn a_sync_that_fails_leaves_its_callers_in_doubt_and_closes_the_store() {
    let disk = Disk::default();
    let store = open(&disk, Durability::Immediate).unwrap();
    store.commit(pair(0)).await.unwrap();
    disk.fail(Failing::Syncs);
    let error = store.commit(pair(1)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unknown);
    assert!(error.maybe_applied());
    disk.fail(Failing::Nothing);
    // The disk is well again, but what happened before is still in doubt.
    let error = store.commit(pair(2)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    let text = error.to_string();
    assert!(
        text.contains("No space left") && text.contains("open it again"),
        "{text}"
    );
    assert_eq!(
        store.get(&"left/0".into()).await.unwrap_err().kind(),
        &ErrorKind::Closed
    );

    let store = open(&disk.after_power_loss(), Durability::Immediate).unwrap();
    assert!(has(&store, 0).await && !has(&store, 2).await);
}

#[tokio::test]
async fn a_disk_too_full_to_grow_on_closes_the_store_with_nothing_in_doubt() {
    let disk = Disk::default();
    let store = open(&disk, Durability::Immediate).unwrap();
    store.commit(pair(0)).await.unwrap();
    disk.fail(Failing::Growth);
    let (n, error) = faults::until_it_fails(&store, 1).await;
    assert_eq!(error.kind(), &ErrorKind::Closed, "{error}");
    let store = open(&disk.after_kill(), Durability::Immediate).unwrap();
    assert!(!faults::has_all(&store, n).await);
}

#[tokio::test]
async fn without_a_sync_a_loss_of_power_loses_whole_commits_and_only_the_last() {
    let disk = Disk::default();
    let store = open(&disk, LONG).unwrap();
    for n in 0..10 {
        store.commit(pair(n)).await.unwrap();
        if n == 5 {
            store.with_transaction(|_| Ok(())).await.unwrap();
        }
    }
    let lost = open(&disk.after_power_loss(), LONG).unwrap();
    for n in 0..10 {
        assert_eq!(has(&lost, n).await, n <= 5, "{n}");
    }
    store.stop().await.unwrap();
    let stopped = open(&disk.after_power_loss(), LONG).unwrap();
    for n in 0..10 {
        assert!(has(&stopped, n).await, "{n}");
    }
}

#[tokio::test]
async fn callers_share_syncs() {
    let disk = Disk::default();
    let store = open(&disk, Durability::Immediate).unwrap();
    let before = disk.syncs();
    let commits = (0..200u32).map(|n| vec![Change::put(n.to_be_bytes().as_slice(), "")]);
    for outcome in store.commit_all(commits.collect()).await {
        outcome.unwrap();
    }
    let syncs = disk.syncs() - before;
    assert!((1..=4).contains(&syncs), "{syncs} syncs for 200 commits");
}

#[tokio::test]
async fn what_is_not_synced_does_not_bloat_the_file() {
    let disk = Disk::default();
    let store = open(&disk, Durability::Memory).unwrap();
    for n in 0..5000u32 {
        let object = Object::new("the one key", n.to_be_bytes().to_vec());
        store.set(object).await.unwrap();
    }
    store.stop().await.unwrap();
    let bytes = kvjob_redb::redb::StorageBackend::len(&disk).unwrap();
    assert!(bytes < 64 << 20, "{bytes} bytes for one key");
}
