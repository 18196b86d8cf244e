//! Servers for tests: each a child of the test that starts it, on a free port of the loopback
//! interface, with its data in a directory of its own, so that a test may kill it. Here is what
//! they have in common; [`redis`], [`etcd`] and [`postgres`] know how each is started.
//!
//! A server that is not installed is a panic that says what to install. When its [`Server`] is
//! dropped, or the test's process ends in whatever way, it is killed.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "made for tests"
)]

pub mod etcd;
pub mod postgres;
pub mod redis;
pub mod tls;

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// How long a server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many lines of its output are kept.
const LINES: usize = 200;
/// How often a new server is tried on another port, should somebody have taken the first one.
const TRIES: usize = 3;

/// A server, running or killed, and its data.
#[derive(Debug)]
pub struct Server {
    how: How,
    directory: TempDir,
    port: u16,
    running: Option<Running>,
}

/// How a server is started.
#[derive(Debug)]
struct How {
    /// What it is called.
    name: &'static str,
    /// Part of the line it prints once it serves.
    ready: &'static str,
    /// The command, for a directory and a port.
    command: fn(&Start<'_>) -> Command,
    /// More arguments, the same at each start.
    arguments: Vec<String>,
}

/// What a command is made of.
#[derive(Debug)]
struct Start<'a> {
    directory: &'a Path,
    port: u16,
}

#[derive(Debug)]
struct Running {
    process: Child,
    guard: Child,
    output: Arc<Output>,
    listeners: Vec<JoinHandle<()>>,
}

/// What a server printed last.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    printed: Condvar,
}

impl Server {
    fn new(how: How, directory: TempDir) -> Self {
        let mut server = Self {
            how,
            directory,
            port: 0,
            running: None,
        };
        for attempt in 1.. {
            server.port = free_port();
            match server.try_start() {
                Ok(()) => break,
                Err(_) if attempt < TRIES => {}
                Err(why) => panic!("{why}"),
            }
        }
        server
    }

    /// The port it listens on, also after it was killed.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it printed last, since it was started.
    pub fn output(&self) -> String {
        self.running
            .as_ref()
            .map_or_else(String::new, Running::printed)
    }

    /// Waits until it has printed a line with this text, since it was started.
    ///
    /// # Panics
    /// If it does not run, or does not print that.
    pub fn wait_for(&self, text: &str) {
        let output = &self.running.as_ref().expect("it runs").output;
        let lines = output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |lines: &mut VecDeque<String>| !lines.iter().any(|it| it.contains(text));
        let waited = output.printed.wait_timeout_while(lines, PATIENCE, missing);
        let waited = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !waited.1.timed_out(),
            "{} did not print {text:?} within {PATIENCE:?}",
            self.how.name
        );
    }

    /// Starts it again on its data and port, and returns when it serves.
    ///
    /// # Panics
    /// If it runs, or does not start.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.how.name);
        if let Err(why) = self.try_start() {
            panic!("{why}");
        }
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(running) = &mut self.running {
            running.wait();
        }
        self.running = None;
    }

    /// Lets it stand still: it answers nobody, and keeps its connections.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        self.signal_children(Signal::STOP);
        // Its threads stop one after the other, and one that runs may still answer.
        let running = self.running.as_ref().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while !running.stands_still() {
            assert!(Instant::now() < deadline, "{} does not stop", self.how.name);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT);
    }

    fn signal_children(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal_children(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it runs");
        kill_process(running.pid(), signal).expect("it is our child");
    }

    fn try_start(&mut self) -> Result<(), String> {
        let name = self.how.name;
        let mut command = (self.how.command)(&Start {
            directory: self.directory.path(),
            port: self.port,
        });
        command.args(&self.how.arguments);
        let mut process = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} by {command:?}: {error}"));
        // It ends when the pipe does, and that ends with this process. Only then it comes to the
        // directory, which belongs to nobody if its server is static and so never dropped.
        let guard = Command::new("sh")
            .args(["-c", r#"read line; kill -9 -"$1"; rm -rf "$2""#, "guard"])
            .arg(process.id().to_string())
            .arg(self.directory.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let output = Arc::new(Output::default());
        let (serves, hears) = channel();
        let ready = self.how.ready;
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|it| Box::new(it) as _),
            process.stderr.take().map(|it| Box::new(it) as _),
        ];
        let listeners = streams
            .into_iter()
            .flatten()
            .map(|stream| {
                let (output, serves) = (Arc::clone(&output), serves.clone());
                thread::spawn(move || listen(stream, ready, &output, serves))
            })
            .collect();
        drop(serves);
        let running = Running {
            process,
            guard,
            output,
            listeners,
        };
        match hears.recv_timeout(PATIENCE) {
            Ok(()) => {
                self.running = Some(running);
                Ok(())
            }
            Err(why) => {
                let what = match why {
                    RecvTimeoutError::Disconnected => "ended at once".to_owned(),
                    RecvTimeoutError::Timeout => format!("does not serve after {PATIENCE:?}"),
                };
                Err(format!("{name} {what}; it printed:\n{}", running.printed()))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// PostgreSQL's are in groups of their own, and would finish what they are at.
    fn signal_children(&self, signal: Signal) {
        for child in self.children() {
            // It may just have ended.
            let _ = kill_process(child, signal);
        }
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace();
        children
            .filter_map(|child| child.parse().ok().and_then(Pid::from_raw))
            .collect()
    }

    /// Whether it and its children are stopped, each with all of its threads.
    fn stands_still(&self) -> bool {
        let mut processes = self.children();
        processes.push(self.pid());
        processes.into_iter().all(|process| {
            let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))
            else {
                // It has just ended.
                return true;
            };
            threads.flatten().all(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // Behind the name, which stands in parentheses; see proc_pid_stat(5).
                let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
                matches!(state, None | Some(Some('T' | 't' | 'Z' | 'X')))
            })
        })
    }

    fn printed(&self) -> String {
        let lines = &self.output.lines;
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

impl Running {
    /// Until it has ended, and its own children too: PostgreSQL's outlive it by a moment, and
    /// hold its port.
    fn wait(&mut self) {
        let _ = self.process.wait();
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // First the guard, so that it cannot kill whoever gets the number next.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = kill_process(self.pid(), Signal::STOP);
        self.signal_children(Signal::KILL);
        let _ = kill_process_group(self.pid(), Signal::KILL);
        self.wait();
    }
}

/// Keeps what a server prints, and says once that it serves.
fn listen(stream: impl Read, ready: &str, output: &Output, serves: Sender<()>) {
    let mut serves = Some(serves);
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if line.contains(ready)
            && let Some(serves) = serves.take()
        {
            // Nobody hears it who has lost patience.
            let _ = serves.send(());
        }
        let mut lines = output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
        output.printed.notify_all();
    }
}

/// A port of the loopback interface that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    free_ports(1).pop().expect("one")
}

/// As many different ports.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .collect();
    let ports = listeners.iter();
    ports
        .map(|listener| listener.local_addr().expect("it is bound").port())
        .collect()
}

/// A program in one of these directories, or on the PATH.
fn program(name: &str, directories: &[PathBuf], install: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = directories
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "this test needs {name}, which is not installed: {install}, or `make setup`; \
             `make test SKIP_SERVERS=1` leaves out the tests that need servers"
        )
    })
}
