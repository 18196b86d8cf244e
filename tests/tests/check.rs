//! A store is broken in each possible way: a check finds just that, repair mends it, and what was
//! whole before is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::encoding::tuple::{Reader, Tuple};
use kvjob::job::{
    Backoff, CheckEvent, Checked, Claim, Claimed, Damage, Failure, Finding, JobId, KvStore, Level,
    LogQuery, LogStore as _, NewJob, Options, Payload, Query, QueueStore as _, Retry, State,
    StateStore as _,
};
use kvjob::kv::Object;
use kvjob_tests::{Fixture, Space, on_every_store, text, within};

on_every_store![
    a_healthy_store_has_no_findings,
    an_entry_of_a_job_that_is_not_there_is_removed_and_its_data_is_kept,
    lost_arguments_send_a_job_to_the_quarantine_unless_it_runs,
    a_lost_lease_is_taken_back_or_kept_by_its_worker,
    a_cut_off_purge_is_finished,
    a_log_and_a_history_that_could_not_be_read_can_be_read_again,
    what_belongs_to_a_job_in_quarantine_stays,
    what_newer_software_wrote_is_counted_and_left_alone,
    what_cannot_be_put_aside_stays_and_is_told,
    a_format_that_cannot_be_read_is_mended_where_opening_fails,
];

#[tokio::test]
async fn a_foreign_value_under_a_key_of_a_bag_is_put_aside() {
    for bag in [Fixture::bag().await, Fixture::redb_bag().await] {
        within(a_foreign_value_under_a_key_is_put_aside(bag)).await;
    }
}

/// A check, and what it told.
async fn check(jobs: &KvStore, repair: bool) -> (Checked, Vec<Finding>) {
    let mut findings = Vec::new();
    let checked = jobs
        .check(repair, |event| {
            if let CheckEvent::Found(finding) = event {
                findings.push(finding);
            }
        })
        .await
        .unwrap();
    assert_eq!(checked.found, findings.len() as u64);
    let mended = findings.iter().filter(|finding| finding.mended).count();
    assert_eq!(checked.mended, mended as u64);
    assert!(repair || mended == 0);
    (checked, findings)
}

async fn is_clean(f: &Fixture) {
    let (_, findings) = check(&f.jobs, false).await;
    assert!(findings.is_empty(), "{findings:#?}");
}

fn damages(findings: &[Finding]) -> Vec<Damage> {
    let mut damages: Vec<Damage> = findings.iter().map(|one| one.damage).collect();
    damages.sort_by_key(|damage| damage.as_str());
    damages
}

/// A store with a job in every state, and with everything a job can have.
struct Stage {
    f: Fixture,
    ids: BTreeMap<&'static str, JobId>,
}

fn large() -> Payload {
    Payload::of(&"x".repeat(700)).unwrap()
}

fn at_once() -> Backoff {
    Backoff::Fixed {
        wait: Duration::ZERO,
    }
}

async fn claim_task(f: &Fixture, task: &str) -> Claimed {
    let claim = Claim::new(format!("{task}'s")).tasks([task]);
    let claim = claim.lease(Duration::from_secs(60));
    let mut jobs = f.jobs.claim(claim).await.unwrap().jobs;
    assert_eq!(jobs.len(), 1, "{task}");
    jobs.remove(0)
}

impl Stage {
    async fn new(f: Fixture) -> Self {
        let mut stage = Self {
            f,
            ids: BTreeMap::new(),
        };
        stage.add("late", text("late", "")).await;
        let claimed = claim_task(&stage.f, "late").await;
        stage.f.pass(3601);
        stage.f.jobs.complete(&claimed.lease).await.unwrap();
        stage.add("ready", text("ready", "")).await;
        let rich = NewJob::with_payload("rich", large())
            .tenant("acme")
            .flag("slow")
            .priority(-3)
            .key("rich");
        stage.add("rich", rich).await;
        let later = NewJob::with_payload("later", large()).priority(4);
        let later = later.run_at(stage.f.in_seconds(50));
        stage.add("later", later).await;
        stage
            .add("running", text("running", "").key("running"))
            .await;
        claim_task(&stage.f, "running").await;
        stage
            .add("stopping", NewJob::with_payload("stopping", large()))
            .await;
        claim_task(&stage.f, "stopping").await;
        let stopping = Query::new().id(stage.id("stopping"));
        stage.f.jobs.cancel(&stopping).await.unwrap();
        stage.add("failed", text("failed", "").key("failed")).await;
        let claimed = claim_task(&stage.f, "failed").await;
        let never = Failure::new("no").retry(Retry::Never);
        stage.f.jobs.fail(&claimed.lease, never).await.unwrap();
        stage
            .add("done", text("done", "").retained_key("done"))
            .await;
        let claimed = claim_task(&stage.f, "done").await;
        stage.f.jobs.complete(&claimed.lease).await.unwrap();
        stage.add("canceled", text("canceled", "")).await;
        let canceled = Query::new().id(stage.id("canceled"));
        stage.f.jobs.cancel(&canceled).await.unwrap();
        let old = text("old", "").max_attempts(50).backoff(at_once());
        stage.add("old", old).await;
        for _ in 0..12 {
            let claimed = claim_task(&stage.f, "old").await;
            stage.f.pass(1);
            let failure = Failure::new("no ".repeat(600));
            stage.f.jobs.fail(&claimed.lease, failure).await.unwrap();
        }
        // A record that was put aside before.
        stage
            .f
            .overwrite(
                [Fixture::prefix(Space::Ready), b"\x99".to_vec()].concat(),
                b"?",
            )
            .await;
        check(&stage.f.jobs, true).await;
        stage
    }

