//! What is as large as the limits allow is taken; what is larger is `TooLarge`, and nothing of
//! it is applied.

use bytes::Bytes;

use super::subject::Subject;
use crate::kv::{Change, Key, Limits, Object};
use crate::testkit::Place;

fn key_of(length: usize) -> Key {
    Key::from(vec![b'k'; length])
}

fn value_of(length: usize) -> Bytes {
    vec![b'v'; length].into()
}

/// The limits leave room for what the job layer needs: keys of 511 bytes, of which a wrapper may
/// take a few for itself, and a commit that holds a key and a value.
pub async fn the_limits_leave_room(place: &Place) {
    let store = Subject::open(place).await;
    let limits = store.limits();
    let key_bytes = place.size(511, 495);
    assert!(
        limits.key_bytes >= key_bytes,
        "{}: {limits:?}",
        store.name()
    );
    assert!(limits.value_bytes >= 4096, "{}: {limits:?}", store.name());
    assert!(
        limits.commit_bytes >= limits.key_bytes + 4096,
        "{}: {limits:?}",
        store.name()
    );
    assert!(limits.commit_changes >= 8, "{}: {limits:?}", store.name());
}

/// A key as long as the limit is set, got, scanned and removed.
pub async fn a_key_at_the_limit_is_taken(place: &Place) {
    let store = Subject::open(place).await;
    let Some(most) = store.buildable(|limits| limits.key_bytes) else {
        return;
    };
    let key = key_of(most);
    store.put(key.clone(), "1").await;
    assert_eq!(store.value(key.clone()).await.unwrap(), "1");
    store
        .holds(&[(key.clone(), "1")], "after setting a long key")
        .await;
    if let Some(atomic) = store.atomic() {
        store
            .commits(
                atomic,
                vec![Change::replace(key.clone(), "1", Bytes::from("2"))],
            )
            .await;
        store.discard(key, "2").await;
    } else {
        store.discard(key, "1").await;
    }
    store
        .holds(&[] as &[(&str, &str)], "after removing a long key")
        .await;
}

/// A longer key is `TooLarge` for set, get, `get_many`, remove and commit.
pub async fn a_key_over_the_limit_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let Some(most) = store.buildable(|limits| limits.key_bytes) else {
        return;
    };
    let key = key_of(most + 1);
    let object = Object::new(key.clone(), "1");
    store.too_large("set of a long key", store.set(object.clone()).await, most);
    store.too_large("get of a long key", store.get(&key).await, most);
    store.too_large("remove of a long key", store.remove(&object).await, most);
    let keys = ["a".into(), key.clone()];
    store.too_large("get of many, one long", store.get_many(&keys).await, most);
    if let Some(atomic) = store.atomic() {
        let changes = vec![Change::put("a", "1"), Change::put(key, "1")];
        store.too_large("commit of a long key", atomic.commit(changes).await, most);
    }
    store.holds(&[] as &[(&str, &str)], "after refusals").await;
}

/// A value as large as the limit comes back whole.
pub async fn a_value_at_the_limit_is_taken(place: &Place) {
    let store = Subject::open(place).await;
    let Some(most) = store.buildable(|limits| limits.value_bytes) else {
        return;
    };
    let value = value_of(most);
    store.put("a", value.clone()).await;
    let got = store.value("a").await;
    assert!(
        got == Some(value),
        "{}: a value at the limit came back changed",
        store.name()
    );
}

/// A larger value is `TooLarge` for set and commit, and what was there stays.
pub async fn a_value_over_the_limit_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let Some(most) = store.buildable(|limits| limits.value_bytes) else {
        return;
    };
    store.put("a", "1").await;
    let large = Object::new("a", value_of(most + 1));
    store.too_large("set of a large value", store.set(large.clone()).await, most);
    if let Some(atomic) = store.atomic() {
        let changes = vec![Change::put("b", "1"), Change::put("a", large.value)];
        store.too_large(
            "commit of a large value",
            atomic.commit(changes).await,
            most,
        );
    }
    store.holds(&[("a", "1")], "after refusals").await;
}

