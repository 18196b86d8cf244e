//! What a commit expects: each kind of condition, where it holds and where it fails. Skipped
//! where the store has no [`Atomic`](crate::kv::Atomic).

use bytes::Bytes;

use super::subject::Subject;
use crate::kv::{Change, ErrorKind, Expect};
use crate::testkit::Place;

/// `atomic()` and `watch()` answer the same at every call, and after opening again: a capability
/// neither comes nor goes.
pub async fn a_capability_neither_comes_nor_goes(place: &Place) {
    let store = Subject::open(place).await;
    let (atomic, watch) = (store.atomic().is_some(), store.watch().is_some());
    store.put("a", "1").await;
    store.ok("start again", store.start().await);
    assert_eq!(
        store.atomic().is_some(),
        atomic,
        "{}: atomic()",
        store.name()
    );
    assert_eq!(store.watch().is_some(), watch, "{}: watch()", store.name());
    if let Some(store) = store.reopen(place).await {
        let again = (store.atomic().is_some(), store.watch().is_some());
        assert_eq!(again, (atomic, watch), "{}: opened again", store.name());
    }
}

/// `Any` holds for what is there and for what is not.
pub async fn any_holds_always(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.put("b", "1").await;
    let changes = vec![
        Change::put("a", "2"),
        Change::remove("b"),
        Change::put("c", "2"),
        Change::remove("d"),
    ];
    store.commits(atomic, changes).await;
    if store.unique_keys() {
        store
            .holds(&[("a", "2"), ("c", "2")], "after a commit")
            .await;
    } else {
        store
            .holds(&[("a", "1"), ("a", "2"), ("c", "2")], "after a commit")
            .await;
    }
}

/// `Absent` holds where nothing is, after a removal too, and fails on any value, an empty one
/// too.
pub async fn absent_holds_only_where_nothing_is(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.commits(atomic, vec![Change::create("a", "")]).await;
    store
        .fails_at(atomic, vec![Change::create("a", "2")], &[0])
        .await;
    store
        .fails_at(atomic, vec![Change::create("a", "")], &[0])
        .await;
    store.holds(&[("a", "")], "after refused creations").await;
    store.discard("a", "").await;
    store.commits(atomic, vec![Change::create("a", "3")]).await;
    store.clear("a").await;
    store.commits(atomic, vec![Change::create("a", "4")]).await;
    store.holds(&[("a", "4")], "after creations").await;
}

/// `Value` holds for these very bytes: not for a longer or shorter value, not for none.
pub async fn value_holds_only_for_these_bytes(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let value = b"a\x00b\xff".as_slice();
    store.put("k", value).await;
    store.put("e", "").await;
    let near = [
        b"".as_slice(),
        b"a",
        b"a\x00b",
        b"a\x00b\xff\x00",
        b"a\x00b\xfe",
        b"A\x00b\xff",
    ];
    for wrong in near {
        store
            .fails_at(
                atomic,
                vec![Change::replace("k", wrong, Bytes::from("x"))],
                &[0],
            )
            .await;
        store
            .fails_at(atomic, vec![Change::replace("k", wrong, None)], &[0])
            .await;
    }
    store
        .fails_at(atomic, vec![Change::replace("e", "x", None)], &[0])
        .await;
    store
        .fails_at(
            atomic,
            vec![Change::replace("absent", "", Bytes::from("x"))],
            &[0],
        )
        .await;
    store
        .fails_at(atomic, vec![Change::replace("absent", "x", None)], &[0])
        .await;
    let right = vec![
        Change::replace("k", value, Bytes::from("new")),
        Change::replace("e", "", Bytes::from("full")),
    ];
    store.commits(atomic, right).await;
    store
        .holds(&[("e", "full"), ("k", "new")], "after replacing")
        .await;
    store
        .commits(atomic, vec![Change::replace("k", "new", None)])
        .await;
    store
        .holds(&[("e", "full")], "after a conditional removal")
        .await;
}

/// Conditions see what `set`, `remove` and `delete` did just before.
pub async fn conditions_see_plain_writes(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a/1", "1").await;
    store
        .commits(
            atomic,
            vec![Change::check("a/1", "1"), Change::create("b", "1")],
        )
        .await;
    store.discard("a/1", "1").await;
    store
        .fails_at(atomic, vec![Change::check("a/1", "1")], &[0])
        .await;
    store.put("a/2", "2").await;
    store.clear("a/").await;
    store
        .fails_at(atomic, vec![Change::replace("a/2", "2", None)], &[0])
        .await;
    store
        .commits(atomic, vec![Change::create("a/2", "3")])
        .await;
    store.holds(&[("a/2", "3"), ("b", "1")], "after all").await;
}

