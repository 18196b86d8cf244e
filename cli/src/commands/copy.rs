//! `kvjob copy`, and what it shares with `kvjob dump` and `kvjob restore`: the bar, and what is said
//! in the end.

use std::process::ExitCode;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvjob::job::{Copied, Copying, Existing, Stage};

use crate::args::{Copy, Global};
use crate::error::Result;
use crate::output::{Out, count};
use crate::store::Whole;

pub(super) async fn run(global: &Global, args: &Copy) -> Result<ExitCode> {
    let from = Whole::open(&args.from).await?;
    let to = match from.open_beside(&args.to).await {
        Ok(to) => to,
        Err(error) => {
            // What stands in the way is what matters.
            let _ = from.close().await;
            return Err(error);
        }
    };
    let mut progress = Progress::new();
    let copied = from
        .namespace
        .copy_to(&to.namespace, existing(args.overwrite), |at| {
            progress.show(at);
        });
    let copied = copied.await;
    progress.finish();
    let way = format!("from {} to {}", from.url(), to.url());
    // What was copied is on disk once the target is closed.
    let closed = to.close().await;
    let released = from.close().await;
    let copied = copied?;
    closed?;
    released?;
    let mut out = Out::new();
    tell(global, &mut out, &format!("copied {way}"), &copied)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn existing(overwrite: bool) -> Existing {
    if overwrite {
        Existing::Replace
    } else {
        Existing::Refuse
    }
}

pub(super) fn tell(global: &Global, out: &mut Out, done: &str, copied: &Copied) -> Result<()> {
    if global.json {
        out.json_line(copied)?;
    } else {
        out.text(&summary(done, copied))?;
    }
    out.flush()
}

pub(super) fn summary(done: &str, copied: &Copied) -> String {
    let mut text = format!(
        "{done}: {}, {}, {}\n",
        count(copied.jobs, "job"),
        count(copied.records, "record"),
        HumanBytes(copied.bytes),
    );
    let same = copied.records.saturating_sub(copied.written);
    if same > 0 || copied.removed > 0 {
        text = format!(
            "{text}{} there already, {} written, {} removed\n",
            same, copied.written, copied.removed
        );
    }
    format!("{text}digest: {}\n", copied.digest)
}

/// A bar for each stage of a copy, hidden where standard error is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    stage: Option<Stage>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            stage: None,
        }
    }

    pub(super) fn show(&mut self, at: Copying) {
        if self.stage != Some(at.stage) {
            self.stage = Some(at.stage);
            self.begin(at);
        }
        self.bar.set_position(at.records);
    }

    fn begin(&self, at: Copying) {
        let template = if at.of.is_some() {
            "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}"
        } else {
            "{spinner} {msg} {human_pos} records ({per_sec})"
        };
        // The template is fixed; without it the default one does.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        match at.of {
            Some(of) => self.bar.set_length(of),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(match at.stage {
            Stage::Counting => "reading",
            Stage::Copying => "copying",
            _ => "verifying",
        });
        self.bar.reset_eta();
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
