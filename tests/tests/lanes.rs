//! Lanes: what pausing, flags, tenants and limits promise.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kvjob::job::{
    Claim, Claims, Error, JobId, KvStore, LaneFilter, LaneStatus, LaneStore as _, NewJob,
    QueueStore as _, Rate, Selector, State, Store as _,
};
use kvjob::kv::Memory;
use kvjob::kv::wrap::{Operation, Traced};
use kvjob_tests::{Fixture, Space, on_every_store, text, within};

const SECOND: Duration = Duration::from_secs(1);

on_every_store![
    a_paused_task_is_not_claimed_in_any_of_its_lanes,
    a_paused_tenant_is_not_claimed,
    one_lane_can_be_paused_alone,
    everything_can_be_paused,
    a_lane_that_two_filters_pause_waits_for_both,
    pausing_twice_is_pausing_once,
    what_runs_goes_on_while_its_lane_is_paused,
    dequeue_next_takes_nothing_from_a_paused_lane,
    resume_wakes_whoever_waits,
    another_store_sees_a_pause_within_a_second,
    settings_outlive_the_process,
    settings_are_listed_page_by_page,
    clear_removes_settings,
    a_setting_that_cannot_be_read_holds_nobody_up,
    names_and_rates_that_cannot_be_are_refused,
    forbidden_flags_are_not_claimed_and_unknown_ones_do_no_harm,
    a_tenant_can_be_claimed_alone,
    tenants_take_turns,
    priority_goes_before_turns,
    turns_go_on_where_the_last_claim_ended,
    a_limit_lets_jobs_go_at_its_rate,
    a_burst_lets_that_many_go_at_once,
    a_limit_is_for_all_lanes_of_its_task_together,
    a_lane_under_two_limits_keeps_both,
    a_limit_holds_back_nobody_else,
    a_limit_that_is_taken_away_holds_nothing_back,
    a_job_that_is_not_there_uses_up_no_limit,
    a_claim_takes_no_more_of_a_task_than_it_wants,
    what_one_claim_wants_no_more_of_the_next_may_have,
    lanes_are_listed_with_what_is_set_for_them,
];

fn task(task: &str) -> LaneFilter {
    LaneFilter::all().task(task)
}

async fn claims(jobs: &KvStore, max: usize, from: Selector) -> Claims {
    let claim = Claim::new("worker").max(max).selector(from);
    jobs.claim(claim).await.unwrap()
}

async fn take(f: &Fixture, max: usize, from: Selector) -> Vec<JobId> {
    let claims = claims(&f.jobs, max, from).await;
    claims.jobs.iter().map(|claimed| claimed.job.id).collect()
}

async fn take_all(f: &Fixture) -> Vec<JobId> {
    take(f, 100, Selector::new()).await
}

async fn add(f: &Fixture, job: NewJob) -> JobId {
    f.enqueue(job).await.job.id
}

async fn a_paused_task_is_not_claimed_in_any_of_its_lanes(f: Fixture) {
    let known = add(&f, text("mail", "1")).await;
    let other = add(&f, text("other", "1")).await;
    assert!(f.jobs.pause(&task("mail")).await.unwrap());
    let of_tenant = add(&f, text("mail", "2").tenant("acme")).await;
    let flagged = add(&f, text("mail", "3").flag("slow").priority(-1)).await;
    assert_eq!(take_all(&f).await, [other]);
    assert!(take_all(&f).await.is_empty());
    assert!(f.jobs.resume(&task("mail")).await.unwrap());
    assert_eq!(take_all(&f).await, [flagged, known, of_tenant]);
}

