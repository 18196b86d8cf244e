//! What a group of operations reads and is about to write: the store as they see it together
//! (protocol rule 15).
//!
//! Reads go to the store once and are remembered; writes lie over them, so that a later operation
//! of the group sees the earlier ones. In the end everything becomes one list of changes.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::super::keys::Position;
use super::super::{JobId, Lane, LaneSetting, Result};
use crate::clock::Timestamp;
use crate::kv::{self, Change, Expect, Key, Object, Scan, Store};

/// One group's view of the store. See the [module](self).
pub(in crate::job) struct View<'s> {
    store: &'s dyn Store,
    /// What the store held when it was read.
    read: HashMap<Key, Option<Bytes>>,
    /// Pages that were read before anybody asked for them.
    ahead: Vec<(Scan, kv::Page)>,
    writes: BTreeMap<Key, Written>,
    /// Records that must stand unchanged although nobody writes them.
    checks: HashMap<Key, usize>,
    effects: Vec<Effect>,
    bytes: usize,
    /// The operation that is being planned, and how to undo what it did so far.
    operation: usize,
    undo: Vec<Undo>,
    effects_before: usize,
}

#[derive(Clone)]
struct Written {
    before: Expect,
    after: Option<Bytes>,
    /// Whether the store is known to hold nothing there.
    fresh: bool,
    /// Whether what the store holds there, which nobody compares, was removed before this was put.
    cleared: bool,
    /// The operation that wrote it first, and others that wrote it again.
    by: usize,
    others: Vec<usize>,
}

enum Undo {
    Write(Key, Option<Written>),
    Check(Key),
}

/// What becomes true for the process once the group is committed.
#[derive(Clone, Debug)]
pub(in crate::job) enum Effect {
    /// A job stands in this lane now, at this position.
    Ready {
        prefix: Key,
        lane: Lane,
        position: Position,
    },
    /// A job will be due later, or somebody was asked to stop.
    Stirred,
    /// The first job of a lane, as a claim left it.
    Head {
        prefix: Key,
        lane: Lane,
        head: Option<Position>,
    },
    /// What others put into this lane has been looked at.
    Heard { prefix: Key },
    /// Lanes were looked for up to this one; `None` if up to the last.
    Looked { next: Option<Key> },
    /// This is set for some lanes now.
    Set(LaneSetting),
    /// This, and nothing else, is set for lanes.
    SettingsRead(Vec<LaneSetting>),
    /// A job was taken from this lane, at this monotonic time.
    Spent { lane: Lane, at: Duration },
    /// It is the turn of the tenants behind this one.
    Turn { tenant: String },
    /// A lease of this process began.
    Leased {
        id: JobId,
        epoch: u64,
        worker: String,
        slot: u64,
        suspect: bool,
        /// The record of its serial queue.
        queue: Option<Key>,
    },
    /// A lease ended, whoever held it.
    Ended { id: JobId, epoch: u64 },
    /// A job was removed, by whoever held its lease, which nobody else can take back before this
    /// time, or without one, which then is now.
    Removed { id: JobId, lease_until: Timestamp },
    /// A worker record of this process is gone.
    SlotRemoved { slot: u64 },
    /// What is kept of cron schedules changed.
    Crons,
    /// A log line that goes with the next commit.
    LeftOver(Object),
}

impl<'s> View<'s> {
    pub(in crate::job) fn new(store: &'s dyn Store) -> Self {
        Self {
            store,
            read: HashMap::new(),
            ahead: Vec::new(),
            writes: BTreeMap::new(),
            checks: HashMap::new(),
            effects: Vec::new(),
            bytes: 0,
            operation: 0,
            undo: Vec::new(),
            effects_before: 0,
        }
    }

    /// Reads what is not known yet in one trip, so that the reads that follow cost nothing.
    pub(in crate::job) async fn load(&mut self, keys: &[Key]) -> Result<()> {
        let mut missing: Vec<Key> = keys
            .iter()
            .filter(|key| !self.read.contains_key(*key) && !self.is_overwritten(key))
            .cloned()
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let found = self.store.get_many(&missing).await?;
        self.read.extend(
            missing.into_iter().zip(
                found
                    .into_iter()
                    .map(|found| found.map(|object| object.value)),
            ),
        );
        Ok(())
    }

    /// Whether a write hides what the store holds, so that nobody needs to know it.
    fn is_overwritten(&self, key: &Key) -> bool {
        self.writes
            .get(key)
            .is_some_and(|written| written.fresh || written.before == Expect::Any)
    }

