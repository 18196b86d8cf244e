//! What every store promises, tried on this one.

use kvjob::testkit::Factory;
use own_adapter::Ordered;

struct Fresh;

impl Factory for Fresh {
    type Store = Ordered;

    async fn open(&self) -> Ordered {
        Ordered::default()
    }
}

kvjob::testkit::conformance!(Fresh);
