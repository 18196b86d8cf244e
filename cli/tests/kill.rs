//! `kvjob run` and `kvjob enqueue` are killed at random moments, again and again, as by a power
//! switch, and started anew. What was acknowledged must be there, nothing half there, and in the
//! end every job has one final state and an unbroken history.
//!
//! `KVJOB_KILLS` says how often (25 where not said). `KVJOB_SEED` repeats the moments of a run that
//! failed, as far as the machine is as fast as it was.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use common::{Answer, Place};
use kvjob::job::{
    Job, JobId, KvStore, LogQuery, LogStore as _, Options, Query, QueueStore as _, State,
    StateStore as _, Step, Store as _,
};
use kvjob_trials::Random;

/// Lines that are new in each round.
const LINES: u64 = 50;
/// The latest moment of a kill.
const LATEST: u64 = 350;

/// The lines of the file, each with a payload of its own; some are large enough to be stored
/// apart, some fail at first, a few always.
struct File {
    text: String,
    payloads: HashMap<String, &'static str>,
}

impl File {
    fn grow(&mut self, random: &mut Random) {
        for _ in 0..LINES {
            let number = self.payloads.len();
            let (task, more) = match random.below(20) {
                0 => ("doomed", ",\"max_attempts\":2"),
                1..4 => ("flaky", ""),
                4..6 => ("urgent", ",\"priority\":-7"),
                _ => ("plain", ""),
            };
            let filler = "x".repeat(if random.below(4) == 0 { 1500 } else { 0 });
            let payload = format!("{{\"line\":{number},\"filler\":\"{filler}\"}}");
            writeln!(
                self.text,
                "{{\"task\":\"{task}\",\"payload\":{payload}{more}}}"
            )
            .unwrap();
            self.payloads.insert(payload, task);
        }
    }
}

const EXEC: &str = r#"
    cat > /dev/null
    echo "$KVJOB_ID" >> ran
    echo said
    case $KVJOB_TASK in
    doomed) exit 3 ;;
    flaky) [ "$KVJOB_ATTEMPT" -gt 1 ] ;;
    esac"#;

const RUN: [&str; 11] = [
    "run",
    "jobs.jsonl",
    "--exec",
    EXEC,
    "-j",
    "3",
    "--backoff",
    "5ms",
    "--max-attempts",
    "1000",
    "--json",
];

/// Starts a command, kills it at this moment, and says whether it was still there.
fn kill(place: &Place, args: &[&str], after: Duration) -> (bool, Answer) {
    let mut child = place.command(args).spawn().unwrap();
    std::thread::sleep(after);
    let killed = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    let answer = Answer::from(child);
    if !killed {
        assert!(matches!(answer.code, Some(0 | 1)), "{answer:?}");
    }
    assert!(!answer.err.contains("panicked"), "{answer:?}");
    (killed, answer)
}

#[test]
fn nothing_is_lost_or_half_there_after_any_number_of_kills() {
    let (kills, mut random) = kvjob_trials::kill::kills(25);
    let place = Place::new();
    let mut file = File {
        text: String::new(),
        payloads: HashMap::new(),
    };
    let mut acknowledged = Vec::new();
    let mut landed = 0;
    for round in 0..kills {
        file.grow(&mut random);
        place.write("jobs.jsonl", &file.text);
        let after = Duration::from_millis(random.below(LATEST));
        landed += u64::from(kill(&place, &RUN, after).0);

        let payload = format!("\"enqueued in round {round}\"");
        let args = ["enqueue", "extra", &payload];
        let after = Duration::from_millis(random.below(120));
        let (_, answer) = kill(&place, &args, after);
        // Once it is printed, it was acknowledged, whatever became of the process.
        if let Some(id) = answer.out.strip_suffix('\n') {
            acknowledged.push((id.parse::<JobId>().unwrap(), payload));
        }
    }
    println!(
        "{landed} runs were killed, {} single jobs acknowledged, {} lines",
        acknowledged.len(),
        file.payloads.len()
    );
    assert!(landed * 3 >= kills, "too few kills hit a running kvjob");

    let last = place.kvjob(&RUN);
    let doomed = file.payloads.values().any(|task| *task == "doomed");
    assert_eq!(last.code, Some(i32::from(doomed)), "{last:?}");
    let summary = last.json();
    assert_eq!(summary["jobs"], file.payloads.len(), "{summary}");
    assert_eq!(summary["open"], 0, "{summary}");
    assert_eq!(summary["lost"], 0, "{summary}");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let url = format!("redb:{}", place.path("kvjob.redb").display());
    runtime.block_on(async {
        let below = kvjob_any::open(&url).await.unwrap();
        let store = KvStore::open(below.clone(), Options::default())
            .await
            .unwrap();
        check(&store, &file, &acknowledged, &place.read("ran")).await;
        store.stop().await.unwrap();
        below.stop().await.unwrap();
    });
}

