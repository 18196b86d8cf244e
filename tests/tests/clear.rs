//! Steps and log lines are cleared: those that are asked for, and nothing else.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use kvjob::job::{
    Cursor, Error, Failure, HistoryQuery, JobId, KvStore, Level, LogLine, LogQuery, LogStore as _,
    Query, QueueStore as _, Retry, State, StateStore as _, Step, Store as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    steps_that_are_asked_for_are_cleared_and_no_others,
    a_query_with_only_after_clears_what_is_after,
    a_job_that_lives_keeps_its_history,
    a_job_that_is_retried_keeps_what_was_not_cleared,
    a_job_that_is_retried_while_it_is_cleared_tells_what_became_of_it,
    a_job_keeps_its_last_error_when_its_history_is_cleared,
    what_a_job_does_after_its_history_was_cleared_is_told,
    a_cleared_history_leaves_nothing_behind,
    jobs_that_cannot_be_read_are_left_out_and_the_others_are_cleared,
    lines_that_are_asked_for_are_removed_and_no_others,
    lines_that_wait_to_be_stored_are_removed,
    lines_that_wait_to_be_stored_are_removed_by_time,
    lines_of_a_job_that_runs_are_removed_and_it_logs_on,
    a_line_that_cannot_be_read_stays_and_the_others_are_removed,
    many_lines_are_removed_in_bounded_pages,
    what_two_stores_clear_at_once_is_cleared,
    a_cursor_from_elsewhere_clears_nothing,
    a_stopped_store_clears_nothing,
];

type Steps = Vec<(JobId, Step)>;

/// Clears what a query asks for, and says what was.
async fn clear(f: &Fixture, query: &HistoryQuery, limit: usize) -> Steps {
    let (mut cleared, mut cursor) = (Vec::new(), None);
    loop {
        let query = query.clone().limit(limit).cursor(cursor);
        let page = f.jobs.clear_history(&query).await.unwrap();
        assert!(page.items.len() <= limit);
        cleared.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return cleared;
        }
    }
}

