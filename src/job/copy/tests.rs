//! The bytes of a dump, and what becomes of one that was damaged.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use super::super::keys::KeySpace;
use super::super::scheme::Scheme;
use super::super::{Error, JobId};
use super::{Existing, Namespace, read_dump};
use crate::clock::Timestamp;
use crate::kv::{ErrorKind, Memory, Object, Store as _};

/// The bytes of a dump of [`filled`]: a build that writes others, or cannot read these, fails. A
/// change of the format is a new version, which reads this one, too.
const DUMP: &str = include_str!("../../../tests/fixtures/records/dump-1.hex");

/// A namespace with a header, a log line and a record of newer software, of this kind of store.
async fn filled(store: Memory, scheme: Scheme) -> Namespace {
    let keys = KeySpace::new("kvjob", scheme).unwrap();
    let id = JobId::from_bytes([7; 16]);
    for object in [
        Object::new(keys.format(), &b"\x01\x01\x01"[..]),
        Object::new(keys.job(id), "not looked at"),
        keys.log(id, Timestamp::from_micros(300), 9, b"line"),
        Object::new([keys.everything().as_bytes(), b"\x15\x63"].concat(), ""),
    ] {
        store.set(object).await.unwrap();
    }
    Namespace::open(Arc::new(store), "kvjob").await.unwrap()
}

async fn empty() -> Namespace {
    let store = Arc::new(Memory::new());
    Namespace::open(store, "kvjob").await.unwrap()
}

async fn dump() -> Vec<u8> {
    let (from, mut dump) = (filled(Memory::new(), Scheme::UniqueKeys).await, Vec::new());
    from.dump(&mut dump, |_| {}).await.unwrap();
    dump
}

fn message(error: &Error) -> String {
    let Error::Store(below) = error else {
        panic!("{error:?}")
    };
    assert_eq!(*below.kind(), ErrorKind::Corrupt, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn the_bytes_of_a_dump_do_not_change() {
    for (store, scheme) in [
        (Memory::new(), Scheme::UniqueKeys),
        (Memory::bag(), Scheme::Bag),
    ] {
        let (from, mut dump) = (filled(store, scheme).await, Vec::new());
        from.dump(&mut dump, |_| {}).await.unwrap();
        let digits = dump.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        assert_eq!(digits, DUMP.trim_end());
    }
}

#[tokio::test]
async fn a_dump_that_is_cut_anywhere_is_refused_and_changes_nothing() {
    let dump = dump().await;
    for length in 0..dump.len() {
        let (cut, to) = (&dump[..length], empty().await);
        let refused = to.restore(Cursor::new(cut), Existing::Refuse, |_| {}).await;
        let said = message(&refused.unwrap_err());
        let expected = match length {
            0 => "it is empty".to_owned(),
            length => format!("it ends after {length} bytes"),
        };
        assert!(said.contains(&expected), "{length}: {said}");
        assert!(to.store.get(&to.keys.format()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_dump_that_is_damaged_anywhere_is_refused_and_changes_nothing() {
    let dump = dump().await;
    for at in 0..dump.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = dump.clone();
            damaged[at] ^= bit;
            let to = empty().await;
            let refused = to.restore(Cursor::new(damaged), Existing::Refuse, |_| {});
            let Err(Error::Store(error)) = refused.await else {
                panic!("byte {at} was damaged");
            };
            // The version of one may have become another.
            let expected = matches!(error.kind(), ErrorKind::Corrupt)
                || (at == 11 && *error.kind() == ErrorKind::TooNew);
            assert!(expected, "{at}: {error:?}");
            assert!(to.store.get(&to.keys.format()).await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn what_follows_a_dump_is_not_passed_over() {
    let mut dump = dump().await;
    dump.push(0);
    let said = message(&read_dump(&*dump, |_| {}).await.unwrap_err());
    assert!(said.contains("something follows"), "{said}");
}

#[tokio::test]
async fn a_dump_that_can_be_read_only_once_leaves_no_job_store_when_it_is_cut() {
    let dump = dump().await;
    let to = empty().await;
    let cut = &dump[..dump.len() - 1];
    let refused = to.restore_stream(cut, Existing::Refuse, |_| {}).await;
    message(&refused.unwrap_err());
    let again = to.copy_to(&empty().await, Existing::Refuse, |_| {}).await;
    let Err(Error::Copy { code, .. }) = again else {
        panic!("{again:?}");
    };
    assert_eq!(code, "copy-unfinished");
    let restored = to.restore_stream(&*dump, Existing::Refuse, |_| {}).await;
    assert_eq!(restored.unwrap().records, 4);
}
