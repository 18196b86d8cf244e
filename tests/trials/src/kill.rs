//! A process that commits is killed at random moments, again and again: while it opens its store,
//! while it writes, while the engine tidies up. The next one must find the state after one of its
//! commits, whole, and none that was acknowledged may be missing.
//!
//! `KVJOB_KILLS` says how often (20 where not said). `KVJOB_SEED` repeats the moments of a run that
//! failed, as far as the machine is as fast as it was.

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use kvjob::clock::{Clock as _, SystemClock};
use kvjob::kv::{Change, Durability, Result, Scan, Store, StoreExt as _};

use crate::{Process, Random, errand};

/// Commits whose objects are kept: each commit removes those of the one so many before it.
const KEPT: u64 = 48;
/// The most commits a process gets to do.
const COMMITS: u64 = 300;

/// A store whose process is killed.
pub trait Victim: Sized {
    /// Opens the store there.
    fn open(path: &Path, durability: Durability) -> Self;

    /// The store that is open.
    fn store(&self) -> &dyn Store;

    /// Whether the death of its process loses nothing that was acknowledged.
    fn keeps(_: Durability) -> bool {
        true
    }

    /// Makes commits of these numbers, as few or as many at once as it likes.
    #[allow(async_fn_in_trait, reason = "all of it is on one thread")]
    async fn commit(&self, numbers: Range<u64>) -> Result<()> {
        commit(self.store(), numbers).await
    }

    /// Fails if what else [`commit`](Self::commit) leaves is not what so many left.
    #[allow(async_fn_in_trait, reason = "all of it is on one thread")]
    async fn check(&self, _commits: u64) {}
}

/// How often is killed, and at which moments: `KVJOB_KILLS`, or so often, and `KVJOB_SEED`.
pub fn kills(usually: u64) -> (u64, Random) {
    let kills = number("KVJOB_KILLS").unwrap_or(usually);
    let seed = number("KVJOB_SEED").unwrap_or_else(|| SystemClock.random());
    println!("{kills} kills with KVJOB_SEED={seed}");
    (kills, Random(seed))
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

/// What commit `n` stores, in two places: some of it too large for one page or block.
fn objects(n: u64) -> [(Vec<u8>, Vec<u8>); 2] {
    let mut random = Random(n);
    let length = match random.below(16) {
        0 => 150_000,
        1..4 => 10_000,
        _ => 200,
    };
    let value = vec![u8::try_from(n % 251).unwrap(); length];
    ["left", "right"].map(|side| ([side.as_bytes(), &n.to_be_bytes()].concat(), value.clone()))
}

/// What commit `n` changes.
pub fn changes(n: u64) -> Vec<Change> {
    let old = n.checked_sub(KEPT).map(objects);
    let gone = old.into_iter().flatten();
    let gone = gone.map(|(key, _)| Change::remove(key));
    let new = objects(n).map(|(key, value)| Change::put(key, value));
    gone.chain(new).collect()
}

/// Makes commits of these numbers, all at once.
///
/// # Errors
/// As the store says.
pub async fn commit(store: &dyn Store, numbers: Range<u64>) -> Result<()> {
    let commits = numbers.map(changes).collect();
    let outcomes = store.atomic().unwrap().commit_all(commits).await;
    outcomes.into_iter().collect()
}

/// The number of commits that are there. Fails if what is there is not what so many left.
pub async fn commits(store: &dyn Store) -> u64 {
    let found = store.scan_all(Scan::prefix(""));
    let found: BTreeMap<_, _> = found
        .map_ok(|object| (object.key.as_bytes().to_vec(), object.value.to_vec()))
        .try_collect()
        .await
        .unwrap();
    let Some((key, _)) = found.last_key_value() else {
        return 0;
    };
    let count = 1 + u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
    let kept = count.saturating_sub(KEPT)..count;
    let wanted: BTreeMap<_, _> = kept.flat_map(objects).collect();
    let unlike = |map: &BTreeMap<Vec<u8>, Vec<u8>>, other: &BTreeMap<_, _>| -> Vec<_> {
        let unlike = map
            .iter()
            .filter(|&(key, value)| other.get(key) != Some(value));
        unlike
            .map(|(key, _)| key.escape_ascii().to_string())
            .collect()
    };
    assert_eq!(
        (unlike(&found, &wanted), unlike(&wanted, &found)),
        (vec![], vec![]),
        "what {count} commits did not leave, and what they left and is not there"
    );
    count
}

/// What the process that is killed does. An adapter calls it in a function of this name, which is
/// not a test:
///
/// ```ignore
/// #[tokio::test]
/// #[ignore = "the other tests run it"]
/// async fn victim() {
///     kill::victim::<OnDisk>().await;
/// }
/// ```
pub async fn victim<V: Victim>() {
    let errand = errand();
    let [durability, seed, path] = errand.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{errand}");
    };
    let mut random = Random(seed.parse().unwrap());
    let victim = V::open(Path::new(path), durability.parse().unwrap());
    let first = commits(victim.store()).await;
    println!("\nfound {first}");
    let mut next = first;
    while next < first + COMMITS {
        let at_once = 1 + random.below(4);
        victim.commit(next..next + at_once).await.unwrap();
        next += at_once;
        println!("acknowledged {next}");
    }
    victim.store().stop().await.unwrap();
}

/// Starts `victim` on the store at this path, kills it and looks at what it left, again and again.
pub fn again_and_again<V: Victim>(path: &Path, durability: Durability) {
    let (kills, mut random) = kills(20);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let (mut there, mut lost) = (0, 0);
    for round in 0..kills {
        let seed = random.below(u64::MAX);
        let errand = format!("{durability} {seed} {}", path.display());
        let mut victim = Process::start("victim", errand);
        let mut acknowledged = there;
        let mut listen = |line: &str| match line.split_once(' ') {
            Some(("found", count)) => {
                assert_eq!(count.parse(), Ok(there), "round {round}");
                there
            }
            Some(("acknowledged", count)) => {
                acknowledged = count.parse().unwrap();
                acknowledged
            }
            _ => 0,
        };
        if random.below(3) == 0 {
            // While it opens, or soon after.
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
        } else {
            let enough = there + random.below(COMMITS);
            while victim.hear().is_some_and(|line| listen(&line) < enough) {}
        }
        // What it said before it died counts, too.
        for line in victim.kill() {
            listen(&line);
        }
        there = runtime.block_on(async {
            let victim = V::open(path, durability);
            let there = commits(victim.store()).await;
            victim.check(there).await;
            victim.store().stop().await.unwrap();
            there
        });
        if V::keeps(durability) {
            assert!(
                there >= acknowledged,
                "round {round}: {there} of {acknowledged}"
            );
        }
        lost += acknowledged.saturating_sub(there);
    }
    println!("{there} commits, {lost} lost");
    assert!(there > kills, "the kills left it time to do something");
}
