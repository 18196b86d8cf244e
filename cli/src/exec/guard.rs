//! A second process that outlives kvjob by a moment: when kvjob is killed in a way it cannot
//! see coming, the guard kills the commands it left running.
//!
//! Without it, a kvjob started anew would run their jobs again while the first attempts still
//! went on. The two talk through a pipe: `+ID` begins a process group, `-ID` ends it, and the
//! end of the pipe is the end of kvjob.

use std::collections::HashSet;
use std::io::{self, BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::group::{GRACE, exists, pid, signal};

/// The argument that makes a kvjob a guard.
pub(crate) const COMMAND: &str = "__guard";

/// The guarded side.
pub(crate) struct Guard {
    pipe: Mutex<Option<ChildStdin>>,
    process: Mutex<Child>,
}

impl Guard {
    pub(crate) fn start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is not for the guard, and it keeps no file system busy.
            .process_group(0)
            .current_dir("/")
            .spawn()?;
        Ok(Self {
            pipe: Mutex::new(process.stdin.take()),
            process: Mutex::new(process),
        })
    }

    pub(super) fn watch(&self, group: Pid) {
        self.say('+', group);
    }

    pub(super) fn forget(&self, group: Pid) {
        self.say('-', group);
    }

    fn say(&self, sign: char, group: Pid) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = pipe.as_mut() {
            let line = format!("{sign}{}\n", group.as_raw_nonzero());
            // Work goes on without a guard if someone killed it.
            if open.write_all(line.as_bytes()).is_err() {
                *pipe = None;
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *self.pipe.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // It ends with its pipe.
        let _ = process.wait();
    }
}

/// The guard's side: reads until the other one is gone, then ends what it left.
pub(crate) fn watch_over(pipe: impl BufRead) {
    let mut groups = HashSet::new();
    for line in pipe.lines() {
        let Ok(line) = line else { break };
        let Some(id) = line.get(1..).and_then(|id| id.parse().ok()).and_then(pid) else {
            continue;
        };
        if line.starts_with('+') {
            groups.insert(id);
        } else {
            groups.remove(&id);
        }
    }
    for group in &groups {
        signal(*group, Signal::TERM);
    }
    let deadline = Instant::now() + GRACE;
    while groups.iter().any(|group| exists(*group)) && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
    for group in &groups {
        signal(*group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_and_not_ended_is_killed() {
        let start = || {
            Command::new("sleep")
                .arg("60")
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut left, mut ended) = (start(), start());
        let words = format!("+{}\n+{}\n-{}\nnoise\n", left.id(), ended.id(), ended.id());
        let watching = std::thread::spawn(move || watch_over(words.as_bytes()));
        assert!(!left.wait().unwrap().success());
        watching.join().unwrap();
        assert_eq!(ended.try_wait().unwrap(), None);
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
