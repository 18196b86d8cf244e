//! Transactions shared with the user.

use futures::StreamExt as _;

use super::engine::store;
use super::{kind, put, send};
use crate::kv::{
    Atomic, Change, Durability, Error, ErrorKind, Event, Key, Transaction as _, Watch,
};

#[tokio::test]
async fn what_the_body_changed_is_there_and_its_value_returned_and_watchers_told() {
    let (store, control) = store(Durability::Immediate);
    let mut heard = Watch::watch(&store, &Key::EMPTY).await.unwrap();
    let value = store
        .with_transaction(|transaction| {
            transaction.change(&[Change::create("a", "1")])?;
            let found = transaction.get(&["a".into()])?;
            transaction.change(&[Change::replace("a", "1", Some("2".into()))])?;
            Ok(found)
        })
        .await
        .unwrap();
    assert_eq!(value, [Some("1".into())], "it sees its own writes");
    assert_eq!(control.objects().get(&Key::from("a")).unwrap(), "2");
    assert_eq!(heard.next().await, Some(Event::Changed("a".into())));
}

#[tokio::test]
async fn an_error_of_the_body_rolls_back_and_is_returned_as_it_is() {
    let (store, control) = store(Durability::Immediate);
    // Even if its kind is one that would close the store, were it the engine's.
    for wanted in [ErrorKind::Corrupt, ErrorKind::Unknown, ErrorKind::Closed] {
        let returned = wanted.clone();
        let outcome = store.with_transaction(move |transaction| {
            transaction.change(&[Change::put("a", "1")])?;
            Err::<(), _>(Error::new(returned, "changed my mind"))
        });
        let error = outcome.await.unwrap_err();
        assert_eq!(error.kind(), &wanted);
        assert_eq!(error.to_string(), "changed my mind");
    }
    assert!(control.objects().is_empty());
    store.commit(put("b", "1")).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_body_rolls_back_and_the_store_goes_on() {
    let (store, control) = store(Durability::Immediate);
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("a", "1")])?;
        if control_flow() {
            Ok(())
        } else {
            panic!("in the body")
        }
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("in the body"), "{error}");
    assert!(control.objects().is_empty());
    store.commit(put("b", "1")).await.unwrap();
}

fn control_flow() -> bool {
    false
}

#[tokio::test]
async fn a_condition_that_fails_is_returned_and_changes_nothing() {
    let (store, control) = store(Durability::Immediate);
    store.commit(put("a", "1")).await.unwrap();
    let outcome = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("b", "1"), Change::create("a", "2")])
    });
    let indices = vec![1];
    assert_eq!(kind(outcome.await), ErrorKind::ConditionFailed { indices });
    assert_eq!(control.objects().len(), 1);
}

#[tokio::test]
async fn it_runs_between_the_groups_before_and_after_it() {
    let (store, control) = store(Durability::Immediate);
    let mut gate = control.hold_applies();
    let before = send([store.commit(put("a", "1"))]);
    gate.arrival().await;
    let saw = send([store.with_transaction(|transaction| {
        let found = transaction.get(&["a".into(), "c".into()])?;
        assert!(found[0].is_some() && found[1].is_none());
        Ok(())
    })]);
    let after = send([store.commit(put("c", "1"))]);
    drop(gate);
    for outcome in futures::future::join_all(before).await {
        outcome.unwrap();
    }
    for outcome in futures::future::join_all(saw).await {
        outcome.unwrap();
    }
    for outcome in futures::future::join_all(after).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn the_last_handle_may_go_inside_a_body() {
    let (store, control) = store(Durability::Immediate);
    let store = std::sync::Arc::new(store);
    let (send, hold) = std::sync::mpsc::channel::<std::sync::Arc<_>>();
    let body = store.with_transaction(move |transaction| {
        transaction.change(&[Change::put("a", "1")])?;
        drop(hold.recv());
        Ok(())
    });
    let mut body = Box::pin(body);
    assert!(futures::poll!(&mut body).is_pending());
    drop(body);
    let watcher = Watch::watch(&*store, &Key::EMPTY).await.unwrap();
    send.send(store).unwrap();
    let heard: Vec<Event> = watcher.collect().await;
    assert_eq!(heard, [Event::Changed("a".into())]);
    assert_eq!(control.objects().len(), 1);
}
