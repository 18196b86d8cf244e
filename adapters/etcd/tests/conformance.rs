//! The conformance suite and the model test on an etcd of one member, behind a prefix for each
//! store.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvjob::kv::Store as _;
use kvjob::testkit::Factory;
use kvjob_etcd::{Etcd, Options};
use kvjob_servers::{Server, etcd};

static SERVER: LazyLock<Server> = LazyLock::new(etcd::etcd);

struct OnServer {
    prefix: String,
}

impl OnServer {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("conformance/{number}/"),
        }
    }
}

impl Factory for OnServer {
    type Store = Etcd;

    async fn open(&self) -> Etcd {
        let options = Options::new().prefix(&self.prefix);
        options.open(&etcd::url(&SERVER)).await.unwrap()
    }

    async fn reopen(&self, store: Etcd) -> Option<Etcd> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

kvjob::testkit::conformance!(OnServer::new());
