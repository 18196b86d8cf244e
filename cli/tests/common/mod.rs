//! A directory of its own for each test, and the command run in it.

#![allow(dead_code, unreachable_pub)] // Each test file uses its part of it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(2));
    }
}

/// A directory with a store in it.
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A program in the directory, with what it needs to find the command and the store.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env_remove("KVJOB_STORE")
            .env("KVJOB", env!("CARGO_BIN_EXE_kvjob"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_kvjob"));
        command.args(args);
        command
    }

    /// Runs the command to its end.
    pub fn kvjob(&self, args: &[&str]) -> Answer {
        Answer::of(self.command(args))
    }

    /// Runs the command to its end, which must be good.
    pub fn ok(&self, args: &[&str]) -> Answer {
        let answer = self.kvjob(args);
        assert_eq!(answer.code, Some(0), "{args:?}: {answer:?}");
        answer
    }

    /// Runs the command with this standard input.
    pub fn fed(&self, args: &[&str], input: &str) -> Answer {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Answer::from(child)
    }

    /// Every job in the store.
    pub fn jobs(&self) -> Vec<Value> {
        self.ok(&["list", "--all", "--json"]).lines()
    }

    /// The one job of this task.
    pub fn job(&self, task: &str) -> Value {
        let mut jobs = self.ok(&["list", "--json", "--task", task]).lines();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// What `show` says of the one job of this task.
    pub fn shown(&self, task: &str) -> Value {
        let job = self.job(task);
        self.ok(&["show", job["id"].as_str().unwrap(), "--json"])
            .json()
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(mut command: Command) -> Self {
        Self::from(command.spawn().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One value a line.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap();
        self.out.lines().map(parse).collect()
    }
}

impl From<Child> for Answer {
    fn from(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            status: output.status,
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Sends a signal, such as `INT`, to a process.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Whether a process is there and does anything. (One that ended, but whose parent has not
/// looked, does not.)
pub fn is_alive(process: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("stat"));
    let state = status.ok().and_then(|line| {
        let (_, rest) = line.rsplit_once(')')?;
        rest.trim_start().chars().next()
    });
    !matches!(state, None | Some('Z' | 'X'))
}
