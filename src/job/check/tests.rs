//! Damage that takes records which can be read: what a header says is changed, and what it has to
//! agree with is not.

use std::sync::Arc;
use std::time::Duration;

use super::super::header::{self, Header, Holder, Phase, StoredStep};
use super::super::keys::KeySpace;
use super::super::plan::{Entry, WorkerRecord};
use super::super::scheme::Scheme;
use super::super::{
    CheckEvent, Claim, Claimed, Failure, JobId, KeyMode, KvStore, NewJob, Options, QueueStore as _,
    Retry, State, StateStore as _,
};
use super::{Damage, Finding};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::kv::{Key, Memory, Object, Store as _};

struct Bench {
    store: Arc<Memory>,
    jobs: KvStore,
    keys: KeySpace,
}

impl Bench {
    async fn new() -> Self {
        let store = Arc::new(Memory::new());
        let options = Options::default().max_skew(Duration::ZERO);
        Self {
            jobs: KvStore::open(store.clone(), options).await.unwrap(),
            store,
            keys: KeySpace::new("kvjob", Scheme::UniqueKeys).unwrap(),
        }
    }

    async fn add(&self, job: NewJob) -> JobId {
        self.jobs.enqueue(job).await.unwrap().job.id
    }

    async fn claim(&self) -> Claimed {
        let claim = Claim::new("w").lease(Duration::from_secs(60));
        self.jobs.claim(claim).await.unwrap().jobs.remove(0)
    }

    async fn value(&self, key: &Key) -> Vec<u8> {
        self.store.get(key).await.unwrap().unwrap().value.to_vec()
    }

    async fn set(&self, key: Key, value: Vec<u8>) {
        self.store.set(Object::new(key, value)).await.unwrap();
    }

    async fn remove(&self, key: Key) {
        self.store.remove(&Object::new(key, "")).await.unwrap();
    }

    async fn header(&self, id: JobId) -> Header {
        let key = self.keys.job(id);
        Header::decode(&key, &self.value(&key).await).unwrap()
    }

    async fn edit(&self, id: JobId, edit: impl FnOnce(&mut Header)) {
        let mut header = self.header(id).await;
        edit(&mut header);
        self.set(self.keys.job(id), header.encode().unwrap()).await;
    }

    async fn check(&self, repair: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let tell = |event| {
            if let CheckEvent::Found(finding) = event {
                findings.push(finding);
            }
        };
        self.jobs.check(repair, tell).await.unwrap();
        findings
    }

    /// A look finds this, a repair mends it, and then all is well.
    async fn mends(&self, expected: &[Damage]) {
        let found = self.check(false).await;
        let damages: Vec<Damage> = found.iter().map(|one| one.damage).collect();
        assert_eq!(damages, expected, "{found:#?}");
        let mended = self.check(true).await;
        let damages: Vec<Damage> = mended.iter().map(|one| one.damage).collect();
        assert_eq!(damages, expected, "{mended:#?}");
        assert!(mended.iter().all(|one| one.mended), "{mended:#?}");
        let found = self.check(false).await;
        assert!(found.is_empty(), "{found:#?}");
    }

    /// The last step of a job says why it is there.
    async fn notes(&self, id: JobId, why: &str) {
        let steps = self.jobs.history(id).await.unwrap();
        let reason = steps.last().unwrap().reason.clone().unwrap();
        assert!(reason.contains(why), "{reason}");
        let numbers: Vec<u32> = steps.iter().map(|step| step.number).collect();
        let count = u32::try_from(steps.len()).unwrap();
        assert_eq!(numbers, (0..count).collect::<Vec<u32>>());
    }

    async fn completes(&self, id: JobId) {
        let claimed = self.claim().await;
        assert_eq!(claimed.job.id, id);
        self.jobs.complete(&claimed.lease).await.unwrap();
        assert!(self.check(false).await.is_empty());
    }
}

fn job() -> NewJob {
    NewJob::new("t", "x").unwrap()
}

fn soon() -> Timestamp {
    SystemClock.now().after(Duration::from_secs(3600))
}

#[tokio::test]
async fn a_job_at_two_places_stays_at_the_right_one() {
    let b = Bench::new().await;
    let id = b.add(job()).await;
    let header = b.header(id).await;
    let value = super::super::place::scheduled_value(&header).unwrap();
    b.set(b.keys.scheduled(header.run_at(), id), value).await;
    b.mends(&[Damage::PlacedWrongly]).await;
    b.completes(id).await;
    // The same for one whose time has not come.
    let id = b.add(job().run_at(soon())).await;
    let header = b.header(id).await;
    let ready = b
        .keys
        .ready(&header.lane, header.priority, header.run_at(), id);
    b.set(ready.clone(), Vec::new()).await;
    b.mends(&[Damage::PlacedWrongly]).await;
    assert!(b.store.get(&ready).await.unwrap().is_none());
    assert_eq!(b.jobs.dequeue(id).await.unwrap().unwrap().id, id);
    assert!(b.check(false).await.is_empty());
}

