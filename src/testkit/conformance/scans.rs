//! One page: its order, its limit, its cursors, its byte budget.

use bytes::Bytes;

use super::subject::{Subject, numbered, objects};
use crate::kv::{Cursor, Direction, Object, Scan};
use crate::testkit::Place;

/// The even numbers below 20 under `k/`, and a neighbour on either side.
async fn evens(place: &Place) -> (Subject, Vec<Object>) {
    let store = Subject::open(place).await;
    let evens = (0..20).step_by(2);
    let evens: Vec<Object> = evens
        .map(|n| Object::new(numbered("k/", n), "value"))
        .collect();
    store.fill(evens.clone()).await;
    store.put("j", "before").await;
    store.put("l", "behind").await;
    (store, evens)
}

fn directions(scan: &Scan) -> [Scan; 2] {
    [scan.clone(), scan.clone().reverse()]
}

/// What of these objects lies in the scan's range, in its order: on a store of unique keys, or
/// with a cursor without a value.
fn within(scan: &Scan, all: &[Object]) -> Vec<Object> {
    let after = scan.after.as_ref().map(Cursor::key);
    let mut found: Vec<Object> = all.to_vec();
    found.retain(|object| {
        object.key.starts_with(&scan.prefix)
            && after.is_none_or(|after| match scan.direction {
                Direction::Forward => object.key > *after,
                Direction::Reverse => object.key < *after,
            })
    });
    if scan.direction == Direction::Reverse {
        found.reverse();
    }
    found
}

/// Keys come in byte order, whatever order they were set in; the values come with them.
pub async fn a_scan_is_in_byte_order(place: &Place) {
    let store = Subject::open(place).await;
    for key in [
        "b", "a\u{e4}", "B", "a", "ab", "Z", "aa", "a/b", "1", "10", "2",
    ] {
        store.put(key, key).await;
    }
    let sorted = [
        "1", "10", "2", "B", "Z", "a", "a/b", "aa", "ab", "a\u{e4}", "b",
    ];
    let mut sorted: Vec<Object> = sorted.iter().map(|key| Object::new(*key, *key)).collect();
    store.cuts(&Scan::prefix(""), &sorted).await;
    sorted.reverse();
    store.cuts(&Scan::prefix("").reverse(), &sorted).await;
}

/// A scan of an empty store, or under a prefix without keys, gives an empty page without a
/// cursor.
pub async fn a_scan_of_nothing_is_empty(place: &Place) {
    let store = Subject::open(place).await;
    for scan in directions(&Scan::prefix("")) {
        store.cuts(&scan, &[]).await;
    }
    store.put("a", "1").await;
    store.put("c", "1").await;
    for prefix in ["b", "aa", "d", "\u{7f}"] {
        for scan in directions(&Scan::prefix(prefix)) {
            store.cuts(&scan, &[]).await;
        }
    }
}

/// A page holds exactly `limit` objects where there are as many, and all where there are fewer.
pub async fn a_limit_is_exact(place: &Place) {
    let (store, evens) = evens(place).await;
    for limit in [1, 2, 9, 10, 11, 256, usize::MAX] {
        for scan in directions(&Scan::prefix("k/").limit(limit)) {
            let page = store.cuts(&scan, &within(&scan, &evens)).await;
            assert_eq!(
                page.objects.len(),
                limit.min(10),
                "{}: {scan:?}",
                store.name()
            );
        }
    }
}

/// A limit of 0 gives an empty page, which goes on where it began.
pub async fn a_limit_of_zero_gives_an_empty_page(place: &Place) {
    let (store, evens) = evens(place).await;
    for scan in directions(&Scan::prefix("k/").limit(0)) {
        let page = store.page(&scan).await;
        store.same(&page.objects, &[], format_args!("{scan:?}"));
        assert_eq!(page.next, None, "{}: {scan:?}", store.name());

        let begun = scan.after(Cursor::after(numbered("k/", 10)));
        let page = store.page(&begun).await;
        store.same(&page.objects, &[], format_args!("{begun:?}"));
        let rest = begun.clone().limit(256).after(page.next);
        let from = format_args!("after {begun:?}").to_string();
        let expected = within(&begun, &evens);
        store.same(&store.page(&rest).await.objects, &expected, from);
    }
}

