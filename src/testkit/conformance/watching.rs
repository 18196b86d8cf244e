//! Being told of puts. Events may be spurious or coalesced, so that only what must be heard is
//! checked: what was put, or that something was lost. Skipped where the store has no
//! [`Watch`](crate::kv::Watch).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use tokio::time::timeout;

use super::subject::{PATIENCE, Subject, numbered};
use crate::kv::{Change, Event, Key, Scan, Watcher};
use crate::testkit::Place;

/// A watcher of `prefix`, or `None` where the store has no watch.
async fn watch(store: &Subject, prefix: &str) -> Option<Watcher> {
    let watcher = store.watch()?.watch(&prefix.into()).await;
    Some(store.ok(format_args!("watch of {prefix}"), watcher))
}

async fn next(store: &Subject, watcher: &mut Watcher, waiting: &str) -> Event {
    let heard = timeout(PATIENCE, watcher.next()).await;
    let name = store.name();
    let heard =
        heard.unwrap_or_else(|_| panic!("{name}: nothing heard of {waiting} for {PATIENCE:?}"));
    heard.unwrap_or_else(|| panic!("{name}: the watcher ended, waiting for {waiting}"))
}

/// Waits until the watcher heard of this key, or that it lost something.
async fn hears(store: &Subject, watcher: &mut Watcher, key: &Key) {
    loop {
        match next(store, watcher, &key.to_string()).await {
            Event::Lagged => return,
            // An event may stand for the keys under it.
            Event::Changed(changed) if key.starts_with(&changed) => return,
            Event::Changed(_) => {}
        }
    }
}

/// A `set` under the prefix is heard, one of the prefix itself too, and an overwrite.
pub async fn a_set_is_heard(place: &Place) {
    let store = Subject::open(place).await;
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    for (key, value) in [("k/1", "1"), ("k/", "1"), ("k/1", "2"), ("k/\u{7f}", "")] {
        store.put(key, value).await;
        hears(&store, &mut watcher, &key.into()).await;
    }
}

/// Each put of a commit, and of every commit of `commit_all`, is heard.
pub async fn a_commit_is_heard(place: &Place) {
    let store = Subject::open(place).await;
    let Some(atomic) = store.atomic() else { return };
    for put in ["k/1", "k/2"] {
        let Some(mut watcher) = watch(&store, put).await else {
            return;
        };
        let changes = ["a", "k/1", "k/2", "z"]
            .map(|key| Change::put(key, put))
            .to_vec();
        store.commits(atomic, changes).await;
        hears(&store, &mut watcher, &put.into()).await;
    }
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    let commits = vec![
        vec![Change::check("absent", "1"), Change::put("k/3", "1")],
        vec![Change::create("k/4", "1")],
    ];
    let outcomes = atomic.commit_all(commits).await;
    assert!(
        outcomes[0].is_err() && outcomes[1].is_ok(),
        "{}: {outcomes:?}",
        store.name()
    );
    hears(&store, &mut watcher, &"k/4".into()).await;
}

/// A watcher of the empty prefix hears of every key.
pub async fn the_empty_prefix_hears_everything(place: &Place) {
    let store = Subject::open(place).await;
    let Some(mut watcher) = watch(&store, "").await else {
        return;
    };
    for key in [b"\x00".as_slice(), b"a", b"\xff\xff"] {
        store.put(key, "1").await;
        hears(&store, &mut watcher, &key.into()).await;
    }
}

/// What is put elsewhere does not keep a watcher from hearing what is put under its prefix.
pub async fn other_prefixes_do_not_hide_it(place: &Place) {
    let store = Subject::open(place).await;
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    for n in 0..20 {
        store.put(numbered("j/", n), "x").await;
        store.put(numbered("k0", n), "x").await;
    }
    store.put("k/1", "1").await;
    hears(&store, &mut watcher, &"k/1".into()).await;
}

/// Every one of several watchers hears, those of other prefixes and those that came later too.
pub async fn every_watcher_hears(place: &Place) {
    let store = Subject::open(place).await;
    let mut watchers = Vec::new();
    for prefix in ["k/", "k/", "", "k/1", "k"] {
        let Some(watcher) = watch(&store, prefix).await else {
            return;
        };
        watchers.push(watcher);
        store.put("k/1", prefix).await;
        for watcher in &mut watchers {
            hears(&store, watcher, &"k/1".into()).await;
        }
    }
    // One that leaves does not disturb the others.
    drop(watchers.remove(0));
    store.put("k/1/last", "x").await;
    for watcher in &mut watchers {
        hears(&store, watcher, &"k/1/last".into()).await;
    }
}

/// A watcher that does not listen for long either hears everything later or is told that it
/// lagged; and then hears on.
pub async fn a_slow_watcher_lags_and_hears_on(place: &Place) {
    const PUTS: usize = 600;
    let store = Subject::shared(place).await;
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    let puts = futures::stream::iter(0..PUTS).for_each_concurrent(64, |n| {
        let store = Arc::clone(&store);
        async move { store.put(numbered("k/", n), "x").await }
    });
    puts.await;
    let mut missing: BTreeSet<Key> = (0..PUTS).map(|n| numbered("k/", n)).collect();
    while !missing.is_empty() {
        match next(&store, &mut watcher, "any of 600 puts").await {
            Event::Lagged => break,
            Event::Changed(changed) => missing.retain(|key| !key.starts_with(&changed)),
        }
    }
    // Drains what is left, so that the put below is the news.
    while let Ok(Some(_)) = timeout(std::time::Duration::ZERO, watcher.next()).await {}
    store.put("k/last", "x").await;
    hears(&store, &mut watcher, &"k/last".into()).await;
}

/// Who subscribes first, scans then, and scans again at every event misses nothing: what is put
/// is there to be read by the time its event is heard. Rules out: missed wake-up.
pub async fn subscribe_then_scan_misses_nothing(place: &Place) {
    let rounds = place.size(200, 50);
    let store = Subject::shared(place).await;
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    for round in 0..rounds {
        let key = numbered("k/", round);
        let writer = {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(async move { store.put(key, "x").await })
        };
        // The state is asked, never the event: that is only a reason to ask again.
        while store
            .page(&Scan::prefix(key.clone()))
            .await
            .objects
            .is_empty()
        {
            next(&store, &mut watcher, &key.to_string()).await;
        }
        writer.await.expect("the writer");
    }
}

/// A watcher ends when its store closes.
pub async fn a_watcher_ends_with_its_store(place: &Place) {
    let store = Subject::open(place).await;
    let name = store.name().to_owned();
    let Some(mut watcher) = watch(&store, "k/").await else {
        return;
    };
    store.put("k/1", "1").await;
    store.ok("stop", store.stop().await);
    let again = store.reopen(place).await;
    let ended = timeout(PATIENCE, async { while watcher.next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "{name}: a watcher outlives its store");
    drop(again);
}