/// Lets time pass for those who wait until they try again, because others were faster.
async fn in_time<T>(f: &Fixture, competing: impl Future<Output = T>) -> T {
    let time = async {
        loop {
            f.clock.wait_for_sleepers(1).await;
            f.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = competing => answer,
        () = time => unreachable!(),
    }
}

/// Every step that is told.
async fn told(f: &Fixture) -> Steps {
    let query = HistoryQuery::of_all_jobs().limit(10_000);
    let page = f.jobs.lookup_history(&query).await.unwrap();
    assert!(page.next.is_none());
    page.items
}

/// That nothing is wrong, and nothing was mended.
async fn is_sound(f: &Fixture) {
    let mut found = Vec::new();
    let checked = f.jobs.check(true, |event| found.push(format!("{event:?}")));
    assert_eq!(checked.await.unwrap().found, 0, "{found:#?}");
}

/// One that waits, one that failed after more steps than its header holds, and one that is done.
async fn three(f: &Fixture) -> [JobId; 3] {
    let waits = f.enqueue(text("waits", "").run_at(f.in_seconds(90_000)));
    let waits = waits.await.job.id;
    let often = f.enqueue(text("often", "").priority(-1)).await.job.id;
    for attempt in 0..14 {
        f.pass(1);
        let lease = f.claim_one().await.lease;
        let error = format!("attempt {attempt}: {}", "x".repeat(attempt * 50));
        let retry = match attempt {
            13 => Retry::Never,
            _ => Retry::After(Duration::ZERO),
        };
        let failure = Failure::new(error).retry(retry);
        f.jobs.fail(&lease, failure).await.unwrap();
    }
    let done = f.add("done").await.id;
    f.pass(1);
    f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
    [waits, often, done]
}

async fn steps_that_are_asked_for_are_cleared_and_no_others(f: Fixture) {
    let [waits, often, done] = three(&f).await;
    let mut all = told(&f).await;
    let half = f.now().before(Duration::from_secs(7));
    let query = HistoryQuery::of_all_jobs;
    let asked = [
        (query().states([State::Completed]).after(f.now()), 5),
        (query().states([State::Running]).before(half), 1),
        (
            HistoryQuery::new(often).after(half).states([State::Ready]),
            2,
        ),
        (HistoryQuery::new(waits), 3),
        (query().after(half).before(f.now()), 3),
        (HistoryQuery::new(done).after(f.in_seconds(1)), 1),
        (query(), 7),
    ];
    for (query, limit) in asked {
        let page = query.clone().limit(10_000);
        let mut expected = f.jobs.lookup_history(&page).await.unwrap().items;
        expected.retain(|(id, _)| *id != waits);
        assert_eq!(clear(&f, &query, limit).await, expected, "{query:?}");
        all.retain(|step| !expected.contains(step));
        assert_eq!(told(&f).await, all, "{query:?}");
        assert!(clear(&f, &query, limit).await.is_empty(), "{query:?}");
        is_sound(&f).await;
    }
    assert!(!all.is_empty() && all.iter().all(|(id, _)| *id == waits));
    assert!(
        clear(&f, &HistoryQuery::new(JobId::from_bytes([7; 16])), 1)
            .await
            .is_empty()
    );
}

async fn a_query_with_only_after_clears_what_is_after(f: Fixture) {
    let [waits, often, _] = three(&f).await;
    for second in 0..6 {
        log(&f.jobs, often, Level::Info, &second.to_string()).await;
        f.pass(1);
    }
    let after = f.now().before(Duration::from_secs(10));
    let mut steps = told(&f).await;
    steps.retain(|(id, step)| *id == waits || step.at < after);
    assert!(steps.len() > 5);
    clear(&f, &HistoryQuery::of_all_jobs().after(after), 4).await;
    assert_eq!(told(&f).await, steps);
    let after = f.now().before(Duration::from_secs(3));
    let gone = remove(&f, &LogQuery::of_all_jobs().after(after), 2).await;
    assert_eq!(messages(&gone), ["3", "4", "5"]);
    let left = lines(&f, &LogQuery::new(often)).await;
    assert_eq!(messages(&left), ["0", "1", "2"]);
}

async fn a_job_that_lives_keeps_its_history(f: Fixture) {
    let ready = f.add("t").await.id;
    let running = f.claim_one().await;
    let scheduled = f.enqueue(text("t", "").run_at(f.in_seconds(9))).await;
    let before = told(&f).await;
    assert_eq!(before.len(), 3);
    assert!(clear(&f, &HistoryQuery::of_all_jobs(), 1).await.is_empty());
    for id in [ready, scheduled.job.id] {
        assert!(clear(&f, &HistoryQuery::new(id), 1).await.is_empty());
    }
    assert_eq!(told(&f).await, before);
    f.jobs.complete(&running.lease).await.unwrap();
    assert_eq!(clear(&f, &HistoryQuery::of_all_jobs(), 1).await.len(), 3);
}

async fn a_job_that_is_retried_keeps_what_was_not_cleared(f: Fixture) {
    let [_, often, _] = three(&f).await;
    let before = f.jobs.history(often).await.unwrap();
    let query = HistoryQuery::new(often).limit(20);
    let page = f.jobs.clear_history(&query).await.unwrap();
    assert_eq!(page.items.len(), 20);
    f.jobs.retry(&Query::new().id(often)).await.unwrap();
    let rest = query.cursor(page.next);
    assert!(f.jobs.clear_history(&rest).await.unwrap().items.is_empty());
    let after = f.jobs.history(often).await.unwrap();
    assert_eq!(after[..after.len() - 1], before[20..]);
    let retried = after.last().unwrap();
    assert_eq!(
        (retried.number as usize, retried.state),
        (before.len(), State::Ready)
    );
    is_sound(&f).await;
}

async fn a_job_that_is_retried_while_it_is_cleared_tells_what_became_of_it(f: Fixture) {
    let [_, often, _] = three(&f).await;
    let other = f.another().await;
    let (id, query) = (
        Query::new().id(often),
        HistoryQuery::new(often).limit(10_000),
    );
    for _ in 0..20 {
        let steps = f.jobs.history(often).await.unwrap();
        let both = async { tokio::join!(other.clear_history(&query), f.jobs.retry(&id)) };
        let (cleared, retried) = in_time(&f, both).await;
        assert_eq!(retried.unwrap().items.len(), 1);
        let cleared = cleared.unwrap().items;
        let cleared = cleared.into_iter().map(|(_, step)| step);
        let mut expected = steps;
        // Whole, or part by part until it is retried.
        expected.retain(|step| !cleared.clone().any(|gone| gone == *step));
        let mut left = f.jobs.history(often).await.unwrap();
        let retried = left.pop().unwrap();
        assert_eq!((left, retried.state), (expected, State::Ready));
        f.jobs.cancel(&id).await.unwrap();
    }
    is_sound(&f).await;
}

async fn a_job_keeps_its_last_error_when_its_history_is_cleared(f: Fixture) {
    let [_, often, _] = three(&f).await;
    let before = f.job(often).await;
    assert!(before.last_error.as_ref().unwrap().contains("attempt 13"));
    clear(&f, &HistoryQuery::new(often), 100).await;
    let mut after = f.job(often).await;
    assert!(after.revision > before.revision);
    after.revision = before.revision;
    assert_eq!(after, before);
    assert!(f.jobs.history(often).await.unwrap().is_empty());
}

async fn what_a_job_does_after_its_history_was_cleared_is_told(f: Fixture) {
    let [_, often, _] = three(&f).await;
    let before = f.jobs.history(often).await.unwrap().len();
    clear(&f, &HistoryQuery::new(often), 100).await;
    f.jobs.retry(&Query::new().id(often)).await.unwrap();
    for _ in 0..10 {
        let lease = f.claim_one().await.lease;
        let failure = Failure::new("again").retry(Retry::After(Duration::ZERO));
        f.jobs.fail(&lease, failure).await.unwrap();
    }
    let steps = f.jobs.history(often).await.unwrap();
    let numbers = steps.iter().map(|step| step.number as usize);
    assert!(numbers.eq(before..before + 21), "{steps:#?}");
    is_sound(&f).await;
    // What is missing behind what was cleared is damage as ever.
    let chunks = f.space(Space::History).await;
    f.store.remove(&chunks[0]).await.unwrap();
    let checked = f.jobs.check(true, |_| {}).await.unwrap();
    assert_eq!(checked.found, 1, "{checked:?}");
    assert_eq!(f.jobs.history(often).await.unwrap().len(), 21);
}

async fn a_cleared_history_leaves_nothing_behind(f: Fixture) {
    let [_, often, _] = three(&f).await;
    assert!(f.space(Space::History).await.len() > 2);
    clear(&f, &HistoryQuery::new(often), 5).await;
    assert!(f.space(Space::History).await.is_empty());
    f.jobs.purge(&Query::new()).await.unwrap();
    assert_eq!(f.space(Space::Job).await.len(), 1);
    is_sound(&f).await;
}

async fn jobs_that_cannot_be_read_are_left_out_and_the_others_are_cleared(f: Fixture) {
    let [_, often, done] = three(&f).await;
    let key = Fixture::key(Space::Job, often);
    f.overwrite(key.clone(), b"garbage").await;
    let cleared = clear(&f, &HistoryQuery::of_all_jobs(), 2).await;
    assert_eq!(cleared.len(), 3);
    assert!(cleared.iter().all(|(id, _)| *id == done));
    let one = f.jobs.clear_history(&HistoryQuery::new(often)).await;
    assert!(one.is_err(), "{one:?}");
    assert_eq!(f.raw(key).await[0].value, "garbage");
}

async fn log(jobs: &KvStore, id: JobId, level: Level, message: &str) {
    let line = jobs.log(id, level, message.to_owned(), BTreeMap::new());
    line.await.unwrap();
}

/// Removes what a query asks for, and says what was.
async fn remove(f: &Fixture, query: &LogQuery, limit: usize) -> Vec<LogLine> {
    let (mut removed, mut cursor) = (Vec::new(), None);
    loop {
        let query = query.clone().limit(limit).cursor(cursor);
        let page = f.jobs.clear_logs(&query).await.unwrap();
        assert!(page.items.len() <= limit);
        removed.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return removed;
        }
    }
}

