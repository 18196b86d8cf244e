//! Times that this process uses once each, for keys that are ordered by time.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Timestamp};

/// Gives out each microsecond once; the writer tells processes apart.
#[derive(Debug)]
pub(in crate::job) struct Stamps {
    last: AtomicI64,
    writer: u64,
}

impl Stamps {
    pub(in crate::job) fn new(writer: u64) -> Self {
        Self {
            last: AtomicI64::new(i64::MIN),
            writer,
        }
    }

    /// Now, or the next free microsecond after it.
    pub(in crate::job) fn next(&self, clock: &dyn Clock) -> (Timestamp, u64) {
        let now = clock.now().as_micros();
        let after = |last: i64| now.max(last.saturating_add(1));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(after(last))
            })
            .unwrap_or_else(|last| last);
        (Timestamp::from_micros(after(last)), self.writer)
    }
}
