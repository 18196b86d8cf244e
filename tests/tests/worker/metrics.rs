//! What is counted, for whoever installs a recorder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvjob::job::{Backoff, Query, State, StateStore as _};
use kvjob::worker::Outcome;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::support::{Bench, SECOND, job};

/// Name and labels, and what was added up or recorded.
type Seen = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

struct Notes(Seen);
struct Note(Seen, String);

impl Note {
    fn take(&self, value: f64) {
        let mut seen = self.0.lock().unwrap();
        seen.entry(self.1.clone()).or_default().push(value);
    }
}

impl CounterFn for Note {
    fn increment(&self, value: u64) {
        self.take(f64::from(u32::try_from(value).unwrap()));
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are only added to");
    }
}

impl HistogramFn for Note {
    fn record(&self, value: f64) {
        self.take(value);
    }
}

impl Notes {
    fn note(&self, key: &Key) -> Arc<Note> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        Arc::new(Note(self.0.clone(), name))
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.note(key))
    }
}

// Not a tokio test: the recorder is this thread's, and all of the runtime runs on it.
#[test]
fn what_becomes_of_jobs_is_counted_by_task_and_timed() {
    let seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    metrics::with_local_recorder(&Notes(seen.clone()), || {
        runtime.block_on(async {
            let bench = Bench::new().await;
            bench.add("good").await;
            let at_once = Backoff::Fixed {
                wait: Duration::ZERO,
            };
            bench
                .enqueue(job("bad").max_attempts(2).backoff(at_once))
                .await;
            bench.clock.advance(SECOND);
            let worker = bench
                .worker()
                .handler("good", async |_| ())
                .handler("bad", async |_| Outcome::Retry("no".to_owned()));
            worker.build().unwrap().run_once().await.unwrap();
            let failed = bench
                .store
                .lookup(&Query::new().states([State::Failed]))
                .await;
            assert_eq!(failed.unwrap().items.len(), 1);
        });
    });
    let seen = seen.lock().unwrap();
    let told: Vec<(&str, &[f64])> = seen
        .iter()
        .map(|(name, values)| (name.as_str(), values.as_slice()))
        .collect();
    let expected: [(&str, &[f64]); 11] = [
        ("kvjob_job_duration_seconds task=bad", &[0.0, 0.0]),
        ("kvjob_job_duration_seconds task=good", &[0.0]),
        ("kvjob_job_pickup_seconds task=bad", &[1.0, 0.0]),
        ("kvjob_job_pickup_seconds task=good", &[1.0]),
        ("kvjob_jobs_claimed_total task=bad", &[1.0, 1.0]),
        ("kvjob_jobs_claimed_total task=good", &[1.0]),
        ("kvjob_jobs_completed_total task=good", &[1.0]),
        ("kvjob_jobs_failed_total task=bad", &[1.0]),
        ("kvjob_jobs_queued_total task=bad", &[1.0]),
        ("kvjob_jobs_queued_total task=good", &[1.0]),
        ("kvjob_jobs_retried_total task=bad", &[1.0]),
    ];
    assert_eq!(told, expected);
}
