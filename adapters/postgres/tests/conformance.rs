//! The conformance suite and the model test, on one server that the cases share: each has a table
//! of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvjob::kv::Store as _;
use kvjob::testkit::Factory;
use kvjob_postgres::{Options, Postgres};
use kvjob_servers::{Server, postgres};

static SERVER: LazyLock<Server> =
    LazyLock::new(|| postgres::with(&["fsync=off", "max_connections=300"]));
static TABLES: AtomicUsize = AtomicUsize::new(0);

struct InTable {
    options: Options,
}

impl InTable {
    fn new() -> Self {
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        let options = Options::new()
            .table(format!("case_{number}"))
            // A machine that is busy with other tests is no fault of the store's.
            .timeout(Duration::from_secs(60));
        Self { options }
    }
}

impl Factory for InTable {
    type Store = Postgres;

    async fn open(&self) -> Postgres {
        self.options.open(&postgres::url(&SERVER)).await.unwrap()
    }

    async fn reopen(&self, store: Postgres) -> Option<Postgres> {
        store.stop().await.unwrap();
        drop(store);
        Some(self.open().await)
    }
}

kvjob::testkit::conformance!(InTable::new());
