//! A map or a disk that is full, a disk that fails, readers and writers in each other's way: what was
//! acknowledged is there afterwards, nothing is half there, and callers are told what they must
//! know.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kvjob::kv::{Atomic, Change, Durability, ErrorKind, Object, Scan, Store};
use kvjob_lmdb::Options;
use kvjob_trials::faults::{self, has, pair};
use kvjob_trials::readers;
use kvjob_trials::{Process, errand};

const LONG: Durability = Durability::Interval(Duration::from_secs(1 << 30));

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.lmdb"), directory)
}

#[tokio::test]
async fn a_map_that_is_full_refuses_what_does_not_fit_and_goes_on() {
    full(&Options::new()).await;
    full(&Options::new().shared()).await;
}

async fn full(options: &Options) {
    let (path, _directory) = place();
    let size = 1 << 20;
    let store = options.clone().map_size(size).open(&path).unwrap();
    let (n, error) = faults::until_it_fails(&store, 0).await;
    let what = "map";
    assert_eq!(error.kind(), &ErrorKind::TooLarge { what, limit: size });
    let text = error.to_string();
    assert!(text.contains("larger Options::map_size"), "{text}");
    assert!(text.contains("it has 1 MiB now"), "{text}");
    assert!(n > 8, "{n}");
    assert!(has(&store, n - 1).await && !has(&store, n).await);
    // What fits goes through, also where it waited together with what does not.
    let small = |key: &str| vec![Change::put(key, "1")];
    let outcomes = store
        .commit_all(vec![small("a"), pair(n), small("b")])
        .await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok());
    store.stop().await.unwrap();
    // There is room in a larger map, and space that was freed is used again.
    let store = Options::new().map_size(2 * size).open(&path).unwrap();
    for n in n..n + 8 {
        store.commit(pair(n)).await.unwrap();
        assert!(has(&store, n).await);
    }
    store.delete(&"right/".into()).await.unwrap();
    for n in 0..n {
        store
            .set(Object::new("left/", vec![0; 40 << 10]))
            .await
            .unwrap();
        assert!(
            store
                .get(&format!("left/{n}").as_str().into())
                .await
                .unwrap()
                .is_some()
        );
    }
    store.stop().await.unwrap();
    // One that is smaller than the file can be read.
    let store = Options::new().map_size(1).open(&path).unwrap();
    assert!(store.get(&"left/0".into()).await.unwrap().is_some());
    let error = store.commit(vec![Change::put("c", vec![0; 4 << 20])]).await;
    let too_large = matches!(error.unwrap_err().kind(), ErrorKind::TooLarge { .. });
    assert!(too_large);
}

#[tokio::test]
async fn a_map_that_is_nearly_full_is_warned_of() {
    let (path, _directory) = place();
    let store = Options::new().map_size(1 << 20).open(&path).unwrap();
    let warned =
        |health: kvjob::kv::Health| health.warnings.iter().any(|it| it.contains("map_size"));
    let mut n = 0;
    while !warned(store.health().await.unwrap()) {
        store.commit(pair(n)).await.unwrap();
        n += 1;
    }
    assert!(n > 8, "{n}: not so early");
}

#[tokio::test]
async fn more_than_one_transaction_holds_is_deleted() {
    let (path, _directory) = place();
    let store = Options::new().durability(LONG).open(&path).unwrap();
    let commits = (0..10u32).map(|n| {
        let key = |m: u32| (1000 * n + m).to_be_bytes();
        (0..1000)
            .map(|m| Change::put(key(m).as_slice(), "1"))
            .collect()
    });
    let done = store.commit_all(commits.collect()).await;
    assert!(done.iter().all(Result::is_ok));
    store.delete(&[0, 0].as_slice().into()).await.unwrap();
    assert_eq!(store.scan(Scan::prefix("")).await.unwrap().objects.len(), 0);
}

#[tokio::test]
async fn a_read_that_takes_long_holds_up_no_write_and_no_write_a_read() {
    let (path, _directory) = place();
    readers::wait_for_no_write(kvjob_lmdb::open(&path).unwrap()).await;
}

#[tokio::test]
async fn many_readers_at_once_all_get_their_turn() {
    let (path, _directory) = place();
    let store = kvjob_lmdb::open(&path).unwrap();
    readers::all_get_their_turn(&store, 300).await;
}

