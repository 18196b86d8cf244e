//! A job's id, and where new ones come from.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};

/// A job's id: a `UUIDv7` (RFC 9562), so that ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// The id of these sixteen bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its sixteen bytes, in the order in which ids sort.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The smallest id of this millisecond: a bound for ranges of ids, not a job's id.
    pub fn lower_bound(time: Timestamp) -> Self {
        Self::compose(millis(time), 0)
    }

    /// The millisecond it was made in, by the clock of its maker.
    pub(crate) fn time(&self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX);
        Timestamp::from_micros(millis.saturating_mul(1000))
    }

    /// The 48-bit time and the 74 other free bits, with version and variant between them.
    fn compose(millis: u64, rest: u128) -> Self {
        let rand_a = (rest >> 62) & 0xfff;
        let rand_b = rest & ((1 << 62) - 1);
        let bits =
            (u128::from(millis) << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b;
        Self(Uuid::from_u128(bits))
    }
}

fn millis(time: Timestamp) -> u64 {
    const LARGEST: u64 = (1 << 48) - 1;
    u64::try_from(time.as_micros().div_euclid(1000))
        .unwrap_or(0)
        .min(LARGEST)
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`JobId::from_str`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job id, which looks like 0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90")]
pub struct ParseJobIdError(String);

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| ParseJobIdError(text.to_owned()))
    }
}

/// Makes ids from a clock: each one larger than the one before, also when the clock stands still
/// or goes back.
#[derive(Debug, Default)]
pub(crate) struct IdSource(Mutex<(u64, u128)>);

impl IdSource {
    pub(crate) fn next(&self, clock: &dyn Clock) -> JobId {
        const REST: u128 = (1 << 74) - 1;
        let now = millis(clock.now());
        let random = clock.random();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if now > last.0 {
            // The top bit stays free, so that a millisecond never runs out of larger ones.
            (
                now,
                ((u128::from(random) << 10) | u128::from(random & 0x3ff)) & (REST >> 1),
            )
        } else {
            let next = last.1 + 1 + u128::from(random >> 32);
            if next > REST {
                (last.0 + 1, u128::from(random))
            } else {
                (last.0, next)
            }
        };
        JobId::compose(last.0, last.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn ids_grow_and_are_uuid_v7() {
        let source = IdSource::default();
        let ids: Vec<JobId> = (0..10_000).map(|_| source.next(&SystemClock)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.0.get_version_num() == 7));
        assert!(
            ids.iter()
                .all(|id| id.0.get_variant() == uuid::Variant::RFC4122)
        );
    }

    #[test]
    fn an_id_lies_at_or_above_the_lower_bound_of_its_time() {
        let before = SystemClock.now();
        let id = IdSource::default().next(&SystemClock);
        assert!(JobId::lower_bound(before) <= id);
        assert_eq!(JobId::lower_bound(id.time()).time(), id.time());
        assert!(before.since(id.time()) < std::time::Duration::from_millis(1));
        assert!(id < JobId::lower_bound(before.after(std::time::Duration::from_secs(3600))));
    }

    #[test]
    fn an_id_prints_and_reads_back() {
        let id = IdSource::default().next(&SystemClock);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("job-1".parse::<JobId>().is_err());
    }
}
