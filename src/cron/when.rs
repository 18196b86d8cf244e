//! When a schedule has its slots: a pure function of time.
//!
//! # When clocks change
//!
//! A schedule is read in its time zone. Where its clock is put forward, some times do not exist,
//! and where it is put back, some come twice. Then, as cron has done for long:
//!
//! - a schedule whose minute and hour have no `*` stands for certain times of the day. Each of them
//!   has one slot: one that does not exist, at the moment the clock is put forward; one that comes
//!   twice, the first time;
//! - one with a `*` in minute or hour stands for "every so often", and follows the clock: it has no
//!   slots at times that do not exist, and slots at both where a time comes twice.

use std::time::Duration;

use jiff::tz::{AmbiguousOffset, TimeZone};

use super::pattern::Pattern;
use crate::clock::Timestamp;

/// When a schedule has its slots.
#[derive(Clone, Debug)]
pub(super) enum When {
    /// At these times of this zone.
    Cron(Pattern, TimeZone),
    /// At the multiples of this since 1970, so that all agree on them.
    Every(Duration),
    /// Once.
    At(Timestamp),
    /// Once, this long after the schedule was first seen.
    After(Duration),
}

impl When {
    /// The first slot behind this time. `added_at` is when the schedule was first seen.
    pub(super) fn next(&self, after: Timestamp, added_at: Timestamp) -> Option<Timestamp> {
        let once = |slot: Timestamp| (slot > after).then_some(slot);
        match self {
            Self::Cron(pattern, zone) => {
                let start = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?;
                let found = if pattern.is_wildcard() {
                    follow(pattern, zone, start)
                } else {
                    fixed(pattern, zone, start)
                };
                once(Timestamp::from_micros(found?.as_microsecond()))
            }
            Self::Every(interval) => {
                let step = i64::try_from(interval.as_micros()).ok()?;
                let periods = after.as_micros().checked_div_euclid(step)?;
                let slot = periods.checked_add(1)?.checked_mul(step)?;
                once(Timestamp::from_micros(slot))
            }
            Self::At(slot) => once(*slot),
            Self::After(delay) => once(added_at.after(*delay)),
        }
    }

    /// The last slot behind `after` and not behind `until`.
    pub(super) fn latest(
        &self,
        after: Timestamp,
        until: Timestamp,
        added_at: Timestamp,
    ) -> Option<Timestamp> {
        // Look back ever further, so that what is walked is little more than what is found.
        let mut back = Duration::from_secs(60);
        loop {
            let start = until.before(back).max(after);
            let mut found = None;
            let mut slot = self.next(start, added_at);
            while let Some(at) = slot.filter(|at| *at <= until) {
                found = Some(at);
                slot = self.next(at, added_at);
            }
            if found.is_some() || start <= after {
                return found;
            }
            back = back.saturating_mul(2);
        }
    }
}

/// The first moment behind `start` whose civil time matches.
fn follow(pattern: &Pattern, zone: &TimeZone, start: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let mut start = start;
    loop {
        let offset = zone.to_offset(start);
        // Until the next change of the clock, civil time goes on evenly.
        let end = zone
            .following(start)
            .map(|change| change.timestamp())
            .next();
        let found = pattern.next(offset.to_datetime(start))?;
        let found = offset.to_timestamp(found).ok();
        match (found, end) {
            (Some(found), Some(end)) if found >= end => {}
            (None, Some(_)) => {}
            (found, _) => return found,
        }
        let end = end?;
        // The change itself may be a slot.
        let offset = zone.to_offset(end);
        let civil = offset.to_datetime(end);
        let before = civil.checked_sub(jiff::SignedDuration::from_secs(1)).ok()?;
        if pattern.next(before) == Some(civil) {
            return Some(end);
        }
        start = end;
    }
}

