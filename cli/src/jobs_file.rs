//! A file of jobs, one JSON object a line.
//!
//! It is read as a stream: what is kept of a line once it was handed on is a number that counts
//! lines like it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use kvjob::clock::Timestamp;
use kvjob::job::Payload;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The longest line: payloads end before.
const MAX_LINE: usize = 4 << 20;
/// How much is read ahead at once.
const BUFFER: usize = 64 << 10;
/// A batch ends here at the latest.
const BATCH_LINES: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// What a line may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobLine {
    pub(crate) task: String,
    pub(crate) payload: Payload,
    pub(crate) key: Option<String>,
    pub(crate) queue: Option<String>,
    #[serde(default)]
    pub(crate) priority: i16,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) max_attempts: Option<u32>,
}

/// A line that is not blank.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) job: Result<Keyed, Problem>,
}

/// A job and the key under which it is enqueued once.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) job: JobLine,
    pub(crate) key: String,
}

/// Why a line is not a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counted in bytes from 1; 0 if the line as a whole is meant.
    pub(crate) column: usize,
    pub(crate) what: String,
}

/// Reads lines in batches: each is as large as may be had without waiting for more input.
pub(crate) struct Batches<R> {
    input: BufReader<R>,
    number: u64,
    /// How often a line was there before, by the first half of a hash. Where two lines share
    /// one, they count together: that is as good, for it is the same each time the file is read.
    seen: HashMap<u64, u32>,
}

impl<R: Read> Batches<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            number: 0,
            seen: HashMap::new(),
        }
    }

    /// The next lines; none at the end.
    pub(crate) fn next_batch(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        loop {
            let mut text = Vec::new();
            let length = read_line(&mut self.input, &mut text)?;
            if length == 0 {
                return Ok(lines);
            }
            self.number += 1;
            bytes += length;
            let mut text = text.as_slice();
            if self.number == 1 {
                // The mark some editors put at the start of a file.
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            if length > MAX_LINE || !text.trim_ascii().is_empty() {
                let job = if length > MAX_LINE {
                    let what =
                        format!("{length} bytes are over the limit of {MAX_LINE} for a line");
                    Err(Problem { column: 0, what })
                } else {
                    self.parse(text)
                };
                lines.push(Line {
                    number: self.number,
                    job,
                });
            }
            let waits = self.input.buffer().is_empty();
            let full = lines.len() >= BATCH_LINES || bytes >= BATCH_BYTES;
            if full || (waits && !lines.is_empty()) {
                return Ok(lines);
            }
        }
    }

    fn parse(&mut self, text: &[u8]) -> Result<Keyed, Problem> {
        let digest = Sha256::digest(text.trim_ascii());
        let mut half = [0; 8];
        half.iter_mut()
            .zip(&digest)
            .for_each(|(to, from)| *to = *from);
        let seen = self.seen.entry(u64::from_le_bytes(half)).or_insert(0);
        let occurrence = *seen;
        *seen += 1;

        let job: JobLine = serde_json::from_slice(text).map_err(|error| problem(&error))?;
        let key = match &job.key {
            Some(key) => key.clone(),
            None => digest_key(&digest, occurrence),
        };
        Ok(Keyed { job, key })
    }
}

/// The key of a line without one: the same each time the file is read, and different for each
/// of several equal lines.
fn digest_key(line: &[u8], occurrence: u32) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    hash.update(line);
    hash.update(occurrence.to_le_bytes());
    let mut key = "line:".to_owned();
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

fn problem(error: &serde_json::Error) -> Problem {
    let what = error.to_string();
    // The line is always 1 there, and the column is told apart.
    let what = match what.rfind(" at line ") {
        Some(place) => what.get(..place).unwrap_or(&what).to_owned(),
        None => what,
    };
    Problem {
        column: error.column(),
        what,
    }
}

