//! A job store as the target of a copy.

use std::cmp::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::format::{Format, Unfinished};
use super::super::{Error, Result};
use super::layout::{self, Layout};
use super::source::{StoreSource, Walk, formats};
use super::transfer::{Changed, Source as _, Sum, Target, Tell};
use super::{Copying, Existing, Namespace, Stage};
use crate::clock::{Clock as _, SystemClock};
use crate::kv::{self, Change, ErrorKind, Key, Limits, Object, check_commit};

/// The most that is written at once.
const WRITTEN_CHANGES: usize = 4096;
const WRITTEN_BYTES: usize = 1 << 20;
/// How often a write that failed in passing is tried again, and the wait before the first time.
const MOST_TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The namespace that is made like the source.
///
/// What is there is walked along with what comes, and only what differs is written: so a copy that
/// was cut off goes on where it was, and what was not in the source goes. Every commit checks the
/// mark of the copy, so that of two copies into one namespace the later goes on alone.
pub(super) struct StoreTarget<'a> {
    to: &'a Namespace,
    layout: Layout,
    limits: Limits,
    /// What stood under the key of the format.
    before: Option<Bytes>,
    mark: Bytes,
    /// The record of the format that comes, to be written last.
    format: Option<Bytes>,
    /// What is there.
    walk: Walk<'a>,
    /// The key of the last record that was placed.
    last: Option<Key>,
    commits: Commits,
    changed: Changed,
}

/// What waits to be written.
#[derive(Default)]
struct Commits {
    full: Vec<Vec<Change>>,
    open: Vec<Change>,
    open_bytes: usize,
    changes: usize,
    bytes: usize,
}

impl<'a> StoreTarget<'a> {
    /// A namespace that holds nothing, or may be replaced.
    pub(super) async fn open(to: &'a Namespace, existing: Existing) -> Result<Self> {
        let before = formats(to).await?.pop();
        let mut walk = Walk::over(to);
        walk.fill().await?;
        let unfinished = before.as_ref().is_some_and(|value| Unfinished::is(value));
        if let Some(value) = before.as_ref().filter(|_| !unfinished) {
            match Format::read(&to.name, &to.keys.format(), value) {
                Err(Error::Store(error)) if *error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        if !walk.page.is_empty() && !unfinished && existing == Existing::Refuse {
            let message = format!(
                "namespace {:?} of the target is not empty, and was left as it is",
                to.name
            );
            return Err(Error::copy("target-not-empty", message));
        }
        Ok(Self {
            to,
            layout: Layout::of(&to.keys),
            limits: to.store.limits(),
            before,
            mark: Unfinished::mark(SystemClock.random())?.into(),
            format: None,
            walk,
            last: None,
            commits: Commits::default(),
            changed: Changed::default(),
        })
    }

    fn marked(&self) -> Change {
        Change::check(self.to.keys.format(), self.mark.clone())
    }

    /// The object that this record is here, if this store can take it.
    fn place(&mut self, record: Object) -> Result<Object> {
        let name = layout::name(&record);
        let object = self.layout.placed(record)?;
        let mut commit = vec![Change::put(object.key.clone(), object.value.clone())];
        // The record of the format takes the place of the mark.
        if object.key != self.to.keys.format() {
            commit.push(self.marked());
        }
        check_commit(&commit, &self.limits).map_err(|error| {
            let store = self.to.store.name();
            error.context(format_args!("{store} cannot take {name}"))
        })?;
        if self.to.store.unique_keys() && self.last.as_ref() == Some(&object.key) {
            let message = format!(
                "{name} is there twice, and {} has no place for two values of a key: a check of the source with repair puts aside the one that does not belong",
                self.to.store.name()
            );
            return Err(Error::copy("no-place", message));
        }
        self.last = Some(object.key.clone());
        Ok(object)
    }

    /// Makes what is there up to this object like what has come; the rest, without one.
    async fn merge(&mut self, object: Option<Object>) -> Result<()> {
        let unique_keys = self.to.store.unique_keys();
        loop {
            self.walk.fill().await?;
            let order = match (self.walk.page.front(), &object) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(there), Some(object)) if unique_keys => there.key.cmp(&object.key),
                (Some(there), Some(object)) => there.cmp(object),
            };
            let there = match order {
                Ordering::Greater => None,
                _ => self.walk.page.pop_front(),
            };
            match (order, there, object.clone()) {
                (Ordering::Less, Some(there), _) => {
                    self.changed.removed += 1;
                    let change = if unique_keys {
                        Change::remove(there.key)
                    } else {
                        Change::replace(there.key, there.value, None)
                    };
                    self.change(change).await?;
                }
                (Ordering::Equal, Some(there), Some(object)) if there == object => return Ok(()),
                (_, _, Some(object)) => {
                    self.changed.written += 1;
                    return self.change(Change::put(object.key, object.value)).await;
                }
                (_, _, None) => {}
            }
        }
    }

