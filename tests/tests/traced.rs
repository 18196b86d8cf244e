//! What a store is asked for is counted.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use kvjob::kv::wrap::{Fault, Faulty, Operation, Traced};
use kvjob::kv::{Atomic as _, Change, Memory, Object, Scan, Store};
use kvjob::testkit::Factory;

struct Under;

impl Factory for Under {
    type Store = Traced<Memory>;

    async fn open(&self) -> Self::Store {
        Traced::new(Memory::new())
    }
}

mod conformance {
    use super::*;
    kvjob::testkit::conformance!(Under);
}

#[tokio::test]
async fn calls_errors_objects_and_bytes_are_counted() {
    let faulty = Arc::new(Faulty::new(Memory::new(), 0));
    let store = Traced::new(Arc::clone(&faulty));
    let numbers = |operation| {
        let counts = store.counts(operation);
        [
            counts.calls,
            counts.errors,
            counts.objects_read,
            counts.objects_written,
            counts.bytes,
        ]
    };
    faulty.next_writes([Fault::None, Fault::Transient]);
    for value in ["1", "22", "333"] {
        let _ = store.set(Object::new("a", value)).await;
    }
    assert_eq!(numbers(Operation::Set), [3, 1, 0, 2, 6]);
    store.get(&"a".into()).await.unwrap();
    store.get(&"b".into()).await.unwrap();
    assert_eq!(numbers(Operation::Get), [2, 0, 1, 0, 4]);
    let commits = vec![
        vec![
            Change::check("a", "333"),
            Change::put("b", "1"),
            Change::remove("c"),
        ],
        vec![Change::create("a", "1")],
        vec![Change::put("", "1")],
    ];
    let outcomes = store.commit_all(commits).await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_err());
    assert_eq!(numbers(Operation::CommitAll), [1, 2, 0, 2, 3]);
    let scans = vec![Scan::prefix("a"), Scan::prefix("")];
    store.scan_many(scans).await.unwrap();
    assert_eq!(numbers(Operation::ScanMany), [1, 0, 3, 0, 10]);
    store.remove(&Object::new("a", "333")).await.unwrap();
    assert_eq!(numbers(Operation::Remove), [1, 0, 0, 1, 1]);
    store.delete(&"".into()).await.unwrap();
    assert_eq!(numbers(Operation::Delete), [1, 0, 0, 0, 0]);
    assert_eq!(numbers(Operation::Commit), [0; 5]);
    for operation in Operation::ALL {
        assert!(!operation.name().is_empty());
        assert!(store.counts(operation).calls <= 3);
    }
}
