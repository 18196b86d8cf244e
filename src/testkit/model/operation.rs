//! What the model test does with a store, and how it is made up.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any as arbitrary, prop_oneof};
use proptest::sample::select;

use crate::kv::{Cursor, Direction, Key, Object, Scan};

/// One call.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Set(Object),
    Get(Key),
    GetMany(Vec<Key>),
    Remove(Object),
    Delete(Key),
    /// One page.
    Scan(Scan),
    /// Every page to the end.
    Walk(Scan),
    ScanMany(Vec<Scan>),
    Commit(Vec<Draft>),
    CommitAll(Vec<Vec<Draft>>),
    /// A commit of exactly as many changes as the limit allows, or of one more.
    ManyChanges {
        over: bool,
        before: Before,
    },
    /// A commit of exactly as many bytes as the limit allows, or of one more.
    ManyBytes {
        over: bool,
    },
    Reopen,
}

/// A change whose expectation is filled in when it is made.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) key: Key,
    pub(super) before: Before,
    pub(super) after: After,
}

/// What a draft expects.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Any,
    Absent,
    Value(Bytes),
    /// What is there: on a bag the smallest value.
    Smallest,
    /// What is there: on a bag the largest value.
    Largest,
}

/// What a draft writes.
#[derive(Clone, Debug)]
pub(super) enum After {
    Nothing,
    Value(Bytes),
    /// What was expected: a pure check.
    Same,
}

/// Any operation; the ones that do more are rarer.
pub(super) fn any() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => object().prop_map(Operation::Set),
        3 => key().prop_map(Operation::Get),
        2 => vec(key(), 0..6).prop_map(Operation::GetMany),
        3 => object().prop_map(Operation::Remove),
        1 => key().prop_map(Operation::Delete),
        5 => scan().prop_map(Operation::Scan),
        5 => scan().prop_map(Operation::Walk),
        2 => vec(scan(), 0..4).prop_map(Operation::ScanMany),
        8 => drafts().prop_map(Operation::Commit),
        4 => vec(drafts(), 0..5).prop_map(Operation::CommitAll),
        1 => (arbitrary::<bool>(), before())
            .prop_map(|(over, before)| Operation::ManyChanges { over, before }),
        1 => arbitrary::<bool>().prop_map(|over| Operation::ManyBytes { over }),
        2 => Just(Operation::Reopen),
    ]
}

/// Any key, but often one of a few, so that a bag comes to hold several values under them.
fn key() -> impl Strategy<Value = Key> {
    const OFTEN: &[&[u8]] = &[b"a", b"a\x00"];
    prop_oneof![
        1 => vec(select(&[0x00, 0x01, 0x61, 0xff][..]), 0..=4).prop_map(Key::from),
        1 => select(OFTEN).prop_map(Key::from),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    const VALUES: &[&[u8]] = &[b"", b"\x00", b"1", b"2", b"12", b"\xff", &[b'v'; 40]];
    select(VALUES).prop_map(Bytes::from_static)
}

fn object() -> impl Strategy<Value = Object> {
    (key(), value()).prop_map(|(key, value)| Object { key, value })
}

fn scan() -> impl Strategy<Value = Scan> {
    let cursor = prop_oneof![
        key().prop_map(Cursor::after),
        object().prop_map(|object| Cursor::after_object(&object)),
    ];
    let limit = select(&[0, 1, 1, 2, 3, 7, Scan::DEFAULT_LIMIT][..]);
    let budget = select(&[0, 1, 4, 10, 60, Scan::DEFAULT_BYTE_BUDGET][..]);
    let direction = select(&[Direction::Forward, Direction::Reverse][..]);
    // Half of them over everything: a random prefix finds little.
    let prefix = prop_oneof![Just(Key::EMPTY), key()];
    (
        prefix,
        option::of(cursor),
        limit,
        budget,
        direction,
        arbitrary::<bool>(),
    )
        .prop_map(
            |(prefix, after, limit, byte_budget, direction, keys_only)| Scan {
                prefix,
                after,
                limit,
                byte_budget,
                direction,
                keys_only,
            },
        )
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![
        3 => Just(Before::Any),
        2 => Just(Before::Absent),
        1 => value().prop_map(Before::Value),
        3 => Just(Before::Smallest),
        2 => Just(Before::Largest),
    ]
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let after = prop_oneof![
        2 => Just(After::Nothing),
        4 => value().prop_map(After::Value),
        1 => Just(After::Same),
    ];
    let draft = (key(), before(), after);
    vec(
        draft.prop_map(|(key, before, after)| Draft { key, before, after }),
        0..5,
    )
}
