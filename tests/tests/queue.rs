//! In which order jobs are stored, listed and handed out.

use std::collections::BTreeSet;
use std::time::Duration;

use kvjob::job::{
    Backoff, Claim, Enqueued, Error, JobId, KvStore, NewJob, Query, QueueStore as _, Selector,
    State, StateStore as _,
};
use kvjob::kv::ErrorKind;
use kvjob_tests::{Fixture, Space, on_every_store, text};

on_every_store![
    jobs_come_by_priority_then_run_at_then_id,
    the_order_holds_across_lanes,
    a_scheduled_job_is_due_at_its_time_and_not_before,
    an_urgent_job_that_became_due_is_not_passed_over,
    a_claim_gets_as_many_as_it_asks_for,
    two_claimers_never_get_the_same_job,
    a_claim_takes_only_what_it_selects,
    a_claim_for_nothing_gets_nothing,
    many_lanes_are_served_in_order,
    more_scheduled_jobs_than_a_page_all_come,
    two_jobs_of_one_microsecond_are_two_jobs,
    enqueue_many_answers_and_stores_in_order,
    enqueue_many_stores_nothing_if_one_job_cannot_be,
    enqueue_many_says_which_job_is_refused,
    a_job_that_says_nothing_else_has_the_defaults,
    dequeue_next_takes_each_job_once_and_in_order,
    two_who_dequeue_never_get_the_same_job,
    dequeue_says_whether_the_job_was_there,
    the_list_is_in_claim_order,
    the_list_of_lanes_of_any_depth_is_in_claim_order_page_by_page,
    the_list_puts_due_jobs_where_they_will_be_claimed,
    a_claim_says_when_the_next_job_is_due,
    names_and_limits_are_refused_with_codes,
    a_dropped_claim_gives_its_leases_back,
    a_claim_dropped_before_it_saw_its_leases_gives_them_back,
    whoever_waits_hears_of_new_jobs,
];

fn ids(jobs: &[kvjob::job::Claimed]) -> Vec<JobId> {
    jobs.iter().map(|claimed| claimed.job.id).collect()
}

async fn jobs_come_by_priority_then_run_at_then_id(f: Fixture) {
    let now = f.now();
    let early = now.before(Duration::from_secs(10));
    let third = f.enqueue(text("t", "3").run_at(now)).await.job.id;
    let fourth = f.enqueue(text("t", "4").run_at(now)).await.job.id;
    let second = f.enqueue(text("t", "2").run_at(early)).await.job.id;
    let last = f.enqueue(text("t", "5").run_at(early).priority(1)).await;
    let first = f.enqueue(text("t", "1").priority(i16::MIN)).await.job.id;
    let order = [first, second, third, fourth, last.job.id];
    assert_eq!(f.listed().await, order);
    assert_eq!(ids(&f.claim(10).await), order);
    assert!(f.listed().await.is_empty());
}

async fn the_order_holds_across_lanes(f: Fixture) {
    let mut expected = Vec::new();
    for number in 0..40i16 {
        let priority = (number * 7) % 40;
        let job = NewJob::new(format!("task-{}", number % 5), &number).unwrap();
        let job = job.priority(priority).tenant(format!("t{}", number % 3));
        let job = if number % 2 == 0 {
            job.flag("even")
        } else {
            job
        };
        expected.push((priority, f.enqueue(job).await.job.id));
    }
    expected.sort_unstable();
    let expected: Vec<JobId> = expected.into_iter().map(|(_, id)| id).collect();
    assert_eq!(f.listed().await, expected);
    let mut claimed = Vec::new();
    for max in [1, 2, 3, 5, 8, 13, 21] {
        claimed.extend(ids(&f.claim(max).await));
    }
    assert_eq!(claimed, expected);
}

async fn a_scheduled_job_is_due_at_its_time_and_not_before(f: Fixture) {
    let id = f
        .enqueue(text("t", "").run_at(f.in_seconds(60)))
        .await
        .job
        .id;
    assert_eq!(f.job(id).await.state, State::Scheduled);
    f.clock.advance(Duration::from_micros(59_999_999));
    assert!(f.claim(1).await.is_empty());
    f.clock.advance(Duration::from_micros(1));
    assert_eq!(f.job(id).await.state, State::Ready);
    assert_eq!(f.claim_one().await.job.id, id);
    assert_eq!(f.states(id).await, [State::Created, State::Running]);
}