async fn a_paused_tenant_is_not_claimed(f: Fixture) {
    let acme = LaneFilter::all().tenant("acme");
    f.jobs.pause(&acme).await.unwrap();
    let theirs = add(&f, text("a", "").tenant("acme")).await;
    let others = add(&f, text("a", "").tenant("emca")).await;
    let nobodys = add(&f, text("a", "")).await;
    assert_eq!(take_all(&f).await, [others, nobodys]);
    f.jobs.resume(&acme).await.unwrap();
    assert_eq!(take_all(&f).await, [theirs]);
    let without = LaneFilter::all().tenant("");
    f.jobs.pause(&without).await.unwrap();
    let theirs = add(&f, text("a", "").tenant("acme")).await;
    add(&f, text("a", "")).await;
    assert_eq!(take_all(&f).await, [theirs]);
}

async fn one_lane_can_be_paused_alone(f: Fixture) {
    let lane = task("a").tenant("t").flags(["y", "x"]);
    f.jobs.pause(&lane).await.unwrap();
    let job = || text("a", "");
    let paused = add(&f, job().tenant("t").flag("x").flag("y")).await;
    let fewer = add(&f, job().tenant("t").flag("x")).await;
    let none = add(&f, job().tenant("t")).await;
    let other = add(&f, job().flag("x").flag("y")).await;
    assert_eq!(take_all(&f).await, [fewer, none, other]);
    f.jobs.resume(&lane.flags(["x", "y"])).await.unwrap();
    assert_eq!(take_all(&f).await, [paused]);
}

async fn everything_can_be_paused(f: Fixture) {
    f.jobs.pause(&LaneFilter::all()).await.unwrap();
    let one = add(&f, text("a", "")).await;
    let other = add(&f, text("b", "").tenant("t").flag("f")).await;
    assert!(take_all(&f).await.is_empty());
    f.jobs.resume(&LaneFilter::all()).await.unwrap();
    assert_eq!(take_all(&f).await, [one, other]);
}

async fn a_lane_that_two_filters_pause_waits_for_both(f: Fixture) {
    let id = add(&f, text("a", "").tenant("t")).await;
    f.jobs.pause(&task("a")).await.unwrap();
    f.jobs.pause(&LaneFilter::all()).await.unwrap();
    f.jobs.resume(&LaneFilter::all()).await.unwrap();
    assert!(take_all(&f).await.is_empty());
    f.jobs.resume(&task("a")).await.unwrap();
    assert_eq!(take_all(&f).await, [id]);
}

async fn pausing_twice_is_pausing_once(f: Fixture) {
    assert!(!f.jobs.resume(&task("a")).await.unwrap());
    let paused_at = f.now();
    assert!(f.jobs.pause(&task("a")).await.unwrap());
    f.pass(5);
    assert!(!f.jobs.pause(&task("a")).await.unwrap());
    let settings = f.jobs.lane_settings(10, None).await.unwrap().items;
    assert_eq!(settings[0].paused_at, Some(paused_at));
    assert!(f.jobs.resume(&task("a")).await.unwrap());
    assert!(!f.jobs.resume(&task("a")).await.unwrap());
}

async fn what_runs_goes_on_while_its_lane_is_paused(f: Fixture) {
    let id = f.add("a").await.id;
    let retried = f.add("a").await.id;
    let claimed = f.claim(2).await;
    f.jobs.pause(&task("a")).await.unwrap();
    f.jobs.complete(&claimed[0].lease).await.unwrap();
    assert_eq!(f.job(id).await.state, State::Completed);
    f.jobs.abandon(&claimed[1].lease).await.unwrap();
    assert!(take_all(&f).await.is_empty());
    f.jobs.resume(&task("a")).await.unwrap();
    assert_eq!(take_all(&f).await, [retried]);
}

async fn dequeue_next_takes_nothing_from_a_paused_lane(f: Fixture) {
    let named = f.add("a").await.id;
    let later = f.add("a").await.id;
    f.jobs.pause(&task("a")).await.unwrap();
    let next = async || f.jobs.dequeue_next(&Selector::new()).await.unwrap();
    assert_eq!(next().await, None);
    let taken = f.jobs.dequeue(named).await.unwrap();
    assert_eq!(taken.unwrap().id, named, "one that is named is found");
    f.jobs.resume(&task("a")).await.unwrap();
    assert_eq!(next().await.unwrap().id, later);
}

