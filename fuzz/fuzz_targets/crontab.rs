//! Any text is a crontab, or has a mistake in it that is on one of its lines. What is read can be
//! written and read again, and says when it is next.

#![no_main]

use kvjob::clock::Timestamp;
use kvjob::cron::{self, Schedule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let schedules = match cron::parse(text) {
        Ok(schedules) => schedules,
        Err(error) => {
            let line = text
                .lines()
                .nth(error.line() - 1)
                .expect("the line is there");
            assert!(error.column() <= line.chars().count() + 1);
            return;
        }
    };
    for schedule in schedules {
        let written = serde_json::to_string(&schedule).expect("what was read can be written");
        let again: Schedule = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(again.known_as(), schedule.known_as());
        let now = Timestamp::from_micros(1_767_225_600_000_000);
        let next = schedule.next_after(now, now).expect("it comes again");
        assert!(next > now);
        assert_eq!(again.next_after(now, now), Some(next));
    }
});
