//! Keys and prefixes are bytes: 0x00, 0xff and neighbours of a prefix are nothing special.

use super::subject::{Subject, objects};
use crate::kv::{Key, Object, Scan};
use crate::testkit::Place;

/// Keys that lie around every edge a prefix range can have, in byte order.
const KEYS: &[&[u8]] = &[
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"\x01",
    b"a",
    b"a\x00",
    b"a\x00\x00",
    b"a\x00\xff",
    b"a\x01",
    b"a\xfe\xff",
    b"a\xff",
    b"a\xff\x00",
    b"a\xff\xfe",
    b"a\xff\xff",
    b"a\xff\xff\x00",
    b"a\xff\xff\xff",
    b"b",
    b"b\x00",
    b"\xfe\xff",
    b"\xff",
    b"\xff\x00",
    b"\xff\xfe",
    b"\xff\xff",
    b"\xff\xff\x00",
    b"\xff\xff\xff\xff",
];

const PREFIXES: &[&[u8]] = &[
    b"",
    b"\x00",
    b"\x00\x00",
    b"a",
    b"a\x00",
    b"a\xfe",
    b"a\xff",
    b"a\xff\xff",
    b"a\xff\xff\xff\xff",
    b"b",
    b"c",
    b"\xfe",
    b"\xff",
    b"\xff\xff",
    b"\xff\xff\xff",
];

fn all() -> Vec<Object> {
    let pairs: Vec<(&[u8], &[u8])> = KEYS.iter().map(|key| (*key, *key)).collect();
    objects(&pairs)
}

fn under(prefix: &[u8]) -> Vec<Object> {
    let prefix = Key::from(prefix);
    all()
        .into_iter()
        .filter(|o| o.key.starts_with(&prefix))
        .collect()
}

/// Keys with 0x00 and 0xff are told apart and got back.
pub async fn binary_keys_are_told_apart(place: &Place) {
    let store = Subject::open(place).await;
    for (place, key) in KEYS.iter().enumerate() {
        assert_eq!(
            store.value(*key).await,
            None,
            "{}: {}",
            store.name(),
            key.escape_ascii()
        );
        store.put(*key, *key).await;
        assert_eq!(store.value(*key).await.unwrap(), *key);
        store.same(
            &store.walk(Scan::prefix("")).await,
            &all()[..=place],
            "after a set",
        );
    }
}

/// A scan gives the keys that begin with its prefix, the key that equals it included, and no
/// neighbour; in both directions.
pub async fn a_prefix_has_exactly_its_keys(place: &Place) {
    let store = Subject::open(place).await;
    store.fill(all()).await;
    for prefix in PREFIXES {
        let mut expected = under(prefix);
        let scan = Scan::prefix(*prefix);
        store.same(
            &store.walk(scan.clone()).await,
            &expected,
            format_args!("{scan:?}"),
        );
        expected.reverse();
        let scan = scan.reverse();
        store.same(
            &store.walk(scan.clone()).await,
            &expected,
            format_args!("{scan:?}"),
        );
    }
}

/// `delete` of a prefix with 0x00 or 0xff removes its keys and no neighbour.
pub async fn delete_of_a_binary_prefix_is_exact(place: &Place) {
    let store = Subject::open(place).await;
    for prefix in PREFIXES {
        store.clear("").await;
        store.fill(all()).await;
        store.clear(*prefix).await;
        let prefix = Key::from(*prefix);
        let mut expected = all();
        expected.retain(|object| !object.key.starts_with(&prefix));
        let found = store.walk(Scan::prefix("")).await;
        store.same(&found, &expected, format_args!("after deleting {prefix}"));
    }
}

/// Pages of one find every key of every binary prefix, in both directions.
pub async fn pages_of_one_walk_binary_prefixes(place: &Place) {
    let store = Subject::open(place).await;
    store.fill(all()).await;
    for prefix in PREFIXES {
        let mut expected = under(prefix);
        let scan = Scan::prefix(*prefix).limit(1);
        store.same(
            &store.walk(scan.clone()).await,
            &expected,
            format_args!("{scan:?}"),
        );
        expected.reverse();
        let scan = scan.reverse();
        store.same(
            &store.walk(scan.clone()).await,
            &expected,
            format_args!("{scan:?}"),
        );
    }
}