async fn lines(f: &Fixture, query: &LogQuery) -> Vec<LogLine> {
    let query = query.clone().limit(10_000);
    let page = f.jobs.logs(&query).await.unwrap();
    assert!(page.next.is_none());
    page.items
}

fn messages(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.message.as_str()).collect()
}

async fn lines_that_are_asked_for_are_removed_and_no_others(f: Fixture) {
    let ids = [f.add("t").await.id, f.add("t").await.id];
    for second in 0..5 {
        for level in [Level::Debug, Level::Info, Level::Error] {
            for id in ids {
                log(&f.jobs, id, level, &format!("{level} {second}")).await;
            }
        }
        f.pass(1);
    }
    let ago = |seconds| f.now().before(Duration::from_secs(seconds));
    let all_jobs = LogQuery::of_all_jobs;
    let mut all = lines(&f, &all_jobs()).await;
    let asked = [
        (all_jobs().levels([Level::Debug]).before(ago(2)), 2),
        (LogQuery::new(ids[0]).after(ago(4)).before(ago(3)), 1),
        (LogQuery::new(ids[1]).levels([Level::Error]), 3),
        (all_jobs().after(f.now()), 1),
        (LogQuery::new(ids[0]), 4),
        (all_jobs(), 1),
    ];
    for (query, limit) in asked {
        let expected = lines(&f, &query).await;
        assert_eq!(remove(&f, &query, limit).await, expected, "{query:?}");
        all.retain(|line| !expected.contains(line));
        assert_eq!(lines(&f, &all_jobs()).await, all, "{query:?}");
        assert!(remove(&f, &query, limit).await.is_empty(), "{query:?}");
    }
    assert!(f.space(Space::Log).await.is_empty());
}

