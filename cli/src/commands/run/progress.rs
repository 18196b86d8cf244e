//! What is seen while it runs: a bar on a terminal, and messages that do not tear it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tracker::Tracker;
use crate::output;

/// Fits a terminal of 80 columns; the bar takes what is left.
const TEMPLATE: &str = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {msg} {per_sec}";

/// The bar, hidden where standard error is no terminal. Clones are the same.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // The template is fixed; without it the default one does.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message("opening the store");
        Self { bar }
    }

    pub(super) fn show(&self, tracker: &Tracker) {
        if self.bar.is_hidden() {
            return;
        }
        let failed = tracker.now.failed + tracker.now.canceled + tracker.now.lost;
        let before = tracker.before;
        let found = before.completed + before.failed + before.canceled + before.lost;
        // What ended before is no work of this run: it would spoil the rate.
        self.bar.set_length(tracker.jobs() - found);
        self.bar.set_position(tracker.now.completed + failed);
        let mut message = format!(
            "{} ok, {failed} failed, {} running",
            tracker.now.completed,
            tracker.running.len()
        );
        if !tracker.retrying.is_empty() {
            message = format!("{message}, {} to retry", tracker.retrying.len());
        }
        self.bar.set_message(message);
    }

    /// Says something beside the bar.
    pub(super) fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