async fn resume_wakes_whoever_waits(f: Fixture) {
    let id = f.add("a").await.id;
    f.jobs.pause(&task("a")).await.unwrap();
    assert!(take_all(&f).await.is_empty());
    let mut activity = f.jobs.activity();
    assert!(activity.changed().now_or_never().is_none());
    f.jobs.resume(&task("a")).await.unwrap();
    activity.changed().await.unwrap();
    assert_eq!(take_all(&f).await, [id]);
}

async fn another_store_sees_a_pause_within_a_second(f: Fixture) {
    let other = f.another().await;
    let taken = async || claims(&other, 1, Selector::new()).await.jobs.len();
    assert_eq!(taken().await, 0);
    f.jobs.pause(&task("a")).await.unwrap();
    f.pass(1);
    other.enqueue(text("a", "")).await.unwrap();
    assert_eq!(taken().await, 0);
    f.jobs.resume(&task("a")).await.unwrap();
    f.pass(1);
    assert_eq!(taken().await, 1);
}

async fn settings_outlive_the_process(mut f: Fixture) {
    f.jobs.pause(&task("a")).await.unwrap();
    f.add("a").await;
    f.reopen().await;
    assert!(take_all(&f).await.is_empty());
    f.jobs.resume(&task("a")).await.unwrap();
    f.reopen().await;
    assert_eq!(take_all(&f).await.len(), 1);
}

async fn settings_are_listed_page_by_page(f: Fixture) {
    let rate = Rate::new(10, SECOND).burst(2);
    let mut expected = Vec::new();
    for number in 0..5 {
        let lanes = task(&format!("t{number}"));
        match number % 2 {
            0 => f.jobs.pause(&lanes).await.unwrap(),
            _ => f.jobs.limit(&lanes, Some(rate)).await.unwrap(),
        };
        expected.push(lanes);
    }
    f.jobs.pause(&task("t1")).await.unwrap();
    f.jobs.resume(&task("t2")).await.unwrap();
    expected.remove(2);
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = f.jobs.lane_settings(1, cursor).await.unwrap();
        assert!(page.items.len() <= 1);
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let lanes: Vec<LaneFilter> = found.iter().map(|it| it.lanes.clone()).collect();
    assert_eq!(lanes, expected);
    assert_eq!((found[0].rate, found[0].paused_at), (None, Some(f.now())));
    assert_eq!(
        (found[1].rate, found[1].paused_at),
        (Some(rate), Some(f.now()))
    );
}

async fn clear_removes_settings(f: Fixture) {
    f.jobs.pause(&LaneFilter::all()).await.unwrap();
    f.jobs.clear().await.unwrap();
    f.add("a").await;
    assert_eq!(take_all(&f).await.len(), 1);
    let settings = f.jobs.lane_settings(10, None).await.unwrap();
    assert!(settings.items.is_empty() && settings.next.is_none());
}

async fn a_setting_that_cannot_be_read_holds_nobody_up(f: Fixture) {
    f.jobs.pause(&task("a")).await.unwrap();
    let checked = f.jobs.check(false, |_| {}).await.unwrap();
    assert_eq!(checked.left(), 0);
    let key = f.space(Space::Lane).await[0].key.clone();
    f.overwrite(key.as_bytes().to_vec(), b"\x01\xff").await;
    f.pass(1);
    f.add("a").await;
    assert_eq!(take_all(&f).await.len(), 1);
    assert_eq!(f.space(Space::Quarantine).await.len(), 1);
    assert!(f.space(Space::Lane).await.is_empty());

    // Whoever checks, or sets it again, meets it first.
    f.put(key.as_bytes().to_vec(), b"\x01\xfe").await;
    let checked = f.jobs.check(true, |_| {}).await.unwrap();
    assert_eq!(checked.left(), 0);
    assert_eq!(f.space(Space::Quarantine).await.len(), 2);
    f.put(key.as_bytes().to_vec(), b"\x01\xfd").await;
    assert!(f.jobs.pause(&task("a")).await.unwrap());
    assert_eq!(f.space(Space::Quarantine).await.len(), 3);
    assert_eq!(f.space(Space::Lane).await.len(), 1);
}

