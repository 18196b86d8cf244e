//! How it went.

use std::time::Duration;

use kvjob::job::State;
use serde::Serialize;

use super::tracker::{Counts, Failed, Tracker};
use crate::args::Global;
use crate::error::Result;
use crate::output::{Out, count, cut, lasting};
use crate::store;

/// How it went. In JSON, the numbers of jobs add up: `jobs` are those of `now`, of `before` and
/// `open` ones.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Lines that are not blank.
    lines: u64,
    /// Lines that are wrong.
    bad_lines: u64,
    /// Lines whose key an earlier line of the file has.
    duplicates: u64,
    /// Jobs of the file.
    jobs: u64,
    /// Those that were added by this run.
    added: u64,
    /// Those that ended in this run.
    #[serde(flatten)]
    now: Counts,
    /// Those that had ended before this run.
    before: Counts,
    /// Those that have not ended, because it was stopped.
    open: u64,
    /// Those of this run that needed more than one attempt.
    retried: u64,
    /// Other jobs of the store that ended meanwhile.
    others: u64,
    seconds: f64,
    jobs_per_second: f64,
    stopped: bool,
    /// The first of those that did not complete.
    not_completed: Vec<Failed>,
}

impl Summary {
    pub(super) fn new(tracker: &Tracker, elapsed: Duration, stopped: bool) -> Self {
        let now = tracker.now;
        let ended = now.completed + now.failed + now.canceled + now.lost;
        let seconds = elapsed.as_secs_f64();
        // Counts are far below what a float holds exactly.
        #[expect(clippy::cast_precision_loss)]
        let jobs_per_second = ended as f64 / seconds.max(0.001);
        Self {
            lines: tracker.lines,
            bad_lines: tracker.bad_lines,
            duplicates: tracker.duplicates,
            jobs: tracker.jobs(),
            added: tracker.jobs() - tracker.found,
            now,
            before: tracker.before,
            open: tracker.open(),
            retried: tracker.retried,
            others: tracker.others,
            seconds,
            jobs_per_second,
            stopped,
            not_completed: tracker.named.clone(),
        }
    }

    /// Whether every line is a job that completed, now or before.
    pub(super) fn all_completed(&self) -> bool {
        self.bad_lines == 0 && self.now.completed + self.before.completed == self.jobs
    }

    pub(super) fn print(&self, out: &mut Out, global: &Global) -> Result<()> {
        let Counts {
            completed,
            failed,
            canceled,
            lost,
        } = self.now;
        let mut parts = vec![format!("{completed} completed"), format!("{failed} failed")];
        let mut more = |number: u64, what: &str| {
            if number > 0 {
                parts.push(format!("{number} {what}"));
            }
        };
        more(canceled, "canceled");
        more(lost, "lost");
        more(self.before.completed, "completed before");
        more(self.before.failed, "failed before");
        more(self.before.canceled, "canceled before");
        more(self.before.lost, "taken out before");
        more(self.open, "not done");
        out.line(&format!(
            "{}: {}",
            count(self.jobs, "job"),
            parts.join(", ")
        ))?;
        out.line(&format!(
            "{} retried, {:.1} jobs/s, {}",
            self.retried,
            self.jobs_per_second,
            lasting(Duration::from_secs_f64(self.seconds))
        ))?;
        if self.bad_lines > 0 {
            out.line(&format!(
                "{} wrong and left out",
                count(self.bad_lines, "line")
            ))?;
        }
        if self.duplicates > 0 {
            let lines = count(self.duplicates, "line");
            out.line(&format!("{lines} with the key of an earlier one"))?;
        }
        if self.others > 0 {
            out.line(&format!(
                "{} of others ended meanwhile",
                count(self.others, "job")
            ))?;
        }
        self.print_failed(out, global)?;
        if self.stopped {
            out.line("Stopped. The same command goes on from here.")?;
        }
        Ok(())
    }

    fn print_failed(&self, out: &mut Out, global: &Global) -> Result<()> {
        if self.not_completed.is_empty() {
            return Ok(());
        }
        out.line("\nNot completed:")?;
        for job in &self.not_completed {
            let state = match job.state {
                Some(State::Canceled) => "canceled: ",
                _ => "",
            };
            let error = job.error.as_deref().unwrap_or_default();
            let (task, error) = (cut(&job.task, 24), cut(error, 100));
            out.line(&format!("  {}  {task:<12}  {state}{error}", job.id))?;
        }
        let all = [self.now, self.before];
        let all: u64 = all.iter().map(|c| c.failed + c.canceled + c.lost).sum();
        if let Some(more) = all.checked_sub(self.not_completed.len() as u64)
            && more > 0
        {
            out.line(&format!("  and {more} more"))?;
        }
        let show = store::command(global, "show ID");
        let retry = store::command(global, "retry --state failed,timed_out");
        out.line(&format!("Look further: {show}"))?;
        out.line(&format!("Try them again: {retry}; then the same command"))
    }
}
