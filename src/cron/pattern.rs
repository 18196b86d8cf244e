//! The five fields of a cron schedule, and the civil times they match. Time zones are the matter
//! of [`when`](super::when).

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, date};

/// What the fields are called, and the words that may stand in them.
const FIELDS: [(&str, &[&str]); 5] = [
    ("minute", &[]),
    ("hour", &[]),
    ("day of the month", &["L", "W", "LW"]),
    (
        "month",
        &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
    ),
    (
        "day of the week",
        &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
    ),
];

/// Five fields. See the [module](self).
#[derive(Clone)]
pub(super) struct Pattern {
    text: String,
    /// Some kilobytes.
    cron: Box<Cron>,
    /// Whether the minute or the hour has a `*`.
    wildcard: bool,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadPattern {
    /// The field, from 0; the first one where all of them are wrong together.
    pub(super) field: usize,
    pub(super) message: String,
}

impl Pattern {
    pub(super) fn of(fields: [&str; 5]) -> Result<Self, BadPattern> {
        for (field, text) in fields.into_iter().enumerate() {
            check(field, text).map_err(|message| BadPattern { field, message })?;
        }
        let together = |message| BadPattern { field: 0, message };
        let text = fields.join(" ");
        let cron = read(&text).map_err(together)?;
        let wildcard = fields.iter().take(2).any(|field| field.contains('*'));
        let pattern = Self {
            text,
            cron: Box::new(cron),
            wildcard,
        };
        if pattern.next(date(2000, 1, 1).at(0, 0, 0, 0)).is_none() {
            let message = "there is no such day: it would never run".to_owned();
            return Err(together(message));
        }
        Ok(pattern)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for "every so often" rather than for certain times of the day.
    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The first civil time it matches behind this one.
    pub(super) fn next(&self, after: DateTime) -> Option<DateTime> {
        let found = self.cron.find_next_occurrence(&after, false).ok()?;
        (found > after).then_some(found)
    }
}

/// What the fields are called.
pub(super) fn name(field: usize) -> &'static str {
    FIELDS.get(field).map_or("field", |(name, _)| name)
}

/// Looks at one field alone, so that what is wrong can be told of it.
fn check(field: usize, text: &str) -> Result<(), String> {
    let (name, words) = FIELDS.get(field).copied().unwrap_or(("field", &[]));
    let wrong = |why: &str| format!("the {name} {text:?} is wrong: {why}");
    let allowed = |c: char| {
        c.is_ascii_alphanumeric() || "*,-/".contains(c) || (field == 4 && "#+".contains(c))
    };
    if let Some(odd) = text.chars().find(|c| !allowed(*c)) {
        return Err(wrong(&format!("{odd:?} does not belong there")));
    }
    for word in text.split(|c: char| !c.is_ascii_alphabetic()) {
        let known = words.iter().any(|known| known.eq_ignore_ascii_case(word));
        if !word.is_empty() && !known {
            return Err(wrong(&format!("it does not know {word:?}")));
        }
    }
    for range in text.split(',') {
        if range.is_empty() {
            return Err(wrong("something is missing at a comma"));
        }
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        if let Some((from, to)) = range.split_once('-')
            && let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>())
            && from > to
        {
            return Err(wrong(&format!("{from} is behind {to}")));
        }
    }
    let mut alone = ["*"; 5];
    if let Some(place) = alone.get_mut(field) {
        *place = text;
    }
    read(&alone.join(" ")).map(drop).map_err(|why| wrong(&why))
}

fn read(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser.parse(text).map_err(|error| {
        let text = error.to_string();
        let text = text.trim_end_matches('.');
        // What kind of error it is says nothing here.
        text.split_once(": ")
            .map_or(text, |(_, reason)| reason)
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, BadPattern> {
        let fields: Vec<&str> = text.split(' ').collect();
        Pattern::of(fields.try_into().unwrap())
    }

    /// The first times from 2026-01-01 (a Thursday) on.
    fn times(text: &str, count: usize) -> Vec<String> {
        let pattern = pattern(text).unwrap();
        let mut time = date(2025, 12, 31).at(23, 59, 59, 0);
        let next = || {
            time = pattern.next(time)?;
            Some(time.strftime("%a %m-%d %H:%M").to_string())
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn lists_ranges_and_steps_match() {
        assert_eq!(
            times("0,30 8-9 * * *", 5),
            [
                "Thu 01-01 08:00",
                "Thu 01-01 08:30",
                "Thu 01-01 09:00",
                "Thu 01-01 09:30",
                "Fri 01-02 08:00"
            ]
        );
        assert_eq!(
            times("*/20 0-1 1 jan *", 4),
            [
                "Thu 01-01 00:00",
                "Thu 01-01 00:20",
                "Thu 01-01 00:40",
                "Thu 01-01 01:00"
            ]
        );
        assert_eq!(
            times("0 0 1-10/4 * *", 4),
            [
                "Thu 01-01 00:00",
                "Mon 01-05 00:00",
                "Fri 01-09 00:00",
                "Sun 02-01 00:00"
            ]
        );
    }

    #[test]
    fn seven_and_zero_are_sunday() {
        for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun"] {
            assert_eq!(
                times(sunday, 2),
                ["Sun 01-04 00:00", "Sun 01-11 00:00"],
                "{sunday}"
            );
        }
    }

    #[test]
    fn where_date_and_day_are_both_restricted_either_matches() {
        assert_eq!(
            times("0 0 13 * 5", 4),
            [
                "Fri 01-02 00:00",
                "Fri 01-09 00:00",
                "Tue 01-13 00:00",
                "Fri 01-16 00:00"
            ]
        );
        assert_eq!(
            times("0 0 13 * *", 2),
            ["Tue 01-13 00:00", "Fri 02-13 00:00"]
        );
        assert_eq!(
            times("0 0 * * 5", 2),
            ["Fri 01-02 00:00", "Fri 01-09 00:00"]
        );
    }

    #[test]
    fn the_last_day_of_a_month_and_leap_days_are_found() {
        assert_eq!(
            times("0 0 L * *", 2),
            ["Sat 01-31 00:00", "Sat 02-28 00:00"]
        );
        assert_eq!(times("0 0 29 2 *", 1), ["Tue 02-29 00:00"]);
    }

    #[test]
    fn what_is_wrong_is_told_of_its_field() {
        for (text, field) in [
            ("60 * * * *", 0),
            ("x * * * *", 0),
            ("MON * * * *", 0),
            ("*/0 * * * *", 0),
            ("5-1 * * * *", 0),
            ("1,,2 * * * *", 0),
            ("é * * * *", 0),
            ("* 24 * * *", 1),
            ("* -1 * * *", 1),
            ("* * 0 * *", 2),
            ("* * 32 * *", 2),
            ("* * 1#2 * *", 2),
            ("* * * 13 *", 3),
            ("* * * MON *", 3),
            ("* * * * 8", 4),
            ("* * * * JAN", 4),
            ("* * * * ?", 4),
            ("*/99999999999999999999 * * * *", 0),
            ("0 0 30 2 *", 0),
            ("0 0 31 4,6,9,11 *", 0),
        ] {
            let bad = pattern(text).expect_err(text);
            assert_eq!(bad.field, field, "{text}: {}", bad.message);
        }
    }
}
