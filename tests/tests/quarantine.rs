//! Records that were put aside are listed, shown, released and removed (protocol rule 20).

use std::time::Duration;

use kvjob::encoding::record;
use kvjob::encoding::tuple::Tuple;
use kvjob::job::{
    Backoff, Claim, Error, Failure, JobId, KvStore, Level, LogQuery, LogStore as _, NewJob,
    QuarantineId, Quarantined, Query, QueueStore as _, Retention, Retry, Selector, State,
    StateStore as _,
};
use kvjob::kv::{ErrorKind, Key, Object};
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    a_record_is_listed_and_shown_with_its_bytes,
    what_stood_under_one_key_at_different_times_is_kept_apart,
    a_removed_record_is_gone_and_nothing_else,
    what_is_not_there_is_neither_released_nor_removed,
    a_job_whose_payload_was_repaired_runs_again,
    what_belongs_to_a_job_stays_while_its_header_is_put_aside,
    what_still_cannot_be_read_is_released_only_if_wanted,
    a_record_from_the_future_is_released_only_if_wanted,
    nothing_is_released_over_another_record,
    a_released_job_waits_in_its_place,
    a_job_that_was_running_lost_its_lease,
    a_job_on_its_last_attempt_has_failed,
    a_job_that_was_to_stop_is_canceled,
    a_completed_job_is_there_again_and_found_by_retention,
    a_failed_job_can_be_retried_again,
    a_job_that_was_being_removed_is_removed,
    a_job_has_its_key_again_if_it_is_free,
    a_key_that_another_job_has_stays_with_it,
    two_who_release_a_record_at_once_release_it_once,
    an_index_entry_that_says_nothing_is_not_put_back_silently,
    an_entry_of_the_quarantine_that_cannot_be_read_blocks_nobody,
    a_cursor_of_another_list_is_refused,
    a_log_line_is_put_back_beside_the_others,
];

/// Puts the header of a job aside as it is, as other software would that could not read it, in
/// the way in which that was done before names were part of the key.
async fn put_aside(f: &Fixture, id: JobId) -> QuarantineId {
    let key = Fixture::key(Space::Job, id);
    let header = f.raw(key.clone()).await.remove(0);
    f.store.remove(&header).await.unwrap();
    for space in [Space::Ready, Space::Scheduled, Space::Attention] {
        for entry in f.space(space).await {
            f.store.remove(&entry).await.unwrap();
        }
    }
    aside(f, key, &header.value).await
}

async fn aside(f: &Fixture, key: Vec<u8>, value: &[u8]) -> QuarantineId {
    let namespace = Tuple::new().string("kvjob").finish();
    let rest = key.strip_prefix(&*namespace).unwrap();
    let at = Tuple::after(&Fixture::prefix(Space::Quarantine), 0).bytes(rest);
    let stored = (key.clone(), value.to_vec(), "a test wants it", 7_i64);
    let stored = record::encode(1, &stored).unwrap();
    f.store.set(Object::new(at.finish(), stored)).await.unwrap();
    let about = listed(f).await;
    let key = Key::from(key).to_string();
    about.iter().find(|one| one.key == key).unwrap().id
}

async fn listed(f: &Fixture) -> Vec<Quarantined> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = f.jobs.quarantine(1, cursor).await.unwrap();
        all.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Releases the record of a job, which must come back.
async fn release(f: &Fixture, name: QuarantineId) -> State {
    let released = f
        .jobs
        .release_quarantined(name, false)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(released.record.id, name);
    assert!(listed(f).await.is_empty());
    let job = released.job.unwrap();
    assert_eq!(f.job(job.id).await, job);
    f.states(job.id).await;
    job.state
}

