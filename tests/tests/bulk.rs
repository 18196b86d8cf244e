//! Changes of many jobs at once: each returns exactly the jobs it changed, changes nothing more
//! when it is done again, and leaves alone what others are at work on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use kvjob::job::{
    CheckEvent, Failure, Job, JobId, Page, Query, QueueStore as _, Reschedule, Retry, State,
    StateStore as _,
};
use kvjob_tests::{Fixture, on_every_store, text};

on_every_store![
    complete_jobs_returns_what_it_changed_and_skips_live_leases,
    fail_jobs_returns_what_it_changed_and_skips_live_leases,
    reschedule_jobs_returns_what_it_changed_and_skips_live_leases,
    retry_returns_what_it_changed_and_skips_live_leases,
    cancel_returns_what_it_changed_and_only_asks_what_runs,
    purge_returns_what_it_removed_and_skips_live_leases,
    force_unlock_returns_what_it_changed_and_skips_other_workers,
    a_purge_with_after_alone_spares_what_came_before,
    bulk_changes_go_page_by_page_and_miss_nothing,
];

/// One job of each kind, by what became of it.
struct Kinds(BTreeMap<&'static str, JobId>);

impl Kinds {
    async fn new(f: &Fixture) -> Self {
        let mut kinds = BTreeMap::new();
        // They are claimed in this order, by one worker under a live lease.
        let claimed = ["completed", "failed", "timed out", "retried", "running"];
        for name in claimed {
            let job = text(name, "").priority(-1).max_attempts(3);
            kinds.insert(name, f.enqueue(job).await.job.id);
        }
        let leases = f.claim(claimed.len()).await;
        let later = Retry::After(Duration::from_secs(1000));
        for (name, failure) in [
            ("failed", Failure::new("no").retry(Retry::Never)),
            ("timed out", Failure::timed_out("slow").retry(Retry::Never)),
            ("retried", Failure::new("not yet").retry(later)),
        ] {
            let lease = leases.iter().find(|it| it.job.id == kinds[name]).unwrap();
            f.jobs.fail(&lease.lease, failure).await.unwrap();
        }
        f.jobs.complete(&leases[0].lease).await.unwrap();

        for name in ["canceled", "taken"] {
            kinds.insert(name, f.add(name).await.id);
        }
        let canceled = Query::new().id(kinds["canceled"]);
        f.jobs.cancel(&canceled).await.unwrap();
        f.jobs.dequeue(kinds["taken"]).await.unwrap();
        let later = f.in_seconds(500);
        for (name, job) in [
            ("ready", text("ready", "")),
            ("scheduled", text("scheduled", "").run_at(later)),
            ("next of its queue", text("first", "").queue("q")),
            ("blocked", text("blocked", "").queue("q")),
        ] {
            kinds.insert(name, f.enqueue(job).await.job.id);
        }
        Self(kinds)
    }

    /// The ids of those of these names, as the store orders jobs.
    fn named(&self, names: &[&str]) -> Vec<JobId> {
        let mut ids: Vec<JobId> = names.iter().map(|name| self.0[name]).collect();
        ids.sort_unstable();
        ids
    }

    fn all(&self) -> Vec<JobId> {
        let names: Vec<&str> = self.0.keys().copied().collect();
        self.named(&names)
    }

    /// The jobs as they are now; those that are gone are left out.
    async fn jobs(&self, f: &Fixture) -> BTreeMap<JobId, Job> {
        let mut jobs = BTreeMap::new();
        for id in self.all() {
            jobs.extend(f.jobs.get(id).await.unwrap().map(|job| (id, job)));
        }
        jobs
    }
}

/// Makes the change twice. The jobs that it changed are those of these names, it says so, and the
/// second time there is nothing to change.
async fn changes_exactly(
    f: &Fixture,
    names: &[&str],
    change: impl for<'a> Fn(&'a Fixture, &'a [JobId]) -> BoxFuture<'a, Vec<JobId>>,
) {
    let kinds = Kinds::new(f).await;
    let before = kinds.jobs(f).await;
    let mut said = change(f, &kinds.all()).await;
    said.sort_unstable();
    let after = kinds.jobs(f).await;
    let changed = before.iter().filter(|(id, job)| after.get(id) != Some(job));
    let changed: Vec<JobId> = changed.map(|(id, _)| *id).collect();
    assert_eq!(changed, kinds.named(names), "{before:#?} became {after:#?}");
    assert_eq!(said, changed, "it says that it changed something else");
    assert!(change(f, &kinds.all()).await.is_empty(), "it goes on");
    assert_eq!(
        kinds.jobs(f).await,
        after,
        "it changes what it says it left"
    );
    let checked = f.jobs.check(false, |event| {
        if let CheckEvent::Found(finding) = event {
            panic!("{finding:?}");
        }
    });
    checked.await.unwrap();
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Everything that waits.
const WAITING: [&str; 5] = [
    "retried",
    "ready",
    "scheduled",
    "next of its queue",
    "blocked",
];
/// Everything that ended badly.
const ENDED_BADLY: [&str; 3] = ["failed", "timed out", "canceled"];

async fn complete_jobs_returns_what_it_changed_and_skips_live_leases(f: Fixture) {
    let names = [&WAITING[..], &ENDED_BADLY].concat();
    changes_exactly(&f, &names, |f, all| {
        Box::pin(async { ids(&f.jobs.complete_jobs(all).await.unwrap()) })
    })
    .await;
}

async fn fail_jobs_returns_what_it_changed_and_skips_live_leases(f: Fixture) {
    changes_exactly(&f, &WAITING, |f, all| {
        Box::pin(async { ids(&f.jobs.fail_jobs(all, None).await.unwrap()) })
    })
    .await;
}

async fn reschedule_jobs_returns_what_it_changed_and_skips_live_leases(f: Fixture) {
    let names = [&WAITING[..], &ENDED_BADLY].concat();
    let at = f.in_seconds(7000);
    changes_exactly(&f, &names, |f, all| {
        let to = Reschedule::new().run_at(at).priority(3);
        Box::pin(async { ids(&f.jobs.reschedule_jobs(all, to).await.unwrap()) })
    })
    .await;
}

async fn retry_returns_what_it_changed_and_skips_live_leases(f: Fixture) {
    changes_exactly(&f, &ENDED_BADLY, |f, _| {
        Box::pin(async { ids(&f.jobs.retry(&Query::new()).await.unwrap().items) })
    })
    .await;
}

async fn cancel_returns_what_it_changed_and_only_asks_what_runs(f: Fixture) {
    let names = [&WAITING[..], &["running"]].concat();
    changes_exactly(&f, &names, |f, _| {
        Box::pin(async { ids(&f.jobs.cancel(&Query::new()).await.unwrap().items) })
    })
    .await;
    let running = Query::new().states([State::Running]);
    let running = f.jobs.lookup(&running).await.unwrap().items;
    assert!(running[0].cancel_requested && running.len() == 1);
}

async fn purge_returns_what_it_removed_and_skips_live_leases(f: Fixture) {
    let names = [&ENDED_BADLY[..], &["completed", "taken"]].concat();
    changes_exactly(&f, &names, |f, _| {
        Box::pin(async { f.jobs.purge(&Query::new()).await.unwrap().items })
    })
    .await;
}

async fn force_unlock_returns_what_it_changed_and_skips_other_workers(f: Fixture) {
    let of_another = f.add("of another").await.id;
    let claim = kvjob::job::Claim::new("another").max(1);
    f.jobs.claim(claim).await.unwrap();
    let before = f.job(of_another).await;
    // The worker of the fixture's own claims.
    let workers = ["worker".to_owned()];
    changes_exactly(&f, &["running"], |f, _| {
        let workers = workers.clone();
        Box::pin(async move { ids(&f.jobs.force_unlock(&workers).await.unwrap()) })
    })
    .await;
    assert_eq!(f.job(of_another).await, before);
}

async fn a_purge_with_after_alone_spares_what_came_before(f: Fixture) {
    let mut done = Vec::new();
    for _ in 0..4 {
        done.push(f.add("t").await.id);
        f.jobs.complete(&f.claim_one().await.lease).await.unwrap();
        f.pass(10);
    }
    let since = f.job(done[2]).await.created_at;
    let after = Query::new().after(since);
    assert_eq!(f.jobs.purge(&after).await.unwrap().items, done[2..]);
    let kept = f.jobs.lookup(&Query::new()).await.unwrap().items;
    assert_eq!(ids(&kept), done[..2]);
    let never = Query::new().after(f.in_seconds(1));
    assert!(f.jobs.purge(&never).await.unwrap().items.is_empty());
    assert_eq!(f.jobs.lookup(&Query::new()).await.unwrap().items, kept);
}

async fn bulk_changes_go_page_by_page_and_miss_nothing(f: Fixture) {
    let many = (0..25).map(|_| text("t", "")).collect();
    let added = f.jobs.enqueue_many(many).await.unwrap();
    let added: Vec<JobId> = added.iter().map(|added| added.job.id).collect();
    let page = Query::new().limit(4);
    let (mut canceled, mut retried, mut purged) = (Vec::new(), Vec::new(), Vec::new());
    let mut cursor = None;
    loop {
        let Page { items, next, .. } = f.jobs.cancel(&page.clone().cursor(cursor)).await.unwrap();
        assert!(items.len() <= 4);
        canceled.extend(ids(&items));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(canceled, added);
    loop {
        let Page { items, next, .. } = f.jobs.retry(&page.clone().cursor(cursor)).await.unwrap();
        assert!(items.len() <= 4);
        retried.extend(ids(&items));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(retried, added);
    f.jobs.complete_jobs(&added).await.unwrap();
    loop {
        let Page { items, next, .. } = f.jobs.purge(&page.clone().cursor(cursor)).await.unwrap();
        assert!(items.len() <= 4);
        purged.extend(items);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(purged, added);
}
