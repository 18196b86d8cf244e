//! [`Process`]: another process of the program that tests.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Set for another process: what it is to know. LMDB's failing disk reads it, too.
const ERRAND: &str = "KVJOB_ERRAND";

/// Another process of this program, in one of its functions that are marked as tests and
/// `#[ignore]`d, so that they run in such a process only. What it prints is heard here.
///
/// It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one in this function, which reads its [`errand`].
    pub fn start(function: &str, errand: impl AsRef<OsStr>) -> Self {
        Self::run(Command::new(program()), function, errand)
    }

    /// As [`start`](Self::start), with a disk that is too full for a file of more than so many
    /// bytes (or twice as many, where the shell counts blocks of a KiB): a write beyond fails, as
    /// nothing else does that can be had without privileges.
    pub fn start_cramped(bytes: u64, function: &str, errand: impl AsRef<OsStr>) -> Self {
        let limit = format!(
            "trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"",
            bytes.div_ceil(512)
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &limit]).arg(program());
        Self::run(shell, function, errand)
    }

    /// As [`start`](Self::start), by a command that runs this program, or that is this program with
    /// more of an environment.
    pub fn run(mut program: Command, function: &str, errand: impl AsRef<OsStr>) -> Self {
        let mut child = program
            .args([function, "--exact", "--ignored", "--nocapture"])
            .env(ERRAND, errand)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line it says, or `None` once it has ended.
    pub fn hear(&mut self) -> Option<String> {
        // The last line of one that was killed may be half a character.
        self.lines.next()?.ok()
    }

    /// Waits until it says this.
    pub fn says(&mut self, what: &str) {
        while let Some(line) = self.hear() {
            if line == what {
                return;
            }
        }
        panic!("it ended before it said {what:?}");
    }

    /// Kills it; what it said before. The last line may be half a line. Fails if it had failed by
    /// itself.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let said = self.rest();
        assert_ne!(status.code(), Some(101), "it failed by itself: {said:?}");
        said
    }

    /// Waits for its end; what it said. Fails if it does.
    pub fn end(mut self) -> Vec<String> {
        let said = self.rest();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said:?}");
        said
    }

    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> OsString {
    env::current_exe().unwrap().into()
}

/// What the process that this one is was [started](Process::start) with.
pub fn errand() -> String {
    env::var(ERRAND).unwrap()
}
