//! The shape of commits: what is refused before any condition is looked at, and `commit_all`.
//! Skipped where the store has no [`Atomic`](crate::kv::Atomic).

use bytes::Bytes;

use super::subject::{Subject, numbered};
use crate::kv::{Change, ErrorKind, Key, Scan};
use crate::testkit::Place;

/// An empty commit is `Ok` and changes nothing.
pub async fn an_empty_commit_is_ok(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.commits(atomic, vec![]).await;
    store.holds(&[("a", "1")], "after an empty commit").await;
}

/// The same key twice is `InvalidKey`, whatever the two changes are, and nothing is applied.
pub async fn a_key_that_stands_twice_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    let replace = Change::replace("a", "1", Bytes::from("2"));
    let pairs = [
        [Change::put("a", "2"), Change::put("a", "3")],
        [Change::put("a", "2"), Change::put("a", "2")],
        [Change::check("a", "1"), replace.clone()],
        [replace, Change::replace("a", "2", Bytes::from("3"))],
        [Change::remove("a"), Change::create("a", "2")],
    ];
    for [first, second] in pairs {
        let changes = vec![Change::put("0", "x"), first, Change::put("b", "x"), second];
        let what = format!("commit of {changes:?}");
        store.refused(what, atomic.commit(changes).await, &ErrorKind::InvalidKey);
        store.holds(&[("a", "1")], "after a refusal").await;
    }
}

/// The empty key is `InvalidKey`, and nothing is applied.
pub async fn the_empty_key_is_refused_in_a_commit(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let bad = [
        Change::put("", "1"),
        Change::create("", "1"),
        Change::remove(""),
        Change::check("", "1"),
    ];
    for bad in bad {
        let changes = vec![Change::put("a", "1"), bad];
        let what = format!("commit of {changes:?}");
        store.refused(what, atomic.commit(changes).await, &ErrorKind::InvalidKey);
    }
    store.holds(&[] as &[(&str, &str)], "after refusals").await;
}

/// One commit may create, replace, remove and check at once, with keys in any order.
pub async fn a_commit_mixes_changes_of_every_kind(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    for key in ["a", "b", "c", "d"] {
        store.put(key, "1").await;
    }
    let changes = vec![
        Change::create("e", "2"),
        Change::remove("d"),
        Change::replace("b", "1", Bytes::from("2")),
        Change::check("c", "1"),
        Change::replace("a", "1", None),
        Change::put(b"\xff\x00", ""),
        Change::remove("absent"),
    ];
    store.commits(atomic, changes).await;
    let expected: [(&[u8], &str); 4] = [(b"b", "2"), (b"c", "1"), (b"e", "2"), (b"\xff\x00", "")];
    store.holds(&expected, "after the commit").await;
}

/// Each commit of `commit_all` has its own outcome, at its own place; one that is refused or
/// fails keeps no other from being applied.
pub async fn commit_all_answers_each_at_its_place(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    let limits = store.limits();
    let long = Key::from(vec![b'k'; limits.key_bytes.min(1 << 20) + 1]);
    let commits = vec![
        vec![Change::create("b", "1")],
        vec![Change::create("a", "2"), Change::put("no", "1")],
        vec![],
        vec![Change::put("", "1"), Change::put("no", "1")],
        vec![Change::put("no", "1"), Change::put("no", "2")],
        vec![Change::put("no", "1"), Change::put(long.clone(), "1")],
        vec![Change::create("c", "1"), Change::check("a", "1")],
    ];
    // A limit too large to exceed leaves that commit without a reason to fail.
    let refusable = long.len() > limits.key_bytes;
    let commits = if refusable {
        commits
    } else {
        commits[..5].to_vec()
    };
    let count = commits.len();
    let outcomes = atomic.commit_all(commits).await;
    assert_eq!(
        outcomes.len(),
        count,
        "{}: outcomes of commit_all",
        store.name()
    );
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().unwrap();
    store.ok("commit 0", next());
    store.refused(
        "commit 1",
        next(),
        &ErrorKind::ConditionFailed { indices: vec![0] },
    );
    store.ok("commit 2, empty,", next());
    store.refused("commit 3", next(), &ErrorKind::InvalidKey);
    store.refused("commit 4", next(), &ErrorKind::InvalidKey);
    if refusable {
        store.too_large("commit 5", next(), limits.key_bytes);
        store.ok("commit 6", next());
        store
            .holds(&[("a", "1"), ("b", "1"), ("c", "1")], "after commit_all")
            .await;
    }
}

/// The commits of `commit_all` are applied in order: later ones see earlier ones, and not those
/// that failed.
pub async fn commit_all_applies_in_order(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let replace = |before: &'static str, after: &'static str| {
        Change::replace("a", before, Bytes::from(after))
    };
    let commits = vec![
        vec![Change::create("a", "1")],
        vec![replace("1", "2")],
        vec![replace("1", "3")], // fails: it is 2 by now
        vec![replace("2", "4"), Change::check("absent", "1")], // fails, so 2 stays
        vec![replace("2", "5")],
        vec![Change::create("a", "6")], // fails: it is there
        vec![replace("5", "7"), Change::create("b", "1")],
        vec![Change::replace("b", "1", None)],
        vec![Change::create("b", "2")],
    ];
    let outcomes = atomic.commit_all(commits).await;
    let told: Vec<Option<Vec<usize>>> = outcomes
        .into_iter()
        .map(
            |outcome| match outcome.map_err(|error| error.kind().clone()) {
                Ok(()) => None,
                Err(ErrorKind::ConditionFailed { indices }) => Some(indices),
                Err(kind) => panic!("{}: commit_all answered {kind:?}", store.name()),
            },
        )
        .collect();
    let (ok, first, second) = (None, Some(vec![0]), Some(vec![1]));
    let expected = [&ok, &ok, &first, &second, &ok, &first, &ok, &ok, &ok];
    assert_eq!(
        told.iter().collect::<Vec<_>>(),
        expected,
        "{}",
        store.name()
    );
    store
        .holds(&[("a", "7"), ("b", "2")], "after commit_all")
        .await;
}

/// `commit_all` of no commits gives no outcomes.
pub async fn commit_all_of_none_answers_none(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    assert!(
        atomic.commit_all(vec![]).await.is_empty(),
        "{}",
        store.name()
    );
}

/// `commit_all` takes more commits than any group holds, a long chain included.
pub async fn commit_all_takes_many_commits(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let many = place.size(1000, 260);
    store.put("count", "0").await;
    let step = |n: usize| {
        let count = Change::replace("count", n.to_string(), Bytes::from((n + 1).to_string()));
        vec![count, Change::create(numbered("k/", n), "x")]
    };
    let outcomes = atomic.commit_all((0..many).map(step).collect()).await;
    assert_eq!(
        outcomes.len(),
        many,
        "{}: outcomes of commit_all",
        store.name()
    );
    for (place, outcome) in outcomes.into_iter().enumerate() {
        store.ok(format_args!("commit {place} of a chain"), outcome);
    }
    assert_eq!(store.value("count").await.unwrap(), many.to_string());
    assert_eq!(store.walk(Scan::prefix("k/")).await.len(), many);
}
