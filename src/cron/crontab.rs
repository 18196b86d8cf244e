//! Reading a crontab: a schedule a line.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::pattern::Pattern;
use super::{Missed, Schedule, duration, pattern};
use crate::job::{self, KeyMode};

/// What is wrong in a crontab, and where: lines and columns are counted from 1, columns in
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrontabError {
    line: usize,
    column: usize,
    message: String,
}

impl CrontabError {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong there.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for CrontabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(f, "line {line}, column {column} of the crontab: {message}")
    }
}

impl std::error::Error for CrontabError {}

/// [`Invalid`](job::Error::Invalid) (`bad-crontab`).
impl From<CrontabError> for job::Error {
    fn from(error: CrontabError) -> Self {
        Self::invalid("bad-crontab", error.to_string())
    }
}

/// Reads a crontab. The schedules stand in the order of their lines, and are in UTC.
///
/// A line has five fields, a task, and maybe options and a payload:
///
/// ```text
/// # min hour date month dow  task         ?options                     {json payload}
/// 0     4    *    *     *    report       ?id=nightly&fill=1d&max=3    {"to":"ada"}
/// */10  *    *    *     1-5  tidy
/// ```
///
/// Lines that begin with `#` and empty ones are passed over. The fields are those of
/// [`Schedule::cron`]. Options stand between `&`, with their values percent-encoded where they have
/// a space, `&`, `=` or `%`:
///
/// | option | |
/// |---|---|
/// | `id` | what the schedule is known by; the task where not said |
/// | `fill` | make up for missed slots that are not older than this, such as `4w3d2h1m30s`; else they are skipped |
/// | `max` | the most attempts of a job |
/// | `queue` | the serial queue of its jobs: one of them runs at a time |
/// | `priority` | lower runs first |
/// | `jobKey` | the job key of its jobs |
/// | `jobKeyMode` | what becomes of a job that has the key already: it stays with `unsafe_dedupe`, as where not said; it becomes that of the new slot with `replace`, and keeps its time with `preserve_run_at` |
///
/// ```
/// let schedules = kvjob::cron::parse("0 4 * * * report ?fill=1d {\"to\":\"ada\"}")?;
/// assert_eq!(schedules[0].known_as(), "report");
///
/// let error = kvjob::cron::parse("# nightly\n0 25 * * * report").unwrap_err();
/// assert_eq!((error.line(), error.column()), (2, 3));
/// # Ok::<(), kvjob::cron::CrontabError>(())
/// ```
///
/// # Errors
/// The first thing that is wrong, with its line and column: a field or option that cannot be, one
/// that is unknown or said twice, a payload that is no JSON object, an id that two lines have.
pub fn parse(text: &str) -> Result<Vec<Schedule>, CrontabError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut schedules = Vec::new();
    let mut lines_of_ids: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let located = |(column, message)| CrontabError {
            line: number,
            column,
            message,
        };
        let mut cursor = Line::new(line);
        if cursor.rest.is_empty() || cursor.rest.starts_with('#') {
            continue;
        }
        let (schedule, place) = read_line(&mut cursor).map_err(located)?;
        let id = schedule.known_as().to_owned();
        if let Some(other) = lines_of_ids.get(&id) {
            let message = format!(
                "line {other} has the identifier {id:?} already: give one of them another with ?id="
            );
            return Err(located((place, message)));
        }
        lines_of_ids.insert(id, number);
        schedules.push(schedule);
    }
    Ok(schedules)
}

/// A column and what is wrong there.
type Wrong = (usize, String);

/// What is still to be read of a line.
struct Line<'t> {
    whole: &'t str,
    rest: &'t str,
}

