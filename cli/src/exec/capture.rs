//! What a command writes, cut to a bound: the end is kept, for that is where an error stands.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much of the output of one attempt is kept, both streams together.
pub(crate) const KEPT: usize = 64 << 10;

/// The two streams of one attempt.
#[derive(Default)]
pub(super) struct Output {
    pub(super) stdout: Tail,
    pub(super) stderr: Tail,
}

impl Output {
    /// What goes to the log: nothing for a stream that stayed empty. Each stream may have half
    /// of the room, and what the other one leaves.
    pub(super) fn texts(&self) -> (Option<String>, Option<String>) {
        let half = KEPT / 2;
        let (out, err) = (self.stdout.kept.len(), self.stderr.kept.len());
        (
            self.stdout
                .text(KEPT - err.min(half.max(KEPT.saturating_sub(out)))),
            self.stderr
                .text(KEPT - out.min(half.max(KEPT.saturating_sub(err)))),
        )
    }
}

/// The end of a stream.
#[derive(Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    /// All bytes there were.
    seen: u64,
}

impl Tail {
    /// Reads a stream to its end. What was read is kept if this is dropped before.
    pub(super) async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 8 << 10];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => self.push(buffer.get(..length).unwrap_or_default()),
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        self.seen += bytes.len() as u64;
    }

    /// The last of it as text of at most `room` bytes, and whether something is missing.
    fn text(&self, room: usize) -> Option<String> {
        let skip = self.kept.len().saturating_sub(room);
        let bytes: Vec<u8> = self.kept.iter().skip(skip).copied().collect();
        // Bytes that are not text become a sign of three bytes each.
        let text = String::from_utf8_lossy(&bytes);
        let mut start = text.len().saturating_sub(room);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let text = text.get(start..).unwrap_or_default().trim_end_matches('\n');
        if self.seen == 0 {
            return None;
        }
        let cut = start > 0 || self.seen > bytes.len() as u64;
        Some(if cut {
            format!("[cut: the last of {} bytes]\n{text}", self.seen)
        } else {
            text.to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: usize, stderr: usize) -> (usize, usize) {
        let mut output = Output::default();
        output.stdout.push(&vec![b'o'; stdout]);
        output.stderr.push(&vec![b'e'; stderr]);
        let (out, err) = output.texts();
        let count = |text: Option<String>| {
            let text = text.unwrap_or_default();
            let (head, body) = text.rsplit_once('\n').unwrap_or(("", &text));
            assert_eq!(!head.is_empty(), head.starts_with("[cut: "));
            body.len()
        };
        (count(out), count(err))
    }

    #[test]
    fn both_streams_share_the_room_and_none_is_crowded_out() {
        assert_eq!(output(10, 20), (10, 20));
        assert_eq!(output(1 << 20, 0), (KEPT, 0));
        assert_eq!(output(1 << 20, 100), (KEPT - 100, 100));
        assert_eq!(output(100, 1 << 20), (100, KEPT - 100));
        assert_eq!(output(1 << 20, 1 << 20), (KEPT / 2, KEPT / 2));
        assert_eq!(output(KEPT / 2, KEPT / 2), (KEPT / 2, KEPT / 2));
        assert_eq!(output(KEPT / 2 + 1, KEPT / 2), (KEPT / 2, KEPT / 2));
    }

    #[test]
    fn the_end_is_kept_and_the_cut_is_told() {
        let mut tail = Tail::default();
        for number in 0..40_000 {
            tail.push(format!("{number}\n").as_bytes());
        }
        let text = tail.text(100).unwrap();
        assert!(
            text.starts_with("[cut: the last of 228890 bytes]\n"),
            "{text}"
        );
        assert!(text.ends_with("39999"), "{text}");
    }

    #[test]
    fn what_is_not_text_does_not_outgrow_the_room() {
        let mut tail = Tail::default();
        tail.push(&[0xff; 1000]);
        let text = tail.text(1000).unwrap();
        assert!(text.len() < 1100, "{}", text.len());
        assert!(text.starts_with("[cut: "));
    }

    #[test]
    fn an_empty_stream_has_nothing_to_log() {
        assert_eq!(Tail::default().text(KEPT), None);
    }
}
