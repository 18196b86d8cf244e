//! The conformance suite and the model test on Redis, on Valkey, and on a Redis cluster.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvjob::kv::Store as _;
use kvjob::testkit::Factory;
use kvjob_redis::{Options, Redis};
use kvjob_servers::{Server, redis};

/// A namespace of its own in a server, or a cluster, that all cases share.
struct InServer {
    server: &'static Server,
    namespace: String,
}

impl InServer {
    fn new(server: &'static Server) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            server,
            namespace: format!("case{count}"),
        }
    }
}

impl Factory for InServer {
    type Store = Redis;

    async fn open(&self) -> Redis {
        let options = Options::new().namespace(&self.namespace);
        options.open(&redis::url(self.server)).await.unwrap()
    }

    async fn reopen(&self, store: Redis) -> Option<Redis> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

mod on_redis {
    use super::*;

    static SERVER: LazyLock<Server> = LazyLock::new(redis::redis);

    kvjob::testkit::conformance!(InServer::new(&SERVER));
}

mod on_valkey {
    use super::*;

    static SERVER: LazyLock<Server> = LazyLock::new(redis::valkey);

    kvjob::testkit::conformance!(InServer::new(&SERVER));
}

/// Reached by one of its nodes, which has a third of the namespaces.
mod on_a_cluster {
    use super::*;

    static NODES: LazyLock<Vec<Server>> = LazyLock::new(redis::cluster);

    kvjob::testkit::conformance!(InServer::new(&NODES[0]));
}