impl<'t> Line<'t> {
    fn new(whole: &'t str) -> Self {
        let mut line = Self { whole, rest: whole };
        line.skip();
        line
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn column(&self) -> usize {
        let read = self.whole.len().saturating_sub(self.rest.len());
        column(self.whole, read)
    }

    /// The next word and its column.
    fn word(&mut self) -> Option<(usize, &'t str)> {
        let column = self.column();
        let end = self.rest.find(char::is_whitespace);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        self.skip();
        (!word.is_empty()).then_some((column, word))
    }
}

/// The column of a byte of a line.
fn column(line: &str, byte: usize) -> usize {
    let before = line.char_indices().take_while(|(index, _)| *index < byte);
    before.count() + 1
}

/// The schedule of a line, and the column of what it is known by.
fn read_line(line: &mut Line<'_>) -> Result<(Schedule, usize), Wrong> {
    let (mut fields, mut columns) = ([""; 5], [1; 5]);
    for (number, (field, column)) in fields.iter_mut().zip(&mut columns).enumerate() {
        (*column, *field) = line.word().ok_or_else(|| {
            let name = pattern::name(number);
            (
                line.column(),
                format!("the line ends where its {name} should stand"),
            )
        })?;
    }
    let pattern = Pattern::of(fields).map_err(|bad| {
        let column = columns.get(bad.field).copied().unwrap_or(1);
        (column, bad.message)
    })?;
    let (place, task) = line
        .word()
        .filter(|(_, word)| !word.starts_with(['?', '{']))
        .ok_or_else(|| {
            (
                line.column(),
                "a task should stand behind the fields".to_owned(),
            )
        })?;
    let mut schedule = Schedule::of_pattern(task.to_owned(), pattern);
    check(&schedule, place)?;

    let mut of_id = place;
    if line.rest.starts_with('?')
        && let Some((column, word)) = line.word()
    {
        (schedule, of_id) = read_options(schedule, column, word, place)?;
    }
    if line.rest.starts_with('{') {
        let text = line.rest.trim_end();
        let start = line.whole.len() - line.rest.len();
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let byte = start + error.column().saturating_sub(1);
            let message = format!("the payload is not JSON: {error}");
            return Err((column(line.whole, byte), message));
        }
        let wrong = |error: job::Error| (line.column(), said(&error));
        schedule = schedule.payload_json(text).map_err(wrong)?;
    } else if !line.rest.is_empty() {
        let message = "only ?options and then a {json payload} may stand behind the task";
        return Err((line.column(), message.to_owned()));
    }
    Ok((schedule, of_id))
}

fn check(schedule: &Schedule, column: usize) -> Result<(), Wrong> {
    schedule.check().map_err(|error| (column, said(&error)))
}

/// What an error says, without its code.
fn said(error: &job::Error) -> String {
    match error {
        job::Error::Invalid { message, .. } => message.clone(),
        error => error.to_string(),
    }
}

/// Reads the options in a word. Says the column of what the schedule is known by, too.
fn read_options(
    mut schedule: Schedule,
    start: usize,
    word: &str,
    mut of_id: usize,
) -> Result<(Schedule, usize), Wrong> {
    let mut names: Vec<&str> = Vec::new();
    let mut mode = None;
    let mut column = start + 1;
    for option in word.trim_start_matches('?').split('&') {
        let Some((name, value)) = option.split_once('=') else {
            let message = format!("{option:?} is no option such as max=3");
            return Err((column, message));
        };
        if names.contains(&name) {
            return Err((column, format!("the option {name} is said twice")));
        }
        names.push(name);
        let at = column + name.chars().count() + 1;
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| (at, format!("the {name} is not UTF-8")))?;
        schedule = match name {
            "id" => {
                of_id = at;
                schedule.id(&*value)
            }
            "fill" => {
                let fill = duration::parse(&value).map_err(|why| (at, why))?;
                schedule.missed(Missed::All(fill))
            }
            "max" => schedule.max_attempts(number(name, &value, at)?),
            "priority" => schedule.priority(number(name, &value, at)?),
            "jobKey" => schedule.key(&*value),
            "jobKeyMode" => {
                let said: KeyMode = value.parse().map_err(|error| (at, said(&error)))?;
                mode = Some((column, said));
                schedule
            }
            "queue" => schedule.queue(&*value),
            _ => {
                let message = format!(
                    "there is no option {name:?}; there are id, fill, max, queue, priority, jobKey and jobKeyMode"
                );
                return Err((column, message));
            }
        };
        check(&schedule, at)?;
        column += option.chars().count() + 1;
    }
    // It may stand before the key.
    if let Some((column, mode)) = mode {
        schedule = schedule.key_mode(mode);
        check(&schedule, column)?;
    }
    Ok((schedule, of_id))
}