    /// The value under a key, as the group leaves it so far.
    pub(in crate::job) async fn get(&mut self, key: &Key) -> Result<Option<Bytes>> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.after.clone());
        }
        if !self.read.contains_key(key) {
            self.load(std::slice::from_ref(key)).await?;
        }
        Ok(self.read.get(key).cloned().flatten())
    }

    /// Whether the store still has what was read under a key; so it is if nothing was.
    pub(in crate::job) async fn is_still(&self, key: &Key) -> Result<bool> {
        match self.read.get(key) {
            Some(read) => {
                let now = self.store.get(key).await?;
                Ok(*read == now.map(|object| object.value))
            }
            None => Ok(true),
        }
    }

    /// Replaces or removes a record that was read before; the commit holds only if the store still
    /// has what was read (rule 4).
    pub(in crate::job) fn replace(&mut self, key: Key, after: Option<Bytes>) {
        let before = match self.read.get(&key) {
            Some(Some(value)) => Expect::Value(value.clone()),
            Some(None) => Expect::Absent,
            None => Expect::Any,
        };
        let fresh = before == Expect::Absent;
        self.write(key, before, after, fresh);
    }

    /// Writes a record whose key was made just now.
    pub(in crate::job) fn create(&mut self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Expect::Absent, Some(value.into()), true);
    }

    /// Writes a satellite or an index key, which nobody compares (rule 4).
    pub(in crate::job) fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Expect::Any, Some(value.into()), false);
    }

    /// As [`put`](Self::put), for a key that cannot be in the store yet.
    pub(in crate::job) fn put_new(&mut self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Expect::Any, Some(value.into()), true);
    }

    /// Adds an object of a [scheme](super::super::scheme) that only appends. On a bag its key may
    /// have one in this commit already, which takes no other: it then goes with the next.
    pub(in crate::job) fn append(&mut self, object: Object) {
        let Object { key, value } = object;
        if self.writes(&key) {
            self.effect(Effect::LeftOver(Object { key, value }));
        } else {
            self.write(key, Expect::Any, Some(value), false);
        }
    }

    /// Whether the commit has a change of this key.
    pub(in crate::job) fn writes(&self, key: &Key) -> bool {
        self.writes.contains_key(key)
    }

    /// Removes a satellite or an index key.
    pub(in crate::job) fn remove(&mut self, key: Key) {
        self.write(key, Expect::Any, None, false);
    }

    /// Removes this very object, of which the store may have others under its key.
    pub(in crate::job) fn remove_object(&mut self, object: &Object) {
        let before = Expect::Value(object.value.clone());
        self.write(object.key.clone(), before, None, false);
    }

    /// Writes another value in the place of this very object.
    pub(in crate::job) fn replace_object(&mut self, object: &Object, value: impl Into<Bytes>) {
        let before = Expect::Value(object.value.clone());
        self.write(object.key.clone(), before, Some(value.into()), false);
    }

    /// The objects under exactly this key, read again however often they were read before.
    pub(in crate::job) async fn read_again(&mut self, key: &Key) -> Result<Vec<Object>> {
        let mut scan = Scan::prefix(key.clone());
        if self.store.unique_keys() {
            scan = scan.limit(1);
        }
        let mut found = Vec::new();
        loop {
            let (objects, all) = self.scan(scan.clone()).await?;
            let last = objects.last().map(kv::Cursor::after_object);
            found.extend(objects.into_iter().filter(|object| object.key == *key));
            match last {
                Some(last) if !all && last.key() == key && !self.store.unique_keys() => {
                    scan = scan.after(last);
                }
                _ => return Ok(found),
            }
        }
    }

    /// What the store below takes.
    pub(in crate::job) fn limits(&self) -> kv::Limits {
        self.store.limits()
    }

    /// The commit holds only if this record, which was read before and is present, stands
    /// unchanged (rule 17).
    pub(in crate::job) fn check(&mut self, key: Key) {
        if !self.checks.contains_key(&key) && matches!(self.read.get(&key), Some(Some(_))) {
            self.undo.push(Undo::Check(key.clone()));
            self.checks.insert(key, self.operation);
        }
    }

    fn write(&mut self, key: Key, before: Expect, after: Option<Bytes>, fresh: bool) {
        self.bytes += size(&key, after.as_ref());
        match self.writes.entry(key) {
            btree_map::Entry::Vacant(place) => {
                self.undo.push(Undo::Write(place.key().clone(), None));
                let (by, others) = (self.operation, Vec::new());
                place.insert(Written {
                    before,
                    after,
                    fresh,
                    cleared: false,
                    by,
                    others,
                });
            }
            btree_map::Entry::Occupied(mut written) => {
                let earlier = Some(written.get().clone());
                self.bytes -= size(written.key(), written.get().after.as_ref());
                self.undo.push(Undo::Write(written.key().clone(), earlier));
                let written = written.get_mut();
                written.cleared |= written.after.is_none() && written.before == Expect::Any;
                written.after = after;
                if written.by != self.operation && !written.others.contains(&self.operation) {
                    written.others.push(self.operation);
                }
            }
        }
    }

    /// Something that becomes true for this process with the commit.
    pub(in crate::job) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The lanes that got a job in this group.
    pub(in crate::job) fn readied(&self) -> impl Iterator<Item = (&Key, &Lane, &Position)> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Ready {
                prefix,
                lane,
                position,
            } => Some((prefix, lane, position)),
            _ => None,
        })
    }

    /// How many effects there are so far.
    pub(in crate::job) fn effect_count(&self) -> usize {
        self.effects.len()
    }

    /// Says once more, behind all others, which jobs came to stand in lanes since there were so
    /// many effects.
    pub(in crate::job) fn ready_again(&mut self, since: usize) {
        let later = self.effects.iter().skip(since);
        let ready = later.filter(|effect| matches!(effect, Effect::Ready { .. }));
        let ready: Vec<Effect> = ready.cloned().collect();
        self.effects.extend(ready);
    }

    /// The lanes of the jobs that were taken under a limit in this group.
    pub(in crate::job) fn spent(&self) -> impl Iterator<Item = (&Lane, Duration)> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Spent { lane, at } => Some((lane, *at)),
            _ => None,
        })
    }

    /// What the store held under a key that was read.
    pub(in crate::job) fn stored(&self, key: &Key) -> Option<Bytes> {
        self.read.get(key).cloned().flatten()
    }

    /// Reads the pages that the next scans will ask for, in one trip.
    pub(in crate::job) async fn scan_ahead(&mut self, scans: Vec<Scan>) -> Result<()> {
        if scans.len() > 1 {
            let pages = self.store.scan_many(scans.clone()).await?;
            self.ahead.extend(scans.into_iter().zip(pages));
        }
        Ok(())
    }

    /// Objects of one scan, forward, at most its limit, as the group leaves them so far; and
    /// whether that was all.
    pub(in crate::job) async fn scan(&mut self, scan: Scan) -> Result<(Vec<Object>, bool)> {
        let page = match self.take_ahead(&scan) {
            Some(page) => page,
            None => self.store.scan(scan.clone()).await?,
        };
        self.overlay(scan, page).await
    }

    /// Several scans in one trip; see [`scan`](Self::scan).
    pub(in crate::job) async fn scan_many(
        &mut self,
        scans: Vec<Scan>,
    ) -> Result<Vec<(Vec<Object>, bool)>> {
        let ahead: Vec<Option<kv::Page>> = scans.iter().map(|scan| self.take_ahead(scan)).collect();
        let unread: Vec<Scan> = scans
            .iter()
            .zip(&ahead)
            .filter(|(_, ahead)| ahead.is_none())
            .map(|(scan, _)| scan.clone())
            .collect();
        let mut pages = match unread.as_slice() {
            [] => Vec::new(),
            [scan] => vec![self.store.scan(scan.clone()).await?],
            _ => self.store.scan_many(unread).await?,
        }
        .into_iter();
        let mut answers = Vec::with_capacity(scans.len());
        for (scan, ahead) in scans.into_iter().zip(ahead) {
            if let Some(page) = ahead.or_else(|| pages.next()) {
                answers.push(self.overlay(scan, page).await?);
            }
        }
        Ok(answers)
    }

    fn take_ahead(&mut self, scan: &Scan) -> Option<kv::Page> {
        let index = self.ahead.iter().position(|(ahead, _)| ahead == scan)?;
        Some(self.ahead.swap_remove(index).1)
    }

    /// Lays the group's writes over a page, and reads on where they hide too much of it.
    async fn overlay(&self, mut scan: Scan, mut page: kv::Page) -> Result<(Vec<Object>, bool)> {
        let limit = scan.limit;
        let mut found = Vec::new();
        loop {
            let range = scan.range(true);
            let end = match &page.next {
                Some(next) => Bound::Included(next.key().clone()),
                None => range.end.clone(),
            };
            let within = kv::Range { end, ..range };
            let mut written = if within.is_empty() {
                None
            } else {
                Some(
                    self.writes
                        .range::<Key, _>((within.start, within.end))
                        .peekable(),
                )
            };
            let mut stored = page.objects.into_iter().peekable();
            loop {
                let next_written = written.as_mut().and_then(|written| written.peek().copied());
                match (stored.peek(), next_written) {
                    (None, None) => break,
                    (Some(object), Some((key, _))) if object.key < *key => {
                        found.extend(stored.next());
                    }
                    (Some(_), None) => found.extend(stored.next()),
                    (object, Some((key, write))) => {
                        if object.is_some_and(|object| object.key == *key) {
                            stored.next();
                        }
                        if let Some(value) = &write.after {
                            found.push(Object {
                                key: key.clone(),
                                value: value.clone(),
                            });
                        }
                        written.as_mut().and_then(Iterator::next);
                    }
                }
            }
            match page.next {
                Some(next) if found.len() < limit => {
                    scan = scan.after(next);
                    page = self.store.scan(scan.clone()).await?;
                }
                next => {
                    let all = next.is_none() && found.len() <= limit;
                    found.truncate(limit);
                    return Ok((found, all));
                }
            }
        }
    }

    /// Begins to plan the operation of this number.
    pub(in crate::job) fn begin(&mut self, operation: usize) {
        self.operation = operation;
        self.undo.clear();
        self.effects_before = self.effects.len();
    }

    /// Takes back what the current operation did.
    pub(in crate::job) fn roll_back(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Check(key) => drop(self.checks.remove(&key)),
                Undo::Write(key, earlier) => {
                    if let Some(written) = self.writes.remove(&key) {
                        self.bytes -= size(&key, written.after.as_ref());
                    }
                    if let Some(earlier) = earlier {
                        self.bytes += size(&key, earlier.after.as_ref());
                        self.writes.insert(key, earlier);
                    }
                }
            }
        }
        self.effects.truncate(self.effects_before);
    }

    /// How many changes the commit has so far, and how many bytes.
    pub(in crate::job) fn size(&self) -> (usize, usize) {
        (self.writes.len() + self.checks.len(), self.bytes)
    }

    /// The commit, the operations behind each of its changes, and what follows from it.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::job) async fn finish(mut self) -> Result<Plan> {
        self.settle_cleared().await?;
        let mut changes = Vec::with_capacity(self.writes.len() + self.checks.len());
        let mut by = Vec::with_capacity(changes.capacity());
        for (key, operation) in self.checks {
            if let (false, Some(Some(value))) =
                (self.writes.contains_key(&key), self.read.get(&key))
            {
                changes.push(Change::check(key, value.clone()));
                by.push((operation, Vec::new()));
            }
        }
        for (key, written) in self.writes {
            // What came and went within the group never was.
            if written.fresh && written.after.is_none() {
                continue;
            }
            changes.push(Change {
                key,
                before: written.before,
                after: written.after,
            });
            by.push((written.by, written.others));
        }
        Ok(Plan {
            changes,
            by,
            effects: self.effects,
        })
    }

    /// On a bag a put adds a value: what was removed first in the same commit has to be named,
    /// for one change cannot remove all and add.
    async fn settle_cleared(&mut self) -> Result<()> {
        if self.store.unique_keys() {
            return Ok(());
        }
        let puts = self
            .writes
            .iter_mut()
            .filter(|(_, written)| written.cleared && written.after.is_some());
        for (key, written) in puts {
            if let Some(object) = self.store.get(key).await? {
                written.before = Expect::Value(object.value);
            }
        }
        Ok(())
    }
}

/// What a group came to.
pub(in crate::job) struct Plan {
    pub(in crate::job) changes: Vec<Change>,
    /// For each change, the operation that made it first, and others that made it again.
    pub(in crate::job) by: Vec<(usize, Vec<usize>)>,
    pub(in crate::job) effects: Vec<Effect>,
}

impl Plan {
    /// Whether nothing is left under this key that the plan knows of.
    pub(in crate::job) fn removes(&self, key: &Key) -> bool {
        let removed = |change: &Change| change.key == *key && change.after.is_none();
        self.changes.iter().any(removed)
    }

    /// Whether the change at this index is one of this operation's.
    pub(in crate::job) fn is_of(&self, index: usize, operation: usize) -> bool {
        self.by
            .get(index)
            .is_some_and(|(first, others)| *first == operation || others.contains(&operation))
    }
}

fn size(key: &Key, after: Option<&Bytes>) -> usize {
    key.len() + after.map_or(0, Bytes::len)
}