/// The first moment behind `start` at which a civil time that matches has its one slot. Those
/// moments stand in the order of the civil times.
fn fixed(pattern: &Pattern, zone: &TimeZone, start: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let mut civil = zone.to_datetime(start);
    loop {
        civil = pattern.next(civil)?;
        let ambiguous = zone.to_ambiguous_timestamp(civil);
        let slot = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok()?,
            AmbiguousOffset::Gap { before, .. } => {
                let behind = before.to_timestamp(civil).ok()?;
                let behind = behind
                    .checked_add(jiff::SignedDuration::from_nanos(1))
                    .ok()?;
                zone.preceding(behind).next()?.timestamp()
            }
        };
        if slot > start {
            return Some(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cron(text: &str, zone: &str) -> When {
        let fields: Vec<&str> = text.split(' ').collect();
        let pattern = Pattern::of(fields.try_into().unwrap()).unwrap();
        When::Cron(pattern, TimeZone::get(zone).unwrap())
    }

    /// The slots behind one time and not behind another.
    fn slots(when: &When, after: &str, until: &str) -> Vec<String> {
        let (mut time, until) = (after.parse().unwrap(), until.parse().unwrap());
        let next = || {
            time = when.next(time, Timestamp::MIN).filter(|at| *at <= until)?;
            Some(time.to_string().replace("2026-", ""))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_zone_shifts_the_slots() {
        let (from, to) = ("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z");
        assert_eq!(
            slots(&cron("0 4 * * *", "UTC"), from, to),
            ["07-01T04:00:00Z"]
        );
        assert_eq!(
            slots(&cron("0 4 * * *", "Europe/Zurich"), from, to),
            ["07-01T02:00:00Z"]
        );
        assert_eq!(
            slots(&cron("0 4 * * *", "America/New_York"), from, to),
            ["07-01T08:00:00Z"]
        );
        assert_eq!(
            slots(&cron("0 4 * * *", "Asia/Kolkata"), from, to),
            ["07-01T22:30:00Z"]
        );
    }

    /// On 2026-03-29 clocks in Zurich go from 02:00 to 03:00, at 01:00 UTC.
    #[test]
    fn in_zurich_a_skipped_time_has_its_slot_when_the_clock_is_put_forward() {
        let (from, to) = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        let zurich = |text| slots(&cron(text, "Europe/Zurich"), from, to);
        assert_eq!(zurich("30 2 * * *"), ["03-29T01:00:00Z", "03-30T00:30:00Z"]);
        // Several are one, and one with what is there.
        assert_eq!(
            zurich("0,30 2 * * *"),
            ["03-29T01:00:00Z", "03-30T00:00:00Z", "03-30T00:30:00Z"]
        );
        assert_eq!(
            zurich("0 2,3 * * *"),
            ["03-29T01:00:00Z", "03-30T00:00:00Z", "03-30T01:00:00Z"]
        );
        assert_eq!(zurich("30 1 * * *"), ["03-29T00:30:00Z", "03-29T23:30:00Z"]);
        assert_eq!(zurich("0 0 * * *"), ["03-28T23:00:00Z", "03-29T22:00:00Z"]);
    }

    #[test]
    fn in_zurich_every_so_often_passes_over_a_skipped_hour() {
        let (from, to) = ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
        let zurich = |text| slots(&cron(text, "Europe/Zurich"), from, to);
        assert_eq!(
            zurich("0 * * * *"),
            ["03-29T01:00:00Z", "03-29T02:00:00Z", "03-29T03:00:00Z"]
        );
        assert_eq!(zurich("*/30 2 * * *"), [""; 0]);
    }

    /// On 2026-10-25 clocks in Zurich go from 03:00 back to 02:00, at 01:00 UTC.
    #[test]
    fn in_zurich_a_repeated_time_has_one_slot_the_first_time() {
        let (from, to) = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        let zurich = |text| slots(&cron(text, "Europe/Zurich"), from, to);
        assert_eq!(zurich("30 2 * * *"), ["10-25T00:30:00Z", "10-26T01:30:00Z"]);
        assert_eq!(zurich("0 3 * * *"), ["10-25T02:00:00Z", "10-26T02:00:00Z"]);
    }

    #[test]
    fn in_zurich_every_so_often_goes_on_through_a_repeated_hour() {
        let (from, to) = ("2026-10-24T23:59:00Z", "2026-10-25T02:00:00Z");
        let zurich = |text| slots(&cron(text, "Europe/Zurich"), from, to);
        assert_eq!(
            zurich("0 * * * *"),
            ["10-25T00:00:00Z", "10-25T01:00:00Z", "10-25T02:00:00Z"]
        );
        let twice = [
            "10-25T00:00:00Z",
            "10-25T00:30:00Z",
            "10-25T01:00:00Z",
            "10-25T01:30:00Z",
        ];
        assert_eq!(zurich("*/30 2 * * *"), twice);
    }

    /// On 2026-03-08 clocks in New York go from 02:00 to 03:00, at 07:00 UTC; on 2026-11-01 from
    /// 02:00 back to 01:00, at 06:00 UTC.
    #[test]
    fn in_new_york_the_same_holds() {
        let forward = |text| {
            slots(
                &cron(text, "America/New_York"),
                "2026-03-08T00:00:00Z",
                "2026-03-09T00:00:00Z",
            )
        };
        assert_eq!(forward("15 2 * * *"), ["03-08T07:00:00Z"]);
        assert_eq!(forward("*/15 2 * * *"), [""; 0]);
        let back = |text| {
            slots(
                &cron(text, "America/New_York"),
                "2026-11-01T03:00:00Z",
                "2026-11-02T03:00:00Z",
            )
        };
        assert_eq!(back("15 1 * * *"), ["11-01T05:15:00Z"]);
        assert_eq!(
            back("*/30 1 * * *"),
            [
                "11-01T05:00:00Z",
                "11-01T05:30:00Z",
                "11-01T06:00:00Z",
                "11-01T06:30:00Z"
            ]
        );
    }

    /// Samoa had no 30 December 2011.
    #[test]
    fn a_skipped_day_is_one_skipped_time() {
        let apia = cron("0 9 30 12 *", "Pacific/Apia");
        let next = |after: &str| apia.next(after.parse().unwrap(), Timestamp::MIN).unwrap();
        assert_eq!(
            next("2011-12-01T00:00:00Z").to_string(),
            "2011-12-30T10:00:00Z"
        );
        assert_eq!(
            next("2011-12-30T10:00:00Z").to_string(),
            "2012-12-29T19:00:00Z"
        );
    }

    #[test]
    fn an_interval_is_counted_from_1970() {
        let every = When::Every(Duration::from_secs(600));
        let got = slots(&every, "2026-01-01T00:00:00Z", "2026-01-01T00:25:00Z");
        assert_eq!(got, ["01-01T00:10:00Z", "01-01T00:20:00Z"]);
        assert_eq!(
            every.next(Timestamp::from_micros(-1), Timestamp::MIN),
            Some(Timestamp::from_micros(0))
        );
    }

    #[test]
    fn once_is_once() {
        let (before, at) = (Timestamp::from_micros(5), Timestamp::from_micros(1_000_005));
        for when in [When::At(at), When::After(Duration::from_secs(1))] {
            assert_eq!(when.next(before, before), Some(at));
            assert_eq!(when.next(at, before), None);
        }
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        for when in [
            cron("* * * * *", "Europe/Zurich"),
            cron("0 0 1 1 *", "America/New_York"),
            When::Every(Duration::from_secs(1)),
            When::Every(Duration::MAX),
            When::After(Duration::MAX),
        ] {
            for time in [Timestamp::MIN, Timestamp::MAX] {
                let next = when.next(time, time);
                assert!(next.is_none_or(|next| next > time));
            }
        }
    }

    fn whens() -> impl Strategy<Value = When> {
        let patterns = prop::sample::select(vec![
            "* * * * *",
            "*/7 * * * *",
            "30 2 * * *",
            "0 */3 * * *",
            "15,45 1-3 * * *",
            "0 0 13 * 5",
            "59 23 L * *",
        ]);
        let zones = prop::sample::select(vec![
            "UTC",
            "Europe/Zurich",
            "America/New_York",
            "Australia/Lord_Howe",
        ]);
        prop_oneof![
            4 => (patterns, zones).prop_map(|(pattern, zone)| cron(pattern, zone)),
            1 => (1u64..100_000).prop_map(|seconds| When::Every(Duration::from_secs(seconds))),
        ]
    }

    /// Some time of 2026.
    fn times() -> impl Strategy<Value = Timestamp> {
        (1_767_225_600_000_000i64..1_798_761_600_000_000).prop_map(Timestamp::from_micros)
    }

    proptest! {
        #[test]
        fn no_slot_lies_between_a_time_and_its_next_slot(when in whens(), time in times(), part in 0.0..1.0) {
            let next = when.next(time, time).unwrap();
            prop_assert!(next > time);
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any time between")]
            let between = time.as_micros() + ((next.as_micros() - 1 - time.as_micros()) as f64 * part) as i64;
            prop_assert_eq!(when.next(Timestamp::from_micros(between), time), Some(next));
        }

        #[test]
        fn the_latest_slot_is_the_last_one_of_a_walk(when in whens(), time in times(), hours in 0u64..100) {
            let until = time.after(Duration::from_secs(hours * 3600));
            let mut walked = None;
            let mut at = when.next(time, time);
            while let Some(slot) = at.filter(|slot| *slot <= until) {
                walked = Some(slot);
                at = when.next(slot, time);
            }
            prop_assert_eq!(when.latest(time, until, time), walked);
        }
    }
}