async fn check(store: &KvStore, file: &File, acknowledged: &[(JobId, String)], ran: &str) {
    let ran: HashSet<&str> = ran.lines().collect();
    let mut by_payload: BTreeMap<String, Job> = BTreeMap::new();
    let mut query = Query::new().limit(100);
    let mut attempts = 0;
    loop {
        let page = store.lookup(&query).await.unwrap();
        for job in page.items {
            let steps = store.history(job.id).await.unwrap();
            check_history(&job, &steps);
            check_end(&job, &ran);
            let logs = store
                .logs(&LogQuery::new(job.id).limit(10_000))
                .await
                .unwrap();
            assert!(
                logs.items.iter().all(|line| line.message == "said"),
                "{job:?}"
            );
            assert!(logs.items.len() <= job.attempts as usize, "{job:?}");
            attempts += job.attempts;
            let before = by_payload.insert(job.payload.as_str().to_owned(), job);
            assert!(before.is_none(), "twice: {before:?}");
        }
        match page.next {
            Some(next) => query = query.cursor(next),
            None => break,
        }
    }
    // Every line is there, once, and nothing that was never asked for.
    for (payload, task) in &file.payloads {
        let job = by_payload.get(payload);
        let job = job.unwrap_or_else(|| panic!("lost: {payload}"));
        assert_eq!(job.lane.task, *task);
    }
    for (id, payload) in acknowledged {
        let job = by_payload.get(payload);
        let job = job.unwrap_or_else(|| panic!("acknowledged and lost: {id} {payload}"));
        assert_eq!(job.id, *id);
    }
    let extras = by_payload.values().filter(|job| job.lane.task == "extra");
    assert_eq!(by_payload.len(), file.payloads.len() + extras.count());

    let stats = store.stats().await.unwrap();
    assert_eq!(stats.total, by_payload.len() as u64, "{stats:?}");
    assert_eq!(
        (stats.quarantined, stats.unreadable, stats.too_new),
        (0, 0, 0)
    );
    assert!(
        stats.states.keys().all(|state| state.is_final()),
        "{stats:?}"
    );
    let waiting = store.list(10, None).await.unwrap();
    assert!(waiting.items.is_empty(), "{waiting:?}");
    println!("{} jobs, {attempts} attempts", by_payload.len());
}

fn check_end(job: &Job, ran: &HashSet<&str>) {
    let state = if job.lane.task == "doomed" {
        State::Failed
    } else {
        State::Completed
    };
    assert_eq!(job.state, state, "{job:?}");
    assert!(job.ended_at.is_some() && job.worker.is_none(), "{job:?}");
    assert!(job.attempts <= job.max_attempts, "{job:?}");
    if state == State::Completed {
        assert!(
            ran.contains(job.id.to_string().as_str()),
            "it never ran: {job:?}"
        );
    }
}

/// One unbroken line from `created` to the one final state.
fn check_history(job: &Job, steps: &[Step]) {
    let told = || format!("{job:#?}\n{steps:#?}");
    for (number, step) in (0..).zip(steps) {
        assert_eq!(step.number, number, "a gap: {}", told());
    }
    assert_eq!(steps.first().unwrap().state, State::Created, "{}", told());
    assert_eq!(steps.last().unwrap().state, job.state, "{}", told());
    let ends = steps.iter().filter(|step| step.state.is_final());
    assert_eq!(ends.count(), 1, "{}", told());
    let begun = steps.iter().filter(|step| step.state == State::Running);
    assert_eq!(begun.count(), job.attempts as usize, "{}", told());
    for pair in steps.windows(2) {
        // What runs was waiting, and what waits again or ends was running.
        let runs = |step: &Step| step.state == State::Running;
        assert_ne!(runs(&pair[0]), runs(&pair[1]), "{}", told());
    }
}
