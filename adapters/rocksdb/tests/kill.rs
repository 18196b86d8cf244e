//! A process that commits to RocksDB is killed at random moments, again and again: while it opens,
//! while it writes, while RocksDB flushes and compacts. The next one must find the state after one of its
//! commits, whole, and none that was acknowledged may be missing.
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
use std::time::Duration;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::kv::{Atomic as _, Change, Durability, Scan, Store as _};
use kvjob_rocksdb::RocksDb;

/// Commits whose objects are kept: each commit removes those of the one so many before it.
const KEPT: u64 = 48;
/// The most commits a process gets to do.
const COMMITS: u64 = 150;
/// Set for the process that is killed: `path durability seed`.
const ORDERS: &str = "KVJOB_ROCKSDB_ORDERS";

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

/// What commit `n` stores: in two places, some of it in pieces.
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

fn commit(n: u64) -> Vec<Change> {
    let old = n.checked_sub(KEPT).map(objects);
    let gone = old.into_iter().flatten();
    let gone = gone.map(|(key, _)| Change::remove(key));
    let new = objects(n).map(|(key, value)| Change::put(key, value));
    gone.chain(new).collect()
}

fn open(path: &Path, durability: &str) -> RocksDb {
    kvjob_rocksdb::Options::new()
        .durability(durability.parse().unwrap())
        .cache_bytes(4 << 20)
        .open(path)
        .unwrap()
}

/// The number of commits that are there. Fails if what is there is not what so many left.
async fn commits(store: &RocksDb) -> u64 {
    let mut found = BTreeMap::new();
    let mut scan = Scan::prefix("");
    loop {
        let page = store.scan(scan.clone()).await.unwrap();
        let pairs = page.objects.into_iter();
        found.extend(pairs.map(|object| (object.key.as_bytes().to_vec(), object.value.to_vec())));
        match page.next {
            Some(next) => scan = scan.after(next),
            None => break,
        }
    }
    let Some((key, _)) = found.last_key_value() else {
        return 0;
    };
    let count = 1 + u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
    let kept = count.saturating_sub(KEPT)..count;
    let wanted: BTreeMap<_, _> = kept.flat_map(objects).collect();
    let torn = found
        .iter()
        .filter(|(key, value)| wanted.get(*key) != Some(*value));
    let torn: Vec<_> = torn
        .map(|(key, _)| key.escape_ascii().to_string())
        .collect();
    assert_eq!(torn, [""; 0], "not of the {count} commits");
    assert_eq!(
        found.len(),
        wanted.len(),
        "some of {count} commits is missing"
    );
    count
}

/// Not a test, but the process that is killed.
#[tokio::test]
#[ignore = "the other tests run it"]
async fn victim() {
    let orders = std::env::var(ORDERS).unwrap();
    let [path, durability, seed] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{orders}");
    };
    let mut random = Random(seed.parse().unwrap());
    let store = open(Path::new(path), durability);
    let first = commits(&store).await;
    println!("\nfound {first}");
    let mut next = first;
    while next < first + COMMITS {
        let at_once = 1 + random.below(4);
        let group = (next..next + at_once).map(commit);
        for outcome in store.commit_all(group.collect()).await {
            outcome.unwrap();
        }
        next += at_once;
        println!("acknowledged {next}");
    }
    store.stop().await.unwrap();
}

fn start(path: &Path, durability: Durability, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--ignored", "--nocapture"])
        .env(ORDERS, format!("{} {durability} {seed}", path.display()))
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
    let path = directory.path().join("kill.rocksdb");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut there = 0;
    for round in 0..kills {
        let mut victim = start(&path, durability, seed.wrapping_add(round));
        // One in three is killed while it opens, or soon after.
        let patience = match random.below(3) {
            0 => {
                std::thread::sleep(Duration::from_micros(random.below(20_000)));
                0
            }
            _ => random.below(COMMITS),
        };
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut heard = Vec::new();
        while (heard.len() as u64) < patience {
            match lines.next() {
                Some(line) => heard.push(line.unwrap()),
                None => break,
            }
        }
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert_ne!(status.code(), Some(101), "it failed by itself");
        // What it said before it died counts, too. The last line may be half a line.
        heard.extend(lines.map_while(Result::ok));
        let mut acknowledged = there;
        for line in &heard {
            match line.split_once(' ') {
                Some(("found", count)) => assert_eq!(count.parse(), Ok(there), "round {round}"),
                Some(("acknowledged", count)) => acknowledged = count.parse().unwrap(),
                _ => {}
            }
        }
        there = runtime.block_on(async {
            let store = open(&path, &durability.to_string());
            let there = commits(&store).await;
            store.stop().await.unwrap();
            there
        });
        // Whatever the durability: what is not synced is with the operating system.
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
fn that_holds_without_a_sync_too() {
    killed_again_and_again(Durability::Memory);
}
