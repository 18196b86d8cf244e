//! A job's log, and the end of a store.

use std::collections::BTreeMap;
use std::time::Duration;

use kvjob::job::{
    Claim, Error, JobId, Level, LogLine, LogQuery, LogStore as _, Query, QueueStore as _,
    Store as _,
};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    lines_come_in_the_order_in_which_they_were_written,
    lines_are_asked_for_by_level_and_time,
    lines_of_all_jobs_are_told_job_by_job,
    a_line_that_cannot_be_read_is_left_out_where_all_are_asked_for,
    lines_ride_along_with_the_next_operation,
    lines_are_stored_within_a_tenth_of_a_second,
    lines_are_stored_by_stop,
    lines_are_stored_when_the_last_handle_goes,
    a_line_that_was_logged_is_read,
    a_line_that_is_too_large_is_refused,
    many_lines_are_all_stored,
    lines_of_two_stores_are_all_kept,
    a_stopped_store_says_so,
    starting_and_stopping_twice_changes_nothing,
    what_was_begun_before_the_stop_is_finished,
    a_store_is_named_after_the_one_below,
];

async fn log(f: &Fixture, id: JobId, level: Level, message: &str) {
    let fields = BTreeMap::from([("line".to_owned(), message.to_owned())]);
    f.jobs
        .log(id, level, message.to_owned(), fields)
        .await
        .unwrap();
}

async fn read(f: &Fixture, query: LogQuery) -> Vec<LogLine> {
    // Anything that is planned stores the lines first.
    f.jobs.expire().await.unwrap();
    let page = f.jobs.logs(&query).await.unwrap();
    assert!(page.next.is_none());
    page.items
}

fn messages(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.message.as_str()).collect()
}

async fn lines_come_in_the_order_in_which_they_were_written(f: Fixture) {
    let id = f.add("t").await.id;
    let other = f.add("t").await.id;
    let texts = ["one", "", "two\nlines", "ünï"];
    for message in texts {
        log(&f, id, Level::Info, message).await;
        log(&f, other, Level::Info, "another job's").await;
    }
    f.pass(1);
    log(&f, id, Level::Error, "last").await;
    let lines = read(&f, LogQuery::new(id)).await;
    assert_eq!(messages(&lines)[..4], texts);
    assert_eq!(lines[4].message, "last");
    assert_eq!((lines[4].level, lines[4].at), (Level::Error, f.now()));
    assert_eq!(lines[1].fields["line"], "");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let query = LogQuery::new(id).limit(1).cursor(cursor);
        let page = f.jobs.logs(&query).await.unwrap();
        assert!(page.items.len() <= 1);
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, lines);
    let query = LogQuery::new(id).cursor("00".parse::<kvjob::job::Cursor>().unwrap());
    assert!(matches!(
        f.jobs.logs(&query).await,
        Err(Error::Invalid { .. })
    ));
}

async fn lines_are_asked_for_by_level_and_time(f: Fixture) {
    let id = f.add("t").await.id;
    let begin = f.now();
    let all = [Level::Debug, Level::Info, Level::Warn, Level::Error];
    for level in all {
        log(&f, id, level, &level.to_string()).await;
        f.pass(10);
    }
    let at = |seconds| begin.after(Duration::from_secs(seconds));
    let query = || LogQuery::new(id);
    let grave = query().levels([Level::Warn, Level::Error]);
    assert_eq!(messages(&read(&f, grave.clone()).await), ["warn", "error"]);
    assert_eq!(messages(&read(&f, grave.after(at(25))).await), ["error"]);
    let late = read(&f, query().after(at(10))).await;
    assert_eq!(messages(&late), ["info", "warn", "error"]);
    let early = read(&f, query().before(at(10))).await;
    assert_eq!(messages(&early), ["debug"]);
    assert!(
        read(&f, query().after(at(11)).before(at(20)))
            .await
            .is_empty()
    );
}

