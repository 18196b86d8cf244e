//! Several stores on one file, in several processes, some of which are killed: no change is lost,
//! conditions hold, and nobody is held up by the dead.

use std::path::Path;
use std::sync::Arc;

use kvjob::kv::{
    Change, Embedded, ErrorKind, Key, Object, Ownership, Result, Store, Transaction as _,
    Transactional,
};

use crate::Process;

/// Counters that all count up.
const COUNTERS: u64 = 3;
/// What each process counts.
const COUNTS: u64 = 150;

fn counter(n: u64) -> Key {
    Key::from(format!("counter/{}", n % COUNTERS).as_str())
}

async fn count_of(store: &dyn Store, key: &Key) -> (u64, Change) {
    match store.get(key).await.unwrap() {
        Some(Object { key, value }) => {
            let count = u64::from_be_bytes(value[..].try_into().unwrap());
            let after = (count + 1).to_be_bytes().to_vec();
            (count, Change::replace(key, value, Some(after.into())))
        }
        None => (0, Change::create(key.clone(), 1u64.to_be_bytes().to_vec())),
    }
}

/// Counts one of the counters up, as often as somebody else is faster.
pub async fn count_up(store: &dyn Store, n: u64) {
    loop {
        let (_, change) = count_of(store, &counter(n)).await;
        let Err(error) = store.atomic().unwrap().commit(vec![change]).await else {
            return;
        };
        let indices = vec![0];
        let expected = [ErrorKind::ConditionFailed { indices }, ErrorKind::Conflict];
        assert!(expected.contains(error.kind()), "{error}");
    }
}

/// What all have counted.
pub async fn sum(store: &dyn Store) -> u64 {
    let mut sum = 0;
    for n in 0..COUNTERS {
        sum += count_of(store, &counter(n)).await.0;
    }
    sum
}

/// What a process does that counts. An adapter calls it in a function of this name, which is not a
/// test; so [`holding`].
pub async fn counting(store: &dyn Store) {
    println!("\ncounting");
    for n in 0..COUNTS {
        count_up(store, n).await;
        println!("counted {n}");
    }
    store.stop().await.unwrap();
}

/// What a process does that is killed in the middle of a transaction.
pub async fn holding<E: Transactional>(store: &Embedded<E>) {
    let held = store.with_transaction(|transaction| {
        transaction.change(&[Change::put("half", "1")])?;
        println!("\nholding");
        loop {
            std::thread::park();
        }
    });
    let () = held.await.unwrap();
}

fn counts(said: &[String]) -> u64 {
    let counted = |line: &&String| line.starts_with("counted");
    said.iter().filter(counted).count() as u64
}

/// Processes that count at once, as `counting`, lose no count, also where one is killed.
pub async fn count_at_once<S: Store>(path: &Path, open: impl FnOnce() -> S) {
    let mut others: Vec<_> = (0..3).map(|_| Process::start("counting", path)).collect();
    let store = open();
    assert_eq!(store.ownership(), Ownership::Shared);
    for other in &mut others {
        other.says("counting");
    }
    for n in 0..COUNTS {
        count_up(&store, n).await;
    }
    let killed = counts(&others.pop().unwrap().kill());
    let counted: u64 = others.into_iter().map(|other| counts(&other.end())).sum();
    assert_eq!(counted, 2 * COUNTS);
    let acknowledged = COUNTS + counted + killed;
    let there = sum(&store).await;
    // The last of the one that was killed may have gone through.
    assert!(
        (acknowledged..=acknowledged + 1).contains(&there),
        "{there} of {acknowledged}"
    );
}

/// A process that is killed in a transaction, as `holding`, holds up nobody: neither who waits for
/// it nor who comes later. The two stores may be the same one.
pub async fn kill_a_holder(path: &Path, waits: Arc<dyn Store>, comes_later: &dyn Store) {
    for _ in 0..3 {
        let mut other = Process::start("holding", path);
        other.says("holding");
        let set = tokio::spawn({
            let store = Arc::clone(&waits);
            async move { store.set(Object::new("a", "1")).await }
        });
        other.kill();
        set.await.unwrap().unwrap();
        comes_later.set(Object::new("b", "1")).await.unwrap();
        assert!(comes_later.get(&"half".into()).await.unwrap().is_none());
    }
}

/// Who shares and who will not keep each other out.
pub fn keep_each_other_out<S: Store>(
    shared: impl Fn() -> Result<S>,
    alone: impl Fn() -> Result<S>,
) {
    let store = shared().unwrap();
    let error = alone().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(store);
    let store = alone().unwrap();
    let error = shared().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse, "{error}");
    drop(store);
    shared().unwrap();
}