    async fn add(&mut self, name: &'static str, job: NewJob) {
        let id = self.f.enqueue(job).await.job.id;
        let line = format!("{name} was added");
        let fields = BTreeMap::new();
        self.f
            .jobs
            .log(id, Level::Info, line, fields)
            .await
            .unwrap();
        self.ids.insert(name, id);
    }

    fn id(&self, name: &str) -> JobId {
        self.ids[name]
    }

    fn header_key(&self, name: &str) -> Vec<u8> {
        Fixture::key(Space::Job, self.id(name))
    }

    /// The one object of a space whose key or value names this job.
    async fn object(&self, space: Space, name: &str) -> Object {
        let id = *self.id(name).as_bytes();
        let names = |bytes: &[u8]| bytes.windows(16).any(|part| part == id);
        let mut objects = self.f.space(space).await;
        objects.retain(|object| names(object.key.as_bytes()) || names(&object.value));
        assert!(!objects.is_empty(), "{space:?} {name}");
        objects.remove(0)
    }

    async fn remove(&self, space: Space, name: &str) {
        let object = self.object(space, name).await;
        self.f.store.remove(&object).await.unwrap();
    }

    /// Puts other bytes under the key of an object.
    async fn alter(&self, space: Space, name: &str, value: &[u8]) {
        let object = self.object(space, name).await;
        self.f.store.remove(&object).await.unwrap();
        self.f.put(object.key.as_bytes().to_vec(), value).await;
    }

    /// Changes a header, of which the caller knows the bytes.
    async fn edit(&self, name: &str, edit: impl Fn(&mut Vec<u8>)) {
        let object = self.object(Space::Job, name).await;
        let mut bytes = object.value.to_vec();
        edit(&mut bytes);
        assert_ne!(bytes, object.value, "nothing was changed");
        self.alter(Space::Job, name, &bytes).await;
    }

    /// What is stored of all jobs but this one, less what belongs to nobody alone.
    async fn others(&self, name: &str) -> BTreeSet<Object> {
        let id = *self.id(name).as_bytes();
        let names = |bytes: &[u8]| bytes.windows(16).any(|part| part == id);
        let mut all = BTreeSet::new();
        for space in [
            Space::Job,
            Space::Payload,
            Space::Ready,
            Space::Scheduled,
            Space::Worker,
            Space::Attention,
            Space::Unique,
            Space::History,
            Space::Log,
            Space::Signal,
        ] {
            all.extend(self.f.space(space).await);
        }
        all.retain(|object| !names(object.key.as_bytes()) && !names(&object.value));
        all
    }

    /// Runs all there is to its end; the jobs that are not there any more are in quarantine.
    async fn run_out(&self) {
        for _ in 0..60 {
            self.f.pass(100);
            let claimed = self.f.claim(100).await;
            for one in &claimed {
                self.f.jobs.complete(&one.lease).await.unwrap();
            }
            let active = [State::Scheduled, State::Ready, State::Running];
            let active = Query::new().states(active);
            if claimed.is_empty() && self.f.jobs.lookup(&active).await.unwrap().items.is_empty() {
                break;
            }
        }
        let quarantine = self.f.space(Space::Quarantine).await;
        for (name, id) in &self.ids {
            let names = |object: &Object| {
                let bytes = &object.value;
                bytes.windows(16).any(|part| part == id.as_bytes())
            };
            match self.f.jobs.get(*id).await.unwrap() {
                Some(job) => assert!(job.state.is_final(), "{name}: {job:?}"),
                None => assert!(quarantine.iter().any(names), "{name} is lost"),
            }
        }
    }
}