async fn refused(f: &Fixture, name: QuarantineId, expected: &str) {
    let before = f.raw(Vec::new()).await;
    match f.jobs.release_quarantined(name, false).await {
        Err(Error::Invalid { code, message }) => {
            assert_eq!(code, expected, "{message}");
            assert!(message.contains(&name.to_string()), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(f.raw(Vec::new()).await, before);
}

async fn end(f: &Fixture, state: State) -> JobId {
    let claimed = f.claim_one().await;
    if state == State::Completed {
        f.jobs.complete(&claimed.lease).await.unwrap();
    } else {
        let failure = Failure::new("no").retry(Retry::Never);
        f.jobs.fail(&claimed.lease, failure).await.unwrap();
    }
    claimed.job.id
}

async fn a_record_is_listed_and_shown_with_its_bytes(f: Fixture) {
    let mut ids = Vec::new();
    for value in [&b"\x01garbage"[..], b"", b"\x01\xff"] {
        let id = f.add("t").await.id;
        f.overwrite(Fixture::key(Space::Job, id), value).await;
        ids.push((id, value));
    }
    f.pass(5);
    assert!(f.claim(9).await.is_empty());
    let all = listed(&f).await;
    assert_eq!(all.len(), 3);
    for (one, (id, value)) in all.iter().zip(ids) {
        let key = Fixture::key(Space::Job, id);
        assert_eq!(one.key, Key::from(key.clone()).to_string());
        assert_eq!((one.at, one.bytes), (f.now(), value.len()));
        assert!(!one.reason.is_empty());
        let shown = f.jobs.quarantined(one.id).await.unwrap().unwrap();
        assert_eq!(shown.about, *one);
        assert_eq!((&*shown.key, &*shown.value), (&*key, value));
        let typed: QuarantineId = one.id.to_string().parse().unwrap();
        assert_eq!(typed, one.id);
    }
}

async fn what_stood_under_one_key_at_different_times_is_kept_apart(f: Fixture) {
    let broken = [Fixture::prefix(Space::Scheduled), b"\x99".to_vec()].concat();
    for value in [&b"one"[..], b"two", b"one"] {
        f.overwrite(broken.clone(), value).await;
        f.claim(1).await;
    }
    let all = listed(&f).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].key, all[1].key);
    let mut values = Vec::new();
    for one in &all {
        values.push(f.jobs.quarantined(one.id).await.unwrap().unwrap().value);
    }
    values.sort();
    assert_eq!(values, [&b"one"[..], b"two"]);
}

async fn a_removed_record_is_gone_and_nothing_else(f: Fixture) {
    let (one, other) = (f.add("t").await.id, f.add("t").await.id);
    let (one, other) = (put_aside(&f, one).await, put_aside(&f, other).await);
    let before = f.raw(Vec::new()).await;
    assert!(f.jobs.remove_quarantined(one).await.unwrap());
    let left: Vec<QuarantineId> = listed(&f).await.iter().map(|left| left.id).collect();
    assert_eq!(left, [other]);
    assert_eq!(f.raw(Vec::new()).await.len(), before.len() - 1);
    assert!(f.jobs.quarantined(one).await.unwrap().is_none());
}

async fn what_is_not_there_is_neither_released_nor_removed(f: Fixture) {
    let name = "00000000000000aa".parse().unwrap();
    assert!(f.jobs.quarantined(name).await.unwrap().is_none());
    assert!(!f.jobs.remove_quarantined(name).await.unwrap());
    for unreadable in [false, true] {
        let released = f.jobs.release_quarantined(name, unreadable).await.unwrap();
        assert!(released.is_none());
    }
}

async fn a_job_whose_payload_was_repaired_runs_again(f: Fixture) {
    let payload = "x".repeat(600);
    let id = f.enqueue(text("t", &payload)).await.job.id;
    let key = Fixture::key(Space::Payload, id);
    let good = f.raw(key.clone()).await.remove(0);
    f.overwrite(key, b"cut").await;
    assert!(f.claim(1).await.is_empty());
    let name = listed(&f).await[0].id;
    // Its header can be read, but whoever claims it would put it aside again.
    refused(&f, name, "quarantine-still-unreadable").await;
    f.overwrite(good.key.as_bytes().to_vec(), &good.value).await;
    assert_eq!(release(&f, name).await, State::Ready);
    let claimed = f.claim_one().await;
    assert_eq!(claimed.job.id, id);
    assert_eq!(claimed.job.payload.parse::<String>().unwrap(), payload);
    f.jobs.complete(&claimed.lease).await.unwrap();
    let steps = f.jobs.history(id).await.unwrap();
    assert_eq!(steps[1].reason.as_deref(), Some("released from quarantine"));
}

async fn what_belongs_to_a_job_stays_while_its_header_is_put_aside(f: Fixture) {
    let backoff = Backoff::Fixed {
        wait: Duration::ZERO,
    };
    let job = NewJob::new("t", &"x".repeat(600)).unwrap();
    let id = f.enqueue(job.backoff(backoff)).await.job.id;
    for _ in 0..12 {
        let claimed = f.claim_one().await;
        let failure = Failure::new("no");
        f.jobs.fail(&claimed.lease, failure).await.unwrap();
    }
    let message = "a line".to_owned();
    f.jobs
        .log(id, Level::Info, message, [].into())
        .await
        .unwrap();
    let query = LogQuery::new(id);
    let lines = f.jobs.logs(&query).await.unwrap();
    let (job, steps) = (f.job(id).await, f.jobs.history(id).await.unwrap());
    assert!(!f.space(Space::History).await.is_empty());
    let name = put_aside(&f, id).await;
    assert!(f.jobs.get(id).await.unwrap().is_none());
    release(&f, name).await;
    let back = f.job(id).await;
    assert_eq!((back.payload, back.attempts), (job.payload, job.attempts));
    assert_eq!(f.jobs.logs(&query).await.unwrap(), lines);
    assert_eq!(f.jobs.history(id).await.unwrap()[..steps.len()], steps);
}

async fn what_still_cannot_be_read_is_released_only_if_wanted(f: Fixture) {
    let id = f.add("t").await.id;
    let key = Fixture::key(Space::Job, id);
    f.overwrite(key.clone(), b"\x01garbage").await;
    f.claim(1).await;
    // On a bag the first one leaves the entry in the lane, for the job may have another header.
    f.claim(1).await;
    let name = listed(&f).await[0].id;
    refused(&f, name, "quarantine-still-unreadable").await;
    let released = f
        .jobs
        .release_quarantined(name, true)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(released.job, None);
    assert_eq!(f.raw(key).await[0].value, &b"\x01garbage"[..]);
    assert_eq!(listed(&f).await, []);
    // No index leads to it, so nobody comes by and puts it aside again.
    let good = f.add("t").await.id;
    assert_eq!(f.claim_one().await.job.id, good);
    assert!(listed(&f).await.is_empty());
    assert_eq!(f.jobs.stats().await.unwrap().unreadable, 1);
}

async fn a_record_from_the_future_is_released_only_if_wanted(f: Fixture) {
    let id = f.add("t").await.id;
    let key = Fixture::key(Space::Job, id);
    let name = aside(&f, Fixture::key(Space::Job, id), b"\x02new").await;
    let header = f.raw(key.clone()).await.remove(0);
    f.store.remove(&header).await.unwrap();
    refused(&f, name, "quarantine-still-unreadable").await;
    f.jobs.release_quarantined(name, true).await.unwrap();
    let answer = f.jobs.get(id).await;
    assert!(matches!(answer, Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew));
}

async fn nothing_is_released_over_another_record(f: Fixture) {
    let id = f.add("t").await.id;
    let key = Fixture::key(Space::Job, id);
    let name = aside(&f, key, b"\x01old").await;
    refused(&f, name, "quarantine-key-taken").await;
    let answer = f.jobs.release_quarantined(name, true).await;
    assert!(matches!(
        answer,
        Err(Error::Invalid {
            code: "quarantine-key-taken",
            ..
        })
    ));
    assert_eq!(f.claim_one().await.job.id, id);
}

async fn a_released_job_waits_in_its_place(f: Fixture) {
    let first = f.enqueue(text("t", "").priority(-1)).await.job.id;
    let name = put_aside(&f, first).await;
    let second = f.add("t").await.id;
    assert_eq!(f.listed().await, [second]);
    assert_eq!(release(&f, name).await, State::Ready);
    assert_eq!(f.listed().await, [first, second]);
    assert_eq!(f.claim_one().await.job.id, first);

    let soon = text("t", "").run_at(f.in_seconds(10));
    let third = f.enqueue(soon.clone()).await.job.id;
    let name = put_aside(&f, third).await;
    assert_eq!(release(&f, name).await, State::Scheduled);
    assert_eq!(f.space(Space::Scheduled).await.len(), 1);
    let name = put_aside(&f, third).await;
    f.pass(11);
    assert_eq!(release(&f, name).await, State::Ready);
    assert!(f.space(Space::Scheduled).await.is_empty());
    assert_eq!(f.claim_one().await.job.id, third);
}

async fn a_job_that_was_running_lost_its_lease(f: Fixture) {
    let backoff = Backoff::Fixed {
        wait: Duration::from_secs(99),
    };
    let id = f.enqueue(text("t", "").backoff(backoff)).await.job.id;
    let old = f.claim_one().await;
    let name = put_aside(&f, id).await;
    assert_eq!(release(&f, name).await, State::Ready);
    let answer = f.jobs.complete(&old.lease).await;
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
    let new = f.claim_one().await;
    assert_eq!((new.job.id, new.job.attempts), (id, 2));
    assert!(new.lease.epoch > old.lease.epoch);
    // When the time of the first one is over, the record of its holder does no harm.
    f.jobs
        .heartbeat(std::slice::from_ref(&new.lease), Duration::from_secs(1000))
        .await
        .unwrap();
    f.pass(100);
    assert!(f.jobs.expire().await.unwrap().is_empty());
    f.jobs.complete(&new.lease).await.unwrap();
}

async fn a_job_on_its_last_attempt_has_failed(f: Fixture) {
    let id = f.enqueue(text("t", "").max_attempts(1)).await.job.id;
    f.claim_one().await;
    let name = put_aside(&f, id).await;
    assert_eq!(release(&f, name).await, State::Failed);
    assert_eq!(f.space(Space::Attention).await.len(), 1);
    assert_eq!(f.jobs.retry(&Query::new()).await.unwrap().items.len(), 1);
    assert_eq!(f.claim_one().await.job.id, id);
}

async fn a_job_that_was_to_stop_is_canceled(f: Fixture) {
    let id = f.add("t").await.id;
    f.claim_one().await;
    f.jobs.cancel(&Query::new()).await.unwrap();
    let name = put_aside(&f, id).await;
    assert_eq!(release(&f, name).await, State::Canceled);
    assert!(f.space(Space::Signal).await.is_empty());
}

async fn a_completed_job_is_there_again_and_found_by_retention(f: Fixture) {
    let hour = Duration::from_secs(3600);
    let retention = Retention::new().completed(hour).failed(hour);
    let options = f.options().retention(retention);
    let jobs = KvStore::open(f.store.clone(), options).await.unwrap();
    f.clock.wait_for_sleepers(1).await;
    let mut names = Vec::new();
    for state in [State::Completed, State::Failed] {
        f.add("t").await;
        let id = end(&f, state).await;
        names.push((put_aside(&f, id).await, state));
    }
    // The walks pass their places.
    for state in [State::Completed, State::Failed] {
        f.add("t").await;
        end(&f, state).await;
    }
    f.clock.set_wall(f.in_seconds(10 * 3600));
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    for (name, state) in names {
        let released = f.jobs.release_quarantined(name, false).await.unwrap();
        assert_eq!(released.unwrap().job.unwrap().state, state);
    }
    assert_eq!(jobs.sweep().await.unwrap(), 0);
    f.clock.set_wall(f.in_seconds(3601));
    assert_eq!(jobs.sweep().await.unwrap(), 2);
    assert!(f.space(Space::Job).await.is_empty());
}

async fn a_failed_job_can_be_retried_again(f: Fixture) {
    f.add("t").await;
    let id = end(&f, State::Failed).await;
    let name = put_aside(&f, id).await;
    f.pass(100);
    assert_eq!(release(&f, name).await, State::Failed);
    let failed = Query::new().states([State::Failed]);
    assert_eq!(f.jobs.lookup(&failed).await.unwrap().items[0].id, id);
    assert_eq!(f.jobs.retry(&failed).await.unwrap().items.len(), 1);
    assert!(f.space(Space::Attention).await.is_empty());
    assert_eq!(f.claim_one().await.job.id, id);
}

async fn a_job_that_was_being_removed_is_removed(f: Fixture) {
    f.add("t").await;
    let id = f.claim_one().await;
    for line in 0..300 {
        let message = format!("line {line}");
        f.jobs
            .log(id.job.id, Level::Info, message, [].into())
            .await
            .unwrap();
    }
    f.jobs.complete(&id.lease).await.unwrap();
    let (id, all) = (id.job.id, Query::new());
    let mut cut_off = f.jobs.purge(&all);
    while f.jobs.get(id).await.unwrap().is_some() {
        assert!(futures::poll!(&mut cut_off).is_pending());
        tokio::task::yield_now().await;
    }
    drop(cut_off);
    let name = put_aside(&f, id).await;
    // Whoever goes on with it finds nothing.
    assert_eq!(f.jobs.sweep().await.unwrap(), 0);
    assert!(f.space(Space::Retention).await.is_empty());
    let released = f.jobs.release_quarantined(name, false).await.unwrap();
    assert_eq!(released.unwrap().job.unwrap().state, State::Removed);
    assert_eq!(f.jobs.sweep().await.unwrap(), 1);
    assert!(f.space(Space::Job).await.is_empty());
    assert!(f.space(Space::Log).await.is_empty());
}

async fn a_job_has_its_key_again_if_it_is_free(f: Fixture) {
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    let name = put_aside(&f, id).await;
    let other = f.enqueue(text("t", "").key("k")).await;
    assert!(other.is_new);
    f.jobs.dequeue(other.job.id).await.unwrap();
    assert!(f.space(Space::Unique).await.is_empty());
    release(&f, name).await;
    let again = f.enqueue(text("t", "").key("k")).await;
    assert_eq!((again.job.id, again.is_new), (id, false));
    f.claim(9).await;
}

async fn a_key_that_another_job_has_stays_with_it(f: Fixture) {
    let id = f.enqueue(text("t", "").key("k")).await.job.id;
    let name = put_aside(&f, id).await;
    let other = f.enqueue(text("t", "").key("k")).await.job.id;
    release(&f, name).await;
    assert_eq!(f.job(id).await.key, None);
    let steps = f.jobs.history(id).await.unwrap();
    let reason = steps.last().unwrap().reason.clone().unwrap();
    assert!(reason.contains("another job has"), "{reason}");
    // Nor is it freed when the job goes.
    f.jobs.dequeue(id).await.unwrap();
    f.jobs.purge(&Query::new().id(id)).await.unwrap();
    let again = f.enqueue(text("t", "").key("k")).await;
    assert_eq!((again.job.id, again.is_new), (other, false));
}

async fn two_who_release_a_record_at_once_release_it_once(f: Fixture) {
    let id = f.add("t").await.id;
    let name = put_aside(&f, id).await;
    let other = f.another().await;
    let (one, two, three) = tokio::join!(
        f.jobs.release_quarantined(name, false),
        other.release_quarantined(name, false),
        f.jobs.release_quarantined(name, false),
    );
    let mut done = 0;
    for answer in [one, two, three] {
        done += usize::from(answer.unwrap().is_some());
    }
    assert_eq!(done, 1);
    let claims = f.jobs.claim(Claim::new("w").max(9)).await.unwrap();
    assert_eq!(claims.jobs.len(), 1);
}

async fn an_index_entry_that_says_nothing_is_not_put_back_silently(f: Fixture) {
    let broken = [Fixture::prefix(Space::Scheduled), b"\x99".to_vec()].concat();
    f.overwrite(broken.clone(), b"value").await;
    f.claim(1).await;
    let name = listed(&f).await[0].id;
    refused(&f, name, "quarantine-still-unreadable").await;
    let released = f.jobs.release_quarantined(name, true).await.unwrap();
    assert!(released.unwrap().job.is_none());
    assert_eq!(f.raw(broken).await[0].value, &b"value"[..]);
}

async fn an_entry_of_the_quarantine_that_cannot_be_read_blocks_nobody(f: Fixture) {
    let id = f.add("t").await.id;
    let good = put_aside(&f, id).await;
    let broken = [Fixture::prefix(Space::Quarantine), b"\x99".to_vec()].concat();
    f.overwrite(broken.clone(), b"\x01").await;
    let all = listed(&f).await;
    assert_eq!(all.len(), 2);
    let bad = all.iter().find(|one| one.id != good).unwrap();
    let shown = f.jobs.quarantined(bad.id).await.unwrap().unwrap();
    assert_eq!((&*shown.key, &*shown.value), (&*broken, &b"\x01"[..]));
    refused(&f, bad.id, "quarantine-still-unreadable").await;
    assert!(f.jobs.remove_quarantined(bad.id).await.unwrap());
    release(&f, good).await;
    let next = f.jobs.dequeue_next(&Selector::default()).await.unwrap();
    assert_eq!(next.unwrap().id, id);
}

async fn a_cursor_of_another_list_is_refused(f: Fixture) {
    for _ in 0..2 {
        f.add("t").await;
    }
    let cursor = f.jobs.lookup(&Query::new().limit(1)).await.unwrap().next;
    assert!(cursor.is_some());
    let answer = f.jobs.quarantine(9, cursor).await;
    assert!(matches!(
        answer,
        Err(Error::Invalid {
            code: "bad-cursor",
            ..
        })
    ));
}

async fn a_log_line_is_put_back_beside_the_others(f: Fixture) {
    let id = f.add("t").await.id;
    for line in 0..3 {
        let message = format!("line {line}");
        f.jobs
            .log(id, Level::Info, message, [].into())
            .await
            .unwrap();
        f.pass(1);
    }
    let query = LogQuery::new(id);
    let all = f.jobs.logs(&query).await.unwrap();
    assert_eq!(all.items.len(), 3);
    let line = f.space(Space::Log).await.remove(1);
    f.store.remove(&line).await.unwrap();
    let name = aside(&f, line.key.as_bytes().to_vec(), &line.value).await;
    assert_eq!(f.jobs.logs(&query).await.unwrap().items.len(), 2);
    let released = f.jobs.release_quarantined(name, false).await.unwrap();
    assert_eq!(released.unwrap().job, None);
    assert_eq!(f.jobs.logs(&query).await.unwrap(), all);
    assert!(listed(&f).await.is_empty());
}
