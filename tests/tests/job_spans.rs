//! Every attempt is in a span that says which one it is and where it stands in a distributed trace.
//!
//! This is the one test of its program, as that of `spans` is.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use kvjob::job::{
    JobId, Jobs, KvStore, NewJob, Options, Query, QueueStore as _, Result, StateStore as _, Task,
};
use kvjob::kv::Memory;
use kvjob::worker::{Context, Worker};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

type Fields = BTreeMap<&'static str, String>;

/// The spans named `job` there were, by number, and how often each was the current one as a handler
/// said its name.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    spans: BTreeMap<u64, Fields>,
    entered: Vec<u64>,
    /// Tasks whose handlers spoke, and the fields of the span they spoke in.
    spoken: Vec<(String, Fields)>,
    count: u64,
}

struct Kept<'a>(&'a mut Fields);

impl Visit for Kept<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut noted = self.0.lock().unwrap();
        noted.count += 1;
        let number = noted.count;
        if span.metadata().name() == "job" {
            let fields = noted.spans.entry(number).or_default();
            span.record(&mut Kept(fields));
        }
        Id::from_u64(number)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Kept(&mut fields));
        let mut noted = self.0.lock().unwrap();
        if let Some(task) = fields.remove("i_am") {
            let current = noted.entered.last().unwrap();
            let current = noted.spans[current].clone();
            noted.spoken.push((task, current));
        }
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut noted = self.0.lock().unwrap();
        assert_eq!(noted.entered.pop(), Some(span.into_u64()));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

#[derive(Serialize, Deserialize)]
struct Typed;

impl Task for Typed {
    const NAME: &'static str = "typed";
}

/// Adds jobs in every way there is.
async fn parent(context: Context) -> Result<()> {
    tracing::info!(i_am = "parent");
    tokio::task::yield_now().await;
    context.jobs().add(Typed).await?;
    context.add_job(NewJob::new("named", &())?).await?;
    let elsewhere = NewJob::new("elsewhere", &())?;
    let elsewhere = elsewhere.traceparent(OTHER.to_owned());
    context.add_job(elsewhere).await?;
    let alone = context.jobs().add_job(NewJob::new("alone", &())?);
    alone.traceparent(None).await?;
    Ok(())
}

async fn typed(_: Typed, jobs: Jobs) -> Result<()> {
    tracing::info!(i_am = "typed");
    jobs.add_job(NewJob::new("grandchild", &())?).await?;
    Ok(())
}

#[tokio::test]
async fn an_attempt_is_in_a_span_and_a_trace_goes_from_enqueue_to_run_and_on() {
    let spans = Spans::default();
    let _heard = tracing::subscriber::set_default(spans.clone());
    let store = KvStore::open(Arc::new(Memory::new()), Options::default()).await;
    let store = Arc::new(store.unwrap());
    let new = NewJob::new("parent", &()).unwrap();
    let new = new.traceparent(TRACE.to_owned());
    store.enqueue(new).await.unwrap();

    let worker = Worker::builder(store.clone())
        .name("ada")
        .handle_signals(false)
        .handler("parent", parent)
        .register(typed)
        .fallback(async |context: Context| {
            let task = context.job().lane.task.as_str();
            tracing::info!(i_am = task);
        });
    worker.build().unwrap().run_once().await.unwrap();

    let jobs = store.lookup(&Query::new()).await.unwrap().items;
    let ids: BTreeMap<String, JobId> = jobs
        .iter()
        .map(|job| (job.lane.task.clone(), job.id))
        .collect();
    let traces = [
        ("parent", Some(TRACE)),
        ("typed", Some(TRACE)),
        ("named", Some(TRACE)),
        ("elsewhere", Some(OTHER)),
        ("alone", None),
        ("grandchild", Some(TRACE)),
    ];
    assert_eq!(ids.len(), traces.len());
    let spoken: BTreeMap<String, Fields> = spans.0.lock().unwrap().spoken.iter().cloned().collect();
    for (task, trace) in traces {
        let mut expected = Fields::from([
            ("id", ids[task].to_string()),
            ("task", task.to_owned()),
            ("attempt", "1".to_owned()),
            ("worker", "ada".to_owned()),
        ]);
        expected.extend(trace.map(|trace| ("traceparent", trace.to_owned())));
        assert_eq!(spoken[task], expected);
    }
}