/// `ConditionFailed` carries all positions that failed, ascending, and only those.
pub async fn all_failed_positions_are_told(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.put("z", "1").await;
    let changes = vec![
        Change::create("z", "2"),        // 0 fails: it is there
        Change::put("m", "2"),           // 1 holds
        Change::check("a", "2"),         // 2 fails: another value
        Change::check("y", "1"),         // 3 fails: absent
        Change::create("b", "2"),        // 4 holds
        Change::remove("x"),             // 5 holds
        Change::replace("c", "1", None), // 6 fails: absent
        Change::put("0", "2"),           // 7 holds
    ];
    store.fails_at(atomic, changes, &[0, 2, 3, 6]).await;
    store
        .holds(&[("a", "1"), ("z", "1")], "after a failed commit")
        .await;
}

/// A failing condition, wherever it stands, keeps every change of its commit from being applied.
pub async fn a_failed_condition_applies_nothing(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.put("b", "1").await;
    let good = [
        Change::replace("a", "1", Bytes::from("2")),
        Change::replace("b", "1", None),
        Change::create("c", "2"),
        Change::put("d", "2"),
    ];
    for place in 0..=good.len() {
        let mut changes = good.to_vec();
        changes.insert(place, Change::check("absent", "1"));
        store.fails_at(atomic, changes, &[place]).await;
        store
            .holds(&[("a", "1"), ("b", "1")], "after a failed commit")
            .await;
    }
    store.commits(atomic, good.to_vec()).await;
    store
        .holds(&[("a", "2"), ("c", "2"), ("d", "2")], "after the commit")
        .await;
}

/// A pure check that holds leaves the value as it is.
pub async fn a_check_that_holds_changes_nothing(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.put("e", "").await;
    store
        .commits(
            atomic,
            vec![Change::check("a", "1"), Change::check("e", "")],
        )
        .await;
    store.holds(&[("a", "1"), ("e", "")], "after checks").await;
    store
        .commits(atomic, vec![Change::check("a", "1"), Change::put("b", "2")])
        .await;
    store
        .holds(
            &[("a", "1"), ("b", "2"), ("e", "")],
            "after a check and a write",
        )
        .await;
}

/// A pure check that fails is told, creates nothing, and keeps its commit from being applied.
pub async fn a_check_that_fails_is_told(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store
        .fails_at(atomic, vec![Change::check("a", "2")], &[0])
        .await;
    store
        .fails_at(atomic, vec![Change::check("b", "2")], &[0])
        .await;
    let changes = vec![Change::put("c", "1"), Change::check("a", "")];
    store.fails_at(atomic, changes, &[1]).await;
    store.holds(&[("a", "1")], "after failed checks").await;
}

/// A check of absence that writes nothing is `Unsupported`, and its commit is not applied.
pub async fn a_check_of_absence_is_refused(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    let check = Change {
        key: "a".into(),
        before: Expect::Absent,
        after: None,
    };
    for changes in [vec![check.clone()], vec![Change::put("b", "1"), check]] {
        let what = format!("commit of {changes:?}");
        store.refused(what, atomic.commit(changes).await, &ErrorKind::Unsupported);
    }
    store.holds(&[] as &[(&str, &str)], "after refusals").await;
}

/// On a bag `Value` means that pair and replaces only it; where keys are unique there is no
/// other.
pub async fn value_replaces_only_its_pair(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    store.put("a", "1").await;
    store.put("a", "3").await;
    if store.unique_keys() {
        store
            .fails_at(atomic, vec![Change::replace("a", "1", None)], &[0])
            .await;
        store
            .commits(atomic, vec![Change::replace("a", "3", Bytes::from("2"))])
            .await;
        store.holds(&[("a", "2")], "after replacing").await;
    } else {
        store
            .commits(atomic, vec![Change::replace("a", "3", Bytes::from("2"))])
            .await;
        store
            .holds(&[("a", "1"), ("a", "2")], "after replacing (a, 3)")
            .await;
        store
            .commits(atomic, vec![Change::replace("a", "1", None)])
            .await;
        store.holds(&[("a", "2")], "after removing (a, 1)").await;
        store.put("a", "1").await;
        store.commits(atomic, vec![Change::remove("a")]).await;
        store
            .holds(&[] as &[(&str, &str)], "after removing all of a")
            .await;
    }
}