async fn lines_that_wait_to_be_stored_are_removed(f: Fixture) {
    let id = f.add("t").await.id;
    for number in 0..3 {
        log(&f.jobs, id, Level::Info, &number.to_string()).await;
    }
    let removed = remove(&f, &LogQuery::new(id), 100).await;
    assert_eq!(messages(&removed), ["0", "1", "2"]);
    f.jobs.expire().await.unwrap();
    assert!(f.space(Space::Log).await.is_empty());
}

async fn lines_that_wait_to_be_stored_are_removed_by_time(f: Fixture) {
    let id = f.add("t").await.id;
    let begin = f.now();
    f.pass(1);
    log(&f.jobs, id, Level::Info, "said").await;
    let removed = remove(&f, &LogQuery::new(id).after(begin), 100).await;
    assert_eq!(messages(&removed), ["said"]);
}

async fn lines_of_a_job_that_runs_are_removed_and_it_logs_on(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    log(&f.jobs, id, Level::Info, "before").await;
    assert_eq!(
        messages(&remove(&f, &LogQuery::new(id), 1).await),
        ["before"]
    );
    log(&f.jobs, id, Level::Info, "after").await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(messages(&lines(&f, &LogQuery::new(id)).await), ["after"]);
}

async fn a_line_that_cannot_be_read_stays_and_the_others_are_removed(f: Fixture) {
    let (bad, good) = (f.add("t").await.id, f.add("t").await.id);
    for id in [bad, good] {
        log(&f.jobs, id, Level::Info, "said").await;
    }
    f.jobs.expire().await.unwrap();
    let stored = f.space(Space::Log).await;
    f.store.remove(&stored[0]).await.unwrap();
    let mut garbled = stored[0].clone();
    let behind = garbled.value.len() - 3;
    garbled.value = garbled.value.slice(..behind);
    f.store.set(garbled.clone()).await.unwrap();
    f.jobs.clear_logs(&LogQuery::new(bad)).await.unwrap_err();
    let removed = remove(&f, &LogQuery::of_all_jobs(), 1).await;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].job, good);
    assert_eq!(f.space(Space::Log).await, [garbled]);
}

