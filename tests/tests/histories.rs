//! Histories, of one job and across jobs.

use std::time::Duration;

use kvjob::job::{
    Cursor, Error, HistoryQuery, JobId, Query, QueueStore as _, State, StateStore as _, Step,
};
use kvjob_tests::{Fixture, Space, on_every_store};

on_every_store![
    steps_of_all_jobs_are_told_job_by_job_and_in_order,
    steps_are_asked_for_by_state_and_time,
    steps_of_one_job_come_in_pages,
    a_job_that_cannot_be_read_is_left_out_and_the_others_are_told,
    a_cursor_from_elsewhere_is_refused,
    steps_of_a_job_that_is_removed_are_gone,
];

type Steps = Vec<(JobId, Step)>;

async fn in_pages(f: &Fixture, query: &HistoryQuery, limit: usize) -> Steps {
    let (mut told, mut cursor) = (Vec::new(), None);
    loop {
        let query = query.clone().limit(limit).cursor(cursor);
        let page = f.jobs.lookup_history(&query).await.unwrap();
        assert!(page.items.len() <= limit);
        told.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return told;
        }
    }
}

/// One that waits, one with more steps than its header holds, and one that is done.
async fn three(f: &Fixture) -> [JobId; 3] {
    let waits = f.add("waits").await.id;
    let often = f.add("often").await.id;
    let done = f.add("done").await.id;
    f.jobs.cancel(&Query::new().id(waits)).await.unwrap();
    f.jobs.retry(&Query::new().id(waits)).await.unwrap();
    f.jobs.cancel(&Query::new().id(waits)).await.unwrap();
    for _ in 0..6 {
        f.pass(1);
        f.jobs.abandon(&f.claim_one().await.lease).await.unwrap();
    }
    let mut claims = f.claim(2).await;
    claims.retain(|claimed| claimed.job.id == done);
    f.jobs.complete(&claims[0].lease).await.unwrap();
    [waits, often, done]
}

/// Their histories, one after the other.
async fn histories(f: &Fixture, ids: &[JobId]) -> Steps {
    let mut all = Vec::new();
    for id in ids {
        let steps = f.jobs.history(*id).await.unwrap();
        all.extend(steps.into_iter().map(|step| (*id, step)));
    }
    all
}

async fn steps_of_all_jobs_are_told_job_by_job_and_in_order(f: Fixture) {
    let ids = three(&f).await;
    let expected = histories(&f, &ids).await;
    assert!(expected.len() > 15, "{expected:?}");
    for limit in [1, 2, 7, 100] {
        let told = in_pages(&f, &HistoryQuery::of_all_jobs(), limit).await;
        assert_eq!(told, expected, "in pages of {limit}");
    }
}

async fn steps_are_asked_for_by_state_and_time(f: Fixture) {
    let ids = three(&f).await;
    let all = histories(&f, &ids).await;
    let query = HistoryQuery::of_all_jobs;
    let (from, to) = (f.now().before(Duration::from_secs(4)), f.now());
    let asked = [
        query().states([State::Running, State::Completed]),
        query().after(from),
        query().before(to),
        query().after(from).before(to).states([State::Ready]),
    ];
    let is_asked_for: [&dyn Fn(&Step) -> bool; 4] = [
        &|step| matches!(step.state, State::Running | State::Completed),
        &|step| step.at >= from,
        &|step| step.at < to,
        &|step| step.at >= from && step.at < to && step.state == State::Ready,
    ];
    for (query, is_asked_for) in asked.iter().zip(is_asked_for) {
        let mut expected = all.clone();
        expected.retain(|(_, step)| is_asked_for(step));
        assert!(!expected.is_empty() && expected.len() < all.len());
        assert_eq!(in_pages(&f, query, 3).await, expected, "{query:?}");
    }
}

async fn steps_of_one_job_come_in_pages(f: Fixture) {
    let [_, often, _] = three(&f).await;
    let expected = histories(&f, &[often]).await;
    let told = in_pages(&f, &HistoryQuery::new(often), 2).await;
    assert_eq!(told, expected);
    let nobody = HistoryQuery::new(JobId::from_bytes([7; 16]));
    assert!(in_pages(&f, &nobody, 2).await.is_empty());
}

async fn a_job_that_cannot_be_read_is_left_out_and_the_others_are_told(f: Fixture) {
    let [waits, often, done] = three(&f).await;
    let expected = histories(&f, &[waits, done]).await;
    f.overwrite(Fixture::key(Space::Job, often), b"garbage")
        .await;
    let told = in_pages(&f, &HistoryQuery::of_all_jobs(), 2).await;
    assert_eq!(told, expected);
    let one = f.jobs.lookup_history(&HistoryQuery::new(often)).await;
    assert!(one.is_err(), "{one:?}");
}

async fn a_cursor_from_elsewhere_is_refused(f: Fixture) {
    let [waits, often, _] = three(&f).await;
    let of_often = HistoryQuery::new(often).limit(1);
    let cursor = f.jobs.lookup_history(&of_often).await.unwrap().next;
    for query in [
        HistoryQuery::new(waits).cursor(cursor),
        HistoryQuery::of_all_jobs().cursor("00".parse::<Cursor>().unwrap()),
    ] {
        let refused = f.jobs.lookup_history(&query).await;
        let Err(Error::Invalid { code, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(code, "bad-cursor");
    }
}

async fn steps_of_a_job_that_is_removed_are_gone(f: Fixture) {
    let [waits, often, done] = three(&f).await;
    f.jobs.purge(&Query::new().id(done)).await.unwrap();
    let told = in_pages(&f, &HistoryQuery::of_all_jobs(), 5).await;
    assert_eq!(told, histories(&f, &[waits, often]).await);
}
