//! Scans past what is known to hold nothing, with every gap remembered.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kvjob::kv::Engine as _;

use super::*;

fn engine() -> (Engine, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.fjall");
    let database = SingleWriterTxDatabase::builder(path).open().unwrap();
    let mut engine = Engine::new(database).unwrap();
    engine.gaps = Gaps::eager();
    (engine, directory)
}

fn put<'a>(key: &'a Key, value: &'a Bytes) -> Write<'a> {
    Write::Put { key, value }
}

fn scanned(engine: &Engine, range: &Range, most: usize) -> Vec<Key> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        found.push(Key::from(key));
        found.len() < most
    };
    engine.scan(range, visit).unwrap();
    found
}

/// Random numbers of a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn key(&mut self) -> Key {
        let bytes = (0..=self.below(3)).map(|_| *b"\x00\x01a\xff".get(self.below(4)).unwrap());
        bytes.collect::<Vec<u8>>().into()
    }

    fn range(&mut self) -> Range {
        let start = match self.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(self.key()),
            _ => Bound::Included(self.key()),
        };
        let end = match self.below(4) {
            0 => Bound::Included(self.key()),
            1 => Bound::Excluded(self.key()),
            _ => Bound::Unbounded,
        };
        let direction = match self.below(8) {
            0 => Direction::Reverse,
            _ => Direction::Forward,
        };
        Range {
            start,
            end,
            direction,
        }
    }
}

#[test]
fn scans_find_what_is_there() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (engine, _directory) = engine();
        let mut kept = BTreeSet::new();
        let value = Bytes::from("x");
        for step in 0..500 {
            let key = random.key();
            match random.below(8) {
                0..2 => {
                    let (key, value) = (&key, &value);
                    engine.apply(&[Write::Put { key, value }], false).unwrap();
                    kept.insert(key.clone());
                }
                2..5 => {
                    engine.apply(&[Write::Remove(&key)], false).unwrap();
                    kept.remove(&key);
                }
                5 if random.below(20) == 0 => {
                    engine.apply(&[Write::DeletePrefix(&key)], false).unwrap();
                    kept.retain(|other| !other.starts_with(&key));
                }
                _ => {
                    let range = random.range();
                    if range.is_empty() {
                        continue;
                    }
                    let most = 1 + random.below(4);
                    let bounds = (range.start.clone(), range.end.clone());
                    let mut wanted: Vec<Key> = kept.range(bounds).cloned().collect();
                    if range.direction == Direction::Reverse {
                        wanted.reverse();
                    }
                    wanted.truncate(most);
                    let found = scanned(&engine, &range, most);
                    assert_eq!(found, wanted, "seed {seed}, step {step}: {range:?}");
                }
            }
        }
    }
}

/// A queue of two jobs: whoever looks must find both, the older one first, whatever moves.
#[test]
fn scans_beside_a_writer_see_whole_commits() {
    let (engine, _directory) = engine();
    let key = |n: u32| Key::from(n.to_be_bytes().to_vec());
    let value = Bytes::new();
    engine
        .apply(&[put(&key(0), &value), put(&key(1), &value)], false)
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            let (mut older, mut newer) = (key(0), key(1));
            for n in 0..20_000u32 {
                // Sometimes a job comes back in front of what was consumed.
                let n = if random.below(4) == 0 { n / 2 } else { n + 2 };
                let next = key(n);
                if next == older || next == newer {
                    continue;
                }
                engine
                    .apply(&[Write::Remove(&older), put(&next, &value)], false)
                    .unwrap();
                (older, newer) = if next < newer {
                    (next, newer)
                } else {
                    (newer, next)
                };
            }
            done.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let range = Scan::prefix("").range(true);
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(scanned(&engine, &range, 9).len(), 2);
                }
            });
        }
    });
    assert_eq!(scanned(&engine, &Scan::prefix("").range(true), 9).len(), 2);
}
