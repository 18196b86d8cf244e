//! A journal gives commits to any store: what becomes of one when the process ends, the store
//! below fails, a record is damaged, or somebody else comes. The conformance suite puts every
//! store under a journal by itself.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod below;
mod crashes;
mod damage;
mod faults;
mod jobs;
mod owners;
mod random;
mod reserved;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use kvjob::kv::wrap::Journaled;
use kvjob::kv::{
    Atomic as _, Change, Error, ErrorKind, Memory, Object, Result, Scan, Store, StoreExt as _,
};
use kvjob_tests::FiveMethods;

use self::below::{Below, Plan};

/// What the journal's own keys begin with.
const RESERVED: &[u8] = b"\xff\xffkvjob-journal/";

type Journal = Journaled<Arc<Below>>;

/// The data of a store of either kind.
fn both_kinds() -> [FiveMethods; 2] {
    [FiveMethods::unique(), FiveMethods::bag()]
}

/// No data, of the same kind.
fn fresh(data: &FiveMethods) -> FiveMethods {
    if data.unique_keys() {
        FiveMethods::unique()
    } else {
        FiveMethods::bag()
    }
}

/// The write that is the first commit's record: before it the mark of the owner is written twice,
/// and on a bag the first one is removed.
fn first_record(data: &FiveMethods) -> usize {
    if data.unique_keys() { 2 } else { 3 }
}

/// A journal over this data, and the store between them.
fn journal(
    data: &FiveMethods,
    plans: impl IntoIterator<Item = Plan>,
) -> (Arc<Journal>, Arc<Below>) {
    let below = Below::new(data, plans);
    (Arc::new(Journaled::new(Arc::clone(&below))), below)
}

/// Everything a store shows.
async fn content(store: &impl Store) -> Result<Vec<Object>> {
    store.scan_all(Scan::prefix("")).try_collect().await
}

/// The journal's own objects, but for the mark of the owner.
async fn records(data: &FiveMethods) -> Vec<Object> {
    let mut found = content(&data.clone()).await.unwrap();
    found.retain(|object| {
        let key = object.key.as_bytes();
        key.starts_with(RESERVED) && !key.ends_with(b"owner")
    });
    found
}

/// Commits that depend on each other, with changes of every kind.
fn commits() -> Vec<Vec<Change>> {
    let replace = |key: &str, from: &str, to: &str| {
        Change::replace(key, from.to_owned(), Bytes::from(to.to_owned()))
    };
    vec![
        vec![
            Change::create("a", "1"),
            Change::create("b", "1"),
            Change::put("c", "1"),
        ],
        vec![
            Change::check("a", "1"),
            replace("b", "1", "2"),
            replace("c", "1", "2"),
        ],
        vec![Change::replace("a", "1", None)],
        vec![Change::put("b", "3"), Change::put("c", "3")],
        vec![
            Change::remove("b"),
            Change::create("a", "4"),
            Change::put("d", ""),
        ],
        vec![Change::check("a", "4"), Change::check("d", "")],
        vec![
            Change::remove("c"),
            Change::replace("d", "", None),
            Change::put("b", "5"),
        ],
    ]
}

/// What is there after a commit, according to the reference store; or why it fails.
async fn after(unique_keys: bool, before: &[Object], commit: Vec<Change>) -> Result<Vec<Object>> {
    let reference = if unique_keys {
        Memory::new()
    } else {
        Memory::bag()
    };
    for object in before {
        reference.set(object.clone()).await?;
    }
    reference.commit(commit).await?;
    content(&reference).await
}

/// What is there before the [`commits`] and after each of them.
async fn states(unique_keys: bool) -> Vec<Vec<Object>> {
    let mut states = vec![Vec::new()];
    for commit in commits() {
        let next = after(unique_keys, &states[states.len() - 1], commit).await;
        states.push(next.unwrap());
    }
    states
}

fn kind<T: std::fmt::Debug>(outcome: &Result<T>) -> Option<&ErrorKind> {
    outcome.as_ref().err().map(Error::kind)
}
