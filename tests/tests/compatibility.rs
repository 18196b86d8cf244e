//! Stores that an earlier version wrote, key by key, are read by this one, and their jobs run.
//!
//! `fixtures/stores/format-N-SCHEME.store` is the raw content of a store, `.answers` what was said
//! of it when it was written: one job a line, with its history and its log. A new version must say
//! the same, and may say more. To add the fixtures of a new format, run the ignored test below;
//! never change those that are there.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvjob::clock::Timestamp;
use kvjob::job::{
    Backoff, Claim, Failure, HistoryQuery, KvStore, Level, LogQuery, LogStore as _, NewJob,
    Options, Payload, Query, QueueStore as _, Retry, Selector, State, StateStore as _, Store as _,
};
use kvjob::kv::wrap::Journaled;
use kvjob::kv::{Memory, Ownership, Store};
use kvjob::testkit::ManualClock;
use kvjob_tests::{FiveMethods, Fixture, Space, dump, load, text, within};
use serde_json::{Value, json};

/// When the fixtures end.
const NOW: i64 = 1_767_225_600_000_000 + 7_200_000_000;

fn file(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("fixtures/stores").join(name)
}

/// A store with everything in it that this format knows, and the answers about it.
async fn everything(store: Arc<dyn Store>) -> (String, String) {
    let f = Fixture::on(store, None).await;
    let short = Backoff::Fixed {
        wait: Duration::from_secs(30),
    };
    // Final states, long before the end.
    f.enqueue(text("done", "small")).await;
    f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
    // Two with results, one of which has a key of its own.
    let traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    f.enqueue(text("counted", "x").traceparent(traced.to_owned()))
        .await;
    for result in ["3".to_owned(), format!("{:?}", "large ".repeat(300))] {
        let lease = f.claim_one().await.lease;
        let result = Payload::from_json(result).unwrap();
        f.jobs.complete_with(&lease, result).await.unwrap();
        f.enqueue(text("reported", "x")).await;
    }
    f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
    f.enqueue(text("broken", "x").max_attempts(1)).await;
    let lease = f.claim_one().await.lease;
    let failure = Failure::new("no such file: ".repeat(200)).retry(Retry::Never);
    f.jobs.fail(&lease, failure).await.unwrap();
    f.enqueue(text("slow", "x").max_attempts(1)).await;
    let lease = f.claim_one().await.lease;
    f.jobs
        .fail(&lease, Failure::timed_out("too slow"))
        .await
        .unwrap();
    let canceled = f.add("unwanted").await.id;
    f.jobs.cancel(&Query::new().id(canceled)).await.unwrap();
    // A history without its first step.
    let first = HistoryQuery::new(canceled).states([State::Created]);
    f.jobs.clear_history(&first).await.unwrap();
    f.add("taken").await;
    f.jobs.dequeue_next(&Selector::default()).await.unwrap();
    f.enqueue(text("late", "x").run_at(f.in_seconds(3_700)))
        .await;
    // A long history, spilled into chunks, and a log.
    let often = text("often", "x").backoff(short.clone()).max_attempts(25);
    let often = f.enqueue(often).await.job.id;
    for attempt in 0..20 {
        let claimed = f.claim_one().await;
        for level in [Level::Debug, Level::Error] {
            let fields = [("attempt".to_owned(), attempt.to_string())].into();
            f.jobs
                .log(often, level, "trying".into(), fields)
                .await
                .unwrap();
        }
        let failure = Failure::new(format!("attempt {attempt} failed"));
        f.jobs.fail(&claimed.lease, failure).await.unwrap();
        f.pass(30);
    }
    // A record that cannot be read, put aside.
    let damaged = f.add("damaged").await.id;
    f.overwrite(Fixture::key(Space::Job, damaged), b"\x01\xff")
        .await;
    let damaged = Claim::new("worker").tasks(["damaged"]);
    assert!(f.jobs.claim(damaged).await.unwrap().jobs.is_empty());
    f.pass(7_200 - 20 * 30 - 10);
    f.jobs.expire().await.unwrap();
    // One that ends more than an hour after it was stored.
    let of_late = Claim::new("worker").tasks(["late"]);
    let claims = f.jobs.claim(of_late).await.unwrap();
    f.jobs.complete(&claims.jobs[0].lease).await.unwrap();
    // Running, one of them asked to stop.
    let stopping = f.enqueue(text("stopping", "x").priority(-9)).await.job.id;
    f.enqueue(text("running", &"large ".repeat(300)).priority(-8))
        .await;
    let running = Claim::new("worker").lease(Duration::from_secs(300));
    f.jobs
        .claim(running.tasks(["stopping", "running"]).max(2))
        .await
        .unwrap();
    f.jobs.cancel(&Query::new().id(stopping)).await.unwrap();
    f.pass(10);
    // A serial queue that runs a job, and one that is free.
    for name in ["runs", "blocked", "blocked, too"] {
        f.enqueue(text("in-turn", name).queue("account/3")).await;
        f.enqueue(text("next", name).queue("account/4")).await;
    }
    let in_turn = Claim::new("worker").lease(Duration::from_secs(300));
    let in_turn = in_turn.tasks(["in-turn"]).max(9);
    assert_eq!(f.jobs.claim(in_turn).await.unwrap().jobs.len(), 1);
    // Waiting in several lanes, and for later.
    let lane = text("mail", "x").tenant("acme").flag("slow").flag("big");
    f.enqueue(lane.priority(7).key("order/7")).await;
    f.enqueue(text("mail", &"large ".repeat(300)).retained_key("order/8"))
        .await;
    let later = text("mail", "x").run_at(f.in_seconds(86_400)).priority(-3);
    f.enqueue(later.timeout(Duration::from_secs(5)).max_attempts(3))
        .await;
    let exponential = Backoff::FullJitter {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };
    f.enqueue(
        NewJob::new("sums", &[1, 2, 3])
            .unwrap()
            .backoff(exponential),
    )
    .await;
    assert_eq!(f.now(), Timestamp::from_micros(NOW));
    let answers = answers(&f.jobs).await;
    (dump(&*f.store).await.unwrap(), answers)
}