async fn all_lines(f: &Fixture, query: &LogQuery, limit: usize) -> Vec<LogLine> {
    let (mut told, mut cursor) = (Vec::new(), None);
    loop {
        let query = query.clone().limit(limit).cursor(cursor);
        let page = f.jobs.logs(&query).await.unwrap();
        assert!(page.items.len() <= limit);
        told.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return told;
        }
    }
}

async fn lines_of_all_jobs_are_told_job_by_job(f: Fixture) {
    let ids = [
        f.add("t").await.id,
        f.add("t").await.id,
        f.add("t").await.id,
    ];
    let begin = f.now();
    for level in [Level::Info, Level::Warn, Level::Error] {
        for id in [ids[0], ids[2]] {
            log(&f, id, level, &level.to_string()).await;
        }
        f.pass(1);
    }
    let query = LogQuery::of_all_jobs;
    let all = all_lines(&f, &query(), 100).await;
    let of: Vec<JobId> = all.iter().map(|line| line.job).collect();
    assert_eq!(of, [ids[0], ids[0], ids[0], ids[2], ids[2], ids[2]]);
    assert_eq!(all[..3], read(&f, LogQuery::new(ids[0])).await);
    for limit in 1..4 {
        assert_eq!(all_lines(&f, &query(), limit).await, all);
    }
    let later = begin.after(Duration::from_secs(1));
    for (asked, expected) in [
        (query().levels([Level::Warn]), ["warn", "warn"]),
        (query().before(later), ["info", "info"]),
        (
            query().after(later).levels([Level::Error]),
            ["error", "error"],
        ),
    ] {
        assert_eq!(messages(&all_lines(&f, &asked, 1).await), expected);
    }
    assert_eq!(all_lines(&f, &query().after(later), 3).await.len(), 4);
}

async fn a_line_that_cannot_be_read_is_left_out_where_all_are_asked_for(f: Fixture) {
    let (bad, good) = (f.add("t").await.id, f.add("t").await.id);
    for id in [bad, good] {
        log(&f, id, Level::Info, "said").await;
    }
    assert_eq!(read(&f, LogQuery::new(good)).await.len(), 1);
    let stored = f.space(Space::Log).await;
    let object = stored.first().unwrap();
    f.store.remove(object).await.unwrap();
    let mut garbled = object.clone();
    if f.store.unique_keys() {
        garbled.value = "garbage".into();
    } else {
        let behind = garbled.value.len() - 3;
        garbled.value = garbled.value.slice(..behind);
    }
    f.store.set(garbled).await.unwrap();
    let told = all_lines(&f, &LogQuery::of_all_jobs(), 1).await;
    let of: Vec<JobId> = told.iter().map(|line| line.job).collect();
    assert_eq!(of, [good]);
    f.jobs.logs(&LogQuery::new(bad)).await.unwrap_err();
}

async fn lines_ride_along_with_the_next_operation(f: Fixture) {
    let id = f.add("t").await.id;
    log(&f, id, Level::Info, "with the claim").await;
    let claimed = f.claim_one().await;
    assert_eq!(f.space(Space::Log).await.len(), 1);
    log(&f, id, Level::Info, "with the completion").await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    assert_eq!(f.space(Space::Log).await.len(), 2);
}

