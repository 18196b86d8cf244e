//! The process ends, or the store below dies, at every point there is: each commit is whole or
//! absent, and those that were acknowledged are there.

use std::sync::Arc;

use kvjob::kv::{Atomic as _, ErrorKind, Object, Store as _};
use kvjob_tests::FiveMethods;

use super::below::{Fate, Plan};
use super::{
    Journal, both_kinds, commits, content, first_record, fresh, journal, kind, records, states,
};

const DEATHS: [Fate; 3] = [Fate::Fails, Fate::LostBefore, Fate::LostAfter];

/// Makes the commits until one fails; how many went through, and whether the failed one may have
/// been applied.
async fn commit_until_dead(store: &Journal) -> (usize, bool) {
    for (number, commit) in commits().into_iter().enumerate() {
        if let Err(error) = store.commit(commit).await {
            return (number, error.maybe_applied());
        }
    }
    (commits().len(), false)
}

/// Reads until the store is closed, and asserts that it shows nothing but these states.
async fn read_until_closed(store: Arc<Journal>, states: Vec<Vec<Object>>) -> usize {
    let mut last = 0;
    loop {
        match content(&*store).await {
            Ok(found) => {
                let state = (last..states.len()).find(|state| states[*state] == found);
                last = state.unwrap_or_else(|| panic!("a reader saw {found:?} after {last}"));
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
                return last;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Opens the store again, without trouble, and asserts what is there.
async fn assert_whole(
    data: &FiveMethods,
    states: &[Vec<Object>],
    done: usize,
    maybe: bool,
    when: &str,
) {
    let (store, _) = journal(data, None);
    store.start().await.unwrap();
    let found = content(&*store).await.unwrap();
    let whole = found == states[done] || (maybe && found == states[done + 1]);
    assert!(whole, "{when}: {found:?} after {done} commits");
    assert!(records(data).await.is_empty(), "{when}");
    // And it goes on from there.
    let rest = if found == states[done] {
        done
    } else {
        done + 1
    };
    for commit in commits().into_iter().skip(rest) {
        store.commit(commit).await.unwrap();
    }
    assert_eq!(
        &content(&*store).await.unwrap(),
        states.last().unwrap(),
        "{when}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_whole_or_absent_wherever_the_store_dies() {
    for data in both_kinds() {
        let states = states(data.unique_keys()).await;
        for fate in DEATHS {
            let mut at = 0;
            loop {
                let data = fresh(&data);
                let (store, below) = journal(
                    &data,
                    Some(Plan {
                        at,
                        fate,
                        dies: true,
                    }),
                );
                let reader = tokio::spawn(read_until_closed(Arc::clone(&store), states.clone()));
                let (done, maybe) = commit_until_dead(&store).await;
                let _ = store.stop().await;
                reader.await.unwrap();
                let when = format!("{} died at {at}: {fate:?}", data.name());
                assert_whole(&data, &states, done, maybe, &when).await;
                if !below.has_met() {
                    break;
                }
                at += 1;
            }
            assert!(at > 20, "there were only {at} writes to die at");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_dies_is_finished_by_the_next() {
    for kind_of_data in both_kinds() {
        let states = states(kind_of_data.unique_keys()).await;
        // The second commit: mark twice, the first with its record, the record of the second.
        for at in 8..14 {
            for fate in DEATHS {
                let mut again = 0;
                loop {
                    let data = fresh(&kind_of_data);
                    let (store, _) = journal(
                        &data,
                        Some(Plan {
                            at,
                            fate: Fate::Fails,
                            dies: true,
                        }),
                    );
                    let (done, maybe) = commit_until_dead(&store).await;
                    let plan = Plan {
                        at: again,
                        fate,
                        dies: true,
                    };
                    let (store, below) = journal(&data, Some(plan));
                    let started = store.start().await;
                    assert_eq!(started.is_err(), below.has_met(), "{started:?}");
                    let when = format!("{} died at {at}, and at {again}: {fate:?}", data.name());
                    drop(store);
                    assert_whole(&data, &states, done, maybe, &when).await;
                    if !below.has_met() {
                        break;
                    }
                    again += 1;
                }
                assert!(again >= 2, "there were only {again} writes to die at");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_lost_is_written_again_before_it_is_applied() {
    for data in both_kinds() {
        let at = first_record(&data);
        let plans = [(at, Fate::LostBefore, false), (at + 3, Fate::Fails, true)];
        let plans = plans.map(|(at, fate, dies)| Plan { at, fate, dies });
        let (store, _) = journal(&data, plans);
        let outcome = store.commit(commits().remove(0)).await;
        assert_eq!(kind(&outcome), Some(&ErrorKind::Unknown), "{outcome:?}");
        let (again, _) = journal(&data, None);
        let found = content(&*again).await.unwrap();
        assert_eq!(found, states(data.unique_keys()).await[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_finish_a_commit_answers_nothing_more() {
    let data = FiveMethods::unique();
    let plan = Plan {
        at: 4,
        fate: Fate::Fails,
        dies: true,
    };
    let (store, _) = journal(&data, Some(plan));
    let outcome = store.commit(commits().remove(0)).await;
    assert_eq!(kind(&outcome), Some(&ErrorKind::Unknown), "{outcome:?}");
    let closed = Some(&ErrorKind::Closed);
    let object = Object::new("a", "x");
    assert_eq!(kind(&store.get(&object.key).await), closed);
    assert_eq!(kind(&content(&*store).await), closed);
    assert_eq!(kind(&store.set(object.clone()).await), closed);
    assert_eq!(kind(&store.commit(vec![]).await), closed);
    assert_eq!(kind(&store.start().await), closed);
    let told = store.get(&object.key).await.unwrap_err().to_string();
    assert!(told.contains("the store below is dead"), "{told}");
    assert!(told.contains("when the store is opened again"), "{told}");
}
