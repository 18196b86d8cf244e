//! Disks that are full or fail: what was acknowledged is there afterwards, and nothing is half there.

use std::path::Path;

use kvjob::kv::{Change, Error, ErrorKind, Key, Store};

use crate::Process;

/// One commit: a pair of keys that stand and fall together, with values that make files grow.
pub fn pair(n: u32) -> Vec<Change> {
    let value = vec![u8::try_from(n % 255).unwrap() + 1; 40 << 10];
    vec![
        Change::put(format!("left/{n}").as_str(), value.clone()),
        Change::put(format!("right/{n}").as_str(), value),
    ]
}

/// Whether this commit is there. Fails if half of it is.
pub async fn has(store: &dyn Store, n: u32) -> bool {
    let keys = [format!("left/{n}"), format!("right/{n}")];
    let keys = keys.map(|key| Key::from(key.as_str()));
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(found[0].is_some(), found[1].is_some(), "half of commit {n}");
    found[0].is_some()
}

/// Fails if not as many commits are there as were acknowledged. The next one is there as a whole or
/// not at all, and whether it is, this returns.
pub async fn has_all(store: &dyn Store, acknowledged: u32) -> bool {
    for n in 0..acknowledged {
        assert!(has(store, n).await, "lost {n} of {acknowledged}");
    }
    has(store, acknowledged).await
}

/// Commits from this one on until one fails, and says which did and what the store said.
pub async fn until_it_fails(store: &dyn Store, first: u32) -> (u32, Error) {
    let atomic = store.atomic().unwrap();
    for n in first..first + 10_000 {
        if let Err(error) = atomic.commit(pair(n)).await {
            return (n, error);
        }
    }
    panic!("it never failed");
}

/// Commits from this one on until the disk fails, which leaves the commit in doubt and closes the
/// store. Says how many were acknowledged, what was said of the one in doubt, and what of later
/// calls.
pub async fn until_it_closes(store: &dyn Store, first: u32) -> (u32, Error, Error) {
    let (count, in_doubt) = until_it_fails(store, first).await;
    assert_eq!(in_doubt.kind(), &ErrorKind::Unknown, "{in_doubt}");
    let later = store.atomic().unwrap().commit(pair(count)).await;
    let later = later.unwrap_err();
    assert_eq!(later.kind(), &ErrorKind::Closed, "{later}");
    let read = store.get(&"left/0".into()).await.unwrap_err();
    assert_eq!(read.kind(), &ErrorKind::Closed, "{read}");
    (count, in_doubt, later)
}

/// How many commits were acknowledged in a process which has no room for a file of more than so
/// many bytes: it runs this function, with the path as its errand, and says `acknowledged`
/// and the number.
pub fn acknowledged_without_room(bytes: u64, function: &str, path: &Path) -> u32 {
    acknowledged(&Process::start_cramped(bytes, function, path).end())
}

/// The last number that a process said it had acknowledged.
pub fn acknowledged(said: &[String]) -> u32 {
    let mut lines = said.iter().rev();
    let count = lines.find_map(|line| line.strip_prefix("acknowledged "));
    let count = count.unwrap_or_else(|| panic!("it acknowledged nothing: {said:?}"));
    count.parse().unwrap()
}
