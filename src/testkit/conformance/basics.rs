//! Setting, getting, removing, deleting one thing at a time.

use super::subject::Subject;
use crate::kv::{ErrorKind, Key, Object};
use crate::testkit::Place;

/// What was set is what `get` gives, byte for byte.
pub async fn what_was_set_is_got(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.put("b", b"\x00\xff\n\"".as_slice()).await;
    assert_eq!(store.value("a").await.unwrap(), "1");
    assert_eq!(store.value("b").await.unwrap(), b"\x00\xff\n\"".as_slice());
}

/// Absence is `None`, never an error, also next to keys that are there.
pub async fn an_absent_key_is_none(place: &Place) {
    let store = Subject::open(place).await;
    store.put("ab", "1").await;
    for absent in ["a", "abc", "aa", "b", "ab\0"] {
        assert_eq!(
            store.value(absent).await,
            None,
            "{}: {absent}",
            store.name()
        );
    }
}

/// A second `set` overwrites where keys are unique; on a bag both values stay, and `get` gives
/// the smallest.
pub async fn a_second_set_overwrites_or_adds(place: &Place) {
    let store = Subject::open(place).await;
    for value in ["2", "3", "1"] {
        store.put("a", value).await;
    }
    if store.unique_keys() {
        store
            .holds(&[("a", "1")], "after three sets of a key")
            .await;
    } else {
        let all = [("a", "1"), ("a", "2"), ("a", "3")];
        store.holds(&all, "after three sets of a key").await;
    }
    assert_eq!(store.value("a").await.unwrap(), "1");
}

/// Setting what is already there changes nothing.
pub async fn setting_what_is_there_changes_nothing(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.put("a", "1").await;
    store.holds(&[("a", "1")], "after the same set twice").await;
}

/// `remove` takes out one object and leaves its neighbours.
pub async fn remove_takes_out_one_object(place: &Place) {
    let store = Subject::open(place).await;
    for key in ["a", "ab", "abc", "b"] {
        store.put(key, "1").await;
    }
    store.discard("ab", "1").await;
    assert_eq!(store.value("ab").await, None);
    let rest = [("a", "1"), ("abc", "1"), ("b", "1")];
    store.holds(&rest, "after removing ab").await;
}

/// `remove` ignores the value where keys are unique; on a bag it takes out that very pair.
pub async fn remove_with_another_value(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.discard("a", "2").await;
    if store.unique_keys() {
        store
            .holds(&[] as &[(&str, &str)], "after removing a")
            .await;
    } else {
        store.put("a", "2").await;
        store.discard("a", "1").await;
        store.holds(&[("a", "2")], "after removing (a, 1)").await;
    }
}

/// Removing what is not there is `Ok`.
pub async fn removing_what_is_absent_is_ok(place: &Place) {
    let store = Subject::open(place).await;
    store.discard("a", "1").await;
    store.put("a", "1").await;
    store.discard("a", "1").await;
    store.discard("a", "1").await;
    store
        .holds(&[] as &[(&str, &str)], "after removing twice")
        .await;
}

/// What was removed can be set again.
pub async fn a_removed_key_can_be_set_again(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.discard("a", "1").await;
    store.put("a", "2").await;
    store.holds(&[("a", "2")], "after set, remove, set").await;
}

/// `delete` removes exactly the keys that begin with the prefix, the prefix itself included.
pub async fn delete_removes_exactly_the_prefix(place: &Place) {
    let store = Subject::open(place).await;
    for key in ["a", "b", "b\0", "b/1", "b\u{7f}", "ba", "c"] {
        store.put(key, "1").await;
    }
    store.clear("b").await;
    store
        .holds(&[("a", "1"), ("c", "1")], "after deleting b")
        .await;
}

/// `delete` of the empty prefix removes everything.
pub async fn delete_of_the_empty_prefix_removes_everything(place: &Place) {
    let store = Subject::open(place).await;
    for key in [b"\x00".as_slice(), b"a", b"\xff", b"\xff\xff\xff"] {
        store.put(key, "1").await;
    }
    store.clear("").await;
    store
        .holds(&[] as &[(&str, &str)], "after deleting everything")
        .await;
    store.put("a", "2").await;
    store.holds(&[("a", "2")], "after setting anew").await;
}

/// `delete` where nothing is, also in an empty store, is `Ok`, and so is a second one.
pub async fn deleting_what_is_absent_is_ok(place: &Place) {
    let store = Subject::open(place).await;
    store.clear("").await;
    store.clear("b").await;
    store.put("a", "1").await;
    store.put("c", "1").await;
    store.clear("b").await;
    store.clear("aa").await;
    store
        .holds(&[("a", "1"), ("c", "1")], "after deleting nothing")
        .await;
}

/// `delete` of a prefix with many keys leaves none behind.
pub async fn delete_removes_many_keys(place: &Place) {
    let store = Subject::open(place).await;
    let many =
        (0..place.size(2_000, 400)).map(|n| Object::new(super::subject::numbered("m/", n), "x"));
    store.fill(many.collect()).await;
    store.put("l", "1").await;
    store.put("n", "1").await;
    store.clear("m/").await;
    store
        .holds(&[("l", "1"), ("n", "1")], "after deleting m/")
        .await;
}

/// An empty value is a value: it is there, and no other.
pub async fn an_empty_value_is_a_value(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "").await;
    assert_eq!(store.value("a").await.unwrap(), "");
    store
        .holds(&[("a", "")], "after setting an empty value")
        .await;
}

/// The empty key is `InvalidKey` for set, get, remove and `get_many`; nothing is applied.
pub async fn the_empty_key_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    let (invalid, empty) = (ErrorKind::InvalidKey, Object::new("", "1"));
    store.refused(
        "set of the empty key",
        store.set(empty.clone()).await,
        &invalid,
    );
    store.refused(
        "get of the empty key",
        store.get(&Key::EMPTY).await,
        &invalid,
    );
    store.refused(
        "remove of the empty key",
        store.remove(&empty).await,
        &invalid,
    );
    let keys = ["a".into(), Key::EMPTY];
    store.refused(
        "get of many, one empty",
        store.get_many(&keys).await,
        &invalid,
    );
    store.holds(&[("a", "1")], "after refusals").await;
}

/// A store that refused bad input serves on.
pub async fn bad_input_leaves_the_store_usable(place: &Place) {
    let store = Subject::open(place).await;
    for round in ["1", "2", "3"] {
        let bad = Object::new("", round);
        store.refused(
            "set of the empty key",
            store.set(bad).await,
            &ErrorKind::InvalidKey,
        );
        if let Some(most) = store.buildable(|limits| limits.key_bytes) {
            let bad = Object::new(vec![b'k'; most + 1], round);
            store.too_large("a set of a long key", store.set(bad).await, most);
        }
        if let Some(atomic) = store.atomic() {
            let bad = vec![crate::kv::Change::put("", round)];
            let answer = atomic.commit(bad).await;
            store.refused("a commit to the empty key", answer, &ErrorKind::InvalidKey);
        }
        store.clear("").await;
        store.put("a", round).await;
        store.holds(&[("a", round)], "after refusals").await;
    }
}