#[tokio::test]
async fn a_job_in_its_lane_before_its_time_goes_back() {
    let b = Bench::new().await;
    let id = b.add(job().run_at(soon())).await;
    let header = b.header(id).await;
    b.remove(b.keys.scheduled(header.run_at(), id)).await;
    let ready = b
        .keys
        .ready(&header.lane, header.priority, header.run_at(), id);
    b.set(ready, Vec::new()).await;
    b.mends(&[Damage::PlacedWrongly]).await;
    let claims = b.jobs.claim(Claim::new("w")).await.unwrap();
    assert!(claims.jobs.is_empty());
    b.notes(id, "before its time").await;
}

#[tokio::test]
async fn a_job_is_not_among_the_scheduled_ones_behind_its_headers_back() {
    let b = Bench::new().await;
    let id = b.add(job().run_at(soon())).await;
    b.edit(id, |header| header.scheduled = false).await;
    b.mends(&[Damage::PlacedWrongly]).await;
    assert!(b.header(id).await.scheduled);
    assert!(b.jobs.dequeue(id).await.unwrap().is_some());
    assert!(b.check(false).await.is_empty());
}

#[tokio::test]
async fn a_header_that_contradicts_itself_is_set_right() {
    let b = Bench::new().await;
    // It runs, but nobody holds it: an attempt that was lost.
    let id = b.add(job().max_attempts(1)).await;
    b.claim().await;
    b.edit(id, |header| header.holder = None).await;
    b.mends(&[Damage::HeaderDisagrees]).await;
    let failed = b.jobs.get(id).await.unwrap().unwrap();
    assert_eq!(failed.state, State::Failed);
    assert_eq!(failed.last_error.as_deref(), Some("lease expired"));
    // It failed, but not at any time.
    let attention = b.keys.attention(failed.ended_at.unwrap(), id);
    b.edit(id, |header| header.ended_at = None).await;
    b.remove(attention).await;
    b.mends(&[Damage::HeaderDisagrees]).await;
    assert_eq!(b.jobs.get(id).await.unwrap().unwrap().state, State::Failed);
    b.notes(id, "not when").await;
    // It waits, but is held.
    let id = b.add(job()).await;
    let holder = Holder {
        incarnation: [1; 16],
        slot: 0,
        worker: "w".to_owned(),
    };
    b.edit(id, |header| header.holder = Some(holder)).await;
    b.mends(&[Damage::HeaderDisagrees]).await;
    b.completes(id).await;
}

#[tokio::test]
async fn a_lease_is_in_one_record_once() {
    let b = Bench::new().await;
    let id = b.add(job()).await;
    let claimed = b.claim().await;
    let holder = b.header(id).await.holder.unwrap();
    let own = b.keys.worker(&holder.incarnation, holder.slot);
    let mut record: WorkerRecord = header::decode(&own, &b.value(&own).await).unwrap();
    let later = Entry {
        deadline: record.entries[0].deadline + 1,
        ..record.entries[0]
    };
    record.entries.push(later);
    b.set(own.clone(), header::encode(&record).unwrap()).await;
    b.mends(&[Damage::LeaseTwice]).await;
    let kept: WorkerRecord = header::decode(&own, &b.value(&own).await).unwrap();
    assert_eq!(kept.entries, [later]);
    // In the record of another worker, too, beside one that has ended.
    let ended = Entry {
        epoch: later.epoch + 7,
        ..later
    };
    record.entries = vec![later, ended];
    let other = b.keys.worker(&[1; 16], 0);
    b.set(other.clone(), header::encode(&record).unwrap()).await;
    b.mends(&[Damage::LeaseTwice]).await;
    let kept: WorkerRecord = header::decode(&other, &b.value(&other).await).unwrap();
    assert_eq!(kept.entries, [ended]);
    b.jobs.complete(&claimed.lease).await.unwrap();
    assert!(b.check(false).await.is_empty());
}

