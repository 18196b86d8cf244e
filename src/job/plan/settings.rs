//! What is set for lanes, as this process knows it: which are paused, and how many jobs may be
//! taken from them (protocol rules 13 and 24).
//!
//! A copy of the `lane` space, read again now and then and whenever somebody was heard to change
//! it. What was taken under a limit is known to this process alone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Lane, LaneFilter, LaneSetting, Rate};
use crate::clock::Timestamp;

/// What stands under a `lane` key. Which lanes it is for says the key, except for the full text of
/// their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct StoredSetting {
    pub(in crate::job) flags: Vec<String>,
    /// In microseconds.
    pub(in crate::job) paused_at: Option<i64>,
    pub(in crate::job) rate: Option<Rate>,
}

impl StoredSetting {
    pub(in crate::job) fn of(setting: &LaneSetting) -> Self {
        Self {
            flags: setting.lanes.flags.clone().unwrap_or_default(),
            paused_at: setting.paused_at.map(Timestamp::as_micros),
            rate: setting.rate,
        }
    }
}

/// What is set for lanes. See the [module](self).
#[derive(Clone, Debug, Default)]
pub(in crate::job) struct Settings {
    /// Only what differs from the default.
    set: HashMap<LaneFilter, LaneSetting>,
    buckets: BTreeMap<LaneFilter, Bucket>,
}

impl Settings {
    /// This is all that is set.
    pub(in crate::job) fn replace(&mut self, all: Vec<LaneSetting>) {
        self.set.clear();
        for setting in all {
            self.put(setting);
        }
        let set = &self.set;
        self.buckets
            .retain(|lanes, _| set.get(lanes).is_some_and(|set| set.rate.is_some()));
    }

    /// This is set for these lanes now.
    pub(in crate::job) fn put(&mut self, setting: LaneSetting) {
        match setting.rate {
            Some(rate) => {
                let bucket = self.buckets.entry(setting.lanes.clone());
                bucket.or_insert_with(|| Bucket::new(rate)).rate = rate;
            }
            None => drop(self.buckets.remove(&setting.lanes)),
        }
        if setting.is_default() {
            self.set.remove(&setting.lanes);
        } else {
            self.set.insert(setting.lanes.clone(), setting);
        }
    }

    /// Whether nothing may be taken from this lane.
    pub(in crate::job) fn is_paused(&self, lane: &Lane) -> bool {
        self.of(lane).any(|setting| setting.paused_at.is_some())
    }

    /// The limits this lane is under.
    pub(in crate::job) fn rates(&self, lane: &Lane) -> Vec<Rate> {
        let mut rates: Vec<(&LaneFilter, Rate)> = self
            .of(lane)
            .filter_map(|setting| Some((&setting.lanes, setting.rate?)))
            .collect();
        rates.sort_unstable_by_key(|(lanes, _)| *lanes);
        rates.into_iter().map(|(_, rate)| rate).collect()
    }

    /// Every limit there is, and what was taken under it.
    pub(in crate::job) fn buckets(&self) -> &BTreeMap<LaneFilter, Bucket> {
        &self.buckets
    }

    /// A job was taken from this lane, at this monotonic time.
    pub(in crate::job) fn spend(&mut self, lane: &Lane, now: Duration) {
        for (lanes, bucket) in &mut self.buckets {
            if lanes.matches(lane) {
                bucket.spend(now);
            }
        }
    }

    /// What is set for a lane. However many settings there are, only those that could mean it are
    /// looked up.
    fn of(&self, lane: &Lane) -> impl Iterator<Item = &LaneSetting> {
        let any = !self.set.is_empty();
        let kinds = if any { 0..8u8 } else { 0..0 };
        kinds.filter_map(move |kind| {
            self.set.get(&LaneFilter {
                tenant: (kind & 1 != 0).then(|| lane.tenant.clone()),
                task: (kind & 2 != 0).then(|| lane.task.clone()),
                flags: (kind & 4 != 0).then(|| lane.flags.clone()),
            })
        })
    }
}

/// What may be taken under a limit: the generic cell rate algorithm, on monotonic time.
#[derive(Clone, Copy, Debug)]
pub(in crate::job) struct Bucket {
    rate: Rate,
    /// When the bucket is full again.
    full_at: Duration,
}

