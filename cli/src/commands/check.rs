//! `kvjob check`: what is not as it must be in a store, and what was done about it.

use std::process::ExitCode;

use kvjob::job::{CheckEvent, Checked, Finding, KvStore};

use super::NOT_SOUND;
use crate::args::{Check, Global};
use crate::error::Result;
use crate::output::{Out, count, counter, printable};
use crate::store::{self, Opened};

pub(super) async fn run(global: &Global, args: &Check) -> Result<ExitCode> {
    let store = Opened::open_to_check(global).await?;
    let mut out = Out::new();
    let checked = check(global, args, store.kv(), &mut out).await;
    let closed = store.close().await;
    let checked = checked?;
    closed?;
    Ok(match checked.left() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_SOUND),
    })
}

async fn check(global: &Global, args: &Check, jobs: &KvStore, out: &mut Out) -> Result<Checked> {
    let bar = counter("records looked at");
    let mut told = Ok(());
    let checked = jobs.check(args.repair, |event| match event {
        CheckEvent::Looked(objects) => bar.set_position(objects),
        // If nobody reads any more, what was begun is still finished.
        CheckEvent::Found(finding) if told.is_ok() => {
            told = bar.suspend(|| tell(global, out, &finding));
        }
        _ => {}
    });
    let checked = checked.await;
    bar.finish_and_clear();
    let checked = checked?;
    told?;
    sum_up(global, args, out, &checked)?;
    Ok(checked)
}

fn tell(global: &Global, out: &mut Out, finding: &Finding) -> Result<()> {
    if global.json {
        out.json_line(finding)?;
        return out.flush();
    }
    match finding.job {
        Some(id) => out.line(&format!("{}: job {id}", finding.damage))?,
        None => out.line(finding.damage.as_str())?,
    }
    out.line(&format!("  {}", printable(&finding.message, false)))?;
    out.line(&format!("  key: {}", printable(&finding.key, false)))?;
    if let Some(action) = &finding.action {
        let done = if finding.mended { "mended" } else { "left" };
        out.line(&format!("  {done}: {action}"))?;
    }
    out.flush()
}

fn sum_up(global: &Global, args: &Check, out: &mut Out, checked: &Checked) -> Result<()> {
    if global.json {
        out.json_line(checked)?;
        return out.flush();
    }
    let seen = format!(
        "looked at {} and {}",
        count(checked.jobs, "job"),
        count(
            checked.objects - checked.jobs.min(checked.objects),
            "other record"
        ),
    );
    let found = match (checked.found, checked.mended) {
        (0, _) => "found nothing wrong".to_owned(),
        (found, 0) => format!("{}, none mended", count(found, "finding")),
        (found, mended) => format!("{}, {mended} mended", count(found, "finding")),
    };
    out.line(&format!("{seen}: {found}"))?;
    if checked.too_new > 0 {
        out.line(&format!(
            "Written by a newer kvjob and left alone: {}",
            checked.too_new
        ))?;
    }
    if checked.left() > 0 && !args.repair {
        let repair = store::command(global, "check --repair");
        out.line(&format!("`{repair}` mends what can be mended."))?;
    }
    out.flush()
}
