//! Handlers of payloads that are types, what they may ask for, and the services around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvjob::job::{
    Backoff, Error, Job, JobId, Jobs, LogQuery, LogStore as _, NewJob, Query, ResultStore as _,
    State, StateStore as _, Task,
};
use kvjob::worker::{
    Attempt, Context, Data, FromContext, Json, Outcome, Route, TaskHandler as _, WorkerName,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::timeout::TimeoutLayer;

use crate::support::{Bench, Gate, Runs, SECOND, ended, started, within};

#[derive(Debug, Serialize, Deserialize)]
struct Mail {
    to: Vec<Person>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u8,
}

impl Task for Mail {
    const NAME: &'static str = "mail";
    const PRIORITY: i16 = -3;
    const MAX_ATTEMPTS: u32 = 4;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(9));

    fn backoff() -> Backoff {
        Backoff::Fixed { wait: SECOND }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Count(Vec<String>);

impl Task for Count {
    const NAME: &'static str = "count";
}

fn mail() -> Mail {
    let name = "Ada".to_owned();
    Mail {
        to: vec![Person { name, age: 36 }],
    }
}

fn jobs(bench: &Bench) -> Jobs {
    Jobs::new(bench.store.clone())
}

async fn add(bench: &Bench) -> JobId {
    jobs(bench).add(mail()).await.unwrap().job.id
}

#[tokio::test]
async fn a_job_is_added_with_what_its_task_says_unless_it_says_otherwise() {
    let bench = Bench::new().await;
    let job = jobs(&bench).add(mail()).await.unwrap().job;
    assert_eq!(job.lane.task, "mail");
    assert_eq!((job.priority, job.max_attempts), (-3, 4));
    assert_eq!(job.timeout, Some(9 * SECOND));
    assert_eq!(job.backoff, Backoff::Fixed { wait: SECOND });
    assert_eq!(job.payload.as_str(), r#"{"to":[{"name":"Ada","age":36}]}"#);

    let later = bench.after(60 * SECOND);
    let add = jobs(&bench).add(mail()).run_at(later).key("mail/ada");
    let add = add.priority(5).max_attempts(1).timeout(None).tenant("acme");
    let job = add.flag("slow").await.unwrap().job;
    assert_eq!((job.run_at, job.key.as_deref()), (later, Some("mail/ada")));
    assert_eq!((job.priority, job.max_attempts, job.timeout), (5, 1, None));
    assert_eq!((&*job.lane.tenant, &*job.lane.flags[0]), ("acme", "slow"));
}

#[allow(clippy::too_many_arguments)]
async fn send(
    mail: Mail,
    greeting: Data<&'static str>,
    job: Job,
    id: JobId,
    Attempt(attempt): Attempt,
    WorkerName(worker): WorkerName,
    token: CancellationToken,
    jobs: Jobs,
    context: Context,
) -> Result<Json<String>, Error> {
    assert_eq!((job.id, context.job().id), (id, id));
    assert!(!token.is_cancelled());
    let words = vec![worker, attempt.to_string()];
    jobs.add(Count(words)).await?;
    let name = &mail.to[0].name;
    Ok(Json(format!("{} {name}", *greeting)))
}

async fn count(count: Count) -> Json<usize> {
    assert_eq!(count.0, ["w-1", "1"]);
    Json(count.0.len())
}

#[tokio::test]
async fn a_handler_gets_its_payload_and_what_it_asks_for() {
    let bench = Bench::new().await;
    let id = add(&bench).await;
    let worker = bench.worker().name("w-1").data("Hello").concurrency(2);
    let worker = worker.register(send).register(count);
    within(worker.build().unwrap().run_once()).await.unwrap();
    let ended = bench.store.wait(id, Duration::ZERO).await.unwrap();
    assert_eq!(ended.value::<String>().unwrap(), "Hello Ada");
    let of_count = Query::new().task("count");
    let counted = bench.store.lookup(&of_count).await.unwrap().items;
    assert_eq!(counted[0].result.as_ref().unwrap().as_str(), "2");
}

#[tokio::test]
async fn a_job_added_by_name_is_run_by_the_typed_handler_with_its_time_out() {
    let bench = Bench::new().await;
    let by_name = NewJob::new("mail", &mail()).unwrap();
    let id = bench.enqueue(by_name).await;
    let forever = async |_: Mail| std::future::pending::<()>().await;
    let worker = bench.worker().grace(Duration::ZERO).register(forever);
    let mut runs = Runs::start(worker);
    assert_eq!(runs.next().await, started(id, "mail", 1));
    bench.pass(8 * SECOND).await;
    assert_eq!(runs.happened(), []);
    bench.pass(SECOND).await;
    let (_, error) = ended(runs.next().await);
    assert!(error.unwrap().starts_with("timed out after 9s"));
    runs.stop().await;
}

#[tokio::test]
async fn a_worker_has_a_time_out_for_jobs_and_tasks_that_have_none() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let forever = async |_| std::future::pending::<()>().await;
    let worker = bench.worker().grace(Duration::ZERO).timeout(3 * SECOND);
    let mut runs = Runs::start(worker.handler("task", forever));
    assert_eq!(runs.next().await, started(id, "task", 1));
    bench.pass(3 * SECOND).await;
    let (_, error) = ended(runs.next().await);
    assert!(error.unwrap().starts_with("timed out after 3s"));
    runs.stop().await;
}

#[tokio::test]
async fn a_payload_that_does_not_decode_fails_for_good_and_says_where() {
    let bench = Bench::new().await;
    let wrong = serde_json::json!({"to": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": -1}]});
    let id = bench.enqueue(NewJob::new("mail", &wrong).unwrap()).await;
    let mut runs = Runs::start(bench.worker().register(async |_: Mail| ()));
    assert_eq!(runs.next().await, started(id, "mail", 1));
    let (state, error) = ended(runs.next().await);
    let error = error.unwrap();
    assert_eq!(state, State::Failed);
    for part in ["Mail", "`to[1].age`", "`-1`", "u8", "column"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(bench.get(id).await.attempts, 1);
    runs.stop().await;
}

#[tokio::test]
async fn data_that_was_not_given_is_missed_when_the_worker_is_built() {
    struct Pool;
    let bench = Bench::new().await;
    let handler = async |_: Mail, _: Data<Pool>, _: Data<u16>| ();
    let refused = bench.worker().data(7_u16).register(handler).build();
    let Err(Error::Invalid { code, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, "missing-data");
    assert!(message.contains("Pool") && !message.contains("u16"));
    let given = bench.worker().data(7_u16).data(Pool).register(handler);
    assert!(given.build().is_ok());
}

#[tokio::test]
async fn what_cannot_be_had_from_the_context_is_a_failed_attempt() {
    struct Customer;
    impl FromContext for Customer {
        fn from_context(context: &Context) -> Result<Self, Error> {
            match context.job().lane.tenant.as_str() {
                "" => Err(Error::UnknownJob {
                    id: context.job().id,
                }),
                _ => Ok(Self),
            }
        }
    }
    let bench = Bench::new().await;
    add(&bench).await;
    let handler = async |_: Mail, _: Customer| ();
    let mut runs = Runs::start(bench.worker().register(handler));
    runs.next().await;
    let (state, error) = ended(runs.next().await);
    assert_eq!(state, State::Scheduled);
    assert!(error.unwrap().contains("there is no job"));
    runs.stop().await;
}

#[tokio::test]
async fn a_task_has_one_handler() {
    let bench = Bench::new().await;
    let twice = bench.worker().register(async |_: Mail| ());
    let twice = twice.handler("mail", async |_| ()).build();
    assert!(matches!(
        twice,
        Err(Error::Invalid {
            code: "duplicate-handler",
            ..
        })
    ));
}

#[tokio::test]
async fn a_handler_may_answer_in_all_these_ways() {
    let bench = Bench::new().await;
    let until = bench.after(60 * SECOND);
    let soon = bench.after(7 * SECOND);
    let worker = bench
        .worker()
        .concurrency(8)
        .handler("nothing", async |_| ())
        .handler("ok", async |_| Ok::<_, Error>(()))
        .handler("value", async |_| Json(vec![1, 2]))
        .handler("ok-value", async |_| Ok::<_, Error>(Json("x")))
        .handler("cancel", async |_| Outcome::Cancel("not wanted".into()))
        .handler("retry", async |_| {
            Outcome::RetryAfter("busy".into(), 7 * SECOND)
        })
        .handler("snooze", move |_| async move {
            Ok::<_, Error>(Outcome::Snooze(until))
        });
    let mut ids = Vec::new();
    let all = [
        "nothing", "ok", "value", "ok-value", "cancel", "retry", "snooze",
    ];
    for task in all {
        ids.push(bench.add(task).await);
    }
    within(worker.build().unwrap().run_once()).await.unwrap();
    let mut seen = Vec::new();
    for id in ids {
        let job = bench.get(id).await;
        let result = job.result.map(|result| result.as_str().to_owned());
        seen.push((job.state, result, job.last_error, job.run_at));
    }
    let now = bench.after(Duration::ZERO);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (State::Completed, None, None, now),
            (State::Completed, None, None, now),
            (State::Completed, text("[1,2]"), None, now),
            (State::Completed, text("\"x\""), None, now),
            (State::Canceled, None, text("not wanted"), now),
            (State::Scheduled, None, text("busy"), soon),
            (State::Scheduled, None, None, until),
        ]
    );
}

#[tokio::test]
async fn an_error_is_told_with_its_sources() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("could not send")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let bench = Bench::new().await;
    add(&bench).await;
    let handler = async |_: Mail| Err::<(), _>(Outer(std::io::Error::other("no route")));
    let mut runs = Runs::start(bench.worker().register(handler));
    runs.next().await;
    let (_, error) = ended(runs.next().await);
    assert_eq!(error.as_deref(), Some("could not send: no route"));
    runs.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_fails_the_job_for_good() {
    let bench = Bench::new().await;
    let id = add(&bench).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let handler = move |_: Mail| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Json("x".repeat(2 << 20)) }
    };
    let worker = bench.worker().register(handler).build().unwrap();
    within(worker.run_once()).await.unwrap();
    let job = bench.get(id).await;
    assert_eq!(job.state, State::Failed);
    let error = job.last_error.unwrap();
    assert!(error.contains("result-too-large"), "{error}");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_interrupted_handler_that_completes_with_a_result_is_taken_at_its_word() {
    let bench = Bench::new().await;
    let id = add(&bench).await;
    let handler = async |_: Mail, token: CancellationToken| {
        token.cancelled().await;
        Json("in time")
    };
    let mut runs = Runs::start(bench.worker().register(handler));
    assert_eq!(runs.next().await, started(id, "mail", 1));
    bench.pass(9 * SECOND).await;
    assert_eq!(ended(runs.next().await), (State::Completed, None));
    let result = bench.store.result(id).await.unwrap().unwrap();
    assert_eq!(result.as_str(), "\"in time\"");
    runs.stop().await;
}

#[tokio::test]
async fn progress_is_a_line_of_the_log_at_most_once_a_second() {
    let bench = Bench::new().await;
    let id = add(&bench).await;
    let handler = async |_: Mail, context: Context| {
        for page in 1..=100 {
            context.progress(page, 100, format!("page {page}")).await?;
        }
        Ok::<_, Error>(())
    };
    let worker = bench.worker().register(handler).build().unwrap();
    within(worker.run_once()).await.unwrap();
    let logs = bench.store.logs(&LogQuery::new(id)).await.unwrap();
    let told: Vec<(&str, &str)> = logs
        .items
        .iter()
        .map(|line| (line.message.as_str(), line.fields["progress"].as_str()))
        .collect();
    assert_eq!(told, [("page 1", "1/100"), ("page 100", "100/100")]);
}

#[tokio::test]
async fn a_layer_is_around_every_handler_of_the_worker_and_is_waited_for() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    for task in ["one", "other", "one", "other"] {
        bench.add(task).await;
    }
    let worker = bench
        .worker()
        .concurrency(8)
        .handler("one", gate.handler())
        .handler("other", gate.handler())
        .layer(GlobalConcurrencyLimitLayer::new(3));
    let runs = Runs::start(worker);
    bench.settle().await;
    assert_eq!(gate.inside(), 3);
    gate.open(1);
    bench.settle().await;
    assert_eq!(gate.inside(), 3);
    gate.open(3);
    bench.settle().await;
    assert_eq!(gate.inside(), 0);
    runs.stop().await;
}

#[tokio::test]
async fn a_layer_is_around_one_handler_alone() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let wait = gate.handler();
    let limited = move |_: Mail, context: Context| wait(context);
    for _ in 0..3 {
        add(&bench).await;
        bench.add("other").await;
    }
    let worker = bench
        .worker()
        .concurrency(8)
        .register(limited.layer(ConcurrencyLimitLayer::new(1)))
        .handler("other", gate.handler());
    let runs = Runs::start(worker);
    bench.settle().await;
    assert_eq!(gate.inside(), 1 + 3);
    gate.open(6);
    bench.settle().await;
    runs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_layer_is_a_failed_attempt() {
    let bench = Bench::new().await;
    let id = add(&bench).await;
    let forever = async |_: Mail| std::future::pending::<()>().await;
    let worker = bench
        .worker()
        .register(forever.layer(TimeoutLayer::new(Duration::from_millis(20))));
    let mut runs = Runs::start(worker);
    assert_eq!(runs.next().await, started(id, "mail", 1));
    let (state, error) = ended(runs.next().await);
    assert_eq!(state, State::Scheduled);
    assert_eq!(error.as_deref(), Some("request timed out"));
    runs.stop().await;
}

#[tokio::test]
async fn the_layer_that_is_added_last_sees_an_attempt_first() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let says = |word: &'static str| {
        tower::layer::layer_fn(move |route: Route| {
            ServiceBuilder::new()
                .map_request(move |context: Context| {
                    context
                        .data::<Words>()
                        .unwrap()
                        .0
                        .lock()
                        .unwrap()
                        .push(word);
                    context
                })
                .service(route)
        })
    };
    let worker = bench
        .worker()
        .data(Words::default())
        .layer(says("inner"))
        .layer(says("outer"))
        .handler("task", async |context: Context| {
            Json(context.data::<Words>().unwrap().0.lock().unwrap().clone())
        });
    within(worker.build().unwrap().run_once()).await.unwrap();
    let result = bench.store.result(id).await.unwrap().unwrap();
    assert_eq!(result.as_str(), r#"["outer","inner"]"#);
}

#[derive(Default)]
struct Words(std::sync::Mutex<Vec<&'static str>>);

#[tokio::test]
async fn a_tower_service_runs_the_jobs_of_a_task() {
    let bench = Bench::new().await;
    let id = bench.add("task").await;
    let service = tower::service_fn(async |context: Context| {
        Ok::<_, std::io::Error>(Json(context.job().attempts))
    });
    let worker = bench.worker().service("task", service).build().unwrap();
    within(worker.run_once()).await.unwrap();
    let result = bench.store.result(id).await.unwrap().unwrap();
    assert_eq!(result.as_str(), "1");
}

#[tokio::test]
async fn a_panic_under_a_layer_is_a_failed_attempt() {
    let bench = Bench::new().await;
    add(&bench).await;
    let handler = async |mail: Mail| assert!(mail.to.is_empty(), "no stamps");
    let mut runs = Runs::start(
        bench
            .worker()
            .register(handler)
            .layer(ConcurrencyLimitLayer::new(1)),
    );
    runs.next().await;
    let (state, error) = ended(runs.next().await);
    assert_eq!(state, State::Scheduled);
    assert_eq!(error.as_deref(), Some("panicked: no stamps"));
    runs.stop().await;
}
