//! Two processes over one store: the one that came later has it, the other one is told.

use std::sync::Arc;

use kvjob::kv::{Atomic as _, Change, ErrorKind, Object, Store as _};
use kvjob_tests::FiveMethods;

use super::below::{Fate, Plan};
use super::{both_kinds, commits, content, first_record, fresh, journal, kind, records, states};

const REDO: &[u8] = b"\xff\xffkvjob-journal/redo/";

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_replaced_is_closed() {
    for data in both_kinds() {
        let (first, _) = journal(&data, None);
        first.commit(commits().remove(0)).await.unwrap();
        let (second, _) = journal(&data, None);
        second.start().await.unwrap();
        let refused = first.commit(commits().remove(1)).await;
        assert_eq!(kind(&refused), Some(&ErrorKind::Closed), "{refused:?}");
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("another owner"), "{told}");
        assert_eq!(kind(&content(&*first).await), Some(&ErrorKind::Closed));
        second.commit(commits().remove(1)).await.unwrap();
        let found = content(&*second).await.unwrap();
        assert_eq!(found, states(data.unique_keys()).await[2]);
    }
}

/// Commits in the first process while the second takes the store over at this write; what is
/// there in the end, and whether the first one's commit is.
async fn taken_over_at(data: &FiveMethods, at: usize, fate: Fate) -> bool {
    let states = states(data.unique_keys()).await;
    let (first, below) = journal(
        data,
        Some(Plan {
            at,
            fate,
            dies: false,
        }),
    );
    let committing = {
        let first = Arc::clone(&first);
        tokio::spawn(async move { first.commit(commits().remove(0)).await })
    };
    below.is_waited_for().await;
    let (second, _) = journal(data, None);
    second.start().await.unwrap();
    let found = content(&*second).await.unwrap();
    below.release();
    let outcome = committing.await.unwrap();
    assert_eq!(kind(&outcome), Some(&ErrorKind::Unknown), "{outcome:?}");
    assert_eq!(kind(&content(&*first).await), Some(&ErrorKind::Closed));
    // What the first did when it was replaced already is not there.
    assert_eq!(content(&*second).await.unwrap(), found);
    assert!(records(data).await.is_empty());
    assert!(found.is_empty() || found == states[1], "{found:?}");
    second
        .commit(vec![Change::put("x", "1"), Change::put("y", "1")])
        .await
        .unwrap();
    !found.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_record_written_too_late_is_withdrawn() {
    for data in both_kinds() {
        let record = first_record(&data);
        assert!(!taken_over_at(&data, record, Fate::WaitsBefore).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_written_in_time_is_finished_by_the_next_owner() {
    for data in both_kinds() {
        let record = first_record(&data);
        assert!(taken_over_at(&data, record, Fate::WaitsAfter).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_to_be_withdrawn_is_never_applied() {
    for data in both_kinds() {
        let record = first_record(&data);
        // The first process is suspended before it writes its record, and ends right after.
        let (first, below) = journal(
            &data,
            Some(Plan {
                at: record,
                fate: Fate::WaitsBefore,
                dies: true,
            }),
        );
        let committing = tokio::spawn(async move { first.commit(commits().remove(0)).await });
        below.is_waited_for().await;
        let (second, _) = journal(&data, None);
        second
            .commit(vec![Change::put("b", "theirs"), Change::put("c", "theirs")])
            .await
            .unwrap();
        below.release();
        assert!(committing.await.unwrap().is_err());
        assert_eq!(records(&data).await.len(), 1);
        let (third, _) = journal(&data, None);
        let found = content(&*third).await.unwrap();
        assert_eq!(
            found,
            [Object::new("b", "theirs"), Object::new("c", "theirs")]
        );
        assert!(records(&data).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_a_second_time_is_not_applied_again() {
    for kind_of_data in both_kinds() {
        for behind in 0..2 {
            let data = fresh(&kind_of_data);
            let at = first_record(&data);
            let plan = Plan {
                at,
                fate: Fate::LostBefore,
                dies: false,
            };
            let (store, below) = journal(&data, Some(plan));
            for commit in commits().into_iter().take(1 + behind) {
                store.commit(commit).await.unwrap();
            }
            // Its answer was lost, so that it may have been under way until now.
            let mut sets = below.sets().into_iter();
            let record = sets
                .find(|object| object.key.as_bytes().starts_with(REDO))
                .unwrap();
            store.set(Object::new("c", "newer")).await.unwrap();
            let before = content(&*store).await.unwrap();
            data.set(record).await.unwrap();
            drop(store);
            let (again, _) = journal(&data, None);
            assert_eq!(content(&*again).await.unwrap(), before);
            assert!(records(&data).await.is_empty());
        }
    }
}
