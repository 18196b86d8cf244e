//! Each server starts, is killed and starts again.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpStream;

use kvjob_servers::{Server, etcd, postgres, redis};

fn serves(server: &Server) -> bool {
    TcpStream::connect(("127.0.0.1", server.port())).is_ok()
}

fn comes_and_goes(mut server: Server) {
    assert!(serves(&server));
    server.kill();
    assert!(!serves(&server));
    server.start();
    assert!(serves(&server));
    server.stop();
    assert!(!serves(&server));
}

#[test]
fn redis_comes_and_goes() {
    comes_and_goes(redis::redis());
}

#[test]
fn valkey_comes_and_goes() {
    comes_and_goes(redis::valkey());
}

#[test]
fn the_nodes_of_a_redis_cluster_find_each_other() {
    for node in redis::cluster() {
        assert!(serves(&node));
    }
}

#[test]
fn etcd_comes_and_goes() {
    comes_and_goes(etcd::etcd());
}

#[test]
fn postgres_comes_and_goes() {
    comes_and_goes(postgres::postgres());
}

#[test]
fn an_etcd_of_three_goes_on_without_one() {
    let mut cluster = etcd::cluster();
    for n in 0..3 {
        cluster.members[n].kill();
        assert!(!serves(&cluster.members[n]));
        cluster.members[n].start();
    }
}
