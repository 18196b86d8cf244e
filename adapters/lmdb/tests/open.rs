//! Opening and reopening, beside the user's own databases: and what a user reads when it cannot be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "heed opens files by an unsafe function; nothing else touches these"
)]

use std::fs;
use std::path::{Path, PathBuf};

use kvjob::kv::{Atomic, Change, Error, ErrorKind, Object, Result, Scan, Store};
use kvjob_lmdb::Lmdb;
use kvjob_lmdb::heed::types::Bytes;
use kvjob_lmdb::heed::{
    CommitOrAbort, Database, DatabaseFlags, Env, EnvFlags, EnvOpenOptions, WithoutTls,
};
use kvjob_lmdb::{LIMITS, Options};
use kvjob_trials::opening;

fn place() -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (directory.path().join("jobs.lmdb"), directory)
}

fn open(path: &Path) -> Result<Lmdb> {
    kvjob_lmdb::open(path)
}

fn refused(path: &Path) -> Error {
    opening::refused(path, open)
}

/// An environment as other programs have them, in one file.
fn environment(path: &Path, flags: EnvFlags) -> Env<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(1 << 20).max_dbs(3);
    unsafe { options.flags(flags | EnvFlags::NO_SUB_DIR) };
    unsafe { options.open(path) }.unwrap()
}

fn database(env: &Env<WithoutTls>, name: Option<&str>, flags: DatabaseFlags) -> Table {
    let made = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
        let mut options = opener.database_options().types::<Bytes, Bytes>();
        if let Some(name) = name {
            options.name(name);
        }
        options
            .flags(flags)
            .create(txn)
            .map(CommitOrAbort::<_, ()>::Commit)
    });
    made.map_err(|error| error.to_string())
        .unwrap()
        .unwrap_commit()
}

type Table = Database<'static, Bytes, Bytes>;

fn put(env: &Env<WithoutTls>, table: Table, key: &[u8]) {
    let mut txn = env.write_txn().unwrap();
    table.put(&mut txn, key, b"theirs").unwrap();
    txn.commit().unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_after_a_drop() {
    let left = opening::keeps_what_was_stored(open).await;
    assert_eq!(left, ["jobs", "jobs-lock", "jobs.lock"]);
}

#[test]
fn its_limit_of_keys_is_lmdbs_own() {
    let (path, _directory) = place();
    let env = environment(&path, EnvFlags::empty());
    assert_eq!(env.max_key_size(), LIMITS.key_bytes);
}

#[tokio::test]
async fn an_environment_with_other_databases_is_used_and_they_stay_as_they_are() {
    let (path, _directory) = place();
    let env = environment(&path, EnvFlags::empty());
    let orders = database(&env, Some("orders"), DatabaseFlags::DUP_SORT);
    put(&env, orders, b"7");
    let store = Options::new().open_in(env.clone()).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    // Also while it is open.
    put(&env, orders, b"8");
    store.delete(&"".into()).await.unwrap();
    store.stop().await.unwrap();
    assert_eq!(orders.len(&env.read_txn().unwrap()).unwrap(), 2);
    drop(env);
    // And where it is opened for no database but the store's.
    let store = kvjob_lmdb::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    store.stop().await.unwrap();
    let env = environment(&path, EnvFlags::empty());
    let orders = database(&env, Some("orders"), DatabaseFlags::DUP_SORT);
    assert_eq!(orders.len(&env.read_txn().unwrap()).unwrap(), 2);
}

#[test]
fn an_environment_in_a_directory_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    let env = unsafe { options.max_dbs(1).open(directory.path()) }.unwrap();
    let store = Options::new().open_in(env.clone()).unwrap();
    let error = Options::new().open_in(env).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
    drop(store);
    // Its file alone is not, for its lock file has a name that we do not use.
    let error = refused(&directory.path().join("data.mdb"));
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("Options::open_in"), "{error}");
}

