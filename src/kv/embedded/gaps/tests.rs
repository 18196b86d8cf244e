//! Scans and writes that meet at every moment at which they can, against a plain set of keys.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::kv::{Error, ErrorKind};

/// What is done, and what meanwhile.
#[derive(Clone, Debug)]
enum Step {
    /// A commit. With `fails`, nothing of it is applied.
    Write {
        puts: Vec<Key>,
        removes: Vec<Key>,
        prefix: Option<Key>,
        fails: bool,
        before_applied: Vec<Step>,
        before_through: Vec<Step>,
    },
    /// A scan of so many objects.
    Scan {
        range: Range,
        most: usize,
        before_snapshot: Vec<Step>,
        before_first: Vec<Step>,
        before_end: Vec<Step>,
    },
}

fn key() -> impl Strategy<Value = Key> {
    vec(select(b"\x00a\xff".as_slice()), 1..=3).prop_map(Key::from)
}

fn range() -> impl Strategy<Value = Range> {
    let bound = prop_oneof![
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ];
    let direction = prop_oneof![
        6 => Just(Direction::Forward),
        1 => Just(Direction::Reverse),
    ];
    let range = (bound.clone(), bound, direction).prop_map(|(start, end, direction)| Range {
        start,
        end,
        direction,
    });
    range.prop_filter("an engine is asked for no empty range", |range| {
        !range.is_empty()
    })
}

fn step() -> impl Strategy<Value = Step> {
    step_with(Just(Vec::new()).boxed())
        .prop_recursive(3, 24, 3, |inner| step_with(vec(inner, 0..3).boxed()))
}

fn step_with(meanwhile: BoxedStrategy<Vec<Step>>) -> BoxedStrategy<Step> {
    let write = (
        vec(key(), 0..3),
        vec(key(), 0..6),
        prop_oneof![4 => Just(None), 1 => key().prop_map(Some)],
        prop_oneof![6 => Just(false), 1 => Just(true)],
        meanwhile.clone(),
        meanwhile.clone(),
    );
    let write = write.prop_map(
        |(puts, removes, prefix, fails, before_applied, before_through)| Step::Write {
            puts,
            removes,
            prefix,
            fails,
            before_applied,
            before_through,
        },
    );
    let scan = (
        range(),
        1..4usize,
        meanwhile.clone(),
        meanwhile.clone(),
        meanwhile,
    );
    let scan =
        scan.prop_map(
            |(range, most, before_snapshot, before_first, before_end)| Step::Scan {
                range,
                most,
                before_snapshot,
                before_first,
                before_end,
            },
        );
    prop_oneof![write, scan].boxed()
}

/// An engine that stores keys alone.
struct Engine {
    gaps: Gaps,
    stored: RefCell<BTreeSet<Key>>,
    writing: Cell<bool>,
}

impl Engine {
    fn new() -> Self {
        Self {
            gaps: Gaps::eager(),
            stored: RefCell::default(),
            writing: Cell::new(false),
        }
    }