    /// Adds a change to what is to be written, and writes it if it is enough. Keys come in order.
    async fn change(&mut self, change: Change) -> Result<()> {
        let marked = self.marked();
        let commits = &mut self.commits;
        let size = change.size();
        let fits = commits.open.len() < self.limits.commit_changes
            && commits.open_bytes.saturating_add(size) <= self.limits.commit_bytes
            // On a bag several changes may be of one key, but not in one commit.
            && commits.open.last().is_none_or(|last| last.key != change.key);
        if !fits || commits.open.is_empty() {
            let full = std::mem::take(&mut commits.open);
            commits
                .full
                .extend(Some(full).filter(|full| !full.is_empty()));
            commits.open_bytes = marked.size();
            commits.open.push(marked);
        }
        commits.open.push(change);
        commits.open_bytes = commits.open_bytes.saturating_add(size);
        commits.changes += 1;
        commits.bytes = commits.bytes.saturating_add(size);
        if commits.changes >= WRITTEN_CHANGES || commits.bytes >= WRITTEN_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what waits. Doing it twice changes nothing, so that what failed in passing, or may
    /// have been done, is done again.
    async fn flush(&mut self) -> Result<()> {
        let Commits { full, open, .. } = std::mem::take(&mut self.commits);
        let mut commits = full;
        commits.extend(Some(open).filter(|open| !open.is_empty()));
        let mut wait = FIRST_WAIT;
        for tries in 1.. {
            let outcomes = self.to.atomic()?.commit_all(commits.clone()).await;
            let mut failed = Vec::new();
            for (commit, outcome) in commits.into_iter().zip(outcomes) {
                let Err(error) = outcome else { continue };
                if !error.is_retryable() && !error.maybe_applied() || tries == MOST_TRIES {
                    return Err(self.failed(error));
                }
                failed.push(commit);
            }
            if failed.is_empty() {
                break;
            }
            commits = failed;
            SystemClock
                .sleep_until(SystemClock.monotonic() + wait)
                .await;
            wait *= 2;
        }
        Ok(())
    }

    /// Only the mark is compared.
    fn failed(&self, error: kv::Error) -> Error {
        if !matches!(error.kind(), ErrorKind::ConditionFailed { .. }) {
            return error.into();
        }
        let message = format!(
            "another copy into namespace {:?} was begun, or something else uses it: this one ends here",
            self.to.name
        );
        Error::copy("copy-taken-over", message)
    }

    /// Replaces what stands under the key of the format.
    async fn set_format(&self, before: Option<&Bytes>, after: Option<&Bytes>) -> Result<()> {
        let key = self.to.keys.format();
        let change = match (before, after) {
            (Some(before), after) => Change::replace(key, before.clone(), after.cloned()),
            (None, Some(after)) => Change::create(key, after.clone()),
            (None, None) => return Ok(()),
        };
        let Err(error) = self.to.atomic()?.commit(vec![change]).await else {
            return Ok(());
        };
        if error.maybe_applied() && formats(self.to).await?.first() == after {
            return Ok(());
        }
        Err(self.failed(error))
    }
}

#[async_trait]
impl Target for StoreTarget<'_> {
    fn check(&mut self, record: Object) -> Result<()> {
        self.place(record).map(drop)
    }

    async fn begin(&mut self) -> Result<()> {
        self.last = None;
        self.set_format(self.before.as_ref(), Some(&self.mark))
            .await
    }

    fn is_own_mark(&self, record: &Object) -> bool {
        record.value == self.mark
    }

    async fn undo(&mut self) -> Result<()> {
        self.set_format(Some(&self.mark), self.before.as_ref())
            .await
    }

    async fn write(&mut self, records: Vec<Object>) -> Result<()> {
        for record in records {
            if self.format.is_none() {
                self.format = Some(record.value);
                continue;
            }
            let object = self.place(record)?;
            self.merge(Some(object)).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, all: &Sum, tell: Tell<'_>) -> Result<Changed> {
        self.merge(None).await?;
        self.flush().await?;
        let format = self.format.clone().unwrap_or_default();
        let mut written = StoreSource::new(self.to).with_format(format.clone());
        let mut found = Sum::default();
        loop {
            let page = written.page().await?;
            if page.is_empty() {
                break;
            }
            page.iter().try_for_each(|record| found.add(record))?;
            tell(Copying {
                stage: Stage::Verifying,
                records: found.records,
                of: Some(all.records),
            });
            tokio::task::yield_now().await;
        }
        if found.digest() != all.digest() {
            let message = format!(
                "namespace {:?} does not hold what was written to it: {} records instead of {}, or others;                  stop what uses it, and copy again",
                self.to.name, found.records, all.records
            );
            return Err(Error::copy("copy-differs", message));
        }
        self.set_format(Some(&self.mark), Some(&format)).await?;
        self.changed.written += 1;
        Ok(self.changed)
    }
}