async fn a_healthy_store_has_no_findings(f: Fixture) {
    is_clean(&f).await;
    let stage = Stage::new(f).await;
    let before = stage.f.raw(Vec::new()).await;
    let (checked, findings) = check(&stage.f.jobs, false).await;
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!(checked.jobs, stage.ids.len() as u64);
    assert_eq!(checked.objects, before.len() as u64);
    assert_eq!(checked.too_new, 0);
    check(&stage.f.jobs, true).await;
    assert_eq!(stage.f.raw(Vec::new()).await, before);
    // Nor has any state on its way to the end.
    for _ in 0..5 {
        stage.f.pass(30);
        is_clean(&stage.f).await;
        stage.f.claim(2).await;
        is_clean(&stage.f).await;
        stage.f.jobs.expire().await.unwrap();
        is_clean(&stage.f).await;
    }
    stage.run_out().await;
    is_clean(&stage.f).await;
}

/// One way to break a store.
struct Breakage {
    job: &'static str,
    /// What a check finds.
    finds: &'static [Damage],
    how: How,
}

enum How {
    Remove(Space),
    Alter(Space, &'static [u8]),
    /// Adds the entry of a space that the job of this name has to the job.
    Edit(fn(&mut Vec<u8>)),
    /// Adds an object under a key made for the job.
    Add(fn(JobId) -> Vec<u8>, &'static [u8]),
}

fn in_space(space: Space) -> Tuple {
    Tuple::new().string("kvjob").uint(space as u64)
}

fn a_lane(task: &str, id: JobId) -> Vec<u8> {
    in_space(Space::Ready)
        .string("")
        .string(task)
        .uuid(&[0; 16])
        .int(0)
        .int(7)
        .uuid(id.as_bytes())
        .finish()
}

fn at(space: Space, time: i64, id: JobId) -> Vec<u8> {
    in_space(space).int(time).uuid(id.as_bytes()).finish()
}

const BREAKAGES: &[Breakage] = &[
    Breakage {
        job: "ready",
        finds: &[Damage::NotPlaced],
        how: How::Remove(Space::Ready),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::NotPlaced],
        how: How::Remove(Space::Ready),
    },
    Breakage {
        job: "later",
        finds: &[Damage::NotPlaced],
        how: How::Remove(Space::Scheduled),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::Stale],
        how: How::Add(|id| at(Space::Scheduled, 7, id), b""),
    },
    Breakage {
        job: "later",
        finds: &[Damage::Stale],
        how: How::Add(|id| a_lane("ready", id), b""),
    },
    Breakage {
        job: "done",
        finds: &[Damage::Stale],
        how: How::Add(|id| a_lane("done", id), b""),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Ready, b""),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Ready, b"\x01\xff"),
    },
    Breakage {
        job: "later",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Scheduled, b""),
    },
    Breakage {
        job: "later",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Scheduled, b"\x00"),
    },
    Breakage {
        job: "running",
        finds: &[Damage::LeaseMissing],
        how: How::Remove(Space::Worker),
    },
    Breakage {
        job: "running",
        finds: &[Damage::CorruptWorker, Damage::LeaseMissing],
        how: How::Alter(Space::Worker, b"\x01\xff\xff"),
    },
    Breakage {
        job: "stopping",
        finds: &[Damage::SignalMissing],
        how: How::Remove(Space::Signal),
    },
    Breakage {
        job: "running",
        finds: &[Damage::Stale],
        how: How::Add(
            |id| {
                in_space(Space::Signal)
                    .uuid(&[3; 16])
                    .uuid(id.as_bytes())
                    .finish()
            },
            b"",
        ),
    },
    Breakage {
        job: "failed",
        finds: &[Damage::AttentionMissing],
        how: How::Remove(Space::Attention),
    },
    Breakage {
        job: "canceled",
        finds: &[Damage::AttentionMissing],
        how: How::Remove(Space::Attention),
    },
    Breakage {
        job: "late",
        finds: &[Damage::AttentionMissing],
        how: How::Remove(Space::Attention),
    },
    Breakage {
        job: "late",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Attention, b""),
    },
    Breakage {
        job: "done",
        finds: &[Damage::Stale],
        how: How::Add(|id| at(Space::Attention, 7, id), b"late"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::Stale],
        how: How::Add(|id| Fixture::key(Space::Retention, id), b""),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::CorruptEntry],
        how: How::Add(|_| Fixture::prefix(Space::Retention), b"\x01?"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(
            |_| [Fixture::prefix(Space::Retention), vec![7]].concat(),
            b"",
        ),
    },
    Breakage {
        job: "failed",
        finds: &[Damage::Stale],
        how: How::Add(|id| at(Space::Attention, 7, id), b""),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::Stale],
        how: How::Add(|id| at(Space::Attention, 7, id), b""),
    },
    Breakage {
        job: "canceled",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Attention, b"!"),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::KeyMissing],
        how: How::Remove(Space::Unique),
    },
    Breakage {
        job: "done",
        finds: &[Damage::KeyMissing],
        how: How::Remove(Space::Unique),
    },
    Breakage {
        job: "failed",
        finds: &[Damage::CorruptEntry],
        how: How::Alter(Space::Unique, b"\x01garbage"),
    },
    Breakage {
        job: "later",
        finds: &[Damage::PayloadMissing],
        how: How::Remove(Space::Payload),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptPayload],
        how: How::Alter(Space::Payload, b"\"short\""),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptPayload],
        how: How::Alter(Space::Payload, &[0xff; 702]),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptPayload],
        how: How::Alter(Space::Payload, &[b'{'; 702]),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::Stale],
        how: How::Add(|id| Fixture::key(Space::Payload, id), b"\"whose?\""),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::CorruptHeader],
        how: How::Alter(Space::Job, b"\x01garbage"),
    },
    Breakage {
        job: "running",
        finds: &[Damage::CorruptHeader],
        how: How::Alter(Space::Job, b""),
    },
    Breakage {
        job: "old",
        finds: &[Damage::CorruptHeader],
        how: How::Edit(|header| header.truncate(header.len() - 1)),
    },
    Breakage {
        job: "old",
        finds: &[Damage::HistoryGap],
        how: How::Remove(Space::History),
    },
    Breakage {
        job: "old",
        finds: &[Damage::CorruptHistory, Damage::HistoryGap],
        how: How::Alter(Space::History, b"\x01\xff\xff"),
    },
    Breakage {
        job: "rich",
        finds: &[Damage::CorruptLog],
        how: How::Alter(Space::Log, b"\x01\xff\xff"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(|id| [a_lane("t", id), b"\x99".to_vec()].concat(), b"?"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(
            |id| {
                Tuple::new()
                    .string("kvjob")
                    .uint(77)
                    .uuid(id.as_bytes())
                    .finish()
            },
            b"?",
        ),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(|_| Fixture::prefix(Space::Job), b"?"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(
            |_| [Fixture::prefix(Space::Format), vec![0xff]].concat(),
            b"?",
        ),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(|_| Tuple::new().string("kvjob").finish(), b"?"),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::UnknownKey],
        how: How::Add(
            |_| [Fixture::prefix(Space::Worker), vec![0xff]].concat(),
            b"?",
        ),
    },
    Breakage {
        job: "ready",
        finds: &[Damage::CorruptQuarantine],
        how: How::Add(|id| Fixture::key(Space::Quarantine, id), b"\x01?"),
    },
];

#[tokio::test]
async fn every_breakage_in_memory_is_found_mended_and_forgotten() {
    within(every_breakage(Fixture::memory)).await;
}

#[tokio::test]
async fn every_breakage_of_a_bag_is_found_mended_and_forgotten() {
    within(every_breakage(Fixture::bag)).await;
}

#[tokio::test]
async fn every_breakage_on_disk_is_found_mended_and_forgotten() {
    within(every_breakage(Fixture::redb)).await;
}

/// Each on a store of its own.
async fn every_breakage(fixture: impl AsyncFn() -> Fixture) {
    for (number, breakage) in BREAKAGES.iter().enumerate() {
        let stage = Stage::new(fixture().await).await;
        breakage.happens_to(&stage, number).await;
    }
}

impl Breakage {
    async fn happens_to(&self, stage: &Stage, number: usize) {
        let what = format!("breakage {number}, of {}: {:?}", self.job, self.finds);
        let others = stage.others(self.job).await;
        match &self.how {
            How::Remove(space) => stage.remove(*space, self.job).await,
            How::Alter(space, value) => stage.alter(*space, self.job, value).await,
            How::Edit(edit) => stage.edit(self.job, edit).await,
            How::Add(key, value) => {
                let key = key(stage.id(self.job));
                stage.f.put(key, value).await;
            }
        }
        let before = stage.f.raw(Vec::new()).await;
        let (_, findings) = check(&stage.f.jobs, false).await;
        assert_eq!(damages(&findings), self.finds, "{what}: {findings:#?}");
        let after = stage.f.raw(Vec::new()).await;
        assert!(before == after, "{what}: a look has changed the store");

        let (_, findings) = check(&stage.f.jobs, true).await;
        assert_eq!(damages(&findings), self.finds, "{what}: {findings:#?}");
        for finding in &findings {
            assert!(
                finding.mended && finding.action.is_some(),
                "{what}: {finding:#?}"
            );
        }
        let (_, findings) = check(&stage.f.jobs, true).await;
        assert!(findings.is_empty(), "{what}: {findings:#?}");
        let now = stage.others(self.job).await;
        assert_eq!(now, others, "{what}: others were touched");
        for id in stage.ids.values() {
            stage.f.states(*id).await;
            stage.f.jobs.logs(&LogQuery::new(*id)).await.unwrap();
        }
        stage.f.jobs.quarantine(100, None).await.unwrap();
        stage.run_out().await;
        is_clean(&stage.f).await;
    }
}

async fn an_entry_of_a_job_that_is_not_there_is_removed_and_its_data_is_kept(f: Fixture) {
    let stage = Stage::new(f).await;
    let f = &stage.f;
    let payload = stage.object(Space::Payload, "rich").await;
    let chunk = stage.object(Space::History, "old").await;
    for name in stage.ids.keys() {
        stage.remove(Space::Job, name).await;
    }
    let data = [Space::Payload, Space::History, Space::Log];
    let indexes = [
        Space::Ready,
        Space::Scheduled,
        Space::Attention,
        Space::Unique,
        Space::Signal,
    ];
    let mut count = 0;
    for space in indexes.into_iter().chain(data) {
        let objects = f.space(space).await.len();
        assert!(objects > 0, "{space:?}");
        count += objects;
    }
    let before = f.space(Space::Quarantine).await.len();
    let (_, findings) = check(&f.jobs, false).await;
    assert_eq!(damages(&findings), vec![Damage::Orphan; count]);
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(damages(&findings), vec![Damage::Orphan; count]);
    assert_eq!(checked.left(), 0, "{findings:#?}");
    is_clean(f).await;
    for space in indexes.into_iter().chain(data) {
        assert!(f.space(space).await.is_empty(), "{space:?}");
    }
    let aside = f.space(Space::Quarantine).await.len() - before;
    let told = findings
        .iter()
        .filter(|one| one.action.as_deref() == Some("put aside"));
    assert_eq!(aside, told.count());
    let quarantine = f.space(Space::Quarantine).await;
    for lost in [payload, chunk] {
        let holds = |one: &Object| {
            let mut parts = one.value.windows(lost.value.len());
            parts.any(|part| part == lost.value)
        };
        assert!(quarantine.iter().any(holds), "{lost:?}");
    }
}

async fn lost_arguments_send_a_job_to_the_quarantine_unless_it_runs(f: Fixture) {
    let stage = Stage::new(f).await;
    let f = &stage.f;
    let payload = stage.object(Space::Payload, "rich").await;
    stage.remove(Space::Payload, "rich").await;
    stage.remove(Space::Payload, "stopping").await;
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(damages(&findings), [Damage::PayloadMissing; 2]);
    assert_eq!((checked.mended, checked.left()), (1, 1));
    let left = findings.iter().find(|one| !one.mended).unwrap();
    assert_eq!(left.job, Some(stage.id("stopping")));
    assert!(left.action.as_ref().unwrap().contains("runs"), "{left:?}");
    assert!(f.jobs.get(stage.id("rich")).await.unwrap().is_none());
    // Put back what is in the quarantine and what was lost, and it is whole again.
    let aside = stage.object(Space::Quarantine, "rich").await;
    f.store.remove(&aside).await.unwrap();
    f.store.set(payload).await.unwrap();
    let header = header_in(&aside);
    f.overwrite(stage.header_key("rich"), &header).await;
    let (checked, _) = check(&f.jobs, true).await;
    assert_eq!(checked.left(), 1, "the running one");
    let job = f.job(stage.id("rich")).await;
    assert_eq!((job.state, job.payload), (State::Ready, large()));
    assert_eq!(claim_task(f, "rich").await.job.id, job.id);
}

/// The raw header in a quarantine record, whose own record holds key and value with their lengths.
fn header_in(aside: &Object) -> Vec<u8> {
    let bytes = &aside.value[1..];
    let (key, rest) = bytes[1..].split_at(usize::from(bytes[0]));
    assert!(key.starts_with(&Fixture::prefix(Space::Job)));
    let (length, rest) = match rest[0] {
        251 => (
            usize::from(u16::from_le_bytes([rest[1], rest[2]])),
            &rest[3..],
        ),
        short => (usize::from(short), &rest[1..]),
    };
    rest[..length].to_vec()
}

async fn a_lost_lease_is_taken_back_or_kept_by_its_worker(f: Fixture) {
    for lives in [true, false] {
        let id = f.add("t").await.id;
        let claimed = f.claim_one().await;
        for record in f.space(Space::Worker).await {
            f.store.remove(&record).await.unwrap();
        }
        f.pass(600);
        assert!(
            f.jobs.expire().await.unwrap().is_empty(),
            "nobody knows of it"
        );
        let (_, findings) = check(&f.jobs, true).await;
        assert_eq!(damages(&findings), [Damage::LeaseMissing]);
        if lives {
            let leases = [claimed.lease.clone()];
            let beats = f.jobs.heartbeat(&leases, Duration::from_secs(60)).await;
            assert!(format!("{beats:?}").contains("Extended"), "{beats:?}");
            f.jobs.complete(&claimed.lease).await.unwrap();
        } else {
            f.pass(60);
            assert_eq!(f.jobs.expire().await.unwrap(), [id]);
            f.pass(60);
            let again = f.claim_one().await;
            assert_eq!((again.job.id, again.job.attempts), (id, 2));
            f.jobs.complete(&again.lease).await.unwrap();
        }
        is_clean(&f).await;
    }
}

async fn a_cut_off_purge_is_finished(f: Fixture) {
    let id = f.add("t").await.id;
    for number in 0..300 {
        let (line, fields) = (number.to_string(), BTreeMap::new());
        f.jobs.log(id, Level::Info, line, fields).await.unwrap();
    }
    let claimed = f.claim_one().await;
    f.jobs.complete(&claimed.lease).await.unwrap();
    let all = Query::new();
    let mut cut_off = f.jobs.purge(&all);
    while f.jobs.get(id).await.unwrap().is_some() {
        assert!(futures::poll!(&mut cut_off).is_pending());
        tokio::task::yield_now().await;
    }
    drop(cut_off);
    // What was under way then is done before the next operation, which finds nothing to do.
    assert!(f.claim(1).await.is_empty());
    let lines = f.space(Space::Log).await.len();
    if !f.store.unique_keys() {
        // There all lines go in one change, so that no part of them can stay.
        assert_eq!(lines, 0);
        return;
    }
    assert!(lines > 0, "it was not cut off");
    let (_, findings) = check(&f.jobs, false).await;
    assert_eq!(damages(&findings), [Damage::PurgeCutOff]);
    assert_eq!(f.space(Space::Log).await.len(), lines);
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(damages(&findings), [Damage::PurgeCutOff]);
    assert_eq!(checked.left(), 0);
    assert!(f.space(Space::Log).await.is_empty() && f.space(Space::Job).await.is_empty());
    is_clean(&f).await;
}

async fn a_log_and_a_history_that_could_not_be_read_can_be_read_again(f: Fixture) {
    let stage = Stage::new(f).await;
    let (f, id) = (&stage.f, stage.id("old"));
    let whole = f.jobs.history(id).await.unwrap();
    let log = LogQuery::new(id);
    let lines = f.jobs.logs(&log).await.unwrap().items;
    stage.alter(Space::Log, "old", b"\x01\xff\xff").await;
    stage.alter(Space::History, "old", b"\x01\xff\xff").await;
    assert!(f.jobs.history(id).await.is_err());
    assert!(f.jobs.logs(&log).await.is_err());
    let (checked, _) = check(&f.jobs, true).await;
    assert_eq!(checked.left(), 0);
    let now = f.jobs.logs(&log).await.unwrap().items;
    assert_eq!(now, lines[1..]);
    let steps = f.jobs.history(id).await.unwrap();
    assert_eq!(steps.len(), whole.len());
    let mut lost = 0;
    for (step, before) in steps.iter().zip(&whole) {
        if step == before {
            continue;
        }
        assert_eq!(step.number, before.number);
        assert!(
            step.reason.as_ref().unwrap().starts_with("lost"),
            "{step:?}"
        );
        lost += 1;
    }
    assert!(lost > 0 && lost < whole.len());
    is_clean(f).await;
}

async fn what_belongs_to_a_job_in_quarantine_stays(f: Fixture) {
    let stage = Stage::new(f).await;
    let f = &stage.f;
    let mut headers = BTreeMap::new();
    for name in ["rich", "later", "old", "failed", "running", "stopping"] {
        let header = stage.object(Space::Job, name).await;
        stage.alter(Space::Job, name, b"\x01garbage").await;
        headers.insert(name, header);
    }
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(damages(&findings), [Damage::CorruptHeader; 6]);
    assert_eq!(checked.left(), 0);
    is_clean(f).await;
    // Workers meet what is left of them, and drop it from the queue.
    assert_eq!(f.claim(100).await.len(), 1, "the job `ready`");
    is_clean(f).await;
    for (name, header) in headers {
        let aside = stage.object(Space::Quarantine, name).await;
        f.store.remove(&aside).await.unwrap();
        f.store.set(header).await.unwrap();
    }
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(checked.left(), 0, "{findings:#?}");
    for id in stage.ids.values() {
        assert!(!f.states(*id).await.is_empty());
        f.job(*id).await;
        assert!(
            !f.jobs
                .logs(&LogQuery::new(*id))
                .await
                .unwrap()
                .items
                .is_empty()
        );
    }
    let again = f.enqueue(text("rich", "").tenant("acme").key("rich")).await;
    assert_eq!(again.job.id, stage.id("rich"), "it has its key");
    stage.run_out().await;
    is_clean(f).await;
}

async fn what_newer_software_wrote_is_counted_and_left_alone(f: Fixture) {
    let stage = Stage::new(f).await;
    let f = &stage.f;
    for name in ["rich", "later", "failed", "running"] {
        stage.alter(Space::Job, name, b"\x02who knows").await;
    }
    stage
        .alter(Space::Worker, "stopping", b"\x02who knows")
        .await;
    if f.store.unique_keys() {
        stage.alter(Space::Log, "old", b"\x02who knows").await;
    } else {
        let line = stage.object(Space::Log, "old").await;
        f.store.remove(&line).await.unwrap();
        let mut suffix = Reader::new(&line.value);
        let (at, writer) = (suffix.read_i64().unwrap(), suffix.read_u64().unwrap());
        let suffix = Tuple::new().int(at).uint(writer).finish();
        let value = [&suffix[..], b"\x02who knows"].concat();
        f.overwrite(line.key.as_bytes().to_vec(), &value).await;
    }
    // A space of its own, and the format that says so: newest 9, to be read by 1.
    let format = f.space(Space::Format).await.remove(0);
    f.store.remove(&format).await.unwrap();
    f.overwrite(Fixture::prefix(Space::Format), &[1, 9, 1])
        .await;
    let new_space = Tuple::new().string("kvjob").uint(99).int(1).finish();
    f.overwrite(new_space, b"what is this").await;
    let before = f.raw(Vec::new()).await;
    let (checked, findings) = check(&f.jobs, true).await;
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!(checked.too_new, 7);
    assert_eq!(f.raw(Vec::new()).await, before);
    // One that this software may not read at all.
    f.store
        .remove(&Object::new(Fixture::prefix(Space::Format), &[1, 9, 1][..]))
        .await
        .unwrap();
    f.overwrite(Fixture::prefix(Space::Format), &[1, 9, 9])
        .await;
    let error = f.jobs.check(true, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

async fn what_cannot_be_put_aside_stays_and_is_told(f: Fixture) {
    let id = f.add("t").await.id;
    // The quarantine's key would be longer than keys can be.
    let mut key = Fixture::prefix(Space::Log);
    key.resize(f.store.limits().key_bytes, b'x');
    let huge = Object::new(key.clone(), b"!".to_vec());
    f.store.set(huge.clone()).await.unwrap();
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(checked.left(), 1);
    let action = findings[0].action.as_ref().unwrap();
    assert!(
        !findings[0].mended && action.contains("too large"),
        "{action}"
    );
    assert_eq!(f.raw(key).await, std::slice::from_ref(&huge));
    f.store.remove(&huge).await.unwrap();
    // The second of two records of one key does not push out the first.
    let header = Fixture::key(Space::Job, id);
    for value in ["\x01first", "\x01second"] {
        let stored = f.raw(header.clone()).await;
        for object in stored {
            f.store.remove(&object).await.unwrap();
        }
        f.overwrite(header.clone(), value.as_bytes()).await;
        let (checked, findings) = check(&f.jobs, true).await;
        assert_eq!((checked.found, checked.left()), (1, 0), "{findings:#?}");
    }
    let aside = f.space(Space::Quarantine).await;
    for bytes in [&b"\x01first"[..], b"\x01second"] {
        let holds = |one: &Object| {
            let mut parts = one.value.windows(bytes.len());
            parts.any(|part| part == bytes)
        };
        assert!(aside.iter().any(holds), "{bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_a_busy_store_in_memory_finds_nothing() {
    within(a_check_of_a_busy_store_finds_nothing(
        Fixture::memory().await,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_a_busy_store_on_disk_finds_nothing() {
    within(a_check_of_a_busy_store_finds_nothing(Fixture::redb().await)).await;
}

/// Two job stores over one store, as two processes would have, each with two workers; their clock
/// is the system's.
async fn a_check_of_a_busy_store_finds_nothing(f: Fixture) {
    let mut stores = Vec::new();
    for _ in 0..2 {
        let jobs = KvStore::open(f.store.clone(), Options::default()).await;
        stores.push(jobs.unwrap());
    }
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..4u64 {
        let jobs = stores[usize::from(number % 2 == 0)].clone();
        workers.spawn(async move {
            for round in 0..60 {
                busy(&jobs, number, round).await;
            }
        });
    }
    let mut checks = 0;
    let mut done = 0;
    while done < 4 {
        let (checked, findings) = check(&stores[0], checks % 2 == 0).await;
        assert!(
            findings.is_empty(),
            "check {checks}, {checked:?}: {findings:#?}"
        );
        checks += 1;
        while let Some(worker) = workers.try_join_next() {
            worker.unwrap();
            done += 1;
        }
    }
    assert!(checks > 3, "there was hardly a check");
}

/// One round of what goes on in a store.
async fn busy(jobs: &KvStore, number: u64, round: u64) {
    let mut job = NewJob::with_payload(format!("t{number}"), large());
    job = job
        .key(format!("{number}-{}", round % 5))
        .backoff(at_once());
    if round.is_multiple_of(3) {
        job = job.run_at(SystemClock.now().after(Duration::from_millis(2)));
    }
    jobs.enqueue(job).await.unwrap();
    jobs.enqueue(text("other", "")).await.unwrap();
    let claim = Claim::new(format!("worker {number}")).max(3);
    let claimed = jobs
        .claim(claim.lease(Duration::from_secs(3600)))
        .await
        .unwrap()
        .jobs;
    for (nth, one) in claimed.into_iter().enumerate() {
        let (line, fields) = ("works".to_owned(), BTreeMap::new());
        jobs.log(one.job.id, Level::Info, line, fields)
            .await
            .unwrap();
        if nth == 0 && round.is_multiple_of(2) {
            let asked = jobs.cancel(&Query::new().id(one.job.id)).await.unwrap();
            assert_eq!(asked.items.len(), 1);
        }
        if nth == 1 {
            let failure = Failure::new("no".repeat(900));
            jobs.fail(&one.lease, failure).await.unwrap();
        } else {
            jobs.complete(&one.lease).await.unwrap();
        }
    }
    if round % 4 == number {
        jobs.purge(&Query::new().limit(5)).await.unwrap();
        jobs.retry(&Query::new().limit(2)).await.unwrap();
    }
}

async fn a_format_that_cannot_be_read_is_mended_where_opening_fails(f: Fixture) {
    let id = f.add("t").await.id;
    let format = f.space(Space::Format).await.remove(0);
    f.store.remove(&format).await.unwrap();
    f.overwrite(Fixture::prefix(Space::Format), b"\x01").await;
    assert!(KvStore::open(f.store.clone(), f.options()).await.is_err());
    let jobs = KvStore::open_to_check(f.store.clone(), f.options())
        .await
        .unwrap();
    let (_, findings) = check(&jobs, false).await;
    assert_eq!(damages(&findings), [Damage::CorruptFormat]);
    assert!(KvStore::open(f.store.clone(), f.options()).await.is_err());
    let (checked, _) = check(&jobs, true).await;
    assert_eq!(checked.left(), 0);
    let jobs = KvStore::open(f.store.clone(), f.options()).await.unwrap();
    assert_eq!(jobs.get(id).await.unwrap().unwrap().id, id);
    let format = f.space(Space::Format).await.remove(0);
    f.store.remove(&format).await.unwrap();
    let (_, findings) = check(&jobs, true).await;
    assert_eq!(damages(&findings), [Damage::FormatMissing]);
    assert_eq!(f.space(Space::Format).await, [format]);
}

/// Under every key that has one value, one that sorts before it and one that sorts behind it.
async fn a_foreign_value_under_a_key_is_put_aside(f: Fixture) {
    let stage = Stage::new(f).await;
    let f = &stage.f;
    let whole: BTreeSet<Object> = f.raw(Vec::new()).await.into_iter().collect();
    let mut count = 0;
    for object in &whole {
        let shared = [Space::History, Space::Log, Space::Quarantine];
        let prefixes = shared.map(|space| Fixture::prefix(space).into());
        if prefixes.iter().any(|prefix| object.key.starts_with(prefix)) {
            continue;
        }
        for foreign in [&b"\x00who"[..], b"\xffwho"] {
            f.put(object.key.as_bytes().to_vec(), foreign).await;
            count += 1;
        }
    }
    let (_, findings) = check(&f.jobs, false).await;
    assert_eq!(
        damages(&findings),
        vec![Damage::ForeignValue; count],
        "{findings:#?}"
    );
    let (checked, findings) = check(&f.jobs, true).await;
    assert_eq!(
        damages(&findings),
        vec![Damage::ForeignValue; count],
        "{findings:#?}"
    );
    assert_eq!(checked.left(), 0);
    is_clean(f).await;
    let now: BTreeSet<Object> = f.raw(Vec::new()).await.into_iter().collect();
    assert!(whole.is_subset(&now));
    assert_eq!(
        now.len(),
        whole.len() + count,
        "all of it is in the quarantine"
    );
    stage.run_out().await;
    is_clean(f).await;
}
