//! What a bag in memory does with the pairs of one key; everything else is the conformance
//! suite's.

use super::*;
use crate::kv::ErrorKind;

async fn bag(pairs: &[(&'static str, &'static str)]) -> Memory {
    let store = Memory::bag();
    for (key, value) in pairs {
        store.set(Object::new(*key, *value)).await.unwrap();
    }
    store
}

async fn holds(store: &Memory, pairs: &[(&'static str, &'static str)]) {
    let found = store.scan(Scan::prefix("")).await.unwrap().objects;
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| Object::new(*k, *v)).collect();
    assert_eq!(found, pairs);
}

#[tokio::test]
async fn a_key_that_begins_another_keeps_its_pairs_apart() {
    // As one string of bytes, (a, b) and (ab, "") would be the same.
    let store = bag(&[("a", "b"), ("ab", ""), ("a", "")]).await;
    store.commit(vec![Change::remove("a")]).await.unwrap();
    holds(&store, &[("ab", "")]).await;
}

#[tokio::test]
async fn a_present_pair_that_is_added_again_is_there_once() {
    let store = bag(&[("a", "1"), ("a", "2")]).await;
    store.set(Object::new("a", "1")).await.unwrap();
    store.commit(vec![Change::put("a", "2")]).await.unwrap();
    let replaced = Change::replace("a", "1", Some("2".into()));
    store.commit(vec![replaced]).await.unwrap();
    holds(&store, &[("a", "2")]).await;
}

#[tokio::test]
async fn one_value_of_many_satisfies_a_condition_and_none_satisfies_absence() {
    let store = bag(&[("a", "1"), ("a", "2")]).await;
    let changes = vec![Change::check("a", "2"), Change::create("b", "1")];
    store.commit(changes).await.unwrap();
    let error = store.commit(vec![Change::create("a", "3")]).await;
    let indices = vec![0];
    assert_eq!(
        error.unwrap_err().kind(),
        &ErrorKind::ConditionFailed { indices }
    );
    holds(&store, &[("a", "1"), ("a", "2"), ("b", "1")]).await;
}