async fn names_and_rates_that_cannot_be_are_refused(f: Fixture) {
    let code = |result: Result<bool, Error>| match result {
        Err(Error::Invalid { code, .. }) => code,
        other => panic!("{other:?} should be refused"),
    };
    assert_eq!(code(f.jobs.pause(&task("")).await), "empty-name");
    let long = task(&"x".repeat(129));
    assert_eq!(code(f.jobs.pause(&long).await), "name-too-long");
    let flags = LaneFilter::all().flags((0..17).map(|n| n.to_string()));
    assert_eq!(code(f.jobs.resume(&flags).await), "too-many-flags");
    for (rate, expected) in [
        (Rate::new(0, SECOND), "rate-zero"),
        (Rate::new(1, SECOND).burst(0), "rate-zero"),
        (Rate::new(1, Duration::ZERO), "rate-without-time"),
    ] {
        let limited = f.jobs.limit(&task("a"), Some(rate)).await;
        assert_eq!(code(limited), expected);
    }
    assert!(f.space(Space::Lane).await.is_empty());
}

async fn forbidden_flags_are_not_claimed_and_unknown_ones_do_no_harm(f: Fixture) {
    let slow = add(&f, text("a", "").flag("slow")).await;
    let both = add(&f, text("a", "").flag("fast").flag("slow")).await;
    let fast = add(&f, text("a", "").flag("fast")).await;
    let plain = add(&f, text("a", "")).await;
    let without = |flags: &[&str]| Selector::new().forbid_flags(flags.iter().copied());
    assert_eq!(
        take(&f, 9, without(&["slow", "nobody's"])).await,
        [fast, plain]
    );
    assert!(take(&f, 9, without(&["fast", "slow"])).await.is_empty());
    assert_eq!(take(&f, 9, without(&["fast"])).await, [slow]);
    assert_eq!(take(&f, 9, without(&["nobody's"])).await, [both]);
}

async fn a_tenant_can_be_claimed_alone(f: Fixture) {
    let nobodys = add(&f, text("a", "")).await;
    let acmes = add(&f, text("a", "").tenant("acme")).await;
    add(&f, text("a", "").tenant("acme2")).await;
    let of = |tenant: &str| Selector::new().tenant(tenant);
    assert_eq!(take(&f, 9, of("acme")).await, [acmes]);
    assert_eq!(take(&f, 9, of("")).await, [nobodys]);
    let job = f.jobs.dequeue_next(&of("acme")).await.unwrap();
    assert_eq!(job, None);
}

async fn tenants_take_turns(f: Fixture) {
    let mut flood = Vec::new();
    for number in 0..20 {
        let job = text("a", &number.to_string()).tenant("b");
        flood.push(add(&f, job).await);
    }
    let first = add(&f, text("a", "").tenant("a")).await;
    let second = add(&f, text("x", "").tenant("c")).await;
    let third = add(&f, text("a", "").tenant("c").flag("f")).await;
    let got = take(&f, 6, Selector::new().tenants_in_turn()).await;
    assert_eq!(got, [first, flood[0], second, flood[1], third, flood[2]]);
    assert_eq!(take(&f, 2, Selector::new()).await, flood[3..5]);
}

async fn priority_goes_before_turns(f: Fixture) {
    let add = async |tenant: &str, priority: i16| {
        let job = text("a", "").tenant(tenant).priority(priority);
        add(&f, job).await
    };
    let later = add("a", 1).await;
    let urgent = [add("b", -1).await, add("b", -1).await];
    let mine = [add("b", 0).await, add("b", 0).await];
    let theirs = add("c", 0).await;
    let got = take(&f, 9, Selector::new().tenants_in_turn()).await;
    // Two turns were had with the urgent ones.
    let expected = [urgent[0], urgent[1], theirs, mine[0], mine[1], later];
    assert_eq!(got, expected);
}

