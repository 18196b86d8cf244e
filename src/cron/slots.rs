//! Which slots are to have a job now: a pure function, so that all schedulers come to the same.

use std::time::Duration;

use super::Missed;
use super::when::When;
use crate::clock::Timestamp;

/// A slot is missed if it has no job by now although it came this long ago.
pub(super) const MISSED_AFTER: Duration = Duration::from_secs(60);

/// A slot that is to have a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) at: Timestamp,
    /// Whether it was missed, and is made up for.
    pub(super) backfilled: bool,
}

/// What is known of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) when: &'a When,
    pub(super) missed: Missed,
    /// When it was first seen.
    pub(super) added_at: Timestamp,
    /// Slots up to here are settled.
    pub(super) settled: Timestamp,
}

impl Known<'_> {
    /// At most so many slots that are to have a job now, oldest first.
    pub(super) fn due(&self, now: Timestamp, most: usize) -> Vec<Slot> {
        let fresh = now.before(MISSED_AFTER).max(self.settled);
        let mut slots = Vec::new();
        let (within, all) = match self.missed {
            Missed::Skip => (Duration::ZERO, false),
            Missed::Once(within) => (within, false),
            Missed::All(within) => (within, true),
        };
        let oldest = now.before(within.saturating_add(Duration::from_micros(1)));
        let from = self.settled.max(oldest);
        if all {
            self.walk(from, fresh, true, most, &mut slots);
        } else if from < fresh {
            let latest = self.when.latest(from, fresh, self.added_at);
            slots.extend(latest.map(|at| Slot {
                at,
                backfilled: true,
            }));
        }
        self.walk(fresh, now, false, most, &mut slots);
        slots
    }

    fn walk(
        &self,
        after: Timestamp,
        until: Timestamp,
        backfilled: bool,
        most: usize,
        slots: &mut Vec<Slot>,
    ) {
        let mut next = self.when.next(after, self.added_at);
        while let Some(at) = next.filter(|at| *at <= until && slots.len() < most) {
            slots.push(Slot { at, backfilled });
            next = self.when.next(at, self.added_at);
        }
    }

    /// The next slot that is not due yet.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.when.next(self.settled.max(now), self.added_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const EVER: Duration = Duration::MAX;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn due(missed: Missed, settled: Timestamp, now: Timestamp, most: usize) -> Vec<(i64, bool)> {
        let known = Known {
            when: &When::Every(HOUR),
            missed,
            added_at: settled,
            settled,
        };
        let slots = known.due(now, most).into_iter();
        slots
            .map(|slot| (slot.at.as_micros() / 3_600_000_000, slot.backfilled))
            .collect()
    }

    #[test]
    fn a_slot_is_due_from_its_time_on() {
        let just_before = Timestamp::from_micros(at(3600).as_micros() - 1);
        assert_eq!(due(Missed::Skip, at(0), just_before, 9), []);
        assert_eq!(due(Missed::Skip, at(0), at(3600), 9), [(1, false)]);
        assert_eq!(due(Missed::Skip, at(3600), at(3600), 9), []);
    }

    #[test]
    fn a_slot_that_comes_late_but_within_a_minute_is_not_missed() {
        assert_eq!(due(Missed::Skip, at(0), at(3659), 9), [(1, false)]);
        assert_eq!(due(Missed::Skip, at(0), at(3660), 9), []);
        assert_eq!(due(Missed::All(EVER), at(0), at(3660), 9), [(1, true)]);
    }

    #[test]
    fn missed_slots_are_skipped_made_up_for_once_or_all_within_the_fill() {
        let (settled, now) = (at(0), at(5 * 3600));
        assert_eq!(due(Missed::Skip, settled, now, 9), [(5, false)]);
        assert_eq!(
            due(Missed::Once(EVER), settled, now, 9),
            [(4, true), (5, false)]
        );
        assert_eq!(due(Missed::Once(HOUR / 2), settled, now, 9), [(5, false)]);
        let all = [(1, true), (2, true), (3, true), (4, true), (5, false)];
        assert_eq!(due(Missed::All(EVER), settled, now, 9), all);
        assert_eq!(due(Missed::All(2 * HOUR), settled, now, 9), all[2..]);
        assert_eq!(
            due(Missed::All(EVER), settled, now, 2),
            all[..2],
            "oldest first"
        );
    }

    #[test]
    fn nothing_is_due_where_the_clock_was_put_back() {
        assert_eq!(due(Missed::All(EVER), at(5 * 3600), at(3600), 9), []);
    }

    fn missed() -> impl Strategy<Value = Missed> {
        prop_oneof![
            Just(Missed::Skip),
            (0u64..1_000_000).prop_map(|fill| Missed::Once(Duration::from_secs(fill))),
            (0u64..1_000_000).prop_map(|fill| Missed::All(Duration::from_secs(fill))),
            Just(Missed::All(EVER)),
        ]
    }

    proptest! {
        /// However often, and with whatever clocks, somebody looks.
        #[test]
        fn no_slot_comes_twice_or_behind_a_later_one(
            interval in 1u64..100_000,
            missed in missed(),
            looks in prop::collection::vec(0i64..1_000_000, 1..20),
        ) {
            let when = When::Every(Duration::from_secs(interval));
            let mut settled = at(0);
            for now in looks.into_iter().map(at) {
                for slot in (Known { when: &when, missed, added_at: at(0), settled }).due(now, 7) {
                    prop_assert!(slot.at > settled && slot.at <= now);
                    settled = slot.at;
                }
            }
        }

        /// With everything made up for, it does not matter when somebody looks.
        #[test]
        fn no_slot_is_missing_where_all_are_made_up_for(
            interval in 10u64..100_000,
            mut looks in prop::collection::vec(0i64..200_000, 1..20),
        ) {
            looks.sort_unstable();
            let when = When::Every(Duration::from_secs(interval));
            let (mut settled, mut slots) = (at(0), Vec::new());
            for now in looks.iter().copied().map(at) {
                loop {
                    let known = Known { when: &when, missed: Missed::All(EVER), added_at: at(0), settled };
                    let due = known.due(now, 7);
                    let Some(last) = due.last() else { break };
                    settled = last.at;
                    slots.extend(due.iter().map(|slot| slot.at));
                }
            }
            let last = looks.last().copied().unwrap();
            let step = i64::try_from(interval).unwrap();
            let expected: Vec<Timestamp> = (1..=last / step).map(|n| at(n * step)).collect();
            prop_assert_eq!(slots, expected);
        }
    }
}