async fn an_urgent_job_that_became_due_is_not_passed_over(f: Fixture) {
    for _ in 0..10 {
        f.add("t").await;
    }
    let urgent = f
        .enqueue(text("other", "").run_at(f.in_seconds(5)).priority(-1))
        .await
        .job
        .id;
    assert_ne!(f.claim_one().await.job.id, urgent);
    f.pass(5);
    assert_eq!(f.claim_one().await.job.id, urgent);
}

async fn a_claim_gets_as_many_as_it_asks_for(f: Fixture) {
    for _ in 0..7 {
        f.add("t").await;
    }
    assert_eq!(f.claim(3).await.len(), 3);
    assert_eq!(f.claim(1).await.len(), 1);
    assert_eq!(f.claim(10).await.len(), 3);
    assert!(f.claim(10).await.is_empty());
}

async fn two_claimers_never_get_the_same_job(f: Fixture) {
    for _ in 0..200 {
        f.add("t").await;
    }
    let other = f.another().await;
    let mut seen = BTreeSet::new();
    loop {
        let claim = |worker| Claim::new(worker).max(7);
        let (one, two, three) = tokio::join!(
            f.jobs.claim(claim("one")),
            f.jobs.claim(claim("two")),
            other.claim(claim("three")),
        );
        let before = seen.len();
        for claims in [one, two, three] {
            for claimed in claims.unwrap().jobs {
                assert!(seen.insert(claimed.job.id), "claimed twice");
            }
        }
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen.len(), 200);
}

async fn a_claim_takes_only_what_it_selects(f: Fixture) {
    let plain = f.enqueue(text("a", "")).await.job.id;
    let tenant = f.enqueue(text("a", "").tenant("x")).await.job.id;
    let flagged = f
        .enqueue(text("a", "").flag("gpu").flag("slow"))
        .await
        .job
        .id;
    let other = f.enqueue(text("b", "")).await.job.id;
    let get = async |claim: Claim| ids(&f.jobs.claim(claim.max(9)).await.unwrap().jobs);
    let worker = || Claim::new("w");
    assert_eq!(get(worker().tenant("x")).await, [tenant]);
    assert!(get(worker().tasks(["none"])).await.is_empty());
    assert!(get(worker().tasks(["a"]).tenant("y")).await.is_empty());
    let claim = worker().tasks(["b", "a"]).forbid_flag("slow");
    assert_eq!(get(claim.forbid_flag("unknown")).await, [plain, other]);
    assert_eq!(get(worker().forbid_flag("unknown")).await, [flagged]);
}

async fn a_claim_for_nothing_gets_nothing(f: Fixture) {
    f.add("t").await;
    assert!(f.claim(0).await.is_empty());
    assert_eq!(f.claim(usize::MAX).await.len(), 1);
}

async fn many_lanes_are_served_in_order(f: Fixture) {
    let jobs = (0..300)
        .map(|number| {
            let job = NewJob::new(format!("task-{number:03}"), &()).unwrap();
            job.priority(300 - number)
        })
        .collect();
    let added = f.jobs.enqueue_many(jobs).await.unwrap();
    let mut expected: Vec<JobId> = added.iter().map(|one| one.job.id).collect();
    expected.reverse();
    // One store knows the lanes, the other has to find them.
    let other = f.another().await;
    let first = other.claim(Claim::new("w").max(50)).await.unwrap().jobs;
    assert_eq!(ids(&first), expected[..50]);
    // Each page looks at every lane, so pages of one would take as many trips as pairs of lanes.
    let listed = f.jobs.list(300, None).await.unwrap();
    let listed: Vec<JobId> = listed.items.iter().map(|job| job.id).collect();
    assert_eq!(listed, expected[50..]);
    assert_eq!(ids(&f.claim(1).await), expected[50..51]);
    assert_eq!(ids(&f.claim_all().await), expected[51..]);
}

async fn more_scheduled_jobs_than_a_page_all_come(f: Fixture) {
    let at = f.in_seconds(1);
    let jobs = (0..1000).map(|_| text("t", "").run_at(at)).collect();
    f.jobs.enqueue_many(jobs).await.unwrap();
    assert!(f.claim(1).await.is_empty());
    f.pass(1);
    assert_eq!(f.claim_all().await.len(), 1000);
    assert!(f.space(Space::Scheduled).await.is_empty());
}

