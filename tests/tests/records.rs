//! What is kept of a job, how it is asked for, and how it is removed; and records that cannot be
//! read.

use std::collections::BTreeMap;
use std::time::Duration;

use kvjob::encoding::tuple::Tuple;
use kvjob::job::{
    Backoff, Claim, Cursor, Error, Failure, Job, JobId, KvStore, Level, LogStore as _, NewJob,
    Payload, Query, QueueStore as _, Retry, Selector, State, StateStore as _, Store as _,
};
use kvjob::kv::{ErrorKind, Object};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    a_job_reads_back_as_it_was_stored,
    payloads_around_the_inline_limit_read_back,
    the_payload_limit_can_be_chosen,
    history_is_unbroken_over_a_hundred_attempts,
    a_header_stays_small,
    a_long_error_is_cut_in_the_history_and_whole_in_the_log,
    jobs_are_looked_up_by_state_task_and_time,
    lookups_page_through_everything_once,
    ended_jobs_are_looked_up_in_the_order_of_their_end,
    a_cursor_of_another_query_is_refused,
    stats_count_by_state_and_task,
    purge_leaves_nothing_behind,
    purge_removes_many_log_lines_and_chunks,
    a_purge_that_was_cut_off_is_resumed,
    purge_spares_what_is_not_final_or_not_asked_for,
    clear_touches_only_its_namespace,
    namespaces_share_a_store_in_peace,
    a_corrupt_header_is_put_aside_and_others_run,
    a_corrupt_payload_is_put_aside_and_others_run,
    a_missing_payload_does_not_spoil_answers_about_others,
    a_corrupt_index_entry_is_put_aside_and_others_run,
    a_corrupt_worker_record_is_put_aside,
    a_header_from_the_future_is_left_alone_and_others_run,
    a_scheduled_header_from_the_future_does_not_block_promotion,
    the_lease_of_a_job_from_the_future_stays_in_its_record,
    a_namespace_from_the_future_is_refused,
    a_lane_entry_without_a_job_is_dropped,
];

async fn end(f: &Fixture, id: JobId, state: State) {
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.id, id);
    match state {
        State::Completed => f.jobs.complete(&claimed.lease).await.unwrap(),
        State::Failed => {
            let failure = Failure::new("no").retry(Retry::Never);
            f.jobs.fail(&claimed.lease, failure).await.unwrap();
        }
        other => panic!("cannot end as {other}"),
    }
}

