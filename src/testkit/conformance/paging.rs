//! Many pages and many answers: walks over thousands of keys, `get_many`, `scan_many`.

use super::subject::{Subject, numbered};
use crate::kv::{Key, Object, Scan};
use crate::testkit::Place;

/// Walking thousands of keys sees each exactly once, in order, whatever the page size.
pub async fn a_walk_sees_each_key_once(place: &Place) {
    let store = Subject::open(place).await;
    let all: Vec<Object> = (0..place.size(10_000, 2_500))
        .map(|n| Object::new(numbered("k/", n), n.to_string()))
        .collect();
    store.fill(all.clone()).await;
    for limit in [1, 7, 1000] {
        let found = store.walk(Scan::prefix("k/").limit(limit)).await;
        store.same(&found, &all, format_args!("walked with pages of {limit}"));
    }
    let mut backward = store.walk(Scan::prefix("k/").limit(1000).reverse()).await;
    backward.reverse();
    store.same(&backward, &all, "walked in reverse");
}

/// Deleting behind the cursor while walking, as a sweep does, visits every key once.
pub async fn a_walk_may_delete_behind_itself(place: &Place) {
    let store = Subject::open(place).await;
    let all: Vec<Object> = (0..100)
        .map(|n| Object::new(numbered("k/", n), "x"))
        .collect();
    store.fill(all.clone()).await;
    let (mut scan, mut seen) = (Scan::prefix("k/").limit(7), Vec::new());
    loop {
        let page = store.page(&scan).await;
        for object in page.objects {
            store
                .discard(object.key.clone(), object.value.clone())
                .await;
            seen.push(object);
        }
        let Some(next) = page.next else { break };
        scan = scan.after(next);
    }
    store.same(&seen, &all, "walked and removed");
    store.holds(&[] as &[(&str, &str)], "after the sweep").await;
}

/// `get_many` answers as `get` does, each at its place; keys may be absent or stand twice.
pub async fn get_many_agrees_with_get(place: &Place) {
    let store = Subject::open(place).await;
    for key in ["a", "b", "c", "d"] {
        store.put(key, key).await;
    }
    let keys = ["d", "x", "a", "d", "a\0", "c", "x", "a"].map(Key::from);
    let many = store.ok("get_many", store.get_many(&keys).await);
    assert_eq!(
        many.len(),
        keys.len(),
        "{}: get_many of {keys:?}",
        store.name()
    );
    for (key, found) in keys.iter().zip(many) {
        let one = store.ok("get", store.get(key).await);
        assert_eq!(found, one, "{}: {key} in get_many", store.name());
    }
}

/// `get_many` of no keys gives no answers, and of many keys all.
pub async fn get_many_takes_none_and_many(place: &Place) {
    let store = Subject::open(place).await;
    assert_eq!(store.ok("get_many of none", store.get_many(&[]).await), []);
    let all: Vec<Object> = (0..1000)
        .map(|n| Object::new(numbered("k/", n), "x"))
        .collect();
    store.fill(all.clone()).await;
    let keys: Vec<Key> = (0..2000).map(|n| numbered("k/", n)).collect();
    let many = store.ok("get_many of 2000", store.get_many(&keys).await);
    let (found, absent) = many.split_at(1000);
    let found: Vec<Object> = found.iter().flatten().cloned().collect();
    store.same(&found, &all, "get_many");
    assert!(
        absent.len() == 1000 && absent.iter().all(Option::is_none),
        "{}",
        store.name()
    );
}

/// `scan_many` answers as `scan` does, each at its place; scans may be equal or find nothing.
pub async fn scan_many_agrees_with_scan(place: &Place) {
    let store = Subject::open(place).await;
    let all = (0..30).map(|n| Object::new(numbered(["a/", "b/", "c/"][n % 3], n), "value"));
    store.fill(all.collect()).await;
    let first = store.page(&Scan::prefix("b/").limit(4)).await;
    let scans = vec![
        Scan::prefix("c/").limit(3),
        Scan::prefix("b/").limit(4).after(first.next),
        Scan::prefix("x"),
        Scan::prefix("a/").reverse().limit(2),
        Scan::prefix("").keys_only(),
        Scan::prefix("c/").limit(3),
        Scan::prefix("").byte_budget(50),
        Scan::prefix("a/").limit(0),
    ];
    let many = store.ok("scan_many", store.scan_many(scans.clone()).await);
    assert_eq!(many.len(), scans.len(), "{}: {scans:?}", store.name());
    for (scan, found) in scans.iter().zip(many) {
        let one = store.page(scan).await;
        assert_eq!(found, one, "{}: {scan:?} in scan_many", store.name());
    }
    assert_eq!(
        store.ok("scan_many of none", store.scan_many(vec![]).await),
        []
    );
}
