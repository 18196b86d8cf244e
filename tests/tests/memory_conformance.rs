//! The conformance suite on the reference store.

use kvjob::kv::Memory;
use kvjob::testkit::Factory;

struct InMemory;

impl Factory for InMemory {
    type Store = Memory;

    async fn open(&self) -> Memory {
        Memory::new()
    }
}

kvjob::testkit::conformance!(InMemory);