async fn turns_go_on_where_the_last_claim_ended(f: Fixture) {
    let mut expected = Vec::new();
    for tenant in ["a", "b", "c"] {
        for _ in 0..3 {
            add(&f, text("a", "").tenant(tenant)).await;
        }
        expected.push(tenant);
    }
    let mut tenants = Vec::new();
    for _ in 0..9 {
        let got = claims(&f.jobs, 1, Selector::new().tenants_in_turn()).await;
        tenants.push(got.jobs[0].job.lane.tenant.clone());
    }
    assert_eq!(tenants, expected.repeat(3));
}

/// How many jobs are to be had now, and in how many microseconds the next one is.
async fn flow(f: &Fixture) -> (usize, Option<i64>) {
    let got = claims(&f.jobs, 100, Selector::new()).await;
    let wait = got
        .limited_until
        .map(|at| at.as_micros() - f.now().as_micros());
    (got.jobs.len(), wait)
}

async fn a_limit_lets_jobs_go_at_its_rate(f: Fixture) {
    f.jobs
        .limit(&task("a"), Some(Rate::new(10, SECOND)))
        .await
        .unwrap();
    for _ in 0..5 {
        f.add("a").await;
    }
    for _ in 0..3 {
        assert_eq!(flow(&f).await, (1, Some(100_000)));
        assert_eq!(flow(&f).await, (0, Some(100_000)));
        f.clock.advance(Duration::from_micros(99_999));
        assert_eq!(flow(&f).await, (0, Some(1)));
        f.clock.advance(Duration::from_micros(1));
    }
    // A claim says when to come again, and who asks for one at a time gets no more.
    let got = claims(&f.jobs, 1, Selector::new()).await;
    assert_eq!(got.next_due, got.limited_until);
    let next = f.jobs.dequeue_next(&Selector::new()).await.unwrap();
    assert_eq!(next, None);
    f.clock.advance(Duration::from_millis(100));
    let next = f.jobs.dequeue_next(&Selector::new()).await.unwrap();
    assert!(next.is_some());
    assert_eq!(flow(&f).await, (0, None), "nothing is held back any more");
}

async fn a_burst_lets_that_many_go_at_once(f: Fixture) {
    let rate = Rate::new(60, 60 * SECOND).burst(3);
    f.jobs.limit(&task("a"), Some(rate)).await.unwrap();
    for _ in 0..10 {
        f.add("a").await;
    }
    assert_eq!(flow(&f).await, (3, Some(1_000_000)));
    f.pass(2);
    assert_eq!(flow(&f).await, (2, Some(1_000_000)));
    f.pass(100);
    assert_eq!(flow(&f).await, (3, Some(1_000_000)));
}

async fn a_limit_is_for_all_lanes_of_its_task_together(f: Fixture) {
    let rate = Rate::new(1, SECOND).burst(4);
    f.jobs.limit(&task("a"), Some(rate)).await.unwrap();
    for number in 0..9 {
        let tenant = format!("t{}", number % 3);
        add(&f, text("a", "").tenant(tenant)).await;
    }
    let first = take(&f, 3, Selector::new()).await.len();
    assert_eq!((first, flow(&f).await), (3, (1, Some(1_000_000))));
    // Several claims of one commit share it, too.
    f.pass(3);
    let other = || claims(&f.jobs, 2, Selector::new().tenant("t1"));
    let any = || claims(&f.jobs, 2, Selector::new());
    let (one, two, three) = futures::join!(other(), any(), other());
    let all = one.jobs.len() + two.jobs.len() + three.jobs.len();
    assert_eq!(all, 3);
}