#[tokio::test]
async fn one_key_written_again_and_again_does_not_bloat_the_file() {
    let (path, _directory) = place();
    let store = Options::new().durability(LONG).open(&path).unwrap();
    for n in 0..500u32 {
        let value = vec![u8::try_from(n % 251).unwrap(); 80 << 10];
        store.set(Object::new("the one key", value)).await.unwrap();
    }
    let length = fs::metadata(path).unwrap().len();
    assert!(length < 2 << 20, "{length} bytes for 80 KB");
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_at_once_whatever_the_durability() {
    for durability in [Durability::Immediate, LONG, Durability::Memory] {
        let (path, directory) = place();
        let store = Options::new().durability(durability).open(&path).unwrap();
        for n in 0..100 {
            store.commit(pair(n)).await.unwrap();
        }
        // As a process that is killed leaves it.
        let copy = directory.path().join("copy.lmdb");
        fs::copy(&path, &copy).unwrap();
        let killed = kvjob_lmdb::open(&copy).unwrap();
        for n in 0..100 {
            assert!(has(&killed, n).await, "{n}");
        }
    }
}

/// Not a test, but the process whose file may not grow.
#[cfg(unix)]
#[tokio::test]
#[ignore = "another test runs it"]
async fn cramped() {
    let path = errand();
    for durability in [Durability::Immediate, LONG] {
        let store = Options::new().durability(durability).open(&path).unwrap();
        let mut n = 0;
        while has(&store, n).await {
            n += 1;
        }
        let (n, error) = faults::until_it_fails(&store, n).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        let text = error.to_string();
        assert!(text.contains("nothing was applied"), "{text}");
        assert!(n > 50, "{n}");
        assert!(has(&store, n - 1).await && !has(&store, n).await);
        // It goes on, if only to be read: also to remove something takes room.
        let error = store.commit(pair(n)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        store.stop().await.unwrap();
        println!("\nacknowledged {n}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_is_full_refuses_what_does_not_fit_and_loses_nothing() {
    let (path, _directory) = place();
    let acknowledged = faults::acknowledged_without_room(6 << 20, "cramped", &path);
    let store = kvjob_lmdb::open(&path).unwrap();
    assert!(!faults::has_all(&store, acknowledged).await);
    store.commit(pair(acknowledged)).await.unwrap();
}

/// A library that is loaded before the C library, with a disk that fails while a file says so.
#[cfg(target_os = "linux")]
const FAILING_DISK: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <stdlib.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #include <unistd.h>
    static int fails(const char *what) {
        char name[4096] = "";
        const char *path = getenv("KVJOB_ERRAND");
        while (path && *path) name[__builtin_strlen(name)] = *path++;
        while (*what) name[__builtin_strlen(name)] = *what++;
        return access(name, F_OK) == 0;
    }
    int fdatasync(int fd) {
        int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
        if (fails(".no-sync")) { errno = EIO; return -1; }
        return real(fd);
    }
    static ssize_t put(const char *name, int fd, const void *from, size_t length, off_t at) {
        ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
        if (length < 4096 && fails(".no-meta")) { errno = EIO; return -1; }
        if (length >= 4096 && fails(".no-pages")) { errno = ENOSPC; return -1; }
        return real(fd, from, length, at);
    }
    ssize_t writev(int fd, const struct iovec *from, int count) {
        ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
        if (fails(".no-pages")) { errno = ENOSPC; return -1; }
        return real(fd, from, count);
    }
    ssize_t pwrite(int fd, const void *from, size_t length, off_t at) {
        return put("pwrite", fd, from, length, at);
    }
    ssize_t pwrite64(int fd, const void *from, size_t length, off_t at) {
        return put("pwrite64", fd, from, length, at);
    }
"#;

/// Not a test, but the process whose disk fails.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "another test runs it"]
async fn failing() {
    let path = PathBuf::from(errand());
    let switch = |what: &str| PathBuf::from(format!("{}{what}", path.display()));
    let mut there = 0;
    for durability in [Durability::Immediate, LONG] {
        for what in [".no-sync", ".no-meta"] {
            let store = Options::new().durability(durability).open(&path).unwrap();
            for _ in 0..3 {
                store.set(Object::new(&[b'k', there], "1")).await.unwrap();
                there += 1;
            }
            fs::write(switch(what), "").unwrap();
            let error = store.set(Object::new(&[b'k', there], "1")).await;
            let error = error.expect_err(&format!("{what} {durability}"));
            assert_eq!(error.kind(), &ErrorKind::Unknown, "{what}: {error}");
            let text = error.to_string();
            assert!(text.contains("may or may not be there"), "{text}");
            fs::remove_file(switch(what)).unwrap();
            let error = store.set(Object::new("later", "1")).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Closed);
            let error = store.get(&"k".into()).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Closed);
            assert!(error.to_string().contains("open it again"), "{error}");
            let _ = store.stop().await;
            let store = kvjob_lmdb::open(&path).unwrap();
            let found = store.scan(Scan::prefix("k")).await.unwrap().objects.len();
            let found = u8::try_from(found).unwrap();
            assert!(found == there || found == there + 1, "{found} of {there}");
            there = found;
        }
        // What was not written is in no doubt.
        let store = Options::new().durability(durability).open(&path).unwrap();
        fs::write(switch(".no-pages"), "").unwrap();
        let error = store.set(Object::new("a", "1")).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("make room"), "{error}");
        fs::remove_file(switch(".no-pages")).unwrap();
        assert!(store.get(&"a".into()).await.unwrap().is_none());
        store.set(Object::new("b", "1")).await.unwrap();
        store.stop().await.unwrap();
    }
    println!("\nacknowledged {there}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fails_in_a_commit_leaves_its_callers_in_doubt_and_closes_the_store() {
    let (path, directory) = place();
    let source = directory.path().join("disk.c");
    let library = directory.path().join("disk.so");
    fs::write(&source, FAILING_DISK).unwrap();
    // Whoever could build LMDB has it.
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{complained}");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("LD_PRELOAD", &library);
    let said = Process::run(command, "failing", &path).end();
    assert!(faults::acknowledged(&said) >= 12, "{said:?}");
}
