//! A process that commits to LMDB is killed at random moments, again and again: while it makes the
//! file, while it opens it, while it writes. The next one must find every commit that was
//! acknowledged, at each durability, none by halves, and the user's orders beside them.
//!
//! `KVJOB_KILLS` says how often (20 where not said). `KVJOB_SEED` repeats the moments of a run that
//! failed, as far as the machine is as fast as it was.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures::TryStreamExt as _;
use kvjob::clock::{Clock as _, SystemClock};
use kvjob::kv::{
    Atomic as _, Change, Durability, Result, Scan, Store as _, StoreExt as _, Transaction as _,
};
use kvjob_lmdb::heed::types::{Bytes, Unit};
use kvjob_lmdb::heed::{CommitOrAbort, Database};
use kvjob_lmdb::{Lmdb, Options};

/// Commits whose objects are kept: each commit removes those of the one so many before it.
const KEPT: u64 = 48;
/// The most commits a process gets to do.
const COMMITS: u64 = 300;
/// Every so many commits is made together with an order of the user's.
const ORDERED: u64 = 5;
/// Set for the process that is killed: `durability seed path`.
const ORDERS: &str = "KVJOB_LMDB_ORDERS";

/// Random numbers of a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

/// What commit `n` stores, in two places: some of it over many pages.
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

fn changes(n: u64) -> Vec<Change> {
    let old = n.checked_sub(KEPT).map(objects);
    let gone = old.into_iter().flatten();
    let gone = gone.map(|(key, _)| Change::remove(key));
    let new = objects(n).map(|(key, value)| Change::put(key, value));
    gone.chain(new).collect()
}

/// The user's orders.
type Orders = Database<'static, Bytes, Unit>;

async fn commit(store: &Lmdb, orders: Orders, numbers: std::ops::Range<u64>) -> Result<()> {
    let n = numbers.start;
    if n.is_multiple_of(ORDERED) {
        return store
            .with_transaction(move |transaction| {
                let order = orders.put(transaction.lmdb(), &n.to_be_bytes(), &());
                order.map_err(kvjob_lmdb::error)?;
                numbers
                    .map(changes)
                    .try_for_each(|it| transaction.change(&it))
            })
            .await;
    }
    let outcomes = store.commit_all(numbers.map(changes).collect()).await;
    outcomes.into_iter().collect()
}

fn open(path: &Path, durability: Durability) -> (Lmdb, Orders) {
    let options = Options::new().durability(durability);
    let env = options.environment(path, 1).unwrap();
    let orders = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
        opener
            .create_database(txn, Some("orders"))
            .map(CommitOrAbort::<_, ()>::Commit)
    });
    let orders: Result<_, kvjob_lmdb::heed::Error> = orders;
    let store = options.open_in(env).unwrap();
    (store, orders.unwrap().unwrap_commit())
}

/// The number of commits that are there. Fails if what is there is not what so many left.
async fn commits(store: &Lmdb) -> u64 {
    let objects_found: Vec<_> = store
        .scan_all(Scan::prefix(""))
        .try_collect()
        .await
        .unwrap();
    let found: BTreeMap<_, _> = objects_found
        .into_iter()
        .map(|object| (object.key.as_bytes().to_vec(), object.value.to_vec()))
        .collect();
    let Some((key, _)) = found.last_key_value() else {
        return 0;
    };
    let count = 1 + u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
    let kept = count.saturating_sub(KEPT)..count;
    let wanted: BTreeMap<_, _> = kept.flat_map(objects).collect();
    let keys = |map: &BTreeMap<Vec<u8>, Vec<u8>>| -> Vec<_> {
        map.keys()
            .map(|key| key.escape_ascii().to_string())
            .collect()
    };
    assert_eq!(keys(&found), keys(&wanted), "not what {count} commits left");
    assert!(
        found == wanted,
        "some of {count} commits has another's value"
    );
    count
}

/// Fails if the orders are not those of so many commits.
async fn assert_orders(store: &Lmdb, orders: Orders, of: u64) {
    let counted = store.with_transaction(move |transaction| {
        let count = orders.len(transaction.lmdb());
        count.map_err(kvjob_lmdb::error)
    });
    let count = counted.await.unwrap();
    assert_eq!(count, of.div_ceil(ORDERED), "{of} commits");
}

