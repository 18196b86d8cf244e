//! How long a failed job waits for its next attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a job waits after a failed attempt. Attempts count from 1. No attempt number
/// overflows: waits are cut to `max`, or to a year.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Backoff {
    /// e to the power of the attempt (at most the tenth) in seconds: 2.7 s, 7.4 s, ... 6 h. The
    /// rule of graphile-worker.
    #[default]
    Default,
    /// The same wait every time.
    Fixed {
        /// The wait.
        wait: Duration,
    },
    /// `step` after the first failure, twice `step` after the second, and so on.
    Linear {
        /// What is added each time.
        step: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// `base` after the first failure, then doubling.
    Exponential {
        /// The first wait.
        base: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// A random wait between nothing and what [`Exponential`](Self::Exponential) gives.
    FullJitter {
        /// The first upper bound.
        base: Duration,
        /// The largest upper bound.
        max: Duration,
    },
    /// Half of what [`Exponential`](Self::Exponential) gives, and a random part of the other half.
    EqualJitter {
        /// The first upper bound.
        base: Duration,
        /// The largest upper bound.
        max: Duration,
    },
}

impl Backoff {
    /// The longest wait there is: 365 days.
    pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

    /// The wait after this failed attempt. `random` decides where there is jitter.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let wait = match self {
            Self::Default => Duration::from_secs_f64(f64::from(attempt.clamp(1, 10)).exp()),
            Self::Fixed { wait } => *wait,
            Self::Linear { step, max } => step.saturating_mul(attempt.max(1)).min(*max),
            Self::Exponential { base, max } => doubled(*base, *max, attempt),
            Self::FullJitter { base, max } => fraction(doubled(*base, *max, attempt), random),
            Self::EqualJitter { base, max } => {
                let half = doubled(*base, *max, attempt) / 2;
                half + fraction(half, random)
            }
        };
        wait.min(Self::LONGEST)
    }
}

fn doubled(base: Duration, max: Duration, attempt: u32) -> Duration {
    let factor = 1u32.checked_shl(attempt.max(1) - 1).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

/// A random part of a wait, both ends included.
fn fraction(wait: Duration, random: u64) -> Duration {
    let micros = u64::try_from(wait.min(Backoff::LONGEST).as_micros()).unwrap_or(u64::MAX);
    let part = (u128::from(random) * (u128::from(micros) + 1)) >> 64;
    Duration::from_micros(u64::try_from(part).unwrap_or(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_doubles_up_to_its_limit() {
        let backoff = Backoff::Exponential {
            base: S,
            max: 30 * S,
        };
        let waits: Vec<u64> = (1..=7).map(|n| backoff.wait(n, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn the_default_is_e_to_the_attempt_up_to_the_tenth() {
        assert_eq!(Backoff::Default.wait(1, 0).as_secs(), 2);
        assert_eq!(
            Backoff::Default.wait(10, 0),
            Backoff::Default.wait(u32::MAX, 0)
        );
        assert_eq!(Backoff::Default.wait(10, 0).as_secs(), 22_026);
    }

    #[test]
    fn no_attempt_number_overflows() {
        let all = [
            Backoff::Default,
            Backoff::Fixed {
                wait: Duration::MAX,
            },
            Backoff::Linear {
                step: Duration::MAX,
                max: Duration::MAX,
            },
            Backoff::Exponential {
                base: Duration::MAX,
                max: Duration::MAX,
            },
            Backoff::FullJitter {
                base: Duration::MAX,
                max: Duration::MAX,
            },
            Backoff::EqualJitter {
                base: Duration::MAX,
                max: Duration::MAX,
            },
        ];
        for backoff in all {
            for attempt in [0, 1, 31, 32, 33, 64, u32::MAX] {
                assert!(
                    backoff.wait(attempt, u64::MAX) <= Backoff::LONGEST,
                    "{backoff:?}"
                );
            }
        }
    }

    #[test]
    fn jitter_covers_its_range_and_no_more() {
        let full = Backoff::FullJitter {
            base: S,
            max: 60 * S,
        };
        assert_eq!(full.wait(3, 0), Duration::ZERO);
        assert_eq!(full.wait(3, u64::MAX), 4 * S);
        let equal = Backoff::EqualJitter {
            base: S,
            max: 60 * S,
        };
        assert_eq!(equal.wait(3, 0), 2 * S);
        assert_eq!(equal.wait(3, u64::MAX), 4 * S);
    }
}