async fn a_lane_under_two_limits_keeps_both(f: Fixture) {
    let acme = LaneFilter::all().tenant("acme");
    let slow = Some(Rate::new(1, 10 * SECOND));
    f.jobs
        .limit(&task("a"), Some(Rate::new(1, SECOND)))
        .await
        .unwrap();
    f.jobs.limit(&acme, slow).await.unwrap();
    for _ in 0..3 {
        add(&f, text("a", "").tenant("acme")).await;
    }
    assert_eq!(flow(&f).await, (1, Some(10_000_000)));
    let other = add(&f, text("a", "")).await;
    assert_eq!(flow(&f).await, (0, Some(1_000_000)));
    f.pass(1);
    assert_eq!(take_all(&f).await, [other]);
    f.pass(9);
    assert_eq!(flow(&f).await, (1, Some(10_000_000)));
}

async fn a_limit_holds_back_nobody_else(f: Fixture) {
    f.jobs
        .limit(&task("a"), Some(Rate::new(1, SECOND)))
        .await
        .unwrap();
    let first = add(&f, text("a", "").priority(-1)).await;
    for _ in 0..5 {
        add(&f, text("a", "").priority(-1)).await;
    }
    let others = [f.add("b").await.id, f.add("b").await.id];
    assert_eq!(take_all(&f).await, [first, others[0], others[1]]);
    let theirs = claims(&f.jobs, 9, Selector::new().tasks(["b"])).await;
    assert_eq!(theirs.limited_until, None);
}

async fn a_limit_that_is_taken_away_holds_nothing_back(f: Fixture) {
    let rate = Some(Rate::new(1, 1_000 * SECOND));
    assert!(f.jobs.limit(&task("a"), rate).await.unwrap());
    assert!(!f.jobs.limit(&task("a"), rate).await.unwrap());
    for _ in 0..3 {
        f.add("a").await;
    }
    assert_eq!(flow(&f).await, (1, Some(1_000_000_000)));
    assert!(f.jobs.limit(&task("a"), None).await.unwrap());
    assert_eq!(flow(&f).await, (2, None));
}

async fn a_job_that_is_not_there_uses_up_no_limit(f: Fixture) {
    f.jobs
        .limit(&task("a"), Some(Rate::new(1, SECOND)))
        .await
        .unwrap();
    let gone = f.add("a").await;
    let there = f.add("a").await.id;
    f.forget(Fixture::key(Space::Job, gone.id)).await;
    assert_eq!(take_all(&f).await, [there]);
}

async fn a_claim_takes_no_more_of_a_task_than_it_wants(f: Fixture) {
    let mut slow = Vec::new();
    for tenant in ["", "acme", ""] {
        let job = text("slow", "").tenant(tenant).priority(-1);
        slow.push(add(&f, job).await);
    }
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(add(&f, text("other", "")).await);
    }
    let some = |most| Selector::new().at_most("slow", most);
    let expected = [&slow[..2], &others[..1]].concat();
    assert_eq!(take(&f, 3, some(2)).await, expected);
    assert_eq!(take(&f, 9, some(0)).await, others[1..]);
    let nothing = claims(&f.jobs, 9, some(0)).await;
    assert!(nothing.jobs.is_empty() && nothing.limited_until.is_none());
    assert_eq!(take(&f, 9, some(5)).await, slow[2..]);
}

async fn what_one_claim_wants_no_more_of_the_next_may_have(f: Fixture) {
    for _ in 0..4 {
        add(&f, text("slow", "")).await;
    }
    let one = || claims(&f.jobs, 4, Selector::new().at_most("slow", 1));
    // Planned together, or one after the other.
    let (first, second, third) = futures::join!(one(), one(), claims(&f.jobs, 4, Selector::new()));
    assert_eq!((first.jobs.len(), second.jobs.len()), (1, 1));
    assert_eq!(third.jobs.len(), 2);
}

