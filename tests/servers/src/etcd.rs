//! etcd, of one member or of three.
//!
//! Its data is kept in memory where the system has a place for that: etcd syncs each change, which
//! is what takes the time of most tests and proves nothing where only processes are killed.

use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use crate::tls::Certificates;
use crate::{How, Server, Start, free_ports, program};

/// etcd.
pub fn etcd() -> Server {
    etcd_with(&[])
}

/// etcd with more arguments, such as `--quota-backend-bytes`; they come last, so that they win.
pub fn etcd_with(arguments: &[&str]) -> Server {
    start(command, arguments.iter().map(ToString::to_string))
}

/// etcd with TLS, for clients that show a certificate of the same authority.
pub fn etcd_tls(certificates: &Certificates) -> Server {
    let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    start(
        command_tls,
        [
            file("cert-file", &certificates.server),
            file("key-file", &certificates.server_key),
            file("trusted-ca-file", &certificates.ca),
            "--client-cert-auth".to_owned(),
        ],
    )
}

/// Where it serves.
pub fn url(server: &Server) -> String {
    format!("etcd://127.0.0.1:{}", server.port())
}

/// Has it ask everybody for a name from now on: `root`, whose password is the same, and a user
/// who may do everything behind a prefix of keys.
///
/// # Panics
/// If it refuses.
pub fn ask_for_names(server: &Server, user: &str, password: &str, prefix: &str) {
    let user_and_password = format!("{user}:{password}");
    for command in [
        &["user", "add", "root:root"] as &[&str],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "tests"],
        &[
            "role",
            "grant-permission",
            "tests",
            "readwrite",
            prefix,
            "--prefix",
        ],
        &["user", "add", &user_and_password],
        &["user", "grant-role", user, "tests"],
        &["auth", "enable"],
    ] {
        control(server, command);
    }
}

/// Runs `etcdctl`.
///
/// # Panics
/// If it fails.
pub fn control(server: &Server, arguments: &[&str]) {
    let mut command = Command::new(program("etcdctl", &[], "apt-get install etcd-client"));
    let done = command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=127.0.0.1:{}", server.port()))
        .args(arguments)
        .output()
        .expect("etcdctl can be run");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "etcdctl {arguments:?}: {said}");
}

/// Three members, each of which may be killed.
#[derive(Debug)]
pub struct Cluster {
    /// The members.
    pub members: Vec<Server>,
}

/// A cluster of three.
///
/// # Panics
/// If it does not start.
pub fn cluster() -> Cluster {
    let peers: Vec<String> = free_ports(3)
        .into_iter()
        .enumerate()
        .map(|(n, port)| format!("m{n}=http://127.0.0.1:{port}"))
        .collect();
    let all = peers.join(",");
    let members: Vec<_> = peers
        .iter()
        .map(|peer| {
            let (name, peer) = peer.split_once('=').expect("a name and a URL");
            let arguments = [
                format!("--name={name}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={all}"),
                // For quick elections: the members are near each other.
                "--heartbeat-interval=50".to_owned(),
                "--election-timeout=500".to_owned(),
            ];
            // None serves before there are two.
            thread::spawn(move || start_member(command, arguments.into()))
        })
        .collect();
    let members = members
        .into_iter()
        .map(|member| member.join().expect("it starts"));
    Cluster {
        members: members.collect(),
    }
}

impl Cluster {
    /// Where it serves: every member, the first one first.
    pub fn url(&self) -> String {
        let addresses = self.members.iter();
        let addresses: Vec<_> = addresses
            .map(|member| format!("127.0.0.1:{}", member.port()))
            .collect();
        format!("etcd://{}", addresses.join(","))
    }
}

fn start(
    command: fn(&Start<'_>) -> Command,
    arguments: impl IntoIterator<Item = String>,
) -> Server {
    let peers = format!("http://127.0.0.1:{}", crate::free_port());
    let mut all = vec![
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ];
    all.extend(arguments);
    start_member(command, all)
}

fn start_member(command: fn(&Start<'_>) -> Command, arguments: Vec<String>) -> Server {
    let how = How {
        name: "etcd",
        ready: "ready to serve client requests",
        command,
        arguments,
    };
    let in_memory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
    Server::new(how, in_memory.expect("a directory"))
}

fn command(start: &Start<'_>) -> Command {
    serving(start, "http")
}

fn command_tls(start: &Start<'_>) -> Command {
    serving(start, "https")
}

fn serving(start: &Start<'_>, scheme: &str) -> Command {
    let clients = format!("{scheme}://127.0.0.1:{}", start.port);
    let mut command = Command::new(program("etcd", &[], "apt-get install etcd-server"));
    command
        .arg("--data-dir")
        .arg(start.directory.join("data"))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"));
    command
}