/// What a job store says of each of its jobs, one a line.
async fn answers(jobs: &KvStore) -> String {
    let mut text = String::new();
    for job in jobs.lookup(&Query::new()).await.unwrap().items {
        let history = jobs.history(job.id).await.unwrap();
        let logs = jobs.logs(&LogQuery::new(job.id)).await.unwrap();
        let line = json!({"job": job, "history": history, "logs": logs.items});
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// Whether everything that was said is still said; more may be.
fn says(said: &Value, now: &Value) -> bool {
    match (said, now) {
        (Value::Object(said), Value::Object(now)) => said
            .iter()
            .all(|(name, said)| now.get(name).is_some_and(|now| says(said, now))),
        (Value::Array(said), Value::Array(now)) => {
            said.len() == now.len() && said.iter().zip(now).all(|(said, now)| says(said, now))
        }
        _ => said == now,
    }
}

async fn open(store: &Arc<dyn Store>, clock: &ManualClock) -> KvStore {
    let options = Options::default().clock(Arc::new(clock.clone()));
    KvStore::open(Arc::clone(store), options).await.unwrap()
}

/// A fixture is read as it was written.
async fn is_read(name: &str, store: Arc<dyn Store>) {
    let content = fs::read_to_string(file(&format!("{name}.store"))).unwrap();
    load(&*store, &content).await.unwrap();
    assert_eq!(
        store.ownership(),
        Ownership::Shared,
        "or the leases are taken back"
    );
    let jobs = open(&store, &ManualClock::at(Timestamp::from_micros(NOW), 1)).await;
    let said = fs::read_to_string(file(&format!("{name}.answers"))).unwrap();
    let answers = answers(&jobs).await;
    assert_eq!(said.lines().count(), answers.lines().count());
    for (said, now) in said.lines().zip(answers.lines()) {
        let (said, now) = (said.parse().unwrap(), now.parse().unwrap());
        assert!(says(&said, &now), "said: {said}\nnow: {now}");
    }
    let stats = jobs.stats().await.unwrap();
    let unread = (stats.unreadable, stats.too_new, stats.quarantined);
    assert_eq!(unread, (0, 0, 1));
    let checked = jobs.check(false, |_| {}).await.unwrap();
    assert_eq!(checked.found, 0, "{checked:?}");
}

/// The jobs of a fixture go on where they stood, and leave nothing behind.
async fn its_jobs_run(name: &str, store: Arc<dyn Store>) {
    let content = fs::read_to_string(file(&format!("{name}.store"))).unwrap();
    load(&*store, &content).await.unwrap();
    let clock = ManualClock::at(Timestamp::from_micros(NOW), 1);
    let jobs = open(&store, &clock).await;
    clock.advance(Duration::from_secs(100_000));
    jobs.expire().await.unwrap();
    clock.advance(Duration::from_secs(100_000));
    let mut all = Vec::new();
    for round in 0.. {
        assert!(round < 10, "the same jobs come again and again");
        let claims = jobs.claim(Claim::new("heir").max(8)).await.unwrap();
        for claimed in &claims.jobs {
            jobs.complete(&claimed.lease).await.unwrap();
        }
        all = jobs.lookup(&Query::new()).await.unwrap().items;
        // Those that had failed for good are tried once more.
        let tried = Query::new().states([State::Failed, State::TimedOut, State::Canceled]);
        let again = jobs.retry(&tried).await.unwrap().items.len();
        if claims.jobs.is_empty() && again == 0 {
            break;
        }
    }
    for job in &all {
        assert!(
            matches!(job.state, State::Completed | State::Taken),
            "{job:?}"
        );
        let history = jobs.history(job.id).await.unwrap();
        let numbers: Vec<u32> = history.iter().map(|step| step.number).collect();
        assert!(
            numbers
                .iter()
                .copied()
                .eq(numbers[0]..=*numbers.last().unwrap()),
            "{numbers:?}"
        );
    }
    let purged = jobs.purge(&Query::new()).await.unwrap().items;
    assert_eq!(purged.len(), all.len());
    jobs.stop().await.unwrap();
    let left: Vec<String> = dump(&*store)
        .await
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    // The format, and the record that was put aside.
    assert_eq!(left.len(), 2, "{left:?}");
}

fn redb(options: &kvjob_redb::Options) -> kvjob_redb::Redb {
    let in_memory = kvjob_redb::redb::backends::InMemoryBackend::new();
    options.open_backend(in_memory).unwrap()
}

macro_rules! fixtures {
    ($($test:ident: $name:literal, $store:expr;)+) => {$(
        mod $test {
            use super::*;

            #[tokio::test]
            async fn its_jobs_run() {
                within(super::its_jobs_run($name, Arc::new($store))).await;
            }
        }
    )+};
}

fixtures! {
    memory: "format-1", Memory::new();
    five_methods: "format-1", Journaled::new(FiveMethods::unique());
    five_methods_of_a_bag: "format-1-bag", Journaled::new(FiveMethods::bag());
    redb: "format-1", redb(&kvjob_redb::Options::new());
    redb_bag: "format-1-bag", redb(&kvjob_redb::Options::new().bag());
    memory_bag: "format-1-bag", Memory::bag();
}

#[tokio::test]
async fn a_store_of_format_1_is_read_as_it_was_written() {
    within(is_read("format-1", Arc::new(FiveMethods::unique()))).await;
}

#[tokio::test]
async fn a_bag_of_format_1_is_read_as_it_was_written() {
    within(is_read("format-1-bag", Arc::new(FiveMethods::bag()))).await;
}

#[tokio::test]
#[ignore = "writes the fixtures of a new format; those that are there stay as they are"]
async fn write_the_fixtures() {
    let stores: [(&str, Arc<dyn Store>); 2] = [
        ("format-1", Arc::new(Memory::new())),
        ("format-1-bag", Arc::new(Memory::bag())),
    ];
    for (name, store) in stores {
        let (store, answers) = everything(store).await;
        for (name, content) in [
            (format!("{name}.store"), store),
            (format!("{name}.answers"), answers),
        ] {
            let mut new = fs::File::create_new(file(&name)).unwrap();
            new.write_all(content.as_bytes()).unwrap();
        }
    }
}
