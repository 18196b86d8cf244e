//! What a store is asked for can be seen and counted.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use kvjob::kv::wrap::{Fault, Faulty, Operation, Traced};
use kvjob::kv::{Atomic as _, Change, Key, Memory, Object, Scan, Store};
use kvjob::testkit::Factory;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

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

type Fields = BTreeMap<&'static str, String>;

/// The fields of every span there was.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Fields>>>);

struct Kept<'a>(&'a mut Fields);

impl Visit for Kept<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().unwrap();
        let mut fields = Fields::new();
        span.record(&mut Kept(&mut fields));
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let place = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut Kept(&mut self.0.lock().unwrap()[place]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn fields(pairs: &[(&'static str, &str)]) -> Fields {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    pairs.collect()
}

#[tokio::test]
async fn a_span_says_what_was_asked_and_what_came_of_it() {
    let spans = Spans::default();
    let _heard = tracing::subscriber::set_default(spans.clone());
    let store = Traced::new(Memory::new());
    store.set(Object::new("a/1", "secret")).await.unwrap();
    store.scan(Scan::prefix("a/")).await.unwrap();
    store.get_many(&["a/1".into(), "b".into()]).await.unwrap();
    store.get(&Key::EMPTY).await.unwrap_err();
    let commit = vec![Change::check("a/1", "secret"), Change::put("b", "1")];
    store.commit(commit).await.unwrap();
    let expected = [
        fields(&[
            ("operation", "\"set\""),
            ("key", "a/1"),
            ("objects", "1"),
            ("bytes", "9"),
        ]),
        fields(&[
            ("operation", "\"scan\""),
            ("key", "a/"),
            ("objects", "1"),
            ("bytes", "9"),
        ]),
        fields(&[
            ("operation", "\"get_many\""),
            ("asked", "2"),
            ("objects", "1"),
            ("bytes", "9"),
        ]),
        fields(&[
            ("operation", "\"get\""),
            ("key", ""),
            ("error", "InvalidKey"),
            ("objects", "0"),
            ("bytes", "0"),
        ]),
        fields(&[
            ("operation", "\"commit\""),
            ("asked", "2"),
            ("objects", "1"),
            ("bytes", "2"),
        ]),
    ];
    let mut spans = spans.0.lock().unwrap().clone();
    for span in &mut spans {
        assert_eq!(span.remove("store").unwrap(), "\"memory\"");
        assert!(!format!("{span:?}").contains("secret"));
    }
    assert_eq!(spans, expected);
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
