//! The kvjob command: works off a file of jobs, and looks at and steers a job store.
//!
//! Each command is a file of its own under `commands`; what they share stands beside this file.
//! Nothing here knows how jobs are stored: it all goes through the job store's traits.

mod args;
mod commands;
mod duration;
mod error;
mod exec;
mod jobs_file;
mod output;
mod rate;
mod store;

use std::process::ExitCode;

use clap::Parser as _;

/// A mistake of the caller's, or a store that failed.
const USAGE_OR_STORE: u8 = 2;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(help_or_mistake) => {
            // A closed pipe is no reason to complain.
            let _ = help_or_mistake.print();
            return match help_or_mistake.exit_code() {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE_OR_STORE),
            };
        }
    };
    match commands::dispatch(args) {
        Ok(code) => code,
        // Whoever read our output has seen enough, as in `kvjob list | head`.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&error.to_string());
            ExitCode::from(USAGE_OR_STORE)
        }
    }
}