#[test]
fn another_database_of_our_name_is_refused_and_left_as_it_is() {
    type Other = fn(&Env<WithoutTls>);
    let others: [Other; 3] = [
        |env| _ = database(env, Some("kvjob"), DatabaseFlags::DUP_SORT),
        |env| _ = database(env, Some("kvjob"), DatabaseFlags::REVERSE_KEY),
        |env| put(env, database(env, None, DatabaseFlags::empty()), b"kvjob"),
    ];
    for other in others {
        let (path, _directory) = place();
        let env = environment(&path, EnvFlags::empty());
        other(&env);
        drop(env);
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("another program"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn an_environment_that_cannot_keep_the_promises_is_refused() {
    let (path, _directory) = place();
    for flags in [
        EnvFlags::NO_SYNC,
        EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC,
        EnvFlags::NO_LOCK,
        EnvFlags::READ_ONLY,
    ] {
        let error = Options::new()
            .open_in(environment(&path, flags))
            .unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("open it without"), "{error}");
    }
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    unsafe { options.flags(EnvFlags::NO_SUB_DIR) };
    let env = unsafe { options.open(&path) }.unwrap();
    let error = Options::new().open_in(env).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("max_dbs"), "{error}");
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    opening::is_not_opened_twice(open);
}

#[test]
fn an_environment_that_this_process_has_open_is_in_use() {
    let (path, _directory) = place();
    let env = environment(&path, EnvFlags::empty());
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    assert!(error.to_string().contains("Options::open_in"), "{error}");
    drop(env);
    kvjob_lmdb::open(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_second_name_of_the_file_meets_the_same_lock() {
    let (path, directory) = place();
    let link = directory.path().join("link.lmdb");
    // Also where the file is made by way of it.
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = kvjob_lmdb::open(&link).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::InUse);
    drop(store);
    let _store = kvjob_lmdb::open(&path).unwrap();
    let error = kvjob_lmdb::open(&link).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
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

#[cfg(unix)]
#[test]
fn a_file_one_may_not_write_is_named_with_what_to_do() {
    opening::names_a_file_one_may_not_write(open);
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_map_that_this_process_may_not_have_is_told_with_what_to_do() {
    let (path, _directory) = place();
    let options = Options::new().map_size(usize::MAX);
    let error = options.open(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(
        error.to_string().contains("smaller Options::map_size"),
        "{error}"
    );
    kvjob_lmdb::open(&path).unwrap();
}

#[tokio::test]
async fn a_file_that_a_crash_left_half_made_is_made_anew() {
    let (path, directory) = place();
    fs::write(&path, "").unwrap();
    fs::write(directory.path().join("jobs.lmdb.new"), "half").unwrap();
    let store = kvjob_lmdb::open(&path).unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
}

#[test]
fn a_newer_file_format_is_told_from_damage() {
    let (path, _directory) = place();
    drop(kvjob_lmdb::open(&path).unwrap());
    let mut newer = fs::read(&path).unwrap();
    newer[20] = 2;
    fs::write(&path, &newer).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), &ErrorKind::TooNew, "{error}");
    assert_eq!(fs::read(&path).unwrap(), newer);
}

/// A store with many pages in it, whose file is then changed.
async fn damaged(path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let store = kvjob_lmdb::open(path).unwrap();
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
async fn a_file_that_was_cut_to_its_beginning_is_corrupt() {
    for length in [100, 4096, 5000, 8192, 12288] {
        let (path, _directory) = place();
        damaged(&path, |bytes| bytes.truncate(length)).await;
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        let short = [ErrorKind::Corrupt, ErrorKind::Unsupported];
        assert!(short.contains(error.kind()), "{length}: {error}");
        assert!(error.to_string().contains("left as it is"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn what_is_missing_of_a_file_that_was_cut_is_corrupt_and_kills_nobody() {
    let (path, _directory) = place();
    let mut was = 0;
    damaged(&path, |bytes| was = bytes.len()).await;
    let whole = fs::read(&path).unwrap();
    let mut corrupt = 0;
    for pages in 3..was / 4096 {
        fs::write(&path, &whole[..pages * 4096]).unwrap();
        let read = match kvjob_lmdb::open(&path) {
            Ok(store) => store.scan(Scan::prefix("").limit(100)).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            assert_eq!(error.kind(), &ErrorKind::Corrupt, "{pages}: {error}");
            corrupt += 1;
        }
    }
    assert!(corrupt > 10, "{corrupt}");
}

#[tokio::test]
async fn an_emptied_page_is_corrupt_when_it_is_read() {
    let (path, _directory) = place();
    damaged(&path, |bytes| {
        // All but the first pages, and the roots, which are near the end.
        let end = bytes.len() - 8 * 4096;
        bytes[16384..end].fill(0);
    })
    .await;
    let store = kvjob_lmdb::open(&path).unwrap();
    let error = store.scan(Scan::prefix("")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    let error = store.set(Object::new("k\u{1}", "1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(!error.maybe_applied(), "{error}");
}
