//! What a store is asked for can be seen.
//!
//! This is the one test of its program: what a span is worth is remembered for all threads, and
//! another one that has no use for spans would settle it first.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use kvjob::kv::wrap::Traced;
use kvjob::kv::{Atomic as _, Change, Key, Memory, Object, Scan, Store as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

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
