//! Durations as people write them: `500ms`, `90s`, `1m30s`, `2h`, `7d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Reads a duration with its unit. A day has 24 hours, and a week seven days.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let examples = "such as 500ms, 30s, 1m30s, 2h or 7d";
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(format!("it has no unit: write a duration {examples}"));
    }
    let span: Span = text
        .parse()
        .map_err(|_| format!("it is no duration {examples}"))?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("months and years differ in length: write a duration {examples}"))?;
    Duration::try_from(duration).map_err(|_| "it is negative".to_owned())
}

/// As [`parse`], but nothing is refused as too short to mean anything.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("1w"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_examples() {
        for bad in ["", "5", "1.5", "soon", "1 parsec", "2 months", "-3s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("5").unwrap_err().contains("30s"));
        assert!(parse_positive("0s").is_err());
    }
}