/// A commit of as many changes as the limit allows is applied whole.
pub async fn a_commit_at_the_limit_of_changes_is_applied(place: &Place) {
    let store = Subject::open(place).await;
    let (Some(atomic), Some(most)) = (store.atomic(), buildable_changes(&store)) else {
        return;
    };
    let Some(changes) = small_changes(most, &store.limits()) else {
        return;
    };
    let expected: Vec<(Key, &str)> = changes.iter().map(|c| (c.key.clone(), "1")).collect();
    store.ok(
        "a commit at the limit of changes",
        atomic.commit(changes).await,
    );
    store
        .holds(&expected, "after a commit at the limit of changes")
        .await;
}

/// One change more is `TooLarge`, and none is applied.
pub async fn a_commit_over_the_limit_of_changes_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let (Some(atomic), Some(most)) = (store.atomic(), buildable_changes(&store)) else {
        return;
    };
    let Some(changes) = small_changes(most + 1, &store.limits()) else {
        return;
    };
    store.too_large(
        "a commit of too many changes",
        atomic.commit(changes).await,
        most,
    );
    store.holds(&[] as &[(&str, &str)], "after a refusal").await;
}

/// A commit of as many bytes, keys and values, as the limit allows is applied whole.
pub async fn a_commit_at_the_limit_of_bytes_is_applied(place: &Place) {
    let store = Subject::open(place).await;
    let bytes = store.buildable(|limits| limits.commit_bytes);
    let (Some(atomic), Some(most)) = (store.atomic(), bytes) else {
        return;
    };
    let Some(changes) = large_changes(most, &store.limits()) else {
        return;
    };
    let expected: Vec<(Key, Bytes)> = changes
        .iter()
        .map(|change| (change.key.clone(), change.after.clone().unwrap()))
        .collect();
    store.ok(
        "a commit at the limit of bytes",
        atomic.commit(changes).await,
    );
    store
        .holds(&expected, "after a commit at the limit of bytes")
        .await;
}

/// One byte more is `TooLarge`, and none is applied.
pub async fn a_commit_over_the_limit_of_bytes_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let bytes = store.buildable(|limits| limits.commit_bytes);
    let (Some(atomic), Some(most)) = (store.atomic(), bytes) else {
        return;
    };
    let Some(changes) = large_changes(most + 1, &store.limits()) else {
        return;
    };
    store.too_large(
        "a commit of too many bytes",
        atomic.commit(changes).await,
        most,
    );
    store.holds(&[] as &[(&str, &str)], "after a refusal").await;
}

/// The limit of changes, if a test can build that many: each costs more than its bytes.
fn buildable_changes(store: &Subject) -> Option<usize> {
    const COST: usize = 256;
    store.buildable(|limits| limits.commit_changes.saturating_mul(COST))?;
    Some(store.limits().commit_changes)
}

/// So many changes of eight bytes each, or `None` where another limit is reached before.
fn small_changes(count: usize, limits: &Limits) -> Option<Vec<Change>> {
    let changes = (0..count).map(|n| Change::create(format!("{n:07}").into_bytes(), "1"));
    (count.checked_mul(8)? <= limits.commit_bytes).then(|| changes.collect())
}

/// Changes of so many bytes together, or `None` where another limit is reached before.
fn large_changes(bytes: usize, limits: &Limits) -> Option<Vec<Change>> {
    const KEY: usize = 7;
    let (mut changes, mut rest) = (Vec::new(), bytes);
    while rest > 0 {
        // What is left over must hold a key of its own.
        let mut value = limits.value_bytes.min(rest.checked_sub(KEY)?);
        let left = rest - KEY - value;
        if left > 0 && left < KEY {
            value -= KEY;
        }
        let key = format!("{:07}", changes.len()).into_bytes();
        changes.push(Change::create(key, value_of(value)));
        rest -= KEY + value;
    }
    (changes.len() <= limits.commit_changes).then_some(changes)
}
