//! Closing and opening again keeps what was acknowledged. Skipped where the factory's
//! [`reopen`](crate::testkit::Factory::reopen) says that the data is gone with the store.

use bytes::Bytes;

use super::subject::{Subject, numbered};
use crate::kv::{Change, Object};
use crate::testkit::Place;

const NOTHING: &[(&str, &str)] = &[];

/// What was set, overwritten and removed is so after opening again.
pub async fn plain_writes_outlive_the_store(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.put("b", "").await;
    store.put(b"\x00\xff", b"\xff\x00".as_slice()).await;
    store.put("gone", "1").await;
    store.discard("gone", "1").await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    let expected: [(&[u8], &[u8]); 3] = [(b"\x00\xff", b"\xff\x00"), (b"a", b"1"), (b"b", b"")];
    store.holds(&expected, "after opening again").await;
}

/// Each value of a key is there after opening again, on a bag; where keys are unique the last.
pub async fn every_value_outlives_the_store(place: &Place) {
    let store = Subject::open(place).await;
    for value in ["", "3", "1", "2"] {
        store.put("k", value).await;
    }
    store.put("l", "1").await;
    let mut expected = vec![("k", "2"), ("l", "1")];
    if !store.unique_keys() {
        store.discard("k", "1").await;
        expected = vec![("k", ""), ("k", "2"), ("k", "3"), ("l", "1")];
    }
    let Some(store) = store.reopen(place).await else {
        return;
    };
    store.holds(&expected, "after opening again").await;
}

/// What was committed is whole after opening again, and what failed is not there.
pub async fn commits_outlive_the_store(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let first = vec![
        Change::create("a", "1"),
        Change::create("b", "1"),
        Change::create("c", "1"),
    ];
    store.commits(atomic, first).await;
    let second = vec![
        Change::replace("a", "1", Bytes::from("2")),
        Change::replace("b", "1", None),
    ];
    store.commits(atomic, second).await;
    store
        .fails_at(
            atomic,
            vec![Change::put("d", "1"), Change::create("a", "3")],
            &[1],
        )
        .await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    store
        .holds(&[("a", "2"), ("c", "1")], "after opening again")
        .await;
    let atomic = store.atomic().expect("the capability it had before");
    store
        .fails_at(
            atomic,
            vec![Change::create("a", "3"), Change::check("b", "1")],
            &[0, 1],
        )
        .await;
    store
        .commits(
            atomic,
            vec![Change::check("a", "2"), Change::create("b", "3")],
        )
        .await;
    store
        .holds(
            &[("a", "2"), ("b", "3"), ("c", "1")],
            "after a further commit",
        )
        .await;
}

/// What `commit_all` acknowledged is there after opening again.
pub async fn commit_all_outlives_the_store(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let many = place.size(300, 60);
    let commits = (0..many).map(|n| vec![Change::create(numbered("k/", n), "1")]);
    for outcome in atomic.commit_all(commits.collect()).await {
        store.ok("one of commit_all", outcome);
    }
    let Some(store) = store.reopen(place).await else {
        return;
    };
    let expected: Vec<_> = (0..many).map(|n| (numbered("k/", n), "1")).collect();
    store.holds(&expected, "after opening again").await;
}

/// What `delete` removed stays removed after opening again.
pub async fn deletes_outlive_the_store(place: &Place) {
    let store = Subject::open(place).await;
    let many = (0..500).map(|n| Object::new(numbered("m/", n), "x"));
    store.fill(many.collect()).await;
    store.put("l", "1").await;
    store.clear("m/").await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    store.holds(&[("l", "1")], "after opening again").await;
    store.clear("").await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    store
        .holds(NOTHING, "after deleting everything and opening again")
        .await;
}

/// Opening an empty store again gives an empty store.
pub async fn an_empty_store_opens_again(place: &Place) {
    let store = Subject::open(place).await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    store.holds(NOTHING, "after opening again").await;
    store.put("a", "1").await;
    store.holds(&[("a", "1")], "after a set").await;
}

/// Opening again and again keeps everything, and each time the store can be written.
pub async fn a_store_opens_again_and_again(place: &Place) {
    let mut store = Subject::open(place).await;
    let mut expected = Vec::new();
    for round in 0..4 {
        store.put(numbered("k/", round), "x").await;
        expected.push((numbered("k/", round), "x"));
        let Some(again) = store.reopen(place).await else {
            return;
        };
        again
            .holds(
                &expected,
                format_args!("after opening again, round {round}"),
            )
            .await;
        store = again;
    }
    if let Some(again) = store.reopen(place).await {
        again
            .holds(&expected, "after opening again without a write")
            .await;
    }
}

/// Large values and many keys outlive the store.
pub async fn much_data_outlives_the_store(place: &Place) {
    let store = Subject::open(place).await;
    let large = store.limits().value_bytes.min(1 << 18);
    let many: Vec<_> = (0..place.size(2_000, 400))
        .map(|n| (numbered("k/", n), Bytes::from(n.to_string())))
        .collect();
    let objects = many
        .iter()
        .cloned()
        .map(|(key, value)| Object::new(key, value));
    store.fill(objects.collect()).await;
    store.put("large", vec![b'v'; large]).await;
    let Some(store) = store.reopen(place).await else {
        return;
    };
    let mut expected = many;
    expected.push(("large".into(), vec![b'v'; large].into()));
    store.holds(&expected, "after opening again").await;
}