/// Reads a line without its end into `text` and says how many bytes it has, its end included; 0
/// at the end of the input. Of a line that is too long only the beginning is kept.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or(buffer);
        let room = MAX_LINE.saturating_sub(text.len());
        text.extend(part.iter().take(room));
        let used = part.len() + usize::from(end.is_some());
        length += used;
        input.consume(used);
        if end.is_some() || used == 0 {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut batches = Batches::new(text);
        let mut all = Vec::new();
        loop {
            let batch = batches.next_batch().unwrap();
            if batch.is_empty() {
                return all;
            }
            all.extend(batch);
        }
    }

    fn problem_of(text: &str) -> Problem {
        lines(text.as_bytes()).remove(0).job.unwrap_err()
    }

    #[test]
    fn a_line_says_all_it_may_say() {
        let text = r#"{"task":"t","payload":{"a": 1},"key":"k","queue":"q","priority":-3,"run_at":"2026-01-01T00:00:00Z","max_attempts":7}"#;
        let line = lines(text.as_bytes()).remove(0).job.unwrap();
        assert_eq!(line.key, "k");
        assert_eq!(line.job.task, "t");
        assert_eq!(line.job.payload.as_str(), r#"{"a": 1}"#);
        assert_eq!(line.job.queue.as_deref(), Some("q"));
        assert_eq!(line.job.priority, -3);
        assert_eq!(line.job.run_at.unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(line.job.max_attempts, Some(7));
    }

    #[test]
    fn blank_lines_count_but_are_no_jobs() {
        let text = b"\xef\xbb\xbf{\"task\":\"a\",\"payload\":1}\r\n\r\n  \n{\"task\":\"b\",\"payload\":null}";
        let numbers: Vec<u64> = lines(text).iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 4]);
        assert!(lines(text).iter().all(|line| line.job.is_ok()));
    }

    #[test]
    fn equal_lines_are_different_jobs_with_the_same_keys_each_time() {
        let text = "{\"task\":\"a\",\"payload\":1}\n".repeat(3);
        let keys = |text: &str| -> Vec<String> {
            let lines = lines(text.as_bytes()).into_iter();
            lines.map(|line| line.job.unwrap().key).collect()
        };
        let first = keys(&text);
        assert_eq!(first, keys(&text));
        assert_eq!(
            first
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            3
        );
        let longer = format!("{{\"task\":\"new\",\"payload\":1}}\n{text}");
        assert_eq!(first, keys(&longer)[1..]);
    }

    #[test]
    fn a_mistake_is_told_with_its_column() {
        let problem = problem_of(r#"{"task":"a","payload":1,"prio":2}"#);
        assert_eq!(problem.column, 30);
        assert!(problem.what.contains("unknown field `prio`"), "{problem:?}");
        assert!(problem.what.contains("`priority`"), "{problem:?}");
        assert!(!problem.what.contains("line 1"), "{problem:?}");

        assert!(
            problem_of(r#"{"task":"a"}"#)
                .what
                .contains("missing field `payload`")
        );
        assert!(problem_of(r#"{"task":"a","payload":{]}"#).column > 20);
        assert!(problem_of("[1]").column > 0);
        let problem = problem_of(r#"{"task":"a","payload":1,"priority":99999}"#);
        assert!(problem.what.contains("i16"), "{problem:?}");
        let problem = problem_of(r#"{"task":"a","payload":1,"run_at":"tomorrow"}"#);
        assert!(problem.what.contains("2026-11-21"), "{problem:?}");
    }

    #[test]
    fn bytes_that_are_not_text_are_a_mistake_of_their_line_only() {
        let lines = lines(b"{\"task\":\"\xff\",\"payload\":1}\n{\"task\":\"a\",\"payload\":1}\n");
        assert!(lines[0].job.is_err());
        assert!(lines[1].job.is_ok());
    }

    #[test]
    fn a_line_without_end_is_not_kept_whole() {
        let mut text = vec![b'x'; MAX_LINE + 100];
        text.extend(b"\n{\"task\":\"a\",\"payload\":1}\n");
        let lines = lines(&text);
        assert!(
            lines[0]
                .job
                .as_ref()
                .unwrap_err()
                .what
                .contains("over the limit")
        );
        assert_eq!(lines[1].number, 2);
        assert!(lines[1].job.is_ok());
    }

    #[test]
    fn a_batch_does_not_wait_for_input_that_may_come_later() {
        /// Gives a line, then would wait for ever.
        struct Slow(bool);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(!std::mem::replace(&mut self.0, true), "it waited for more");
                let line = b"{\"task\":\"a\",\"payload\":1}\n";
                buffer[..line.len()].copy_from_slice(line);
                Ok(line.len())
            }
        }
        assert_eq!(Batches::new(Slow(false)).next_batch().unwrap().len(), 1);
    }
}