async fn many_lines_are_removed_in_bounded_pages(f: Fixture) {
    let ids = [
        f.add("t").await.id,
        f.add("t").await.id,
        f.add("t").await.id,
    ];
    for number in 0..400 {
        log(&f.jobs, ids[number % 3], Level::Info, &number.to_string()).await;
    }
    let query = LogQuery::of_all_jobs().limit(150);
    let page = f.jobs.clear_logs(&query).await.unwrap();
    assert_eq!(page.items.len(), 150);
    assert_eq!(lines(&f, &LogQuery::of_all_jobs()).await.len(), 250);
    // What is logged meanwhile behind the page is part of the next one.
    log(&f.jobs, ids[2], Level::Info, "late").await;
    let query = query.limit(10_000).cursor(page.next);
    let page = f.jobs.clear_logs(&query).await.unwrap();
    assert_eq!((page.items.len(), page.next), (251, None));
    assert!(f.space(Space::Log).await.is_empty());
}

async fn what_two_stores_clear_at_once_is_cleared(f: Fixture) {
    let [waits, often, done] = three(&f).await;
    let other = f.another().await;
    for number in 0..30 {
        let id = [waits, often, done][number % 3];
        log(&f.jobs, id, Level::Info, &number.to_string()).await;
    }
    let steps = told(&f).await.len();
    let (history, logs) = (HistoryQuery::of_all_jobs(), LogQuery::of_all_jobs());
    let all = async {
        tokio::join!(
            f.jobs.clear_history(&history),
            other.clear_history(&history),
            f.jobs.clear_logs(&logs),
            other.clear_logs(&logs),
        )
    };
    let (one, two, three, four) = in_time(&f, all).await;
    // A step is told to one of them.
    let cleared = one.unwrap().items.len() + two.unwrap().items.len();
    assert_eq!(cleared, steps - 1);
    assert_eq!(told(&f).await.len(), 1);
    let removed = three.unwrap().items.len() + four.unwrap().items.len();
    assert!(removed >= 30, "{removed}");
    assert!(lines(&f, &logs).await.is_empty());
    is_sound(&f).await;
}

fn refused<T: std::fmt::Debug>(answer: &Result<T, Error>) {
    let Err(Error::Invalid { code, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(*code, "bad-cursor");
}

async fn a_cursor_from_elsewhere_clears_nothing(f: Fixture) {
    let [_, often, done] = three(&f).await;
    for id in [often, often, done] {
        log(&f.jobs, id, Level::Info, "said").await;
    }
    let before = told(&f).await;
    let query = HistoryQuery::new(often).limit(1);
    let step = f.jobs.lookup_history(&query).await.unwrap().next;
    let page = f.jobs.logs(&LogQuery::new(often).limit(1)).await;
    let line = page.unwrap().next;
    let nonsense = "00".parse::<Cursor>().ok();
    for cursor in [step, nonsense.clone()] {
        let query = HistoryQuery::new(done).cursor(cursor);
        refused(&f.jobs.clear_history(&query).await);
    }
    for cursor in [line, nonsense] {
        refused(&f.jobs.clear_logs(&LogQuery::new(done).cursor(cursor)).await);
    }
    assert_eq!(told(&f).await, before);
    assert_eq!(lines(&f, &LogQuery::of_all_jobs()).await.len(), 3);
}

async fn a_stopped_store_clears_nothing(f: Fixture) {
    let [_, often, _] = three(&f).await;
    log(&f.jobs, often, Level::Info, "said").await;
    f.jobs.stop().await.unwrap();
    let steps = f.jobs.clear_history(&HistoryQuery::new(often)).await;
    assert!(matches!(steps, Err(Error::Stopped)), "{steps:?}");
    let lines = f.jobs.clear_logs(&LogQuery::new(often)).await;
    assert!(matches!(lines, Err(Error::Stopped)), "{lines:?}");
    assert!(told(&f).await.len() > 20);
    assert_eq!(f.space(Space::Log).await.len(), 1);
}
