//! Durations as crontabs write them: `4w3d2h1m30s`.

use std::fmt::Write as _;
use std::time::Duration;

/// The units, largest first, and how many microseconds each has.
const UNITS: [(&str, u128); 7] = [
    ("w", 7 * 86_400 * 1_000_000),
    ("d", 86_400 * 1_000_000),
    ("h", 3_600 * 1_000_000),
    ("m", 60 * 1_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Reads a duration: numbers with their units, each unit at most once, larger ones first. A day
/// has 24 hours.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 4w3d2h1m30s");
    let (mut rest, mut units, mut micros) = (text, UNITS.as_slice(), 0u128);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(char::is_alphabetic).len();
        let (unit, behind) = behind.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let place = units.iter().position(|(name, _)| *name == unit);
        let (place, behind_it) = place
            .and_then(|place| Some((units.get(place)?, units.get(place + 1..)?)))
            .ok_or_else(wrong)?;
        micros = micros.saturating_add(u128::from(number).saturating_mul(place.1));
        (rest, units) = (behind, behind_it);
    }
    let micros = u64::try_from(micros).map_err(|_| format!("{text:?} is longer than time"))?;
    Ok(Duration::from_micros(micros))
}

/// Writes a duration, to the microsecond; at most what can be read again, some 580,000 years.
pub(super) fn format(duration: Duration) -> String {
    let mut left = duration.as_micros().min(u64::MAX.into());
    let mut text = String::new();
    for (unit, micros) in UNITS {
        let (number, rest) = (left / micros, left % micros);
        if number > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, "{number}{unit}");
        }
        left = rest;
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// For `#[serde(with)]`.
pub(super) mod text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::cron) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*duration))
    }

    pub(in crate::cron) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_units_count() {
        let days = 4 * 7 + 3;
        let seconds = ((days * 24 + 2) * 60 + 1) * 60 + 30;
        assert_eq!(parse("4w3d2h1m30s"), Ok(Duration::from_secs(seconds)));
        assert_eq!(parse("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            "5",
            "s",
            "1h2h",
            "1m2h",
            "1 h",
            "-1h",
            "1.5h",
            "1y",
            "1µ",
            "99999999999999999999s",
            "18446744073709551615w",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_never_ends_reads_back_as_long_enough() {
        let read = parse(&format(Duration::MAX));
        assert_eq!(read, Ok(Duration::from_micros(u64::MAX)));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros: u64) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
