//! How serial queues are shown: the limit of each, who runs, how many wait.

use std::collections::BTreeSet;

use kvjob::job::{Error, JobId, QueueStatus, QueueStore as _};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    a_queue_shows_its_limit_who_runs_and_how_many_wait,
    a_queue_that_nobody_used_is_shown_as_an_empty_one,
    a_queue_is_shown_for_the_tenant_that_was_asked_for,
    jobs_of_a_queue_that_are_due_later_do_not_count,
    a_queue_with_many_jobs_is_counted_up_to_the_most,
    all_queues_are_shown_page_by_page,
    a_queue_that_cannot_be_read_is_told_and_left_out_of_the_list,
    what_cannot_be_a_queue_is_refused,
];

async fn add(f: &Fixture, queue: &str) -> JobId {
    f.enqueue(text("t", "").queue(queue)).await.job.id
}

async fn shown(f: &Fixture, queue: &str) -> QueueStatus {
    f.jobs.queue_status("", queue).await.unwrap()
}

/// All of them, in pages of so many.
async fn all(f: &Fixture, limit: usize) -> Vec<QueueStatus> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = f.jobs.queues(limit, cursor).await.unwrap();
        assert!(page.items.len() <= limit);
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

async fn a_queue_shows_its_limit_who_runs_and_how_many_wait(f: Fixture) {
    f.jobs.limit_queue("", "q", 2).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(add(&f, "q").await);
    }
    // Of another lane, and before the others.
    let urgent = text("u", "").queue("q").priority(-1);
    let urgent = f.enqueue(urgent).await.job.id;
    let before = shown(&f, "q").await;
    assert_eq!(
        (before.concurrency, before.ready, before.more),
        (2, 6, false)
    );
    assert!(before.running.is_empty());
    assert_eq!((before.queue.as_str(), before.tenant.as_str()), ("q", ""));

    let claimed = f.claim(10).await;
    let now = shown(&f, "q").await;
    let running: BTreeSet<JobId> = now.running.into_iter().collect();
    assert_eq!(running, BTreeSet::from([urgent, ids[0]]));
    assert_eq!((now.concurrency, now.ready), (2, 4));

    // What runs goes on below the new limit.
    f.jobs.limit_queue("", "q", 1).await.unwrap();
    let lowered = shown(&f, "q").await;
    assert_eq!((lowered.concurrency, lowered.running.len()), (1, 2));
    for claimed in &claimed {
        f.jobs.complete(&claimed.lease).await.unwrap();
    }
    let after = shown(&f, "q").await;
    assert!(after.running.is_empty());
    assert_eq!(after.ready, 4);
}

async fn a_queue_that_nobody_used_is_shown_as_an_empty_one(f: Fixture) {
    let empty = shown(&f, "q").await;
    assert_eq!((empty.queue.as_str(), empty.concurrency), ("q", 1));
    assert_eq!(
        (empty.running.len(), empty.ready, empty.more),
        (0, 0, false)
    );
    assert!(all(&f, 10).await.is_empty());
}

async fn a_queue_is_shown_for_the_tenant_that_was_asked_for(f: Fixture) {
    add(&f, "q").await;
    f.jobs.limit_queue("acme", "q", 3).await.unwrap();
    let of_tenant = f.jobs.queue_status("acme", "q").await.unwrap();
    assert_eq!((of_tenant.concurrency, of_tenant.ready), (3, 0));
    assert_eq!(of_tenant.tenant, "acme");
    let of_none = shown(&f, "q").await;
    assert_eq!((of_none.concurrency, of_none.ready), (1, 1));
}

async fn jobs_of_a_queue_that_are_due_later_do_not_count(f: Fixture) {
    add(&f, "q").await;
    let later = text("t", "").queue("q").run_at(f.in_seconds(60));
    f.enqueue(later).await;
    assert_eq!(shown(&f, "q").await.ready, 1);
}

async fn a_queue_with_many_jobs_is_counted_up_to_the_most(f: Fixture) {
    let most = usize::try_from(QueueStatus::MOST_COUNTED).unwrap();
    let jobs = |count| (0..count).map(|_| text("t", "").queue("q")).collect();
    f.jobs.enqueue_many(jobs(most)).await.unwrap();
    let many = shown(&f, "q").await;
    assert_eq!((many.ready, many.more), (QueueStatus::MOST_COUNTED, false));
    f.jobs.enqueue_many(jobs(1)).await.unwrap();
    let more = shown(&f, "q").await;
    assert_eq!((more.ready, more.more), (QueueStatus::MOST_COUNTED, true));
}

async fn all_queues_are_shown_page_by_page(f: Fixture) {
    let mut expected = BTreeSet::new();
    for number in 0..40u32 {
        let queue = format!("q-{number:02}");
        for _ in 0..=number % 3 {
            add(&f, &queue).await;
        }
        expected.insert((queue, u64::from(number % 3) + 1, 1));
    }
    f.jobs.limit_queue("", "idle", 7).await.unwrap();
    expected.insert(("idle".to_owned(), 0, 7));
    for limit in [1, 7, 100] {
        let found = all(&f, limit).await;
        let count = found.len();
        let found: BTreeSet<_> = found
            .into_iter()
            .map(|one| (one.queue, one.ready, one.concurrency))
            .collect();
        assert_eq!(count, found.len(), "pages of {limit}");
        assert_eq!(found, expected, "pages of {limit}");
    }
}

async fn a_queue_that_cannot_be_read_is_told_and_left_out_of_the_list(f: Fixture) {
    add(&f, "bad").await;
    let record = f.space(Space::Queue).await.remove(0);
    add(&f, "good").await;
    f.overwrite(record.key.as_bytes().to_vec(), b"\x01\xffnone")
        .await;
    let refused = f.jobs.queue_status("", "bad").await.unwrap_err();
    assert!(matches!(refused, Error::Store(_)), "{refused}");
    let listed: Vec<String> = all(&f, 10).await.into_iter().map(|one| one.queue).collect();
    assert_eq!(listed, ["good"]);
}

async fn what_cannot_be_a_queue_is_refused(f: Fixture) {
    let code = |answer: Result<QueueStatus, Error>| match answer.unwrap_err() {
        Error::Invalid { code, .. } => code,
        other => panic!("not a refusal: {other}"),
    };
    assert_eq!(code(f.jobs.queue_status("", "").await), "empty-name");
    let long = "k".repeat(200);
    assert_eq!(
        code(f.jobs.queue_status("", &long).await),
        "queue-key-too-long"
    );
    assert_eq!(code(f.jobs.queue_status(&long, "q").await), "name-too-long");
    f.add("t").await;
    f.add("t").await;
    let elsewhere = f.jobs.list(1, None).await.unwrap().next;
    let refused = f.jobs.queues(1, elsewhere).await.unwrap_err();
    assert!(refused.to_string().contains("cursor"), "{refused}");
}
