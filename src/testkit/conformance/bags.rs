//! A key holds one value or, on a bag, a set of them in byte order. Where keys are unique these
//! cases try that a second value is none.

use bytes::Bytes;

use super::subject::{Subject, numbered, objects};
use crate::kv::{Change, Cursor, Object, Scan};
use crate::testkit::Place;

/// Values in byte order, with the edges that an encoding of pairs could blur.
const VALUES: [&[u8]; 6] = [b"", b"\x00", b"\x00\xff", b"1", b"10", b"\xff"];

const NOTHING: &[(&str, &str)] = &[];

/// The pairs of `k`, in order, between those of its neighbours.
async fn pairs(place: &Place) -> (Subject, Vec<Object>) {
    let store = Subject::open(place).await;
    for key in ["k", "j", "k\0"] {
        // Set in another order than they lie.
        for place in [3, 0, 5, 2, 4, 1] {
            store.put(key, VALUES[place]).await;
        }
    }
    let last = &VALUES[1..2];
    let kept = if store.unique_keys() { last } else { &VALUES };
    let pairs: Vec<_> = kept.iter().map(|value| ("k", *value)).collect();
    (store, objects(&pairs))
}

/// The neighbours that [`pairs`] set, before and behind what is to lie between them.
fn beside(store: &Subject, between: &[Object]) -> Vec<Object> {
    let last = &VALUES[1..2];
    let kept = if store.unique_keys() { last } else { &VALUES };
    let of = |key: &'static str| kept.iter().map(move |value| Object::new(key, *value));
    of("j")
        .chain(between.iter().cloned())
        .chain(of("k\0"))
        .collect()
}

async fn holds(store: &Subject, between: &[Object], when: &str) {
    let all = store.walk(Scan::prefix("")).await;
    store.same(&all, &beside(store, between), when);
}

/// `get` and `get_many` give the smallest value, and when it is removed the next.
pub async fn get_gives_the_smallest_value(place: &Place) {
    let (store, pairs) = pairs(place).await;
    for pair in &pairs {
        assert_eq!(store.value("k").await.as_ref(), Some(&pair.value));
        let many = store.get_many(&["j".into(), "k".into()]).await;
        let many = store.ok("get_many", many);
        assert_eq!(many[1].as_ref(), Some(pair), "{}", store.name());
        store.discard("k", pair.value.clone()).await;
    }
    assert_eq!(store.value("k").await, None, "{}", store.name());
}

/// `remove` of a pair leaves the key's other values, and the same value under other keys.
pub async fn removing_a_pair_leaves_the_others(place: &Place) {
    let (store, mut pairs) = pairs(place).await;
    store.discard("k\0\0", "1").await;
    if !store.unique_keys() {
        store.discard("k", "0").await;
        holds(&store, &pairs, "after removing a pair that is not there").await;
    }
    // From the middle outwards.
    while !pairs.is_empty() {
        let pair = pairs.remove(pairs.len() / 2);
        store.discard("k", pair.value).await;
        holds(&store, &pairs, "after removing a pair").await;
    }
}

/// `delete` removes every value of the keys under its prefix.
pub async fn delete_removes_every_value(place: &Place) {
    let (store, _) = pairs(place).await;
    store.clear("k\0").await;
    store.clear("j").await;
    let rest = store.walk(Scan::prefix("")).await;
    assert!(rest.iter().all(|object| object.key == "k".into()));
    store.clear("k").await;
    store.holds(NOTHING, "after deleting all keys").await;
    store.put("k", "1").await;
    store.holds(&[("k", "1")], "after setting anew").await;
}

/// A cursor may stand on a pair or between the values of a key; the page begins behind it, in
/// both directions. Where keys are unique the cursor's value means nothing.
pub async fn a_cursor_may_stand_within_a_key(place: &Place) {
    let (store, _) = pairs(place).await;
    let all = store.walk(Scan::prefix("")).await;
    for value in VALUES
        .iter()
        .chain(&[b"\x00\x00".as_slice(), b"0", b"\xfe"])
    {
        let stands = Object::new("k", *value);
        let place = |object: &Object| {
            let place = object.key.cmp(&stands.key);
            if store.unique_keys() {
                place
            } else {
                place.then_with(|| object.value.cmp(&stands.value))
            }
        };
        let (behind, before) = (
            all.iter().filter(|object| place(object).is_gt()),
            all.iter().filter(|object| place(object).is_lt()),
        );
        let forward: Vec<_> = behind.cloned().collect();
        let backward: Vec<_> = before.rev().cloned().collect();
        for limit in [1, 2, 256] {
            let scan = Scan::prefix("").limit(limit);
            let scan = scan.after(Cursor::after_object(&stands));
            store.cuts(&scan, &forward).await;
            store.same(&store.walk(scan.clone()).await, &forward, "walked forward");
            let scan = scan.reverse();
            store.cuts(&scan, &backward).await;
            store.same(&store.walk(scan).await, &backward, "walked in reverse");
        }
    }
}

/// A cursor without a value passes over every value of its key, in both directions.
pub async fn a_cursor_of_a_key_passes_all_its_values(place: &Place) {
    let (store, _) = pairs(place).await;
    let mut all = store.walk(Scan::prefix("")).await;
    all.retain(|object| object.key != "k".into());
    let (before, behind): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|object| object.key < "k".into());
    let scan = Scan::prefix("").after(Cursor::after("k"));
    store.cuts(&scan, &behind).await;
    let before: Vec<_> = before.into_iter().rev().collect();
    store.cuts(&scan.reverse(), &before).await;
}

