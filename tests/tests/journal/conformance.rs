//! The conformance suite.

use kvjob::kv::wrap::Journaled;
use kvjob::kv::{Memory, Store as _};
use kvjob::testkit::Factory;

/// The stores of another factory, under a journal.
struct Under<F>(F);

impl<F: Factory> Factory for Under<F> {
    type Store = Journaled<F::Store>;

    async fn open(&self) -> Self::Store {
        Journaled::new(self.0.open().await)
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        store.stop().await.unwrap();
        let below = store.into_inner().unwrap();
        self.0.reopen(below).await.map(Journaled::new)
    }
}

struct InMemory(fn() -> Memory);

impl Factory for InMemory {
    type Store = Memory;

    async fn open(&self) -> Memory {
        (self.0)()
    }
}

mod five_methods {
    use super::*;
    kvjob::testkit::conformance!(Under(kvjob_tests::FiveMethods::unique()));
}

mod five_methods_of_a_bag {
    use super::*;
    kvjob::testkit::conformance!(Under(kvjob_tests::FiveMethods::bag()));
}

/// These have a watch, too.
mod memory {
    use super::*;
    kvjob::testkit::conformance!(Under(InMemory(Memory::new)));
}

mod memory_of_a_bag {
    use super::*;
    kvjob::testkit::conformance!(Under(InMemory(Memory::bag)));
}
