//! Starting, stopping, and what a store says of itself.

use super::subject::Subject;
use crate::kv::{Change, ErrorKind, Object, Result, Scan};
use crate::testkit::Place;

/// A store has a name to be called in messages.
pub async fn a_store_has_a_name(place: &Place) {
    let store = Subject::open(place).await;
    assert!(
        !store.name().trim().is_empty(),
        "name() is empty: {store:?}"
    );
}

/// Starting twice changes nothing.
pub async fn starting_twice_changes_nothing(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.ok("start again", store.start().await);
    store.ok("start a third time", store.start().await);
    store.put("b", "1").await;
    store
        .holds(&[("a", "1"), ("b", "1")], "after starting again")
        .await;
}

/// Stopping twice changes nothing.
pub async fn stopping_twice_changes_nothing(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.ok("stop", store.stop().await);
    store.ok("stop again", store.stop().await);
    if let Some(store) = store.reopen(place).await {
        store
            .holds(&[("a", "1")], "after stopping twice and opening again")
            .await;
    }
}

/// After `stop` every call answers `Closed`, where the store holds something to close; where the
/// data is gone with the store it may serve on.
pub async fn a_stopped_store_says_closed(place: &Place) {
    fn kind<T>(outcome: Result<T>) -> Option<ErrorKind> {
        outcome.err().map(|error| error.kind().clone())
    }
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    store.ok("stop", store.stop().await);
    let object = Object::new("b", "1");
    let mut answers = vec![
        ("set", kind(store.set(object.clone()).await)),
        ("get", kind(store.get(&object.key).await)),
        ("scan", kind(store.scan(Scan::prefix("")).await)),
        ("remove", kind(store.remove(&object).await)),
        ("delete", kind(store.delete(&object.key).await)),
        (
            "get_many",
            kind(store.get_many(std::slice::from_ref(&object.key)).await),
        ),
        (
            "scan_many",
            kind(store.scan_many(vec![Scan::prefix("")]).await),
        ),
    ];
    if let Some(atomic) = store.atomic() {
        answers.push((
            "commit",
            kind(atomic.commit(vec![Change::put("b", "1")]).await),
        ));
        let all = atomic.commit_all(vec![vec![Change::put("b", "1")]]).await;
        answers.extend(all.into_iter().map(|outcome| ("commit_all", kind(outcome))));
    }
    let name = store.name().to_owned();
    let keeps = store.reopen(place).await;
    for (call, answer) in answers {
        let closed = answer == Some(ErrorKind::Closed);
        assert!(
            closed || (keeps.is_none() && answer.is_none()),
            "{name}: {call} after stop answered {answer:?} instead of Closed"
        );
    }
    if let Some(store) = keeps {
        store.holds(&[("a", "1")], "after opening again").await;
    }
}

/// `health` answers while the store is in use.
pub async fn health_answers(place: &Place) {
    let store = Subject::open(place).await;
    store.put("a", "1").await;
    let health = store.ok("health", store.health().await);
    for warning in health.warnings {
        assert!(
            !warning.trim().is_empty(),
            "{}: an empty warning",
            store.name()
        );
    }
}

/// What a store says of itself stays the same while it is open.
pub async fn what_a_store_is_stays_the_same(place: &Place) {
    fn traits(store: &Subject) -> String {
        let (name, unique) = (store.name(), store.unique_keys());
        format!(
            "{name} {unique} {:?} {:?}",
            store.limits(),
            store.ownership()
        )
    }
    let store = Subject::open(place).await;
    let before = traits(&store);
    store.put("a", "1").await;
    assert_eq!(traits(&store), before);
    if let Some(store) = store.reopen(place).await {
        assert_eq!(traits(&store), before, "after opening again");
    }
}
