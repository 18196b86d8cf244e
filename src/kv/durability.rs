//! When an acknowledged change is on disk.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When a change that was acknowledged survives a crash. Chosen when a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Synced before it is acknowledged: an acknowledged change survives `kill -9` and power
    /// loss, as far as the backend can promise it.
    #[default]
    Immediate,
    /// Acknowledged at once and synced within this time: a crash of the machine may lose the
    /// changes of the last interval, but no others, and never half of a commit.
    Interval(Duration),
    /// Never synced on purpose: for tests and for work that can be made again.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediate => f.write_str("immediate"),
            Self::Interval(every) => write!(f, "interval:{}ms", every.as_millis()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// What [`Durability::from_str`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown durability {0:?}: use immediate, interval:100ms (any whole number of ms or s, at least 1ms) or memory"
)]
pub struct ParseDurabilityError(String);

impl FromStr for Durability {
    type Err = ParseDurabilityError;

    /// Reads `immediate`, `interval:100ms`, `interval:2s` or `memory`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseDurabilityError(text.to_owned());
        match text {
            "immediate" => Ok(Self::Immediate),
            "memory" => Ok(Self::Memory),
            _ => {
                let every = text.strip_prefix("interval:").ok_or_else(unknown)?;
                let number = |digits: &str| digits.parse::<u64>().ok().filter(|n| *n > 0);
                let every = if let Some(millis) = every.strip_suffix("ms") {
                    number(millis).map(Duration::from_millis)
                } else {
                    every
                        .strip_suffix('s')
                        .and_then(number)
                        .map(Duration::from_secs)
                };
                every.map(Self::Interval).ok_or_else(unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let every = Durability::Interval(Duration::from_millis(100));
        for durability in [Durability::Immediate, every, Durability::Memory] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert_eq!(
            "interval:2s".parse(),
            Ok(Durability::Interval(Duration::from_secs(2)))
        );
    }

    #[test]
    fn what_is_not_a_durability_is_refused_with_the_known_ones() {
        for bad in [
            "",
            "sync",
            "interval:",
            "interval:0ms",
            "interval:-1s",
            "interval:5",
        ] {
            let error = bad.parse::<Durability>().unwrap_err().to_string();
            assert!(error.contains("immediate"), "{error}");
        }
    }
}