fn number<T: FromStr>(name: &str, value: &str, column: usize) -> Result<T, Wrong> {
    value.parse().map_err(|_| {
        (
            column,
            format!("{value:?} is no number that can be a {name}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<String> {
        let schedules = parse(text).unwrap().into_iter();
        schedules
            .map(|schedule| serde_json::to_string(&schedule).unwrap())
            .collect()
    }

    #[test]
    fn a_line_says_all_there_is_to_say() {
        let text = "\u{feff}# what we do\n\n  # and when\r\n\
            0 4 * * 1-5\treport ?id=nightly&fill=4w3d2h1m30s&max=3&priority=-5&jobKey=a%26b%20c&jobKeyMode=preserve_run_at&queue=q%2F1 {\"to\": \"ada\"}  \r\n\
            */10 * * * * tidy\n\
            0 0 1 1 * new-year {}";
        assert_eq!(
            json(text),
            [
                r#"{"id":"nightly","task":"report","when":{"cron":{"fields":"0 4 * * 1-5","time_zone":"UTC"}},"missed":{"all":"4w3d2h1m30s"},"jitter":"0s","payload":{"to":"ada"},"priority":-5,"max_attempts":3,"key":"a&b c","key_mode":"preserve_run_at","queue":"q/1"}"#,
                r#"{"id":"tidy","task":"tidy","when":{"cron":{"fields":"*/10 * * * *","time_zone":"UTC"}},"missed":"skip","jitter":"0s","payload":{},"priority":0,"max_attempts":25,"key":null,"key_mode":null,"queue":null}"#,
                r#"{"id":"new-year","task":"new-year","when":{"cron":{"fields":"0 0 1 1 *","time_zone":"UTC"}},"missed":"skip","jitter":"0s","payload":{},"priority":0,"max_attempts":25,"key":null,"key_mode":null,"queue":null}"#,
            ]
        );
    }

    #[test]
    fn an_empty_crontab_has_no_schedules() {
        for text in ["", "\n\n", "# nothing", "  \t \r\n"] {
            assert!(parse(text).unwrap().is_empty());
        }
    }

    #[test]
    fn one_task_may_have_several_lines_with_an_id_each() {
        let text = "0 4 * * * report\n0 5 * * * report ?id=late";
        assert_eq!(parse(text).unwrap().len(), 2);
    }

    #[test]
    fn a_mode_may_stand_before_its_key() {
        let [schedule] = &json("0 0 * * * t ?jobKeyMode=replace&jobKey=k")[..] else {
            panic!("one line is one schedule");
        };
        assert!(schedule.contains(r#""key":"k","key_mode":"replace""#));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        for (text, line, column, says) in [
            ("60 * * * * t", 1, 1, "minute"),
            ("\n\n  0 24 * * * t", 3, 5, "hour"),
            ("0 0 32 * * t", 1, 5, "day of the month"),
            ("0 0 * 13 * t", 1, 7, "month"),
            ("0 0 * * 8 t", 1, 9, "day of the week"),
            ("0 0 * * mom t", 1, 9, "mom"),
            ("5-1 * * * * t", 1, 1, "behind"),
            ("*/0 * * * * t", 1, 1, "minute"),
            ("0 0 30 2 * t", 1, 1, "never"),
            ("0 0 * *", 1, 8, "day of the week"),
            ("0", 1, 2, "hour"),
            ("0 0 * * *", 1, 10, "task"),
            ("0 0 * * * ?max=3", 1, 17, "task"),
            ("0 0 * * * t odd", 1, 13, "?options"),
            ("0 0 * * * t # no comment", 1, 13, "?options"),
            ("0 0 * * * t ?max=3 odd", 1, 20, "?options"),
            ("0 0 * * * t ?", 1, 14, "no option such as"),
            ("0 0 * * * t ?max", 1, 14, "no option such as"),
            ("0 0 * * * t ?max=3&", 1, 20, "no option such as"),
            ("0 0 * * * t ?size=3", 1, 14, "there is no option \"size\""),
            ("0 0 * * * t ?max=3&max=4", 1, 20, "twice"),
            ("0 0 * * * t ?max=0", 1, 18, "max_attempts"),
            ("0 0 * * * t ?max=-1", 1, 18, "max"),
            ("0 0 * * * t ?priority=99999", 1, 23, "priority"),
            ("0 0 * * * t ?id=é&fill=1y", 1, 24, "1y"),
            ("0 0 * * * t ?id=", 1, 17, "empty"),
            ("0 0 * * * t ?jobKey=", 1, 21, "empty"),
            ("0 0 * * * t ?id=%ff", 1, 17, "UTF-8"),
            (
                "0 0 * * * t ?jobKey=k&jobKeyMode=mad",
                1,
                34,
                "\"mad\" is no key mode",
            ),
            (
                "0 0 * * * t ?jobKeyMode=unsafe_dedupe",
                1,
                14,
                "without a job key",
            ),
            ("0 0 * * * t ?queue=", 1, 20, "empty"),
            ("0 0 * * * é {\"ü\": x}", 1, 19, "JSON"),
            ("0 0 * * * t {\"a\": 1", 1, 19, "JSON"),
            ("0 0 * * * t {} {}", 1, 16, "JSON"),
            ("0 0 * * * t {\"_cron\": 1}", 1, 13, "_cron"),
            ("0 0 * * * t [1]", 1, 13, "?options"),
            ("0 0 * * * t\n0 1 * * * u\n0 2 * * * t", 3, 11, "line 1"),
            ("0 0 * * * t\n0 2 * * * u ?max=1&id=t", 2, 23, "line 1"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(
                (error.line(), error.column()),
                (line, column),
                "{text}: {error}"
            );
            assert!(error.message().contains(says), "{text}: {error}");
            let place = format!("line {line}, column {column}");
            assert!(error.to_string().contains(&place), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9*/, \\-]{1,12} ){0,6}\\PC{0,40}\n?\\PC*") {
            let _ = parse(&text);
        }
    }
}