/// Not a test, but the process that is killed.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn victim() {
    let orders = std::env::var(ORDERS).unwrap();
    let mut orders = orders.splitn(3, ' ');
    let mut next_order = || orders.next().unwrap();
    let durability = next_order().parse().unwrap();
    let mut random = Random(next_order().parse().unwrap());
    let (store, orders) = open(Path::new(next_order()), durability);
    let first = commits(&store).await;
    println!("\nfound {first}");
    let mut next = first;
    while next < first + COMMITS {
        // Up to the next one with an order.
        let most = ORDERED - next % ORDERED;
        let at_once = if most == ORDERED {
            1
        } else {
            1 + random.below(most)
        };
        commit(&store, orders, next..next + at_once).await.unwrap();
        next += at_once;
        println!("acknowledged {next}");
    }
    store.stop().await.unwrap();
}

fn start(victim: &str, path: &Path, durability: Durability, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([victim, "--exact", "--ignored", "--nocapture"])
        .env(ORDERS, format!("{durability} {seed} {}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn killed_again_and_again(durability: Durability) {
    let kills = number("KVJOB_KILLS").unwrap_or(20);
    let seed = number("KVJOB_SEED").unwrap_or_else(|| SystemClock.random());
    println!("{kills} kills with KVJOB_SEED={seed}");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill.lmdb");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut there = 0;
    for round in 0..kills {
        let mut victim = start("victim", &path, durability, seed.wrapping_add(round));
        // One in four is killed while it opens, or soon after.
        let patience = random.below(COMMITS).saturating_sub(COMMITS / 4);
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut heard = Vec::new();
        while (heard.len() as u64) < patience {
            match lines.next() {
                Some(line) => heard.push(line.unwrap()),
                None => break,
            }
        }
        if patience == 0 {
            std::thread::sleep(std::time::Duration::from_micros(random.below(20_000)));
        }
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert_ne!(status.code(), Some(101), "it failed by itself");
        // What it said before it died counts, too. The last line may be half a line.
        heard.extend(lines.map_while(std::io::Result::ok));
        let mut acknowledged = there;
        for line in &heard {
            match line.split_once(' ') {
                Some(("found", count)) => assert_eq!(count.parse(), Ok(there), "round {round}"),
                Some(("acknowledged", count)) => acknowledged = count.parse().unwrap(),
                _ => {}
            }
        }
        there = runtime.block_on(async {
            let (store, orders) = open(&path, durability);
            let there = commits(&store).await;
            assert_orders(&store, orders, there).await;
            store.stop().await.unwrap();
            there
        });
        assert!(
            there >= acknowledged,
            "round {round}: {there} of {acknowledged}"
        );
    }
    println!("{there} commits");
    assert!(there > kills, "the kills left it time to do something");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    killed_again_and_again(Durability::Immediate);
}

#[test]
fn nothing_acknowledged_is_lost_without_a_sync_either() {
    killed_again_and_again(Durability::Memory);
}

/// Not a test, but the process that is killed while it makes a file.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn maker() {
    let orders = std::env::var(ORDERS).unwrap();
    let path = orders.splitn(3, ' ').nth(2).unwrap();
    println!("\nmaking");
    let store = kvjob_lmdb::open(path).unwrap();
    store.commit(changes(0)).await.unwrap();
    println!("made");
}

#[test]
fn a_file_that_is_half_made_can_be_opened() {
    let kills = number("KVJOB_KILLS").unwrap_or(20);
    let seed = number("KVJOB_SEED").unwrap_or_else(|| SystemClock.random());
    println!("{kills} kills with KVJOB_SEED={seed}");
    let mut random = Random(seed);
    for round in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.lmdb");
        let mut maker = start("maker", &path, Durability::Immediate, 0);
        let mut lines = BufReader::new(maker.stdout.take().unwrap()).lines();
        let _ = lines.find(|line| line.as_ref().is_ok_and(|line| line == "making"));
        std::thread::sleep(std::time::Duration::from_micros(random.below(4000)));
        maker.kill().unwrap();
        maker.wait().unwrap();
        let made = lines
            .map_while(std::io::Result::ok)
            .any(|line| line == "made");
        let store = kvjob_lmdb::open(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let found = runtime.unwrap().block_on(commits(&store));
        assert!(found == 1 || !made, "round {round}");
    }
}
