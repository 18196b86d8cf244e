//! The store below fails, panics or loses an answer for once, or a caller goes away: the commit is
//! made nevertheless.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kvjob::kv::{Atomic as _, Change, ErrorKind, Key, Object, Store as _};
use kvjob_tests::FiveMethods;

use super::below::{Fate, Plan};
use super::{both_kinds, commits, content, first_record, fresh, journal, kind, records, states};

#[tokio::test(start_paused = true)]
async fn one_fault_of_the_store_below_fails_no_commit() {
    for kind_of_data in both_kinds() {
        let states = states(kind_of_data.unique_keys()).await;
        for fate in [Fate::LostBefore, Fate::LostAfter, Fate::Panics, Fate::Fails] {
            for at in 0.. {
                let data = fresh(&kind_of_data);
                let (store, below) = journal(
                    &data,
                    Some(Plan {
                        at,
                        fate,
                        dies: false,
                    }),
                );
                let mut done = 0;
                for commit in commits() {
                    let outcome = store.commit(commit.clone()).await;
                    // What fails before it has begun, or is one write, the caller tries again.
                    let told = match fate {
                        Fate::Fails => ErrorKind::Backend,
                        _ => ErrorKind::Unknown,
                    };
                    if outcome.is_err() {
                        assert_eq!(kind(&outcome), Some(&told), "{at}: {outcome:?}");
                        let found = content(&*store).await.unwrap();
                        if found == states[done] {
                            store.commit(commit).await.unwrap();
                        }
                    }
                    done += 1;
                    let found = content(&*store).await.unwrap();
                    assert_eq!(found, states[done], "{fate:?} at {at}");
                }
                assert!(records(&data).await.is_empty());
                if !below.has_met() {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_could_not_be_written_changes_nothing() {
    for data in both_kinds() {
        let at = first_record(&data);
        let plan = Plan {
            at,
            fate: Fate::Fails,
            dies: false,
        };
        let (store, _) = journal(&data, Some(plan));
        let refused = store.commit(commits().remove(0)).await;
        assert_eq!(kind(&refused), Some(&ErrorKind::Backend), "{refused:?}");
        assert_eq!(content(&*store).await.unwrap(), []);
        store.commit(commits().remove(0)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_on_without_its_caller() {
    for data in both_kinds() {
        for at in 0.. {
            let data = fresh(&data);
            let states = states(data.unique_keys()).await;
            let plan = Plan {
                at,
                fate: Fate::WaitsBefore,
                dies: false,
            };
            let (store, below) = journal(&data, Some(plan));
            {
                let mut commit = Box::pin(store.commit(commits().remove(0)));
                tokio::select! {
                    outcome = &mut commit => {
                        outcome.unwrap();
                        assert!(!below.has_met());
                        break;
                    }
                    () = below.is_waited_for() => {}
                }
            }
            // Nobody waits for it any more; a reader does not see the middle of it.
            let mut reader = Box::pin(content(&*store));
            assert!((&mut reader).now_or_never().is_none(), "{at}");
            below.release();
            let found = reader.await.unwrap();
            assert!(
                found == states[1] || at < first_record(&data) && found.is_empty(),
                "{at}: {found:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_write_goes_on_without_its_caller() {
    let data = FiveMethods::unique();
    let plan = Plan {
        at: 2,
        fate: Fate::WaitsBefore,
        dies: false,
    };
    let (store, below) = journal(&data, Some(plan));
    {
        let mut set = Box::pin(store.set(Object::new("a", "1")));
        tokio::select! {
            _ = &mut set => panic!("it waits"),
            () = below.is_waited_for() => {}
        }
    }
    // A commit that checks the same key waits for it.
    let mut commit = Box::pin(store.commit(vec![Change::create("a", "2"), Change::put("b", "2")]));
    assert!((&mut commit).now_or_never().is_none());
    below.release();
    let failed = ErrorKind::ConditionFailed { indices: vec![0] };
    assert_eq!(kind(&commit.await), Some(&failed));
}

#[tokio::test(start_paused = true)]
async fn a_store_below_that_panics_is_an_error() {
    let (store, _) = journal(&FiveMethods::unique(), None);
    let key = Key::from("panic");
    let refused = store.get(&key).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Backend);
    assert!(
        refused
            .to_string()
            .contains("a test wants this read to panic"),
        "{refused}"
    );
    let refused = store.get_many(std::slice::from_ref(&key)).await;
    assert_eq!(kind(&refused), Some(&ErrorKind::Backend));
    let refused = store
        .commit(vec![Change::put("a", "1"), Change::create(key, "1")])
        .await;
    assert_eq!(kind(&refused), Some(&ErrorKind::Backend));
    assert_eq!(content(&*store).await.unwrap(), []);
    store.commit(commits().remove(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_its_runtime_in_the_middle_of_a_commit_closes_the_store() {
    let data = FiveMethods::unique();
    let plan = Plan {
        at: 4,
        fate: Fate::WaitsBefore,
        dies: false,
    };
    let (store, below) = journal(&data, Some(plan));
    let (theirs, waited) = (Arc::clone(&store), Arc::clone(&below));
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut commit = Box::pin(theirs.commit(commits().remove(0)));
            tokio::select! {
                _ = &mut commit => panic!("it waits"),
                () = waited.is_waited_for() => {}
            }
        });
    })
    .await
    .unwrap();
    let closed = content(&*store).await;
    assert_eq!(kind(&closed), Some(&ErrorKind::Closed), "{closed:?}");
    let (again, _) = journal(&data, None);
    assert_eq!(content(&*again).await.unwrap(), states(true).await[1]);
}

#[tokio::test]
async fn a_commit_costs_two_writes_more_and_one_write_none() {
    for data in both_kinds() {
        let (store, below) = journal(&data, None);
        store.start().await.unwrap();
        let writes = async |commit: Vec<Change>| {
            let before = below.writes();
            let _ = store.commit(commit).await;
            below.writes() - before
        };
        assert_eq!(writes(vec![]).await, 0);
        assert_eq!(writes(vec![Change::put("a", "1")]).await, 1);
        assert_eq!(writes(vec![Change::check("a", "1")]).await, 0);
        assert_eq!(writes(vec![Change::create("a", "1")]).await, 0);
        let two = vec![
            Change::put("b", "1"),
            Change::check("a", "1"),
            Change::put("c", "1"),
        ];
        assert_eq!(writes(two).await, 4);
        assert_eq!(writes(vec![Change::replace("a", "1", None)]).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn trying_again_ends() {
    let data = FiveMethods::unique();
    let (store, _) = journal(
        &data,
        Some(Plan {
            at: 3,
            fate: Fate::Fails,
            dies: true,
        }),
    );
    let begun = tokio::time::Instant::now();
    assert!(store.commit(commits().remove(0)).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(2));
}