async fn lines_are_stored_within_a_tenth_of_a_second(f: Fixture) {
    let id = f.add("t").await.id;
    log(&f, id, Level::Info, "alone").await;
    f.clock.wait_for_sleepers(1).await;
    assert!(f.space(Space::Log).await.is_empty());
    f.clock.advance(Duration::from_millis(100));
    while f.space(Space::Log).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn lines_are_stored_by_stop(f: Fixture) {
    let id = f.add("t").await.id;
    log(&f, id, Level::Info, "last words").await;
    f.jobs.stop().await.unwrap();
    assert_eq!(f.space(Space::Log).await.len(), 1);
}

async fn lines_are_stored_when_the_last_handle_goes(f: Fixture) {
    let other = f.another().await;
    let id = f.add("t").await.id;
    let fields = BTreeMap::new();
    other
        .log(id, Level::Info, "bye".to_owned(), fields)
        .await
        .unwrap();
    drop(other);
    while f.space(Space::Log).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn a_line_that_was_logged_is_read(f: Fixture) {
    let id = f.add("t").await.id;
    log(&f, id, Level::Info, "just now").await;
    let page = f.jobs.logs(&LogQuery::new(id)).await.unwrap();
    assert_eq!(messages(&page.items), ["just now"]);
}

async fn a_line_that_is_too_large_is_refused(f: Fixture) {
    let id = f.add("t").await.id;
    let most = 256 << 10;
    for (bytes, fits) in [(most, true), (most + 1, false)] {
        let line = f
            .jobs
            .log(id, Level::Info, "x".repeat(bytes), BTreeMap::new());
        match line.await {
            Ok(()) => assert!(fits),
            Err(Error::Invalid { code, .. }) => {
                assert_eq!((fits, code), (false, "log-line-too-large"));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(read(&f, LogQuery::new(id)).await[0].message.len(), most);
}

async fn many_lines_are_all_stored(f: Fixture) {
    let id = f.add("t").await.id;
    for number in 0..2000 {
        let message = format!("{number:04} {}", "x".repeat(1000));
        f.jobs
            .log(id, Level::Info, message, BTreeMap::new())
            .await
            .unwrap();
    }
    let lines = read(&f, LogQuery::new(id).limit(9999)).await;
    assert_eq!(lines.len(), 2000);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line.message[..4], format!("{number:04}"));
    }
}

async fn lines_of_two_stores_are_all_kept(f: Fixture) {
    let id = f.add("t").await.id;
    let other = f.another().await;
    for _ in 0..10 {
        log(&f, id, Level::Info, "mine").await;
        let fields = BTreeMap::new();
        other
            .log(id, Level::Info, "theirs".to_owned(), fields)
            .await
            .unwrap();
    }
    other.expire().await.unwrap();
    assert_eq!(read(&f, LogQuery::new(id)).await.len(), 20);
}

fn stopped<T: std::fmt::Debug>(answer: &Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Stopped)), "{answer:?}");
}

async fn a_stopped_store_says_so(f: Fixture) {
    let id = f.add("t").await.id;
    let claimed = f.claim_one().await;
    f.jobs.stop().await.unwrap();
    stopped(&f.jobs.enqueue(text("t", "")).await);
    stopped(&f.jobs.enqueue_many(vec![text("t", "")]).await);
    stopped(&f.jobs.claim(Claim::new("w")).await);
    stopped(&f.jobs.complete(&claimed.lease).await);
    stopped(&f.jobs.abandon(&claimed.lease).await);
    stopped(&f.jobs.expire().await);
    stopped(&f.jobs.cancel(&Query::new()).await);
    let fields = BTreeMap::new();
    stopped(&f.jobs.log(id, Level::Info, String::new(), fields).await);
    // The store below goes on, and so does a job store that is opened again.
    let again = f.another().await;
    again.complete(&claimed.lease).await.unwrap();
}

async fn starting_and_stopping_twice_changes_nothing(f: Fixture) {
    f.add("t").await;
    let before = f.raw(Vec::new()).await;
    f.jobs.start().await.unwrap();
    f.jobs.start().await.unwrap();
    f.jobs.stop().await.unwrap();
    f.jobs.stop().await.unwrap();
    assert_eq!(f.raw(Vec::new()).await, before);
}

async fn what_was_begun_before_the_stop_is_finished(f: Fixture) {
    let added: Vec<_> = (0..50).map(|_| f.jobs.enqueue(text("t", ""))).collect();
    let (added, stopped) = tokio::join!(futures::future::join_all(added), f.jobs.stop());
    stopped.unwrap();
    assert!(added.iter().all(Result::is_ok));
    assert_eq!(f.space(Space::Job).await.len(), 50);
}

async fn a_store_is_named_after_the_one_below(f: Fixture) {
    assert_eq!(f.jobs.name(), f.store.name());
    let health = f.jobs.health().await.unwrap();
    assert_eq!(health, f.store.health().await.unwrap());
    assert!(format!("{:?}", f.jobs).starts_with("KvStore"));
}