async fn a_job_reads_back_as_it_was_stored(f: Fixture) {
    let backoff = Backoff::Linear {
        step: Duration::from_millis(1500),
        max: Duration::from_secs(60),
    };
    let job = NewJob::new("send-mail", &BTreeMap::from([("to", "ada")]))
        .unwrap()
        .tenant("acme")
        .flag("slow")
        .flag("gpu")
        .flag("slow")
        .priority(-3)
        .run_at(f.in_seconds(60))
        .max_attempts(4)
        .backoff(backoff.clone())
        .timeout(Duration::from_secs(30))
        .key("k");
    let added = f.enqueue(job).await.job;
    let read = f.job(added.id).await;
    assert_eq!(read, added);
    assert_eq!(read.lane.flags, ["gpu", "slow"]);
    assert_eq!(
        (read.lane.tenant.as_str(), read.lane.task.as_str()),
        ("acme", "send-mail")
    );
    assert_eq!(read.payload.as_str(), r#"{"to":"ada"}"#);
    assert_eq!(
        (read.priority, read.max_attempts, read.attempts),
        (-3, 4, 0)
    );
    assert_eq!((read.run_at, read.created_at), (f.in_seconds(60), f.now()));
    assert_eq!(
        (read.backoff, read.timeout),
        (backoff, Some(Duration::from_secs(30)))
    );
    assert_eq!(read.key.as_deref(), Some("k"));
    assert!(
        f.jobs
            .get(JobId::from_bytes([1; 16]))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        f.jobs
            .history(JobId::from_bytes([1; 16]))
            .await
            .unwrap()
            .is_empty()
    );
}

/// JSON text of this many bytes.
fn payload_of(bytes: usize) -> Payload {
    Payload::from_json(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap()
}

async fn payloads_around_the_inline_limit_read_back(f: Fixture) {
    let largest = f.largest_payload();
    for (bytes, stored) in [(2, 0), (511, 0), (512, 0), (513, 1), (largest, 2)] {
        let payload = payload_of(bytes);
        let job = NewJob::with_payload("t", payload.clone()).backoff(Backoff::Fixed {
            wait: Duration::ZERO,
        });
        let id = f.enqueue(job).await.job.id;
        assert_eq!(f.space(Space::Payload).await.len(), stored, "{bytes} bytes");
        assert_eq!(f.job(id).await.payload, payload);
        let page = f.jobs.list(9, None).await.unwrap();
        assert_eq!(page.items[0].payload, payload);
        let claimed = f.claim_one().await;
        assert_eq!(claimed.job.payload, payload);
        f.jobs
            .fail(&claimed.lease, Failure::new("no"))
            .await
            .unwrap();
        let claimed = f.claim_one().await;
        assert_eq!(claimed.job.payload, payload);
        f.jobs.complete(&claimed.lease).await.unwrap();
        assert_eq!(f.job(id).await.payload, payload);
    }
    let scheduled = NewJob::with_payload("t", payload_of(600)).run_at(f.in_seconds(1));
    f.enqueue(scheduled).await;
    f.pass(1);
    let taken = f.jobs.dequeue_next(&Selector::default()).await.unwrap();
    assert_eq!(taken.unwrap().payload, payload_of(600));
}

async fn the_payload_limit_can_be_chosen(f: Fixture) {
    let jobs = KvStore::open(f.store.clone(), f.options().max_payload(10))
        .await
        .unwrap();
    let job = |bytes| NewJob::with_payload("t", payload_of(bytes));
    assert!(jobs.enqueue(job(10)).await.is_ok());
    let refused = jobs.enqueue(job(11)).await;
    assert!(matches!(
        refused,
        Err(Error::Invalid {
            code: "payload-too-large",
            ..
        })
    ));
}

async fn history_is_unbroken_over_a_hundred_attempts(f: Fixture) {
    let job = text("t", "").max_attempts(100).backoff(Backoff::Fixed {
        wait: Duration::ZERO,
    });
    let id = f.enqueue(job).await.job.id;
    for attempt in 1..=100 {
        let claimed = f.claim_one().await;
        f.pass(1);
        let failure = Failure::new(format!("error {attempt}"));
        f.jobs.fail(&claimed.lease, failure).await.unwrap();
        assert_eq!(f.job(id).await.last_error, Some(format!("error {attempt}")));
    }
    let steps = f.jobs.history(id).await.unwrap();
    assert_eq!(steps.len(), 201);
    assert_eq!(f.states(id).await[200], State::Failed);
    assert!(steps.is_sorted_by_key(|step| step.at));
    for attempt in 1..=100u32 {
        let (run, fail) = (
            &steps[attempt as usize * 2 - 1],
            &steps[attempt as usize * 2],
        );
        assert_eq!((run.state, run.attempt), (State::Running, attempt));
        assert_eq!(run.worker.as_deref(), Some("worker"));
        assert_eq!(fail.reason, Some(format!("error {attempt}")));
    }
    assert!(!f.space(Space::History).await.is_empty());
}

async fn a_header_stays_small(f: Fixture) {
    let job = NewJob::with_payload("task", payload_of(512))
        .max_attempts(30)
        .key("a key")
        .backoff(Backoff::Fixed {
            wait: Duration::ZERO,
        });
    let id = f.enqueue(job).await.job.id;
    for attempt in 0..30 {
        let claimed = f.claim_one().await;
        match attempt % 3 {
            0 => f.jobs.abandon(&claimed.lease).await.unwrap(),
            1 => f.jobs.snooze(&claimed.lease, f.now()).await.unwrap(),
            _ => {
                let failure = Failure::new("ä".repeat(5000));
                f.jobs.fail(&claimed.lease, failure).await.unwrap();
            }
        }
        for header in f.space(Space::Job).await {
            let bytes = header.value.len();
            assert!(
                bytes <= 2048,
                "the header has {bytes} bytes after {attempt}"
            );
        }
        let error = f.job(id).await.last_error;
        assert!(attempt < 2 || error.is_some_and(|error| error.len() <= 1024));
    }
}

async fn a_long_error_is_cut_in_the_history_and_whole_in_the_log(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    let error = "ß".repeat(2000);
    f.jobs
        .fail(&claimed.lease, Failure::new(&error))
        .await
        .unwrap();
    let short = f.job(id).await.last_error.unwrap();
    assert!(short.len() <= 1024 && short.len() > 1000);
    assert!(error.starts_with(short.trim_end_matches('.')));
    let lines = f.jobs.logs(&kvjob::job::LogQuery::new(id)).await.unwrap();
    assert_eq!(lines.items[0].message, error);
    assert_eq!(lines.items[0].level, Level::Error);
}

async fn found(f: &Fixture, query: Query) -> Vec<JobId> {
    let page = f.jobs.lookup(&query).await.unwrap();
    assert!(page.next.is_none());
    page.items.iter().map(|job| job.id).collect()
}

async fn jobs_are_looked_up_by_state_task_and_time(f: Fixture) {
    let begin = f.now();
    let done = f.add("a").await.id;
    end(&f, done, State::Completed).await;
    f.pass(10);
    let failed = f.add("b").await.id;
    end(&f, failed, State::Failed).await;
    f.pass(10);
    let running = f.add("a").await.id;
    f.claim_one().await;
    let ready = f.add("b").await.id;
    let scheduled = f
        .enqueue(text("a", "").run_at(f.in_seconds(99)))
        .await
        .job
        .id;
    let all = [done, failed, running, ready, scheduled];
    let query = Query::new;
    assert_eq!(found(&f, query()).await, all);
    for (state, id) in [
        (State::Completed, done),
        (State::Failed, failed),
        (State::Running, running),
        (State::Ready, ready),
        (State::Scheduled, scheduled),
    ] {
        assert_eq!(found(&f, query().states([state])).await, [id], "{state}");
    }
    let set = query().states([State::Ready, State::Failed]);
    assert_eq!(found(&f, set).await, [failed, ready]);
    assert_eq!(
        found(&f, query().task("a")).await,
        [done, running, scheduled]
    );
    assert!(found(&f, query().task("c")).await.is_empty());
    let at = |seconds| begin.after(Duration::from_secs(seconds));
    // After alone is a criterion; it is included, before is not.
    assert_eq!(found(&f, query().after(at(10))).await, all[1..]);
    assert_eq!(found(&f, query().after(at(11))).await, all[2..]);
    assert_eq!(found(&f, query().before(at(10))).await, all[..1]);
    assert_eq!(
        found(&f, query().after(at(1)).before(at(20))).await,
        [failed]
    );
    let ended = query().states([State::Failed]);
    assert_eq!(found(&f, ended.clone().after(at(10))).await, [failed]);
    assert!(found(&f, ended.after(at(11))).await.is_empty());
    assert_eq!(found(&f, query().id(ready)).await, [ready]);
    assert!(found(&f, query().id(ready).task("a")).await.is_empty());
    assert!(
        found(&f, query().id(JobId::from_bytes([3; 16])))
            .await
            .is_empty()
    );
    f.pass(99);
    assert_eq!(
        found(&f, query().states([State::Ready])).await,
        [ready, scheduled]
    );
}

async fn lookups_page_through_everything_once(f: Fixture) {
    let mut all = Vec::new();
    for number in 0..30 {
        let id = f.add(if number % 3 == 0 { "a" } else { "b" }).await.id;
        all.push(id);
    }
    for (query, expected) in [
        (Query::new(), all.clone()),
        (
            Query::new().task("a"),
            all.iter().copied().step_by(3).collect(),
        ),
    ] {
        for limit in [1, 7, 30, 31] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let query = query.clone().limit(limit).cursor(cursor);
                let page = f.jobs.lookup(&query).await.unwrap();
                assert!(page.items.len() <= limit);
                seen.extend(page.items.iter().map(|job| job.id));
                // A cursor survives being printed.
                cursor = page
                    .next
                    .map(|next| next.to_string().parse::<Cursor>().unwrap());
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected);
        }
    }
}

