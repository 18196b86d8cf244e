//! The journal's own keys are nobody else's, and nobody else sees them.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kvjob::kv::wrap::Journaled;
use kvjob::kv::{
    Atomic as _, Change, Cursor, ErrorKind, Event, Key, Memory, Object, Page, Scan, Store,
};

use super::{RESERVED, both_kinds, commits, content, journal, kind};

fn reserved() -> Key {
    [RESERVED, b"owner"].concat().into()
}

/// Keys on both sides of the journal's, next to them.
fn neighbours() -> Vec<Object> {
    let keys: [&[u8]; 6] = [
        b"a",
        b"\xff",
        b"\xff\xff",
        b"\xff\xffkvjob-journal",
        b"\xff\xffkvjob-journal0",
        b"\xff\xff\xff",
    ];
    keys.map(|key| Object::new(key, "value")).to_vec()
}

#[tokio::test]
async fn a_key_of_the_journal_is_refused() {
    for data in both_kinds() {
        let (store, _) = journal(&data, None);
        let object = Object::new(reserved(), "x");
        let invalid = Some(&ErrorKind::InvalidKey);
        assert_eq!(kind(&store.set(object.clone()).await), invalid);
        assert_eq!(kind(&store.get(&object.key).await), invalid);
        assert_eq!(
            kind(&store.get_many(&["a".into(), reserved()]).await),
            invalid
        );
        assert_eq!(kind(&store.remove(&object).await), invalid);
        let commit = vec![Change::put("a", "1"), Change::put(reserved(), "x")];
        let refused = store.commit(commit).await;
        assert_eq!(kind(&refused), invalid);
        assert!(refused.unwrap_err().to_string().contains("the journal"));
        store.delete(&reserved()).await.unwrap();
        store.commit(commits().remove(0)).await.unwrap();
    }
}

#[tokio::test]
async fn no_scan_shows_a_key_of_the_journal() {
    for data in both_kinds() {
        let (store, _) = journal(&data, None);
        for object in neighbours() {
            store.set(object).await.unwrap();
        }
        assert_eq!(content(&*store).await.unwrap(), neighbours());
        assert!(
            store
                .scan(Scan::prefix(RESERVED))
                .await
                .unwrap()
                .objects
                .is_empty()
        );
        let below = content(&data).await.unwrap();
        assert_eq!(below.len(), neighbours().len() + 1);
    }
}

#[tokio::test]
async fn a_page_is_cut_as_if_the_journal_had_no_keys() {
    for data in both_kinds() {
        let (store, _) = journal(&data, None);
        let plain = if data.unique_keys() {
            Memory::new()
        } else {
            Memory::bag()
        };
        let large = Object::new(b"\xff\xff\xff\xff", vec![b'v'; 200_000]);
        for object in neighbours().into_iter().chain([large]) {
            store.set(object.clone()).await.unwrap();
            plain.set(object.clone()).await.unwrap();
            if !data.unique_keys() {
                let second = Object::new(object.key, "second");
                store.set(second.clone()).await.unwrap();
                plain.set(second).await.unwrap();
            }
        }
        let prefixes: [&[u8]; 6] = [b"", b"\xff", b"\xff\xff", b"\xff\xffk", RESERVED, b"a"];
        let mut cursors = vec![None, Some(Cursor::after(reserved()))];
        for object in content(&plain).await.unwrap() {
            cursors.push(Some(Cursor::after(object.key.clone())));
            cursors.push(Some(Cursor::after_object(&object)));
        }
        for prefix in prefixes {
            for after in &cursors {
                for limit in [0, 1, 2, 5, 6, 100, usize::MAX] {
                    for budget in [0, 7, 30, 100_000, 1 << 20] {
                        let scan = Scan::prefix(prefix).after(after.clone()).limit(limit);
                        let scan = scan.byte_budget(budget);
                        for scan in [scan.clone(), scan.reverse()] {
                            for scan in [scan.clone(), scan.keys_only()] {
                                let found = store.scan(scan.clone()).await.unwrap();
                                let expected = plain.scan(scan.clone()).await.unwrap();
                                assert_eq!(found.objects, expected.objects, "{scan:?}");
                                let place = |page: Page| {
                                    let next = page.next?;
                                    // Where keys are unique the value is nobody's business.
                                    let value = next.value().filter(|_| !data.unique_keys());
                                    Some((next.key().clone(), value.cloned()))
                                };
                                assert_eq!(place(found), place(expected), "{scan:?}");
                            }
                        }
                    }
                }
            }
        }
        let scans = || {
            prefixes
                .map(|prefix| Scan::prefix(prefix).limit(3))
                .to_vec()
        };
        let found = store.scan_many(scans()).await.unwrap();
        assert_eq!(found, plain.scan_many(scans()).await.unwrap());
    }
}

#[tokio::test]
async fn a_delete_of_everything_leaves_the_store_to_its_owner() {
    for data in both_kinds() {
        let (store, _) = journal(&data, None);
        for prefix in [b"".as_slice(), b"\xff", b"\xff\xffkvjob"] {
            store.commit(commits().remove(0)).await.unwrap();
            store.delete(&Key::from(prefix)).await.unwrap();
            store.delete(&"".into()).await.unwrap();
            assert_eq!(content(&*store).await.unwrap(), []);
            assert_eq!(content(&data).await.unwrap().len(), 1);
        }
        store.commit(commits().remove(0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_watcher_hears_of_commits_and_not_of_the_journal() {
    let store = Journaled::new(Arc::new(Memory::new()));
    let mut events = Store::watch(&store)
        .unwrap()
        .watch(&"".into())
        .await
        .unwrap();
    store.commit(commits().remove(0)).await.unwrap();
    for key in ["a", "b", "c"] {
        assert_eq!(events.next().await, Some(Event::Changed(key.into())));
    }
    assert!(events.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_store_that_others_may_open_is_warned_of() {
    let (store, _) = journal(&both_kinds()[0], None);
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings[0].contains("serves one process"), "{warnings:?}");
    let exclusive = Journaled::new(Memory::new());
    assert!(exclusive.health().await.unwrap().warnings.is_empty());
}
