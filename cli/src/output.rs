//! What goes to standard output and standard error. Nothing here panics when nobody listens.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvjob::clock::Timestamp;
use serde::Serialize;

use crate::error::Result;

/// Says something on standard error.
pub(crate) fn note(text: &str) {
    // If standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "kvjob: {text}");
}

/// Standard output, which may be a pipe that nobody reads to its end.
pub(crate) struct Out {
    to: BufWriter<Stdout>,
}

impl Out {
    pub(crate) fn new() -> Self {
        Self {
            to: BufWriter::new(io::stdout()),
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        Ok(self.to.write_all(text.as_bytes())?)
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.to, "{text}")?)
    }

    /// A value as JSON, without the end of the line.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        serde_json::to_writer(&mut self.to, value).map_err(io::Error::from)?;
        Ok(())
    }

    /// A value as one line of JSON.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.json(value)?;
        self.line("")
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.to.flush()?)
    }
}

/// Text from a store, safe to print: control characters, which could steer a terminal, are
/// escaped; line ends too, unless `lines` are wanted.
pub(crate) fn printable(text: &str, lines: bool) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\t' || (lines && c == '\n');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmless(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_default());
        }
    }
    Cow::Owned(safe)
}

/// The first `longest` characters on one line.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    let line = printable(text, false);
    if line.chars().nth(longest).is_none() {
        return line.into_owned();
    }
    let kept: String = line.chars().take(longest.saturating_sub(3)).collect();
    kept + "..."
}

/// A time, to the second.
pub(crate) fn seconds(time: Timestamp) -> String {
    let micros = time.as_micros();
    Timestamp::from_micros(micros - micros.rem_euclid(1_000_000)).to_string()
}

/// A duration with as many digits as one cares for.
pub(crate) fn lasting(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs / 60 % 60),
    }
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// A count that grows, on a terminal only, for work whose length is not known.
pub(crate) fn counter(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is fixed; without it the default one does.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} {msg} ({per_sec})") {
        bar.set_style(style);
    }
    bar.with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_store_steers_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\nc", true), "a\\u{1b}[31mb\\r\nc");
        assert_eq!(printable("a\nb", false), "a\\nb");
        assert!(matches!(printable("plain\ttext", false), Cow::Borrowed(_)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüßxy", 5), "äö...");
    }

    #[test]
    fn times_and_durations_are_short() {
        let time = Timestamp::from_micros(1_795_249_800_123_456);
        assert_eq!(seconds(time), "2026-11-21T08:30:00Z");
        assert_eq!(lasting(Duration::from_millis(12)), "12 ms");
        assert_eq!(lasting(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(lasting(Duration::from_secs(90)), "1 min 30 s");
        assert_eq!(lasting(Duration::from_secs(7384)), "2 h 3 min");
    }
}