/// `next` is there exactly when more objects follow: not after a last page that is full.
pub async fn a_cursor_is_there_exactly_when_more_follows(place: &Place) {
    let (store, evens) = evens(place).await;
    for limit in 1..=11 {
        for scan in directions(&Scan::prefix("k/").limit(limit)) {
            let page = store.cuts(&scan, &within(&scan, &evens)).await;
            assert_eq!(
                page.next.is_some(),
                limit < 10,
                "{}: {scan:?}",
                store.name()
            );
        }
    }
}

/// A cursor is exclusive: the page begins behind the object it stands on.
pub async fn a_cursor_is_exclusive(place: &Place) {
    let (store, evens) = evens(place).await;
    for object in &evens {
        for cursor in [
            Cursor::after(object.key.clone()),
            Cursor::after_object(object),
        ] {
            for scan in directions(&Scan::prefix("k/").after(cursor).limit(3)) {
                store.cuts(&scan, &within(&scan, &evens)).await;
            }
        }
    }
}

/// A cursor may stand between keys, where none ever was.
pub async fn a_cursor_may_stand_between_keys(place: &Place) {
    let (store, evens) = evens(place).await;
    for odd in (1..20).step_by(2) {
        for scan in directions(&Scan::prefix("k/").after(Cursor::after(numbered("k/", odd)))) {
            store.cuts(&scan, &within(&scan, &evens)).await;
        }
    }
}

/// A cursor stays good when the object it stands on is removed.
pub async fn a_cursor_may_stand_on_a_removed_key(place: &Place) {
    let (store, evens) = evens(place).await;
    for scan in directions(&Scan::prefix("k/").limit(5)) {
        let page = store.page(&scan).await;
        let last = page.objects.last().unwrap();
        store.discard(last.key.clone(), last.value.clone()).await;
        let mut rest = evens.clone();
        rest.retain(|object| object.key != last.key);
        let behind = within(&scan.clone().after(Cursor::after(last.key.clone())), &rest);
        store.cuts(&scan.after(page.next), &behind).await;
        store.put(last.key.clone(), last.value.clone()).await;
    }
}

/// A cursor outside the prefix's range cuts off all of it or nothing, and never leaves it.
pub async fn a_cursor_outside_the_prefix_stays_inside(place: &Place) {
    let (store, evens) = evens(place).await;
    for cursor in ["a", "j", "k", "k.", "k/", "k/9", "k0", "l", "z"] {
        for scan in directions(&Scan::prefix("k/").after(Cursor::after(cursor))) {
            store.cuts(&scan, &within(&scan, &evens)).await;
        }
    }
}

/// Following `next` after keys were added and removed around it skips nothing that stayed.
pub async fn a_cursor_outlives_changes(place: &Place) {
    let (store, mut evens) = evens(place).await;
    let scan = Scan::prefix("k/").limit(5);
    let page = store.page(&scan).await;
    store.put(numbered("k/", 7), "new").await;
    store.put(numbered("k/", 9), "new").await;
    store.discard(numbered("k/", 10), "value").await;
    evens.retain(|object| object.key > numbered("k/", 10));
    evens.insert(0, Object::new(numbered("k/", 9), "new"));
    store.cuts(&scan.limit(256).after(page.next), &evens).await;
}

/// The byte budget ends a page before the object that would exceed it, keys counted.
pub async fn a_byte_budget_cuts_exactly(place: &Place) {
    let store = Subject::open(place).await;
    // Sizes with their keys: 3, 5, 2, 12, 3.
    let all = [
        ("k1", "1"),
        ("k2", "234"),
        ("k3", ""),
        ("k4", "0123456789"),
        ("k5", "1"),
    ];
    let all = objects(&all);
    store.fill(all.clone()).await;
    for budget in 1..=30 {
        for scan in directions(&Scan::prefix("k").byte_budget(budget)) {
            store.cuts(&scan, &within(&scan, &all)).await;
        }
    }
    for (budget, count) in [
        (7, 1),
        (8, 2),
        (9, 2),
        (10, 3),
        (21, 3),
        (22, 4),
        (24, 4),
        (25, 5),
    ] {
        let page = store.page(&Scan::prefix("k").byte_budget(budget)).await;
        let budget = format_args!("a budget of {budget}, where objects are of 3, 5, 2, 12, 3");
        store.same(&page.objects, &all[..count], budget);
    }
}

