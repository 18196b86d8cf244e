//! etcd, of one member.

use std::process::Command;

use crate::{How, Server, Start, free_port, program};

/// etcd.
pub fn etcd() -> Server {
    let peers = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ];
    let how = How {
        name: "etcd",
        ready: "ready to serve client requests",
        command,
        arguments: arguments.into(),
    };
    Server::new(how, tempfile::tempdir().expect("a directory"))
}

/// Where it serves.
pub fn url(server: &Server) -> String {
    format!("etcd://127.0.0.1:{}", server.port())
}

fn command(start: &Start<'_>) -> Command {
    let clients = format!("http://127.0.0.1:{}", start.port);
    let mut command = Command::new(program("etcd", &[], "apt-get install etcd-server"));
    command
        .arg("--data-dir")
        .arg(start.directory.join("data"))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"));
    command
}