async fn ended_jobs_are_looked_up_in_the_order_of_their_end(f: Fixture) {
    let mut claimed = Vec::new();
    for _ in 0..5 {
        f.add("t").await;
        claimed.push(f.claim_one().await);
    }
    let mut expected = Vec::new();
    for one in claimed.iter().rev() {
        f.pass(1);
        let failure = Failure::new("no").retry(Retry::Never);
        f.jobs.fail(&one.lease, failure).await.unwrap();
        expected.push(one.job.id);
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let query = Query::new().states([State::Failed, State::Canceled, State::TimedOut]);
        let page = f.jobs.lookup(&query.limit(1).cursor(cursor)).await.unwrap();
        seen.extend(page.items.iter().map(|job| job.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

async fn a_cursor_of_another_query_is_refused(f: Fixture) {
    f.add("t").await;
    f.add("t").await;
    for text in ["", "x", "zz", "0", "ff00", "0201"] {
        let cursor: Cursor = text.parse().unwrap();
        let answers = [
            f.jobs.list(1, Some(cursor.clone())).await.map(|_| ()),
            f.jobs
                .lookup(&Query::new().cursor(cursor.clone()))
                .await
                .map(|_| ()),
        ];
        for answer in answers {
            let code = match answer {
                Err(Error::Invalid { code, .. }) => code,
                other => panic!("{text:?}: {other:?}"),
            };
            assert_eq!(code, "bad-cursor");
        }
    }
}

async fn stats_count_by_state_and_task(f: Fixture) {
    let done = f.add("a").await.id;
    end(&f, done, State::Completed).await;
    f.add("a").await;
    f.add("b").await;
    f.enqueue(text("b", "").run_at(f.in_seconds(9))).await;
    let stats = f.jobs.stats().await.unwrap();
    assert_eq!(stats.total, 4);
    let expected = [
        (State::Scheduled, 1),
        (State::Ready, 2),
        (State::Completed, 1),
    ];
    assert_eq!(stats.states, BTreeMap::from(expected));
    let of_b = BTreeMap::from([(State::Scheduled, 1), (State::Ready, 1)]);
    assert_eq!(stats.tasks["b"], of_b);
    assert_eq!(
        (stats.quarantined, stats.unreadable, stats.too_new),
        (0, 0, 0)
    );
}

/// A job with everything a job can have: chunks, a payload, a key, log lines.
async fn rich_job(f: &Fixture, lines: usize, attempts: u32) -> JobId {
    let job = NewJob::with_payload("t", payload_of(2000))
        .key("k")
        .max_attempts(attempts)
        .backoff(Backoff::Fixed {
            wait: Duration::ZERO,
        });
    let id = f.enqueue(job).await.job.id;
    for number in 0..lines {
        let message = format!("line {number}");
        f.jobs
            .log(id, Level::Info, message, BTreeMap::new())
            .await
            .unwrap();
    }
    for _ in 0..attempts {
        let claimed = f.claim_one().await;
        f.jobs
            .fail(&claimed.lease, Failure::new("x".repeat(2000)))
            .await
            .unwrap();
    }
    assert_eq!(f.job(id).await.state, State::Failed);
    id
}

async fn purge_leaves_nothing_behind(f: Fixture) {
    let empty = f.raw(Vec::new()).await;
    assert_eq!(empty.len(), 1, "the format");
    let mut ids = vec![rich_job(&f, 3, 10).await];
    let done = f.add("t").await.id;
    end(&f, done, State::Completed).await;
    let taken = f.add("t").await.id;
    f.jobs.dequeue(taken).await.unwrap();
    let canceled = f.add("t").await.id;
    f.jobs.cancel(&Query::new().id(canceled)).await.unwrap();
    ids.extend([done, taken, canceled]);
    for space in [
        Space::History,
        Space::Log,
        Space::Payload,
        Space::Unique,
        Space::Attention,
    ] {
        assert!(!f.space(space).await.is_empty(), "{space:?}");
    }
    let gone = f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(gone.items, ids);
    assert!(gone.next.is_none());
    // The record of what was held goes when its time is over.
    f.pass(61);
    f.jobs.expire().await.unwrap();
    assert_eq!(f.raw(Vec::new()).await, empty);
    assert!(f.jobs.purge(&Query::new()).await.unwrap().items.is_empty());
}

async fn purge_removes_many_log_lines_and_chunks(f: Fixture) {
    let empty = f.raw(Vec::new()).await;
    let id = rich_job(&f, 500, 120).await;
    assert_eq!(f.space(Space::Log).await.len(), 620);
    assert!(f.space(Space::History).await.len() > 64);
    let gone = f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(gone.items, [id]);
    f.pass(61);
    f.jobs.expire().await.unwrap();
    assert_eq!(f.raw(Vec::new()).await, empty);
}

async fn a_purge_that_was_cut_off_is_resumed(f: Fixture) {
    let empty = f.raw(Vec::new()).await;
    let id = rich_job(&f, 500, 3).await;
    let all = Query::new();
    let mut cut_off = f.jobs.purge(&all);
    while f.jobs.get(id).await.unwrap().is_some() {
        assert!(futures::poll!(&mut cut_off).is_pending());
        tokio::task::yield_now().await;
    }
    drop(cut_off);
    let lines = f.space(Space::Log).await.len();
    // On a bag all lines go in one change, so that no part of them can stay.
    assert_eq!(lines > 0, f.store.unique_keys(), "it was not cut off");
    assert!(f.jobs.lookup(&all).await.unwrap().items.is_empty());
    assert_eq!(f.jobs.purge(&all).await.unwrap().items, [id]);
    f.pass(61);
    f.jobs.expire().await.unwrap();
    assert_eq!(f.raw(Vec::new()).await, empty);
}

async fn purge_spares_what_is_not_final_or_not_asked_for(f: Fixture) {
    let done = f.add("a").await.id;
    end(&f, done, State::Completed).await;
    let failed = f.add("b").await.id;
    end(&f, failed, State::Failed).await;
    let running = f.add("a").await.id;
    f.claim_one().await;
    let ready = f.add("a").await.id;
    let purged = async |query: Query| f.jobs.purge(&query).await.unwrap().items;
    assert!(purged(Query::new().id(running)).await.is_empty());
    assert!(purged(Query::new().states([State::Ready])).await.is_empty());
    assert!(purged(Query::new().after(f.in_seconds(1))).await.is_empty());
    assert_eq!(purged(Query::new().task("b")).await, [failed]);
    assert_eq!(purged(Query::new().limit(1)).await, [done]);
    assert_eq!(found(&f, Query::new()).await, [running, ready]);
}

async fn clear_touches_only_its_namespace(f: Fixture) {
    let other = KvStore::open(f.store.clone(), f.options().namespace("kvjo"))
        .await
        .unwrap();
    let stranger = Object::new("another program's key", "its value");
    f.store.set(stranger.clone()).await.unwrap();
    let kept = other.enqueue(text("t", "")).await.unwrap().job.id;
    rich_job(&f, 2, 3).await;
    f.enqueue(text("t", "").run_at(f.in_seconds(5))).await;
    f.add("t").await;
    let claimed = f.claim_one().await;
    f.jobs.clear().await.unwrap();
    assert!(f.jobs.lookup(&Query::new()).await.unwrap().items.is_empty());
    assert!(matches!(
        f.jobs.complete(&claimed.lease).await,
        Err(Error::LeaseLost { .. })
    ));
    assert_eq!(other.list(9, None).await.unwrap().items[0].id, kept);
    assert_eq!(f.store.get(&stranger.key).await.unwrap(), Some(stranger));
    // It works on.
    assert!(f.claim(9).await.is_empty());
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    assert_eq!(f.claim_one().await.job.id, id);
    assert_eq!(f.space(Space::Format).await.len(), 1);
}

async fn namespaces_share_a_store_in_peace(f: Fixture) {
    let other = KvStore::open(f.store.clone(), f.options().namespace("kvjobs"))
        .await
        .unwrap();
    let mine = f.add("t").await.id;
    let theirs = other.enqueue(text("t", "")).await.unwrap().job.id;
    assert_eq!(f.listed().await, [mine]);
    assert!(f.jobs.get(theirs).await.unwrap().is_none());
    let claims = other.claim(Claim::new("w").max(9)).await.unwrap();
    assert_eq!(claims.jobs.len(), 1);
    assert_eq!(claims.jobs[0].job.id, theirs);
    assert_eq!(f.claim(9).await.len(), 1);
    other.stop().await.unwrap();
    f.add("t").await;
}

/// Three jobs of which something of the middle one is spoilt, by the caller.
async fn three(f: &Fixture, payload: usize) -> [Job; 3] {
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let job = NewJob::with_payload("t", payload_of(payload));
        jobs.push(f.enqueue(job).await.job);
    }
    jobs.try_into().unwrap()
}

async fn others_run(f: &Fixture, jobs: &[Job; 3]) {
    let mut claimed = f.claim(9).await;
    claimed.extend(f.claim(9).await);
    let ids: Vec<JobId> = claimed.iter().map(|one| one.job.id).collect();
    assert_eq!(ids, [jobs[0].id, jobs[2].id]);
    for one in claimed {
        f.jobs.complete(&one.lease).await.unwrap();
    }
}

async fn put_aside(f: &Fixture) -> Vec<String> {
    let page = f.jobs.quarantine(9, None).await.unwrap();
    page.items.into_iter().map(|record| record.reason).collect()
}

async fn a_corrupt_header_is_put_aside_and_others_run(f: Fixture) {
    let jobs = three(&f, 10).await;
    let key = Fixture::key(Space::Job, jobs[1].id);
    f.overwrite(key.clone(), b"\x01garbage").await;
    assert_eq!(f.jobs.stats().await.unwrap().unreadable, 1);
    let answer = f.jobs.get(jobs[1].id).await;
    assert!(matches!(answer, Err(Error::Store(error)) if *error.kind() == ErrorKind::Corrupt));
    assert_eq!(f.listed().await, [jobs[0].id, jobs[2].id]);
    assert_eq!(found(&f, Query::new()).await, [jobs[0].id, jobs[2].id]);
    others_run(&f, &jobs).await;
    assert_eq!(put_aside(&f).await.len(), 1);
    let stats = f.jobs.stats().await.unwrap();
    assert_eq!((stats.quarantined, stats.unreadable), (1, 0));
    assert!(f.jobs.get(jobs[1].id).await.unwrap().is_none());
    assert!(f.space(Space::Ready).await.is_empty());
    // The bytes are kept.
    let record = &f.space(Space::Quarantine).await[0];
    assert!(record.value.windows(7).any(|bytes| bytes == b"garbage"));

    // One that was scheduled, too, with no bytes at all.
    let id = f
        .enqueue(text("t", "").run_at(f.in_seconds(1)))
        .await
        .job
        .id;
    let good = f
        .enqueue(text("t", "").run_at(f.in_seconds(1)))
        .await
        .job
        .id;
    f.overwrite(Fixture::key(Space::Job, id), b"").await;
    f.pass(1);
    assert_eq!(f.claim_one().await.job.id, good);
    assert_eq!(put_aside(&f).await.len(), 2);
}

async fn a_corrupt_payload_is_put_aside_and_others_run(f: Fixture) {
    let jobs = three(&f, 600).await;
    f.overwrite(Fixture::key(Space::Payload, jobs[1].id), &[0xff; 600])
        .await;
    others_run(&f, &jobs).await;
    let reasons = put_aside(&f).await;
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("UTF-8"), "{reasons:?}");
    // The same without a lease.
    let jobs = three(&f, 600).await;
    f.overwrite(Fixture::key(Space::Payload, jobs[0].id), b"cut")
        .await;
    let next = f.jobs.dequeue_next(&Selector::default()).await.unwrap();
    assert_eq!(next.unwrap().id, jobs[1].id);
    assert_eq!(put_aside(&f).await.len(), 2);
}

async fn a_missing_payload_does_not_spoil_answers_about_others(f: Fixture) {
    let jobs = three(&f, 600).await;
    let key = Fixture::key(Space::Payload, jobs[1].id);
    f.forget(key).await;
    assert_eq!(f.listed().await, [jobs[0].id, jobs[2].id]);
    assert_eq!(found(&f, Query::new()).await, [jobs[0].id, jobs[2].id]);
    assert_eq!(f.jobs.stats().await.unwrap().total, 3);
    let canceled = f.jobs.cancel(&Query::new()).await.unwrap();
    let canceled: Vec<JobId> = canceled.items.iter().map(|job| job.id).collect();
    assert_eq!(canceled, [jobs[0].id, jobs[2].id]);
    assert!(f.claim(9).await.is_empty());
    assert_eq!(put_aside(&f).await.len(), 1);
    f.jobs.purge(&Query::new()).await.unwrap();
    assert!(found(&f, Query::new()).await.is_empty());
    assert_eq!(f.jobs.stats().await.unwrap().total, 0);
}

async fn a_corrupt_index_entry_is_put_aside_and_others_run(f: Fixture) {
    let id = f.add("t").await.id;
    let lane = f.space(Space::Ready).await.remove(0).key;
    let broken = [lane.as_bytes().split_last_chunk::<20>().unwrap().0, b"\x99"].concat();
    f.overwrite(broken, b"").await;
    let broken = [Fixture::prefix(Space::Scheduled), b"\x99".to_vec()].concat();
    f.overwrite(broken, b"").await;
    let broken = [Fixture::prefix(Space::Ready), b"\x99".to_vec()].concat();
    f.overwrite(broken, b"").await;
    assert_eq!(f.listed().await, [id]);
    assert_eq!(f.claim_one().await.job.id, id);
    assert!(f.claim(9).await.is_empty());
    let other = f.another().await;
    assert!(other.claim(Claim::new("w")).await.unwrap().jobs.is_empty());
    f.add("t").await;
    assert_eq!(f.claim(9).await.len(), 1);
}

async fn a_corrupt_worker_record_is_put_aside(f: Fixture) {
    f.add("t").await;
    f.claim_one().await;
    f.add("t").await;
    let claim = Claim::new("another").lease(Duration::from_secs(1));
    assert_eq!(f.jobs.claim(claim).await.unwrap().jobs.len(), 1);
    let records = f.space(Space::Worker).await;
    assert_eq!(records.len(), 2);
    f.overwrite(records[0].key.as_bytes().to_vec(), b"\x01\xff\xff")
        .await;
    f.pass(100);
    assert_eq!(f.jobs.expire().await.unwrap().len(), 1);
    assert_eq!(put_aside(&f).await.len(), 1);
    f.add("other").await;
    f.claim_one().await;
}

async fn a_header_from_the_future_is_left_alone_and_others_run(f: Fixture) {
    let jobs = three(&f, 10).await;
    let key = Fixture::key(Space::Job, jobs[1].id);
    f.overwrite(key.clone(), b"\x02whatever it is").await;
    let before = f.raw(key.clone()).await;
    let entries = f.space(Space::Ready).await.len();
    others_run(&f, &jobs).await;
    assert_eq!(f.raw(key).await, before);
    assert_eq!(f.space(Space::Ready).await.len(), entries - 2);
    assert!(put_aside(&f).await.is_empty());
    let answer = f.jobs.get(jobs[1].id).await;
    assert!(matches!(answer, Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew));
    assert_eq!(f.jobs.stats().await.unwrap().too_new, 1);
    // Nor do later ones wait behind it.
    let id = f.add("t").await.id;
    assert_eq!(f.claim_one().await.job.id, id);
    assert!(f.jobs.purge(&Query::new()).await.unwrap().items.len() == 2);
    assert_eq!(f.jobs.stats().await.unwrap().too_new, 1);
}

async fn a_scheduled_header_from_the_future_does_not_block_promotion(f: Fixture) {
    let at = f.in_seconds(1);
    let jobs = (0..300).map(|_| text("t", "").run_at(at)).collect();
    let added = f.jobs.enqueue_many(jobs).await.unwrap();
    for one in &added[..290] {
        f.overwrite(Fixture::key(Space::Job, one.job.id), b"\x02new")
            .await;
    }
    f.pass(1);
    assert_eq!(f.claim(20).await.len(), 10);
    assert_eq!(f.space(Space::Scheduled).await.len(), 290);
}

async fn the_lease_of_a_job_from_the_future_stays_in_its_record(f: Fixture) {
    let newer = f.add("t").await.id;
    let older = f.add("t").await.id;
    assert_eq!(f.claim(2).await.len(), 2);
    let record = f.space(Space::Worker).await;
    f.overwrite(Fixture::key(Space::Job, newer), b"\x02whatever it is")
        .await;
    f.pass(100);
    assert_eq!(f.jobs.expire().await.unwrap(), [older]);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    let left = f.space(Space::Worker).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, record[0].key);
    let holds = |record: &Object, id: JobId| {
        let bytes = id.as_bytes();
        record.value.windows(16).any(|window| window == bytes)
    };
    assert!(holds(&left[0], newer) && !holds(&left[0], older));
}

async fn a_namespace_from_the_future_is_refused(f: Fixture) {
    f.add("t").await;
    let refused = |answer: Result<KvStore, Error>| match answer {
        Err(Error::Store(error)) => assert_eq!(*error.kind(), ErrorKind::TooNew, "{error}"),
        other => panic!("{other:?}"),
    };
    // Version 1 of the record, which says that only readers of format 9 may read the rest.
    f.overwrite(Fixture::prefix(Space::Format), &[1, 9, 9])
        .await;
    refused(KvStore::open(f.store.clone(), f.options()).await);
    f.overwrite(Fixture::prefix(Space::Format), b"\x02what is this")
        .await;
    refused(KvStore::open(f.store.clone(), f.options()).await);
    // One that newer software wrote, but which we may read.
    f.overwrite(Fixture::prefix(Space::Format), &[1, 9, 1])
        .await;
    KvStore::open(f.store.clone(), f.options()).await.unwrap();
}

async fn a_lane_entry_without_a_job_is_dropped(f: Fixture) {
    let id = f.add("t").await.id;
    let key = Fixture::key(Space::Job, id);
    f.forget(key).await;
    let good = f.add("t").await.id;
    assert_eq!(f.listed().await, [good]);
    assert_eq!(f.claim_one().await.job.id, good);
    assert!(f.claim(1).await.is_empty());
    assert!(f.space(Space::Ready).await.is_empty());
    assert_eq!(Tuple::new().string("kvjob").finish().len(), 7);
}