async fn two_jobs_of_one_microsecond_are_two_jobs(f: Fixture) {
    let mut ids: Vec<JobId> = Vec::new();
    for _ in 0..100 {
        ids.push(f.add("t").await.id);
    }
    assert!(ids.is_sorted());
    ids.dedup();
    assert_eq!(ids.len(), 100);
    assert_eq!(f.listed().await, ids);
}

async fn enqueue_many_answers_and_stores_in_order(f: Fixture) {
    let jobs = (0..700).map(|n| NewJob::new("t", &n).unwrap()).collect();
    let added = f.jobs.enqueue_many(jobs).await.unwrap();
    for (number, one) in added.iter().enumerate() {
        assert!(one.is_new);
        assert_eq!(one.job.payload.parse::<usize>().unwrap(), number);
    }
    let expected: Vec<JobId> = added.iter().map(|one| one.job.id).collect();
    assert_eq!(ids(&f.claim_all().await), expected);
}

async fn enqueue_many_stores_nothing_if_one_job_cannot_be(f: Fixture) {
    let jobs = vec![text("good", ""), text("", "")];
    assert!(f.jobs.enqueue_many(jobs).await.is_err());
    assert!(f.space(Space::Job).await.is_empty());
}

async fn enqueue_many_says_which_job_is_refused(f: Fixture) {
    let refused = async |jobs: Vec<NewJob>| f.jobs.enqueue_many(jobs).await.unwrap_err();
    let bad = || text("mail", "").max_attempts(0);
    let error = refused(vec![text("good", ""), bad(), text("", "")]).await;
    assert!(matches!(
        error,
        Error::Invalid {
            code: "max-attempts-zero",
            ..
        }
    ));
    let said = error.to_string();
    assert!(
        said.starts_with(r#"jobs[1], of task "mail": max_attempts"#),
        "{said}"
    );
    // A name that is too long is not all of it told.
    let error = refused(vec![text("good", ""), text(&"x".repeat(100_000), "")]).await;
    let said = error.to_string();
    assert!(
        said.starts_with(r#"jobs[1], of task "xxx"#) && said.len() < 500,
        "{said}"
    );
    // Of one there is no doubt.
    let one = refused(vec![bad()]).await.to_string();
    assert_eq!(one, f.jobs.enqueue(bad()).await.unwrap_err().to_string());
    assert!(f.space(Space::Job).await.is_empty());

    // One that the store cannot take, for what is there.
    f.enqueue(text("t", "").key("k")).await;
    let unique = f.space(Space::Unique).await.remove(0);
    let newer = b"\x7fnobody knows";
    f.overwrite(unique.key.as_bytes().to_vec(), newer).await;
    let error = refused(vec![text("good", ""), text("mail", "").key("k")]).await;
    assert!(matches!(&error, Error::Store(error) if *error.kind() == ErrorKind::TooNew));
    let said = error.to_string();
    assert!(said.contains(r#"jobs[1], of task "mail""#), "{said}");
}

async fn a_job_that_says_nothing_else_has_the_defaults(f: Fixture) {
    let job = f.add("t").await;
    assert_eq!(
        (job.state, job.priority, job.attempts),
        (State::Ready, 0, 0)
    );
    assert_eq!((job.max_attempts, job.backoff), (25, Backoff::default()));
    assert_eq!((job.run_at, job.created_at), (f.now(), f.now()));
    assert_eq!((job.key, job.queue, job.timeout), (None, None, None));
    assert_eq!((&*job.lane.tenant, job.lane.flags.len()), ("", 0));
}

async fn dequeue_next_takes_each_job_once_and_in_order(f: Fixture) {
    let low = f.enqueue(text("a", "").priority(5)).await.job.id;
    let high = f.enqueue(text("b", "").priority(-5)).await.job.id;
    let later = f
        .enqueue(text("c", "").run_at(f.in_seconds(9)))
        .await
        .job
        .id;
    let next = async || f.jobs.dequeue_next(&Selector::default()).await.unwrap();
    let first = next().await.unwrap();
    assert_eq!((first.id, first.state), (high, State::Taken));
    assert_eq!(next().await.unwrap().id, low);
    assert!(next().await.is_none());
    f.pass(9);
    assert_eq!(next().await.unwrap().id, later);
    assert!(next().await.is_none());
    assert_eq!(f.states(low).await, [State::Created, State::Taken]);
    assert!(f.space(Space::Worker).await.is_empty());
}

async fn two_who_dequeue_never_get_the_same_job(f: Fixture) {
    const JOBS: usize = 40;
    let many = (0..JOBS).map(|_| text("t", "")).collect();
    let added = f.jobs.enqueue_many(many).await.unwrap();
    let take = |jobs: KvStore| {
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(job) = jobs.dequeue_next(&Selector::default()).await.unwrap() {
                taken.push(job.id);
            }
            taken
        })
    };
    let takers = [f.jobs.clone(), f.jobs.clone(), f.another().await].map(take);
    let mut taken = Vec::new();
    for mut taker in takers {
        // Those who lose a race wait a while for the next try.
        taken.extend(loop {
            tokio::select! {
                done = &mut taker => break done.unwrap(),
                () = f.clock.wait_for_sleepers(1) => f.pass(1),
            }
        });
    }
    taken.sort_unstable();
    let added: Vec<JobId> = added.iter().map(|added| added.job.id).collect();
    assert_eq!(taken, added);
}

async fn dequeue_says_whether_the_job_was_there(f: Fixture) {
    let ready = f.add("t").await.id;
    let scheduled = f
        .enqueue(text("t", "").run_at(f.in_seconds(9)))
        .await
        .job
        .id;
    for id in [ready, scheduled] {
        let taken = f.jobs.dequeue(id).await.unwrap().unwrap();
        assert_eq!((taken.id, taken.state), (id, State::Taken));
        assert!(f.jobs.dequeue(id).await.unwrap().is_none());
    }
    let running = f.add("t").await.id;
    f.claim_one().await;
    assert!(f.jobs.dequeue(running).await.unwrap().is_none());
    assert!(
        f.jobs
            .dequeue(JobId::from_bytes([7; 16]))
            .await
            .unwrap()
            .is_none()
    );
    f.pass(9);
    assert!(f.claim(9).await.is_empty());
}

async fn the_list_is_in_claim_order(f: Fixture) {
    let later = f
        .enqueue(text("a", "").run_at(f.in_seconds(20)).priority(-9))
        .await
        .job
        .id;
    let soon = f
        .enqueue(text("b", "").run_at(f.in_seconds(10)))
        .await
        .job
        .id;
    let low = f.enqueue(text("a", "").priority(3)).await.job.id;
    let high = f.enqueue(text("b", "").priority(2)).await.job.id;
    assert_eq!(f.listed().await, [high, low, soon, later]);
    let whole = f.jobs.list(100, None).await.unwrap();
    let whole: Vec<JobId> = whole.items.iter().map(|job| job.id).collect();
    assert_eq!(whole, [high, low, soon, later]);
}

async fn the_list_of_lanes_of_any_depth_is_in_claim_order_page_by_page(f: Fixture) {
    // More and fewer than are read at once; each lane has jobs of all priorities.
    let mut jobs = Vec::new();
    for (lane, depth) in [3, 600, 1, 256, 255, 257, 2].into_iter().enumerate() {
        let priority = |number: i16| (number * 7) % 5;
        let job = |number| text(&format!("task-{lane}"), "").priority(priority(number));
        jobs.extend((0..depth).map(job));
    }
    let added = f.jobs.enqueue_many(jobs).await.unwrap();
    let place = |one: &Enqueued| (one.job.priority, one.job.id);
    let mut expected: Vec<(i16, JobId)> = added.iter().map(place).collect();
    expected.sort_unstable();
    for limit in [90, 256, 10_000] {
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let page = f.jobs.list(limit, cursor).await.unwrap();
            assert!(page.items.len() <= limit);
            listed.extend(page.items.iter().map(|job| (job.priority, job.id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), expected.len(), "pages of {limit}");
        assert!(listed == expected, "pages of {limit}");
    }
}

async fn the_list_puts_due_jobs_where_they_will_be_claimed(f: Fixture) {
    let low = f.enqueue(text("a", "")).await.job.id;
    let urgent = f
        .enqueue(text("b", "").run_at(f.in_seconds(1)).priority(-1))
        .await
        .job
        .id;
    f.pass(1);
    assert_eq!(f.listed().await, [urgent, low]);
    assert_eq!(ids(&f.claim(2).await), [urgent, low]);
}

async fn a_claim_says_when_the_next_job_is_due(f: Fixture) {
    let claims = f.jobs.claim(Claim::new("w")).await.unwrap();
    assert_eq!(claims.next_due, None);
    let at = f.in_seconds(30);
    f.enqueue(text("t", "").run_at(at)).await;
    let claims = f.jobs.claim(Claim::new("w")).await.unwrap();
    assert_eq!(claims.next_due, Some(at));
    assert!(claims.jobs.is_empty());
}

async fn names_and_limits_are_refused_with_codes(f: Fixture) {
    let long = |bytes: usize| "x".repeat(bytes);
    let flags = (0..17).fold(text("t", ""), |job, n| job.flag(n.to_string()));
    let refused = [
        (text("", ""), "empty-name"),
        (text(&long(129), ""), "name-too-long"),
        (text(&"ä".repeat(65), ""), "name-too-long"),
        (text("a\nb", ""), "control-character"),
        (text("t", "").tenant(long(65)), "name-too-long"),
        (text("t", "").key(""), "empty-name"),
        (text("t", "").key(long(513)), "name-too-long"),
        (text("t", "").flag(long(65)), "name-too-long"),
        (text("t", "").flag(""), "empty-name"),
        (flags, "too-many-flags"),
        (text("t", "").max_attempts(0), "max-attempts-zero"),
        (
            text("t", &long(f.largest_payload() - 1)),
            "payload-too-large",
        ),
    ];
    for (job, expected) in refused {
        match f.jobs.enqueue(job.clone()).await {
            Err(Error::Invalid { code, message }) => {
                assert_eq!(code, expected, "{message}");
                assert!(Error::Invalid { code, message }.to_string().contains(code));
            }
            other => panic!("{expected}: {other:?} for {job:?}"),
        }
    }
    let longest = text(&"ä".repeat(64), &long(f.largest_payload() - 2))
        .tenant(long(64))
        .key(long(512))
        .max_attempts(1);
    let longest = (0..16).fold(longest, |job, n| job.flag(format!("{n:064}")));
    let id = f.enqueue(longest).await.job.id;
    assert_eq!(f.claim_one().await.job.id, id);
    for claim in [
        Claim::new(""),
        Claim::new(long(129)),
        Claim::new("w").lease(Duration::ZERO),
    ] {
        let refused = f.jobs.claim(claim).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    let refused = kvjob::job::KvStore::open(f.store.clone(), f.options().namespace("")).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

async fn a_dropped_claim_gives_its_leases_back(f: Fixture) {
    let id = f.add("t").await.id;
    {
        let mut claim = std::pin::pin!(f.jobs.claim(Claim::new("gone")));
        assert!(futures::poll!(&mut claim).is_pending());
    }
    // Behind it in the planner, so that it was served before.
    while f.job(id).await.state != State::Ready || f.job(id).await.epoch == 0 {
        let _ = f.jobs.expire().await.unwrap();
    }
    let claimed = f.claim_one().await;
    assert_eq!((claimed.job.id, claimed.job.attempts), (id, 1));
}

async fn a_claim_dropped_before_it_saw_its_leases_gives_them_back(f: Fixture) {
    let id = f.add("t").await.id;
    {
        let mut claim = std::pin::pin!(f.jobs.claim(Claim::new("gone")));
        assert!(futures::poll!(&mut claim).is_pending());
        while f.job(id).await.state != State::Running {
            tokio::task::yield_now().await;
        }
        // The answer is on its way before anything that was asked later is answered.
        f.jobs.expire().await.unwrap();
    }
    while f.job(id).await.state != State::Ready {
        let _ = f.jobs.expire().await.unwrap();
    }
    let claimed = f.claim_one().await;
    assert_eq!((claimed.job.id, claimed.job.attempts), (id, 1));
}

async fn whoever_waits_hears_of_new_jobs(f: Fixture) {
    let mut activity = f.jobs.activity();
    activity.mark_unchanged();
    f.add("t").await;
    activity.changed().await.unwrap();
    f.enqueue(text("t", "").run_at(f.in_seconds(5))).await;
    activity.changed().await.unwrap();
    let claimed = f.claim_one().await;
    activity.mark_unchanged();
    f.jobs.abandon(&claimed.lease).await.unwrap();
    activity.changed().await.unwrap();
    assert!(f.jobs.lookup(&Query::new()).await.unwrap().items.len() == 2);
}
