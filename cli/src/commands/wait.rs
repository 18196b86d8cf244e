//! `kvjob wait`: how a job ended, when it has.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use kvjob::job::{self, Ended, State};

use super::{NOT_ALL, NOT_IN_TIME};
use crate::args::{Global, Wait};
use crate::error::Result;
use crate::output::{self, Out};
use crate::store::{self, Missing, Opened};

pub(super) async fn run(global: &Global, args: &Wait) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let code = wait(global, args, &store).await;
    let closed = store.close().await;
    let code = code?;
    closed?;
    Ok(code)
}

async fn wait(global: &Global, args: &Wait, store: &Opened) -> Result<ExitCode> {
    let timeout = args.timeout.unwrap_or(Duration::MAX);
    match store.jobs.wait(args.id, timeout).await {
        Ok(ended) => tell(global, &ended),
        Err(error @ job::Error::UnknownJob { .. }) => {
            let list = store::command(global, "list");
            output::note(&format!("{error}\n  `{list}` shows those that are there."));
            Ok(ExitCode::from(NOT_ALL))
        }
        Err(error @ job::Error::WaitTimedOut { .. }) => {
            output::note(&error.to_string());
            Ok(ExitCode::from(NOT_IN_TIME))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(global: &Global, ended: &Ended) -> Result<ExitCode> {
    let mut out = Out::new();
    if global.json {
        out.json_line(ended)?;
    } else if let Some(result) = &ended.result {
        out.line(&harmless(result.as_str()))?;
    }
    out.flush()?;
    if ended.state == State::Completed {
        return Ok(ExitCode::SUCCESS);
    }
    if !global.json {
        let error = ended.error.as_deref().unwrap_or("nobody said why");
        let error = output::printable(error, false);
        output::note(&format!("job {} is {}: {error}", ended.id, ended.state));
    }
    Ok(ExitCode::from(NOT_ALL))
}

/// JSON in which no control character stands as itself: one that does can only be in a string.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && !c.is_ascii_whitespace() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_json_stays_the_same() {
        let json = "{\n  \"a\": \"\u{7f}\u{9b}2J\"\n}";
        let safe = harmless(json);
        assert_eq!(safe, "{\n  \"a\": \"\\u007f\\u009b2J\"\n}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&safe), read(json));
    }
}