/// Limit and byte budget end a page between two values of a key as between two keys.
pub async fn a_page_may_end_within_a_key(place: &Place) {
    let (store, _) = pairs(place).await;
    let all = store.walk(Scan::prefix("")).await;
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    for most in 0..=all.len() + 1 {
        for scan in [
            Scan::prefix("").limit(most),
            Scan::prefix("").byte_budget(most * 2),
        ] {
            store.cuts(&scan, &all).await;
            store.cuts(&scan.clone().reverse(), &reversed).await;
            if most > 0 {
                store.same(&store.walk(scan).await, &all, "walked");
            }
        }
    }
}

/// A key may have many values: each is walked and removed by itself.
pub async fn many_values_are_told_apart(place: &Place) {
    let store = Subject::open(place).await;
    let many = place.size(400, 100);
    let values = (0..many).map(|n| numbered("", n).into_bytes());
    let mut pairs: Vec<Object> = values.map(|value| Object::new("k", value)).collect();
    for pair in &pairs {
        store.put("k", pair.value.clone()).await;
    }
    if store.unique_keys() {
        pairs.drain(..many - 1);
    }
    for limit in [1, 7, 256] {
        let found = store.walk(Scan::prefix("k").limit(limit)).await;
        store.same(&found, &pairs, format_args!("walked by {limit}"));
    }
    let mut kept = Vec::new();
    for (place, pair) in pairs.into_iter().enumerate() {
        if place % 3 == 0 {
            store.discard("k", pair.value).await;
        } else {
            kept.push(pair);
        }
    }
    store.same(
        &store.walk(Scan::prefix("k")).await,
        &kept,
        "after removing every third",
    );
}

/// `Absent` fails on any value, be it one or several.
pub async fn absent_fails_whatever_the_value(place: &Place) {
    let (store, pairs) = pairs(place).await;
    let Some(atomic) = store.atomic() else { return };
    for value in ["", "1", "new"] {
        let changes = vec![Change::put("a", "1"), Change::create("k", value)];
        store.fails_at(atomic, changes, &[1]).await;
    }
    holds(&store, &pairs, "after refused creations").await;
    for pair in pairs {
        store
            .fails_at(atomic, vec![Change::create("k", "new")], &[0])
            .await;
        store.discard("k", pair.value).await;
    }
    store.commits(atomic, vec![Change::create("k", "2")]).await;
    let created = objects(&[("k", "2")]);
    holds(&store, &created, "after the last value was removed").await;
}

/// `Value` of a pair that is not there fails, whatever other values the key has.
pub async fn value_fails_where_only_others_are(place: &Place) {
    let (store, pairs) = pairs(place).await;
    let Some(atomic) = store.atomic() else { return };
    for absent in [b"\x00\x00".as_slice(), b"0", b"11", b"\xff\x00"] {
        for change in [
            Change::check("k", absent),
            Change::replace("k", absent, None),
            Change::replace("k", absent, Bytes::from("1")),
        ] {
            let changes = vec![Change::put("a", "1"), change];
            store.fails_at(atomic, changes, &[1]).await;
        }
    }
    holds(&store, &pairs, "after failed commits").await;
    for pair in &pairs {
        let check = Change::check("k", pair.value.clone());
        store.commits(atomic, vec![check]).await;
    }
    holds(&store, &pairs, "after checks of each pair").await;
}

/// Replacing a pair by one that is there leaves that one, once.
pub async fn a_pair_is_replaced_by_one_that_is_there(place: &Place) {
    let (store, mut pairs) = pairs(place).await;
    let Some(atomic) = store.atomic() else { return };
    while pairs.len() > 1 {
        let (gone, stays) = (pairs.remove(0), pairs[pairs.len() / 2].value.clone());
        let change = Change::replace("k", gone.value, stays);
        store.commits(atomic, vec![change]).await;
        holds(&store, &pairs, "after replacing a pair by another").await;
    }
}

/// `Any` with a value adds it, where it is not there already; `Any` without removes all values.
pub async fn any_adds_one_and_removes_all(place: &Place) {
    let (store, mut pairs) = pairs(place).await;
    let Some(atomic) = store.atomic() else { return };
    for value in ["\0", "2"] {
        store.commits(atomic, vec![Change::put("k", value)]).await;
    }
    let new = Object::new("k", "2");
    if store.unique_keys() {
        pairs = vec![new];
    } else {
        pairs.insert(5, new);
    }
    holds(&store, &pairs, "after putting a value twice and a new one").await;
    store.commits(atomic, vec![Change::remove("k")]).await;
    holds(&store, &[], "after removing all values").await;
}

/// Commits that replace different pairs of a key do not stand in each other's way.
pub async fn pairs_of_a_key_are_replaced_apart(place: &Place) {
    let (store, pairs) = pairs(place).await;
    let Some(atomic) = store.atomic() else { return };
    let new = |place: usize| numbered("new", place).into_bytes();
    let commits = pairs
        .iter()
        .enumerate()
        .map(|(place, pair)| vec![Change::replace("k", pair.value.clone(), new(place))]);
    for outcome in atomic.commit_all(commits.collect()).await {
        store.ok("one of commit_all", outcome);
    }
    let replaced: Vec<_> = (0..pairs.len())
        .map(|place| Object::new("k", new(place)))
        .collect();
    holds(&store, &replaced, "after each pair was replaced").await;
}
