//! Runs the user's command for a job: the payload on its standard input, its output into the
//! job's log.
//!
//! A command is a process group of its own. When its shell ends, is to end, or kvjob itself
//! ends, whatever is left of the group is killed: see [`group`] and [`guard`].

mod capture;
mod group;
mod guard;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kvjob::job::{Job, Level};
use kvjob::worker::{Context, Handler, Outcome};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use capture::Output;
use group::Group;
pub(crate) use guard::{COMMAND as GUARD, Guard, watch_over};

/// What stands before the command in its shell: it waits for a first line on its standard input.
/// By then the guard knows of it: a kvjob killed just before leaves a gate that does not open,
/// not a command that nobody watches. (A shell that starts another one would cost a millisecond.)
const GATE: &str = "read -r go || exit; unset go; ";
/// What opens the gate.
const GO: &[u8] = b"go\n";
/// How long what was written is waited for once the group is gone: only a process that left the
/// group on purpose can still hold the pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// How much of the last line of standard error goes into an attempt's error.
const SHOWN: usize = 400;

/// The handler of `kvjob run`: one command for all jobs.
pub(crate) struct Exec {
    /// The gate, then the command.
    script: String,
    guard: Arc<Guard>,
}

impl Exec {
    pub(crate) fn new(command: &str, guard: Guard) -> Self {
        Self {
            script: format!("{GATE}{command}"),
            guard: Arc::new(guard),
        }
    }

    fn spawn(&self, job: &Job) -> io::Result<Child> {
        Command::new("sh")
            .arg("-c")
            .arg(&self.script)
            .env("KVJOB_ID", job.id.to_string())
            .env("KVJOB_TASK", &job.lane.task)
            .env("KVJOB_ATTEMPT", job.attempts.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }
}

#[async_trait]
impl Handler for Exec {
    async fn handle(&self, context: Context) -> Outcome {
        let job = context.job();
        let child = match self.spawn(job) {
            Ok(child) => child,
            Err(error) => return Outcome::Retry(format!("the command did not start: {error}")),
        };
        let Some(group) = Group::of(&child, self.guard.clone()) else {
            return Outcome::Retry("the command ended before it was seen".to_owned());
        };
        let cancelled = context.cancelled();
        let mut output = Output::default();
        let ended = attend(child, group, job.payload.as_str(), &cancelled, &mut output).await;
        let (stdout, stderr) = output.texts();
        let outcome = match ended {
            Ok(status) if status.success() => Outcome::Complete,
            Ok(status) => Outcome::Retry(failure(status, stderr.as_deref())),
            Err(error) => Outcome::Retry(format!("the command was lost sight of: {error}")),
        };
        for (level, text) in [(Level::Info, stdout), (Level::Warn, stderr)] {
            let Some(text) = text else { continue };
            if let Err(error) = context.log(level, text).await {
                // The job did run: what is lost is what it said.
                crate::output::note(&format!("the output of job {} is lost: {error}", job.id));
            }
        }
        outcome
    }
}

/// Feeds a command, takes what it writes, and waits for its end, or brings it about.
async fn attend(
    mut child: Child,
    mut group: Group,
    payload: &str,
    cancelled: &CancellationToken,
    output: &mut Output,
) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        tokio::join!(
            feed(stdin, payload),
            output.stdout.read(stdout),
            output.stderr.read(stderr),
        )
    };
    tokio::pin!(talk);
    let mut talking = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = &mut talk, if talking => talking = false,
            () = cancelled.cancelled() => {
                // What it says while it goes down is worth having.
                let mut end = std::pin::pin!(group.end(&mut child));
                break loop {
                    tokio::select! {
                        status = &mut end => break status,
                        _ = &mut talk, if talking => talking = false,
                    }
                };
            }
        }
    };
    drop(group);
    if talking {
        let _ = tokio::time::timeout(LAST_OUTPUT, talk).await;
    }
    status
}

/// Opens the gate, then writes the payload and the end of a line. A command need not read it.
async fn feed(stdin: Option<ChildStdin>, payload: &str) {
    if let Some(mut stdin) = stdin {
        // A pipe that broke says that the command has read enough.
        if stdin.write_all(GO).await.is_ok() && stdin.write_all(payload.as_bytes()).await.is_ok() {
            let _ = stdin.write_all(b"\n").await;
        }
    }
}

/// How a command failed, and what it said last.
fn failure(status: ExitStatus, stderr: Option<&str>) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {}", group::name_of(signal)),
        (None, None) => status.to_string(),
    };
    let last = stderr.and_then(|text| text.lines().rfind(|line| !line.trim().is_empty()));
    match last {
        Some(line) => format!("{how}: {}", crate::output::cut(line.trim(), SHOWN)),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_how_and_what_the_command_said_last() {
        let exit_75 = ExitStatus::from_raw(75 << 8);
        assert_eq!(failure(exit_75, None), "exit status 75");
        assert_eq!(
            failure(exit_75, Some("warming up\nno paper \n\n")),
            "exit status 75: no paper"
        );
        assert_eq!(
            failure(ExitStatus::from_raw(9), Some("")),
            "killed by signal 9 (SIGKILL)"
        );
    }
}
