//! The process group of a command, which never outlives its attempt.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout_at};

use super::Guard;

/// How long a group has between SIGTERM and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How often a group without its leader is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The process group of a command. Dropped, it kills what is left of it.
pub(super) struct Group {
    id: Pid,
    guard: Arc<Guard>,
}

impl Group {
    /// The group that this child leads.
    pub(super) fn of(child: &Child, guard: Arc<Guard>) -> Option<Self> {
        let id = pid(child.id()?)?;
        guard.watch(id);
        Some(Self { id, guard })
    }

    /// Asks the whole group to end, and kills what is still there after a while.
    pub(super) async fn end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        signal(self.id, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        let ended = timeout_at(deadline, child.wait()).await;
        while exists(self.id) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        signal(self.id, Signal::KILL);
        match ended {
            Ok(status) => status,
            Err(_) => child.wait().await,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal(self.id, Signal::KILL);
        self.guard.forget(self.id);
    }
}

pub(super) fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Signals a group; that it is gone is as good.
pub(super) fn signal(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// Whether anything is left of a group that can still do something. What its shell had started is
/// no child of ours: once it has ended it stays in the group until the system's first process takes
/// notice of it, which may be long, or never.
pub(super) fn exists(group: Pid) -> bool {
    test_kill_process_group(group) != Err(Errno::SRCH) && !has_ended(group)
}

/// Whether every process of a group is known to have ended.
#[cfg(target_os = "linux")]
fn has_ended(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    let group = group.as_raw_nonzero().to_string();
    let is_alive = |stat: String| {
        // The name in parentheses may hold anything; then come the state, the parent and the group.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        let mut fields = fields.unwrap_or_default().split_whitespace();
        let state = fields.next();
        fields.nth(1) == Some(&group) && !matches!(state, Some("Z" | "X"))
    };
    let stats = processes.flatten().filter_map(|process| {
        // What is no process has none, and one that is gone meanwhile.
        std::fs::read_to_string(process.path().join("stat")).ok()
    });
    !stats.into_iter().any(is_alive)
}

#[cfg(not(target_os = "linux"))]
fn has_ended(_: Pid) -> bool {
    false
}

/// The number of a signal, and its name where it is well known.
pub(super) fn name_of(signal: i32) -> String {
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
    ];
    match names.iter().find(|(known, _)| known.as_raw() == signal) {
        Some((_, name)) => format!("{signal} ({name})"),
        None => signal.to_string(),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn nothing_is_left_of_a_group_whose_processes_have_ended_though_nobody_took_notice() {
        let mut child = Command::new("sh");
        child.args(["-c", "read -r line"]).process_group(0);
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let group = pid(child.id()).unwrap();
        assert!(exists(group));
        drop(child.stdin.take());
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(group), ended).unwrap();
        assert_eq!(test_kill_process_group(group), Ok(()), "it is a zombie");
        assert!(!exists(group));
        child.wait().unwrap();
        assert!(!exists(group));
    }
}