    fn run(&self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Write { .. } if self.writing.get() => {}
                Step::Write { .. } => {
                    self.writing.set(true);
                    self.write(step);
                    self.writing.set(false);
                }
                Step::Scan { .. } => self.scan(step),
            }
        }
    }

    fn write(&self, step: &Step) {
        let Step::Write {
            puts,
            removes,
            prefix,
            fails,
            before_applied,
            before_through,
        } = step
        else {
            return;
        };
        let written = self.gaps.write(puts.clone(), || {
            self.run(before_applied);
            if *fails {
                return Err(Error::new(ErrorKind::Backend, "no"));
            }
            let mut stored = self.stored.borrow_mut();
            stored.retain(|key| {
                !removes.contains(key) && !prefix.as_ref().is_some_and(|it| key.starts_with(it))
            });
            stored.extend(puts.iter().cloned());
            drop(stored);
            self.run(before_through);
            Ok(())
        });
        assert_eq!(written.is_err(), *fails);
    }

    /// What is found must be what one snapshot, taken while the scan goes on, holds.
    fn scan(&self, step: &Step) {
        let Step::Scan {
            range,
            most,
            before_snapshot,
            before_first,
            before_end,
        } = step
        else {
            return;
        };
        let wanted = |stored: &BTreeSet<Key>| {
            let within = stored.range((range.start.clone(), range.end.clone()));
            let keys: Vec<Key> = match range.direction {
                Direction::Forward => within.take(*most).cloned().collect(),
                Direction::Reverse => within.rev().take(*most).cloned().collect(),
            };
            keys
        };
        let mut expected = wanted(&self.stored.borrow());
        let mut found = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            found.push(Key::from(key));
            found.len() < *most
        };
        let scanned = self.gaps.scan(range, &mut visit, |part, visit| {
            assert!(!part.is_empty());
            self.run(before_snapshot);
            let snapshot = self.stored.borrow().clone();
            expected = wanted(&snapshot);
            self.run(before_first);
            let within = snapshot.range((part.start.clone(), part.end.clone()));
            let mut keys: Vec<&Key> = within.collect();
            if part.direction == Direction::Reverse {
                keys.reverse();
            }
            let ended = keys.iter().all(|key| visit(key.as_bytes(), b""));
            if ended {
                self.run(before_end);
            }
            Ok(())
        });
        scanned.unwrap();
        assert_eq!(found, expected, "{range:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_scan_finds_what_one_snapshot_holds_whatever_it_meets(steps in vec(step(), 1..20)) {
        let engine = Engine::new();
        engine.run(&steps);
        let state = engine.gaps.state();
        prop_assert!(state.searches.is_empty());
        let firsts = state.known.keys().skip(1).map(Some).chain([None]);
        for ((first, end), following) in state.known.iter().zip(firsts) {
            prop_assert!(*end > End::At(first.clone()), "an empty gap");
            if let Some(following) = following {
                prop_assert!(*end < End::At(following.clone()), "gaps overlap or touch");
            }
        }
    }
}

fn all() -> Range {
    Range {
        start: Bound::Included("job/".into()),
        end: Bound::Excluded("job0".into()),
        direction: Direction::Forward,
    }
}

/// The ranges an engine is asked for when somebody scans for one object.
fn read(engine: &Engine) -> Vec<Range> {
    let mut asked = Vec::new();
    let one = &mut |_: &[u8], _: &[u8]| false;
    let scanned = engine.gaps.scan(&all(), one, |range, visit| {
        asked.push(range.clone());
        let stored = engine.stored.borrow();
        let mut within = stored.range((range.start.clone(), range.end.clone()));
        within.all(|key| visit(key.as_bytes(), b""));
        Ok(())
    });
    scanned.unwrap();
    asked
}

#[test]
fn what_was_passed_over_once_is_not_read_again() {
    let engine = Engine::new();
    let behind = |key: &str| Range {
        start: Bound::Included(key.into()),
        ..all()
    };
    engine.stored.borrow_mut().insert("job/5".into());
    assert_eq!(read(&engine), [all()]);
    assert_eq!(read(&engine), [behind("job/5")]);

    // In front of it comes another one.
    let put = |key: &str| {
        let put = || {
            engine.stored.borrow_mut().insert(key.into());
            Ok(())
        };
        engine.gaps.write(vec![key.into()], put).unwrap();
    };
    put("job/3");
    assert_eq!(read(&engine), [behind("job/3")]);

    engine.stored.borrow_mut().clear();
    assert_eq!(read(&engine), [behind("job/3")]);
    assert_eq!(read(&engine), [], "nothing of it can hold an object");
    put("job/7");
    assert_eq!(read(&engine), [behind("job/7")]);
}

#[test]
fn a_write_that_failed_may_be_seen_later() {
    let engine = Engine::new();
    let lost = || Err::<(), _>(Error::new(ErrorKind::Unknown, "the answer was lost"));
    engine.gaps.write(vec!["job/3".into()], lost).unwrap_err();
    assert_eq!(read(&engine), [all()]);
    engine.stored.borrow_mut().insert("job/3".into());
    let from = |key: &str| Range {
        start: Bound::Included(key.into()),
        ..all()
    };
    assert_eq!(read(&engine), [from("job/3")]);
}

#[test]
fn what_took_no_time_to_find_is_not_remembered() {
    let mut engine = Engine::new();
    engine.gaps.worthwhile = Duration::MAX;
    assert_eq!(read(&engine), [all()]);
    assert_eq!(read(&engine), [all()]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let gaps = Gaps::new();
    for n in 0..3 * u32::try_from(MOST).unwrap() {
        let first = Key::from(n.to_be_bytes().to_vec());
        let (mut search, _) = gaps.begin(first.clone());
        search.found(End::At(next(&first)));
        drop(search);
        assert!(gaps.state().known.len() <= MOST);
    }
}