impl Bucket {
    pub(in crate::job) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Duration::ZERO,
        }
    }

    /// How many jobs may be taken now.
    pub(in crate::job) fn left(&self, now: Duration) -> u64 {
        let missing = self.full_at.saturating_sub(now).as_nanos();
        let out = missing.div_ceil(self.interval().as_nanos().max(1));
        u64::from(self.rate.burst).saturating_sub(u64::try_from(out).unwrap_or(u64::MAX))
    }

    /// When one may be taken.
    pub(in crate::job) fn next(&self) -> Duration {
        let ahead = self
            .interval()
            .saturating_mul(self.rate.burst.saturating_sub(1));
        self.full_at.saturating_sub(ahead)
    }

    /// One was taken.
    pub(in crate::job) fn spend(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now).saturating_add(self.interval());
    }

    /// The time between two jobs, never too short by rounding.
    fn interval(&self) -> Duration {
        let nanos = self
            .rate
            .per
            .as_nanos()
            .div_ceil(u128::from(self.rate.jobs.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lane(tenant: &str, task: &str) -> Lane {
        Lane {
            tenant: tenant.into(),
            task: task.into(),
            flags: Vec::new(),
        }
    }

    fn setting(lanes: LaneFilter, paused: bool, rate: Option<Rate>) -> LaneSetting {
        LaneSetting {
            lanes,
            paused_at: paused.then(|| Timestamp::from_micros(1)),
            rate,
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_at_even_intervals() {
        let mut bucket = Bucket::new(Rate::new(2, SECOND).burst(3));
        let start = Duration::from_secs(100);
        for left in [3, 2, 1] {
            assert_eq!(bucket.left(start), left);
            bucket.spend(start);
        }
        assert_eq!(bucket.left(start), 0);
        assert_eq!(bucket.next(), start + SECOND / 2);
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(bucket.left(start + SECOND / 2), 1);
        assert_eq!(bucket.left(bucket.next().saturating_sub(nanosecond)), 0);
        assert_eq!(bucket.left(start + SECOND), 2);
        assert_eq!(bucket.left(start + 10 * SECOND), 3);
    }

    #[test]
    fn with_a_burst_of_one_no_period_sees_more_than_the_rate() {
        let mut bucket = Bucket::new(Rate::new(3, SECOND));
        let (mut now, mut taken) = (Duration::ZERO, Vec::new());
        while now < 5 * SECOND {
            if bucket.left(now) > 0 {
                bucket.spend(now);
                taken.push(now);
            }
            now += Duration::from_micros(700);
        }
        for (number, at) in taken.iter().enumerate() {
            let until = *at + SECOND;
            let within = taken.iter().skip(number).take_while(|at| **at < until);
            assert!(within.count() <= 3, "from {at:?}");
        }
        assert!(taken.len() >= 14, "{}", taken.len());
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        for rate in [
            Rate::new(u32::MAX, Duration::from_nanos(1)).burst(u32::MAX),
            Rate::new(1, Duration::MAX).burst(u32::MAX),
        ] {
            let mut bucket = Bucket::new(rate);
            bucket.spend(Duration::MAX);
            bucket.spend(Duration::ZERO);
            let _ = (bucket.left(Duration::ZERO), bucket.left(Duration::MAX));
            let _ = bucket.next();
        }
    }

    #[test]
    fn a_lane_is_under_every_setting_that_means_it() {
        let mut settings = Settings::default();
        let rate = Rate::new(1, SECOND);
        settings.put(setting(LaneFilter::all().task("a"), true, None));
        settings.put(setting(LaneFilter::all().tenant("t"), false, Some(rate)));
        assert!(settings.is_paused(&lane("t", "a")));
        assert!(!settings.is_paused(&lane("t", "b")));
        assert_eq!(settings.rates(&lane("t", "b")), [rate]);
        assert!(settings.rates(&lane("u", "b")).is_empty());
        settings.put(setting(LaneFilter::all().task("a"), false, None));
        assert!(!settings.is_paused(&lane("t", "a")));
        settings.replace(Vec::new());
        assert!(settings.buckets().is_empty());
    }

    #[test]
    fn what_was_taken_is_remembered_when_settings_are_read_again() {
        let mut settings = Settings::default();
        let limit = setting(LaneFilter::all(), false, Some(Rate::new(1, SECOND)));
        settings.put(limit.clone());
        settings.spend(&lane("", "a"), SECOND);
        settings.replace(vec![limit]);
        let left: Vec<u64> = settings
            .buckets()
            .values()
            .map(|b| b.left(SECOND))
            .collect();
        assert_eq!(left, [0]);
    }
}