/// However small the budget, a page holds one object, so that a walk ends.
pub async fn a_page_holds_at_least_one_object(place: &Place) {
    let store = Subject::open(place).await;
    let all: Vec<Object> = (0..5)
        .map(|n| Object::new(numbered("", n), vec![b'v'; 1000]))
        .collect();
    store.fill(all.clone()).await;
    for budget in [0, 1, 999] {
        for scan in directions(&Scan::prefix("").byte_budget(budget)) {
            let page = store.cuts(&scan, &within(&scan, &all)).await;
            assert_eq!(page.objects.len(), 1, "{}: {scan:?}", store.name());
            store.same(
                &store.walk(scan.clone()).await,
                &within(&scan, &all),
                "walked",
            );
        }
    }
}

/// With `keys_only` every key comes, whole, and every value is empty.
pub async fn keys_only_leaves_values_out(place: &Place) {
    let (store, evens) = evens(place).await;
    let bare = |object: Object| Object::new(object.key, Bytes::new());
    for scan in directions(&Scan::prefix("k/").keys_only()) {
        let expected: Vec<Object> = within(&scan, &evens).into_iter().map(bare).collect();
        store.cuts(&scan, &expected).await;
    }
    let scan = Scan::prefix("k/").keys_only().limit(3);
    let expected: Vec<Object> = evens.into_iter().map(bare).collect();
    store.same(&store.walk(scan).await, &expected, "walked by threes");
}

/// With `keys_only` the byte budget counts keys alone.
pub async fn keys_only_spends_the_budget_on_keys(place: &Place) {
    let (store, evens) = evens(place).await;
    for budget in [1, 14, 15, 20, 69, 70] {
        for scan in directions(&Scan::prefix("k/").keys_only().byte_budget(budget)) {
            store.cuts(&scan, &within(&scan, &evens)).await;
        }
    }
}

/// A page sees what was acknowledged before it: sets, overwrites and removals.
pub async fn a_scan_sees_what_was_acknowledged(place: &Place) {
    let (store, mut evens) = evens(place).await;
    let scan = Scan::prefix("k/");
    store.discard(numbered("k/", 4), "value").await;
    evens.retain(|object| object.key != numbered("k/", 4));
    store.cuts(&scan, &evens).await;
    store.put(numbered("k/", 3), "new").await;
    evens.insert(2, Object::new(numbered("k/", 3), "new"));
    store.cuts(&scan, &evens).await;
    store.clear(numbered("k/", 3)).await;
    evens.remove(2);
    store.cuts(&scan, &evens).await;
}

/// On a bag, pages of one walk all values of a key in byte order; where keys are unique there
/// is one value to walk.
pub async fn every_value_of_a_key_is_walked(place: &Place) {
    let store = Subject::open(place).await;
    let values = ["", "1", "10", "2"];
    for value in values {
        store.put("k", value).await;
    }
    store.put("l", "1").await;
    let mut expected = vec![Object::new("k", "2")];
    if !store.unique_keys() {
        expected = values
            .iter()
            .map(|value| Object::new("k", *value))
            .collect();
    }
    expected.push(Object::new("l", "1"));
    for limit in [1, 2, 256] {
        let scan = Scan::prefix("").limit(limit);
        store.same(&store.walk(scan.clone()).await, &expected, "walked forward");
        let mut backward = store.walk(scan.clone().reverse()).await;
        backward.reverse();
        store.same(&backward, &expected, "walked in reverse");
        for mut scan in [scan.clone().keys_only(), scan.reverse().keys_only()] {
            let mut pairs = 0;
            while pairs <= expected.len() {
                let page = store.page(&scan).await;
                pairs += page.objects.len();
                let Some(next) = page.next else { break };
                scan = scan.after(next);
            }
            let name = store.name();
            assert_eq!(pairs, expected.len(), "{name}: a walk of {scan:?}");
        }
    }
}
