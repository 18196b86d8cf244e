//! A record that cannot be read: the store does not open, says why and what to do, and changes
//! nothing.

use kvjob::kv::{Atomic as _, Change, ErrorKind, Object, Store as _};
use kvjob_tests::FiveMethods;
use sha2::{Digest as _, Sha256};

use super::below::{Fate, Plan};
use super::{RESERVED, both_kinds, content, first_record, journal, records};

/// Data in which a commit is half applied, and its record.
async fn half_applied(data: FiveMethods) -> (FiveMethods, Object) {
    let dies_in_the_middle = Plan {
        at: first_record(&data) + 2,
        fate: Fate::Fails,
        dies: true,
    };
    let (store, _) = journal(&data, Some(dies_in_the_middle));
    let commit = ["a", "b", "c"].map(|key| Change::create(key, "1"));
    assert!(store.commit(commit.to_vec()).await.is_err());
    let record = records(&data).await.remove(0);
    (data, record)
}

/// Puts this in the place of the record, or beside it, and asserts how the store refuses to open.
async fn assert_refused(data: &FiveMethods, object: Object, kind: &ErrorKind) {
    data.set(object.clone()).await.unwrap();
    let before = content(data).await.unwrap();
    let (store, below) = journal(data, None);
    for attempt in 0..2 {
        let refused = store.start().await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused:?}");
        let told = refused.to_string();
        assert!(told.contains(&object.key.to_string()), "{attempt}: {told}");
    }
    let refused = store.get(&"a".into()).await.unwrap_err();
    assert_eq!(refused.kind(), kind);
    assert_eq!(below.writes(), 0);
    assert_eq!(content(data).await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_cut_anywhere_is_corrupt() {
    for data in both_kinds() {
        let (data, record) = half_applied(data).await;
        for length in 0..record.value.len() {
            data.remove(&record).await.unwrap();
            let cut = Object::new(record.key.clone(), record.value.slice(..length));
            assert_refused(&data, cut.clone(), &ErrorKind::Corrupt).await;
            data.remove(&cut).await.unwrap();
        }
        // As the message says: who removes it goes on with what is there.
        let (store, _) = journal(&data, None);
        let found = content(&*store).await.unwrap();
        assert_eq!(found, [Object::new("a", "1")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_with_something_behind_it_is_corrupt() {
    for data in both_kinds() {
        let (data, record) = half_applied(data).await;
        data.remove(&record).await.unwrap();
        let longer = [&record.value, [0].as_slice()].concat();
        assert_refused(&data, Object::new(record.key, longer), &ErrorKind::Corrupt).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_value_under_the_key_of_a_record_is_corrupt() {
    let (data, record) = half_applied(FiveMethods::bag()).await;
    let foreign = Object::new(record.key, "foreign");
    assert_refused(&data, foreign, &ErrorKind::Corrupt).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_of_no_record_among_them_is_corrupt() {
    for data in both_kinds() {
        let (data, record) = half_applied(data).await;
        let key = [RESERVED, b"redo/else"].concat();
        assert_refused(&data, Object::new(key, record.value), &ErrorKind::Corrupt).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_of_nobody_is_corrupt() {
    for data in both_kinds() {
        let (data, _) = half_applied(data).await;
        let key = [RESERVED, b"owner"].concat();
        assert_refused(&data, Object::new(key, "foreign"), &ErrorKind::Corrupt).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_newer_software_is_left_alone() {
    for data in both_kinds() {
        let (data, record) = half_applied(data).await;
        data.remove(&record).await.unwrap();
        // Version 2; the checksum is that of every version: of the key and what stands before it.
        let mut newer = vec![2, b'x'];
        let hash = Sha256::new().chain_update(record.key.as_bytes());
        newer.extend(&hash.chain_update(&newer).finalize()[..16]);
        assert_refused(&data, Object::new(record.key, newer), &ErrorKind::TooNew).await;
    }
}
