//! [`Etcd`]: a store as ranges and transactions.

use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{
    Atomic, Change, Error, ErrorKind, Health, Key, Limits, Object, Ownership, Page, Result, Scan,
    Store, Watch, Watcher, check_commit,
};
use tokio_util::task::AbortOnDropHandle;

use crate::compact;
use crate::health;
use crate::marks::Marks;
use crate::members::Members;
use crate::proto::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, Response, TxnRequest,
};
use crate::reading::Reading;
use crate::txn::{self, Group, KeySpace, OPERATIONS};
use crate::watch::Watches;

/// The largest things a store in etcd takes. Transactions of etcd's own limits, 1.5 MiB and 128
/// operations, hold any commit within these, keys compared, read and written included.
pub const LIMITS: Limits = Limits {
    key_bytes: 1 << 10,
    value_bytes: 1 << 20,
    commit_bytes: 1 << 20,
    commit_changes: OPERATIONS,
};

/// Keys that `delete` looks for at once, and removes at once.
const DELETED: (i64, usize) = (32 << 10, 4 << 10);
/// How often a commit that is compared by revision is tried, while others put the same values.
const REVISIONS: usize = 8;

/// A store in etcd, which [`open`](crate::open) opens: the keys behind a prefix. It may be used
/// from many tasks; other processes may have it open, too.
pub struct Etcd {
    members: Arc<Members>,
    space: KeySpace,
    marks: Marks,
    watches: Watches,
    closed: AtomicBool,
    compacting: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Etcd {
    pub(crate) fn new(members: Members, space: KeySpace, compact: Option<Duration>) -> Self {
        let members = Arc::new(members);
        let compacting = compact.map(|every| compact::start(Arc::clone(&members), every));
        Self {
            compacting: Mutex::new(compacting),
            watches: Watches::new(Arc::clone(&members), space.clone()),
            members,
            space,
            marks: Marks::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Result<&Members> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(&self.members)
    }

    async fn commit_now(&self, changes: &[Change], txn: TxnRequest) -> Result<()> {
        if !txn::fits(&txn) {
            return self.commit_by_revision(changes).await;
        }
        let answer = if txn.success.is_empty() {
            self.open()?.read(&txn).await?
        } else {
            self.open()?.write(&txn).await?
        };
        txn::outcome(changes, answer)
            .unwrap_or_else(|| Err(txn::unexpected("a failure in which nothing failed")))
    }

    /// A commit whose expected values are too large to be sent: they are read and compared here,
    /// and etcd is told at which revision they must still be.
    async fn commit_by_revision(&self, changes: &[Change]) -> Result<()> {
        let conditions = txn::conditions(&self.space, changes);
        for _ in 0..REVISIONS {
            let found = self.open()?.read(&conditions).await?;
            let found = txn::found(found.responses)?;
            let failed = txn::failed(changes, &found)?;
            if !failed.is_empty() {
                return Err(Error::condition_failed(failed));
            }
            let txn = txn::commit_by_revision(&self.space, changes, &found);
            if !txn.success.is_empty() {
                let answer = self.open()?.write(&txn).await?;
                match txn::outcome(changes, answer) {
                    Some(outcome) => return outcome,
                    None => continue,
                }
            }
            return Ok(());
        }
        let message = "others put the same values again and again while a commit compared them";
        Err(Error::new(ErrorKind::Conflict, message))
    }

    async fn commit_group(&self, group: Group<'_>) -> Vec<Result<()>> {
        let (commits, txn) = group.close();
        let Some(txn) = txn else {
            return Vec::new();
        };
        if let [changes] = commits.as_slice() {
            return vec![self.commit_now(changes, txn).await];
        }
        let answer = match self.open() {
            Ok(members) => members.write(&txn).await,
            Err(closed) => Err(closed),
        };
        match answer {
            Ok(answer) => txn::outcomes(&commits, answer),
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The answers of ranges in one trip, all of one moment.
    async fn ranges(&self, mut ranges: Vec<RangeRequest>) -> Result<Vec<RangeResponse>> {
        let members = self.open()?;
        if let [range] = ranges.as_slice() {
            return Ok(vec![members.read(range).await?]);
        }
        let mut answers = Vec::with_capacity(ranges.len());
        while !ranges.is_empty() {
            let rest = ranges.split_off(ranges.len().min(OPERATIONS));
            let answer = members.read(&txn::ranges(&ranges)).await?;
            let count = ranges.len();
            let some = answer
                .responses
                .into_iter()
                .map(|answer| match answer.response {
                    Some(Response::Range(range)) => Ok(range),
                    _ => Err(txn::unexpected("something else than a range")),
                });
            let some = some.collect::<Result<Vec<_>>>()?;
            if some.len() != count {
                return Err(txn::unexpected("another number of ranges"));
            }
            answers.extend(some);
            ranges = rest;
        }
        Ok(answers)
    }

    /// Learns where to cut ranges that held many keys.
    async fn learn(&self, lessons: Vec<RangeRequest>) -> Result<()> {
        if let Ok(_learning) = self.marks.learning.try_lock()
            && !lessons.is_empty()
        {
            for lesson in self.ranges(lessons).await? {
                self.marks.learn(lesson.kvs);
            }
        }
        Ok(())
    }

    /// The range of keys that a scan covers, as etcd has them, or `None` if it is empty.
    fn bounds(&self, scan: &Scan) -> Option<(Bytes, Bytes)> {
        let range = scan.range(true);
        if range.is_empty() {
            return None;
        }
        let start = match &range.start {
            Bound::Included(key) if !key.is_empty() => self.space.outer(key),
            Bound::Excluded(key) => self.space.behind(key),
            // The prefix itself is no key of ours.
            Bound::Included(_) | Bound::Unbounded => self.space.behind(&Key::EMPTY),
        };
        let end = match &range.end {
            Bound::Included(key) => self.space.behind(key),
            Bound::Excluded(key) => self.space.outer(key),
            Bound::Unbounded => self.space.end(),
        };
        Some((start, end))
    }
}

#[async_trait]
impl Store for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn set(&self, object: Object) -> Result<()> {
        LIMITS.check_object(&object)?;
        let put = PutRequest {
            key: self.space.outer(&object.key),
            value: object.value,
        };
        self.open()?.write(&put).await?;
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let pages = self.scan_many(vec![scan]).await?;
        Ok(pages.into_iter().next().unwrap_or_default())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        LIMITS.check_key(&object.key)?;
        let delete = DeleteRangeRequest {
            key: self.space.outer(&object.key),
            range_end: Bytes::new(),
        };
        self.open()?.write(&delete).await?;
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        let Some((mut key, end)) = self.bounds(&Scan::prefix(prefix.clone())) else {
            return Ok(());
        };
        let (found, removed) = DELETED;
        loop {
            let some = RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: found,
                keys_only: true,
                ..RangeRequest::default()
            };
            let some = self.open()?.read(&some).await?;
            // One removal of everything would hold up everybody else for as long as it takes.
            for piece in some.kvs.chunks(removed) {
                let Some(last) = piece.last() else { break };
                let piece_end = behind(&last.key);
                let delete = DeleteRangeRequest {
                    key,
                    range_end: piece_end.clone(),
                };
                self.open()?.write(&delete).await?;
                key = piece_end;
            }
            if !some.more {
                return Ok(());
            }
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        let mut ranges = Vec::with_capacity(keys.len());
        for key in keys {
            LIMITS.check_key(key)?;
            ranges.push(RangeRequest {
                key: self.space.outer(key),
                ..RangeRequest::default()
            });
        }
        let answers = self.ranges(ranges).await?;
        let objects = keys.iter().zip(answers).map(|(key, answer)| {
            let found = answer.kvs.into_iter().next();
            found.map(|found| Object::new(key.clone(), found.value))
        });
        Ok(objects.collect())
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        self.open()?;
        let mut readings: Vec<Reading<'_>> = scans
            .iter()
            .map(|scan| Reading::new(scan, self.bounds(scan)))
            .collect();
        loop {
            let (mut open, mut ranges) = (Vec::new(), Vec::new());
            for reading in &mut readings {
                if let Some(range) = reading.next(&self.marks) {
                    ranges.push(range);
                    open.push(reading);
                }
            }
            if open.is_empty() {
                break;
            }
            let answers = self.ranges(ranges).await?;
            for (reading, answer) in open.into_iter().zip(answers) {
                reading.take(&self.space, &self.marks, answer)?;
            }
        }
        self.learn(readings.iter().filter_map(Reading::lesson).collect())
            .await?;
        Ok(readings.into_iter().map(Reading::finish).collect())
    }

    async fn start(&self) -> Result<()> {
        self.open()?;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.watches.close();
        let mut compacting = self
            .compacting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *compacting = None;
        Ok(())
    }

    async fn health(&self) -> Result<Health> {
        health::health(self.open()?, &self.space).await
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn ownership(&self) -> Ownership {
        Ownership::Shared
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

#[async_trait]
impl Atomic for Etcd {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &LIMITS)?;
        self.open()?;
        if changes.is_empty() {
            return Ok(());
        }
        let txn = txn::commit(&self.space, &changes);
        self.commit_now(&changes, txn).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes: Vec<Option<Result<()>>> = Vec::with_capacity(commits.len());
        let mut group = Group::default();
        // Where the outcomes of the group belong.
        let mut places = Vec::new();
        for (place, changes) in commits.iter().enumerate() {
            let checked = check_commit(changes, &LIMITS).and_then(|()| self.open().map(|_| ()));
            if checked.is_err() || changes.is_empty() {
                outcomes.push(Some(checked));
                continue;
            }
            outcomes.push(None);
            let txn = txn::commit(&self.space, changes);
            if let Err(txn) = group.add(changes, txn) {
                let full = std::mem::take(&mut group);
                settle(&mut outcomes, &mut places, self.commit_group(full).await);
                // The first of a group is always taken.
                let _ = group.add(changes, txn);
            }
            places.push(place);
        }
        settle(&mut outcomes, &mut places, self.commit_group(group).await);
        let unanswered = || Err(txn::unexpected("too few outcomes"));
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(unanswered))
            .collect()
    }
}

/// The smallest key behind this one.
fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Puts the outcomes of a group where they belong.
fn settle(outcomes: &mut [Option<Result<()>>], places: &mut Vec<usize>, told: Vec<Result<()>>) {
    for (place, told) in places.drain(..).zip(told) {
        if let Some(outcome) = outcomes.get_mut(place) {
            *outcome = Some(told);
        }
    }
}

#[async_trait]
impl Watch for Etcd {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        self.open()?;
        self.watches.watch(prefix).await
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store in etcd was stopped")
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("members", &self.members)
            .field("prefix", &self.space)
            .finish_non_exhaustive()
    }
}