#[tokio::test]
async fn of_two_jobs_with_one_key_the_one_it_names_keeps_it() {
    let b = Bench::new().await;
    let first = b.add(job().key("k")).await;
    let header = b.header(first).await;
    // As if it had been in the quarantine meanwhile.
    b.remove(b.keys.job(first)).await;
    let second = b.add(job().key("k")).await;
    b.set(b.keys.job(first), header.encode().unwrap()).await;
    b.mends(&[Damage::KeyTaken]).await;
    b.notes(first, &format!("\"k\" belongs to job {second}"))
        .await;
    let again = b.jobs.enqueue(job().key("k")).await.unwrap();
    assert_eq!((again.job.id, again.is_new), (second, false));
    b.completes(first).await;
    b.completes(second).await;
}

#[tokio::test]
async fn a_key_that_names_a_job_without_it_is_given_back() {
    let b = Bench::new().await;
    let mine = b.add(job().key("k")).await;
    let other = b.add(job()).await;
    let key = b.keys.unique("", "k");
    let value = super::super::unique::Unique {
        tenant: String::new(),
        text: "k".to_owned(),
        id: *other.as_bytes(),
    };
    b.set(key, header::encode(&value).unwrap()).await;
    b.mends(&[Damage::CorruptEntry]).await;
    let again = b.jobs.enqueue(job().key("k")).await.unwrap();
    assert_eq!((again.job.id, again.is_new), (mine, false));
}

#[tokio::test]
async fn a_key_that_a_removed_job_still_has_is_freed() {
    let b = Bench::new().await;
    b.add(job().key("k")).await;
    let key = b.keys.unique("", "k");
    let value = b.value(&key).await;
    b.jobs.remove_job("", "k").await.unwrap();
    assert!(b.check(false).await.is_empty());
    b.set(key, value).await;
    b.mends(&[Damage::Stale]).await;
    assert!(b.jobs.enqueue(job().key("k")).await.unwrap().is_new);
}

#[tokio::test]
async fn the_arguments_of_a_replaced_job_are_looked_for_where_they_are() {
    let b = Bench::new().await;
    let large = |text: &str| NewJob::new("t", &text.repeat(700)).unwrap().key("k");
    let id = b.add(large("a")).await;
    let old = b.value(&b.keys.payload(id)).await;
    b.add(large("b").key_mode(KeyMode::Replace)).await;
    assert!(b.check(false).await.is_empty());
    // What was replaced is nobody's.
    b.set(b.keys.payload(id), old).await;
    b.mends(&[Damage::Stale]).await;
    let new = b.header(id).await.payload_key(&b.keys, id).unwrap();
    b.remove(new).await;
    b.mends(&[Damage::PayloadMissing]).await;
}

#[tokio::test]
async fn a_step_that_is_told_in_two_ways_keeps_the_headers_way() {
    let b = Bench::new().await;
    let id = b.add(job()).await;
    let claimed = b.claim().await;
    let never = Failure::new("no").retry(Retry::Never);
    b.jobs.fail(&claimed.lease, never).await.unwrap();
    let before = b.jobs.history(id).await.unwrap();
    let recent = b.header(id).await.history.steps;
    // Once more in the same words is no harm.
    let same = header::encode(&vec![recent[0].clone()]).unwrap();
    let chunk = b.keys.history(id, 0, &same);
    b.store.set(chunk).await.unwrap();
    assert!(b.check(false).await.is_empty());
    let lie = StoredStep {
        reason: Some("a lie".to_owned()),
        ..recent[1].clone()
    };
    let both = header::encode(&vec![recent[0].clone(), lie]).unwrap();
    b.store.set(b.keys.history(id, 0, &both)).await.unwrap();
    b.mends(&[Damage::HistoryDisagrees]).await;
    assert_eq!(b.jobs.history(id).await.unwrap(), before);
    let aside = b.jobs.quarantine(9, None).await.unwrap().items;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].bytes, both.len());
    // One that the header does not count.
    let unknown = StoredStep {
        number: 3,
        ..recent[1].clone()
    };
    let more = header::encode(&vec![unknown]).unwrap();
    b.store.set(b.keys.history(id, 3, &more)).await.unwrap();
    b.mends(&[Damage::HeaderDisagrees]).await;
    assert_eq!(b.header(id).await.phase, Phase::Failed);
    b.notes(id, "has 4 steps").await;
}

#[tokio::test]
async fn a_count_of_steps_that_cannot_be_is_left_and_told() {
    let b = Bench::new().await;
    let id = b.add(job()).await;
    b.edit(id, |header| header.history.next = u32::MAX).await;
    let found = b.check(true).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].damage, Damage::HistoryGap);
    assert!(!found[0].mended && found[0].action.is_some(), "{found:#?}");
}
