//! The conformance suite where keys are unique: the reference store, and one of five methods,
//! which keeps its data when it is opened again.

use kvjob::kv::Memory;
use kvjob::testkit::Factory;

struct InMemory;

impl Factory for InMemory {
    type Store = Memory;

    async fn open(&self) -> Memory {
        Memory::new()
    }
}

mod memory {
    use super::*;
    kvjob::testkit::conformance!(InMemory);
}

mod five_methods {
    use kvjob_tests::FiveMethods;
    kvjob::testkit::conformance!(FiveMethods::unique());
}
