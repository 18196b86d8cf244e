//! PostgreSQL. It refuses to be run by root, and drops to the user `postgres` then.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tls::Certificates;
use crate::{How, Server, Start, program};

/// The user it is run as where the tests are run by root.
const USER: &str = "postgres";
const INSTALL: &str = "apt-get install postgresql";

/// PostgreSQL with one user, `kvjob`, who needs no password, and a database of the same name.
pub fn postgres() -> Server {
    with(&[])
}

/// The same with some of its settings set, as `fsync=off`.
pub fn with(settings: &[&str]) -> Server {
    made(settings, |_| {})
}

/// The same with TLS, which a client may use or not.
pub fn with_tls(certificates: &Certificates) -> Server {
    let files = [
        (&certificates.server, "server.crt"),
        (&certificates.server_key, "server.key"),
    ];
    made(&["ssl=on"], |data| {
        for (from, name) in files {
            let to = data.join(name);
            fs::copy(from, &to).expect("it can be copied");
            fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("it is ours");
            if let Some((user, group)) = other_user() {
                chown(to, Some(user), Some(group)).expect("root may");
            }
        }
    })
}

/// A new server, whose directory is given to somebody before it starts.
fn made(settings: &[&str], prepare: impl FnOnce(&Path)) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some((user, group)) = other_user() {
        chown(directory.path(), Some(user), Some(group)).expect("root may");
    }
    let data = directory.path().join("data");
    let mut initdb = as_other_user(Command::new(program("initdb", &installed(), INSTALL)));
    let made = initdb
        .arg("--pgdata")
        .arg(&data)
        .args([
            "--username=kvjob",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .output()
        .expect("initdb can be run");
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    prepare(&data);
    let how = How {
        name: "postgres",
        // Connections, or those that only read.
        ready: "database system is ready to accept",
        command,
        arguments: settings.iter().map(|it| format!("-c{it}")).collect(),
    };
    let server = Server::new(how, directory);
    let mut createdb = Command::new(program("createdb", &installed(), INSTALL));
    let made = createdb
        .args(["--host=127.0.0.1", "--username=kvjob", "kvjob"])
        .arg(format!("--port={}", server.port()))
        .output()
        .expect("createdb can be run");
    assert!(
        made.status.success(),
        "createdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    server
}

/// Where it serves.
pub fn url(server: &Server) -> String {
    format!("postgres://kvjob@127.0.0.1:{}/kvjob", server.port())
}

/// Has it start again as a standby of nobody: one that only reads, for as long as it runs. No
/// connection to it may be open, for it waits for them.
///
/// # Panics
/// If it does not.
pub fn become_standby(server: &mut Server) {
    server.stop();
    let signal = server.directory().join("data/standby.signal");
    fs::write(&signal, "").expect("a file can be made");
    if let Some((user, group)) = other_user() {
        chown(&signal, Some(user), Some(group)).expect("root may");
    }
    server.start();
}

fn command(start: &Start<'_>) -> Command {
    let mut command = as_other_user(Command::new(program("postgres", &installed(), INSTALL)));
    command
        .arg("-D")
        .arg(start.directory.join("data"))
        .args(["-p", &start.port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="]);
    command
}

/// Debian keeps its programs off the PATH, in a directory a version.
fn installed() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut directories: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    directories.sort();
    directories.reverse();
    directories
}

fn as_other_user(mut command: Command) -> Command {
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// The numbers of the user and the group to drop to, if this is root.
fn other_user() -> Option<(u32, u32)> {
    rustix::process::getuid().is_root().then(|| {
        let id = |flag| {
            let asked = Command::new("id").args([flag, USER]).output();
            let text = String::from_utf8(asked.expect("id can be run").stdout);
            let text = text.expect("a number");
            text.trim()
                .parse()
                .unwrap_or_else(|_| panic!("there is no user {USER}: {INSTALL}"))
        };
        (id("-u"), id("-g"))
    })
}