async fn lanes_are_listed_with_what_is_set_for_them(f: Fixture) {
    let rate = Rate::new(5, SECOND);
    f.jobs.pause(&task("b")).await.unwrap();
    f.jobs.limit(&task("a"), Some(rate)).await.unwrap();
    let early = f.now();
    for _ in 0..3 {
        add(&f, text("a", "")).await;
        f.pass(1);
    }
    let flagged = text("b", "").tenant("t").flag("y").flag("x");
    add(&f, flagged).await;
    add(&f, text("b", "").run_at(f.in_seconds(60))).await;
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = f.jobs.lanes(1, cursor).await.unwrap();
        assert!(page.items.len() <= 1);
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(f.jobs.lanes(9, None).await.unwrap().items, found);
    assert_eq!(found.len(), 2, "scheduled jobs are in no lane yet");
    let (a, b) = (&found[0], &found[1]);
    assert_eq!((&*a.lane.task, a.ready, a.more), ("a", 3, false));
    assert_eq!((a.paused, &*a.rates), (false, &[rate][..]));
    assert_eq!(a.next_run_at, early);
    assert_eq!((&*b.lane.tenant, &*b.lane.task), ("t", "b"));
    assert_eq!(
        (&*b.lane.flags, b.ready),
        (&["x".into(), "y".into()][..], 1)
    );
    assert_eq!((b.paused, &*b.rates), (true, &[][..]));
}

/// A job store in memory, and how many objects a piece of work reads from it.
async fn traced() -> (Arc<Traced<Memory>>, Fixture) {
    let store = Arc::new(Traced::new(Memory::new()));
    (store.clone(), Fixture::on(store, None).await)
}

fn read_by(store: &Traced<Memory>) -> u64 {
    let reads = [
        Operation::Get,
        Operation::GetMany,
        Operation::Scan,
        Operation::ScanMany,
    ];
    let read = reads.map(|it| store.counts(it).objects_read);
    read.iter().sum()
}

/// What ten claims of others read beside this many jobs, which `hold` holds back.
async fn cost_beside(jobs: usize, hold: Option<&LaneFilter>, from: Selector) -> u64 {
    let (store, f) = traced().await;
    if let Some(lanes) = hold {
        f.jobs.pause(lanes).await.unwrap();
    }
    for _ in 0..jobs / 10_000 {
        let many = (0..10_000).map(|_| text("b", "").flag("held").priority(-1));
        f.jobs.enqueue_many(many.collect()).await.unwrap();
    }
    for _ in 0..2 {
        add(&f, text("b", "").flag("held").priority(-1)).await;
    }
    let before = read_by(&store);
    for number in 0..10 {
        let task = if number % 2 == 0 { "a" } else { "c" };
        let id = f.add(task).await.id;
        assert_eq!(take(&f, 8, from.clone()).await, [id]);
    }
    f.pass(1);
    assert!(take(&f, 8, from).await.is_empty());
    read_by(&store) - before
}

#[tokio::test]
async fn a_hundred_thousand_jobs_in_a_paused_lane_cost_other_claims_nothing() {
    within(async {
        let paused = Some(task("b"));
        let few = cost_beside(0, paused.as_ref(), Selector::new()).await;
        let many = cost_beside(100_000, paused.as_ref(), Selector::new()).await;
        assert_eq!(many, few);
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_jobs_with_a_forbidden_flag_cost_other_claims_nothing() {
    within(async {
        let from = Selector::new().forbid_flags(["held"]);
        let few = cost_beside(0, None, from.clone()).await;
        let many = cost_beside(100_000, None, from).await;
        assert_eq!(many, few);
    })
    .await;
}

#[tokio::test]
async fn a_lane_is_counted_up_to_a_cap() {
    within(async {
        let (store, f) = traced().await;
        let many = (0..5_000).map(|_| text("b", "")).collect();
        f.jobs.enqueue_many(many).await.unwrap();
        for number in 0..1_000 {
            add(&f, text("c", "").tenant(format!("{number:04}"))).await;
        }
        let before = read_by(&store);
        let lanes = f.jobs.lanes(2_000, None).await.unwrap();
        assert_eq!((lanes.items.len(), lanes.next), (1_001, None));
        let large = &lanes.items[0];
        assert_eq!((large.ready, large.more), (LaneStatus::MOST_COUNTED, true));
        assert!(lanes.items[1..].iter().all(|it| it.ready == 1 && !it.more));
        assert!(read_by(&store) - before <= 3_000);
    })
    .await;
}
