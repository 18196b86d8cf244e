//! `kvjob quarantine`: records that could not be read and were put aside.

use std::fmt::Write as _;
use std::process::ExitCode;

use kvjob::job::{self, QuarantineId, Quarantined, QuarantinedRecord};
use serde::Serialize;

use super::NOT_ALL;
use crate::args::{Action, Global};
use crate::error::Result;
use crate::output::{self, Out, cut, printable, seconds};
use crate::store::{self, Missing, Opened};

/// How many records are asked for at once.
const PAGE: usize = 100;
/// Bytes in a line of a dump.
const DUMPED: usize = 16;

pub(super) async fn run(global: &Global, action: &Action) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let mut out = Out::new();
    let done = act(global, action, &store, &mut out).await;
    let closed = store.close().await;
    let code = done?;
    closed?;
    Ok(code)
}

async fn act(global: &Global, action: &Action, store: &Opened, out: &mut Out) -> Result<ExitCode> {
    let code = match action {
        Action::List => list(global, store, out).await?,
        Action::Show { id } => show(global, *id, store, out).await?,
        Action::Release { ids, unreadable } => {
            release(global, ids, *unreadable, store, out).await?
        }
        Action::Remove { ids } => remove(global, ids, store, out).await?,
    };
    out.flush()?;
    Ok(code)
}

async fn list(global: &Global, store: &Opened, out: &mut Out) -> Result<ExitCode> {
    let (mut any, mut cursor) = (false, None);
    loop {
        let page = store.jobs.quarantine(PAGE, cursor).await?;
        for record in &page.items {
            if global.json {
                out.json_line(record)?;
            } else {
                if !any {
                    out.line(HEADER)?;
                }
                out.line(&row(record))?;
            }
            any = true;
        }
        out.flush()?;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if !any && !global.json {
        output::note("nothing was put aside");
    }
    Ok(ExitCode::SUCCESS)
}

const HEADER: &str = "ID                AT                       BYTES  KEY";

fn row(record: &Quarantined) -> String {
    format!(
        "{}  {:<20}  {:>8}  {}  ({})",
        record.id,
        seconds(record.at),
        record.bytes,
        printable(&record.key, false),
        cut(&record.reason, 100),
    )
}

async fn show(
    global: &Global,
    id: QuarantineId,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let Some(record) = store.jobs.quarantined(id).await? else {
        return Ok(missing(global, id));
    };
    if global.json {
        out.json_line(&Shown::from(&record))?;
        return Ok(ExitCode::SUCCESS);
    }
    let about = &record.about;
    for (name, value) in [
        ("id", about.id.to_string()),
        ("put aside", about.at.to_string()),
        ("reason", about.reason.clone()),
    ] {
        let value = printable(&value, false);
        out.line(&format!("{:<13}{value}", format!("{name}:")))?;
    }
    for (name, bytes) in [("Key", &record.key), ("Value", &record.value)] {
        out.line(&format!(
            "\n{name}, {}",
            output::count(bytes.len() as u64, "byte")
        ))?;
        for (number, line) in bytes.chunks(DUMPED).enumerate() {
            out.line(&dump(number * DUMPED, line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A record in JSON, with its bytes.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    about: &'a Quarantined,
    raw_key: String,
    raw_value: String,
}

impl<'a> From<&'a QuarantinedRecord> for Shown<'a> {
    fn from(record: &'a QuarantinedRecord) -> Self {
        Self {
            about: &record.about,
            raw_key: hex(&record.key, ""),
            raw_value: hex(&record.value, ""),
        }
    }
}

fn hex(bytes: &[u8], between: &str) -> String {
    let mut text = String::with_capacity(bytes.len() * (2 + between.len()));
    for (number, byte) in bytes.iter().enumerate() {
        let between = if number == 0 { "" } else { between };
        // Writing to a String cannot fail.
        let _ = write!(text, "{between}{byte:02x}");
    }
    text
}

/// Where the line begins, its bytes, and those that can be printed.
fn dump(begins_at: usize, bytes: &[u8]) -> String {
    let text: String = bytes
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        })
        .collect();
    let width = DUMPED * 3 - 1;
    format!("  {begins_at:06x}  {:<width$}  {text}", hex(bytes, " "))
}

async fn release(
    global: &Global,
    ids: &[QuarantineId],
    unreadable: bool,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match store.jobs.release_quarantined(*id, unreadable).await {
            Ok(Some(released)) if global.json => out.json_line(&released)?,
            Ok(Some(released)) => match released.job {
                Some(job) => out.line(&format!("released: job {} is {}", job.id, job.state))?,
                None => out.line(&format!(
                    "released: {}",
                    printable(&released.record.key, false)
                ))?,
            },
            Ok(None) => code = missing(global, *id),
            // The others may go.
            Err(error @ job::Error::Invalid { .. }) => {
                output::note(&error.to_string());
                code = ExitCode::from(NOT_ALL);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(code)
}

async fn remove(
    global: &Global,
    ids: &[QuarantineId],
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut removed = 0;
    for id in ids {
        if !store.jobs.remove_quarantined(*id).await? {
            code = missing(global, *id);
            continue;
        }
        removed += 1;
        if global.json {
            out.json_line(&Removed { id: *id })?;
        }
    }
    if !global.json {
        out.line(&format!("removed: {}", output::count(removed, "record")))?;
    }
    Ok(code)
}

/// A record that is gone.
#[derive(Serialize)]
struct Removed {
    id: QuarantineId,
}

fn missing(global: &Global, id: QuarantineId) -> ExitCode {
    let list = store::command(global, "quarantine list");
    output::note(&format!(
        "{id} was not put aside\n  `{list}` shows what was."
    ));
    ExitCode::from(NOT_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_stands_in_columns() {
        let line = dump(16, b"ab\x00\xffcdefghijklmn");
        assert_eq!(
            line,
            "  000010  61 62 00 ff 63 64 65 66 67 68 69 6a 6b 6c 6d 6e  ab..cdefghijklmn"
        );
        let short = dump(0, b"\n");
        assert_eq!(short.len(), line.len() - 15);
        assert!(short.ends_with("  ."));
    }
}
