//! [`Prefixed`]: several stores in one, told apart by how their keys begin.

use async_trait::async_trait;
use futures::StreamExt as _;

use super::{atomic_of, watch_of};
use crate::kv::{
    Atomic, Change, Cursor, Error, ErrorKind, Event, Health, Key, Limits, Object, Ownership, Page,
    Result, Scan, Store, Watch, Watcher, check_commit,
};

/// A store whose keys all begin with a prefix in the store below, and which sees no others.
///
/// Several of them share one store, each with a prefix of its own, as long as no prefix begins
/// with another. Whoever uses it notices nothing of the prefix but the [limits](Store::limits):
/// keys may be shorter by its length, and commits by its length for each change.
/// A prefix that leaves no room for a key makes every key
/// [`TooLarge`](ErrorKind::TooLarge).
///
/// [`stop`](Store::stop) stops the store below, for all who share it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use kvjob::kv::wrap::Prefixed;
/// use kvjob::kv::{Memory, Object, Store};
///
/// let shared = Arc::new(Memory::new());
/// let (red, blue) = (Prefixed::new(shared.clone(), "red/"), Prefixed::new(shared.clone(), "blue/"));
/// red.set(Object::new("key", "value")).await?;
/// assert_eq!(red.get(&"key".into()).await?.unwrap().value, "value");
/// assert_eq!(blue.get(&"key".into()).await?, None);
/// assert_eq!(shared.get(&"red/key".into()).await?.unwrap().value, "value");
/// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Prefixed<S> {
    inner: S,
    prefix: Key,
}

impl<S: Store> Prefixed<S> {
    /// The part of `inner` that lies under this prefix.
    pub fn new(inner: S, prefix: impl Into<Key>) -> Self {
        Self {
            inner,
            prefix: prefix.into(),
        }
    }

    /// The store below, with everything in it.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// The key in the store below.
    fn below(&self, key: &Key) -> Key {
        [self.prefix.as_bytes(), key.as_bytes()].concat().into()
    }

    /// The key without the prefix.
    fn above(&self, key: &Key) -> Result<Key> {
        if key.starts_with(&self.prefix) {
            return Ok(key.clone().into_bytes().slice(self.prefix.len()..).into());
        }
        let message = format!(
            "{} gave the key {key}, which does not begin with the prefix {} it was asked for",
            self.inner.name(),
            self.prefix
        );
        Err(Error::new(ErrorKind::Backend, message))
    }

    /// The scan for the store below, whose budget also pays for the prefix of so many objects.
    fn scan_below(&self, scan: &Scan, paid: usize) -> Scan {
        let prefixes = paid.saturating_mul(self.prefix.len());
        Scan {
            prefix: self.below(&scan.prefix),
            after: scan
                .after
                .as_ref()
                .map(|cursor| at(cursor, self.below(cursor.key()))),
            byte_budget: scan.byte_budget.saturating_add(prefixes),
            ..scan.clone()
        }
    }

    /// Makes the page below to the page of `scan`, cut where its own budget ends.
    fn page_above(&self, scan: &Scan, paid: usize, page: Page) -> Result<Cut> {
        let read = page.objects.len();
        let (mut objects, mut bytes) = (Vec::with_capacity(read), 0usize);
        for object in page.objects {
            let object = Object {
                key: self.above(&object.key)?,
                value: object.value,
            };
            bytes = bytes.saturating_add(object.size());
            if bytes > scan.byte_budget && !objects.is_empty() {
                break;
            }
            objects.push(object);
        }
        let next = match (&page.next, objects.last()) {
            (_, Some(last)) if objects.len() < read => {
                if scan.keys_only && !self.unique_keys() {
                    return Ok(Cut::Long(objects.len()));
                }
                Some(Cursor::after_object(last))
            }
            (Some(_), _) if read >= paid && read < scan.limit => return Ok(Cut::Short),
            (Some(next), _) => Some(at(next, self.above(next.key())?)),
            (None, _) => None,
        };
        Ok(Cut::Fits(Page { objects, next }))
    }

    /// Asks for a page until it comes back cut as it should be. What is returned was read at
    /// once, so that it is consistent.
    async fn scan_until_it_fits(&self, scan: &Scan, mut paid: usize) -> Result<Page> {
        let mut limit = scan.limit;
        loop {
            let below = self.scan_below(scan, paid).limit(limit);
            let page = self.inner.scan(below).await?;
            match self.page_above(scan, paid, page)? {
                Cut::Fits(page) => return Ok(page),
                Cut::Short => paid = paid.saturating_mul(4),
                Cut::Long(objects) => limit = objects,
            }
        }
    }

    fn changes_below(&self, changes: Vec<Change>) -> Result<Vec<Change>> {
        check_commit(&changes, &self.limits())?;
        let below = changes.into_iter().map(|change| Change {
            key: self.below(&change.key),
            ..change
        });
        Ok(below.collect())
    }
}

/// How the page below compares to what was asked for.
enum Cut {
    Fits(Page),
    /// Its budget may have ended it too early, for more prefixes than were paid for.
    Short,
    /// Only so many objects fit, and the last one's value, which the cursor takes on a bag, was
    /// not read.
    Long(usize),
}

/// The objects whose prefixes the first scan pays for.
const PAID_AT_FIRST: usize = 1024;

/// The cursor on another key.
fn at(cursor: &Cursor, key: Key) -> Cursor {
    match cursor.value() {
        Some(value) => Cursor::after_object(&Object::new(key, value.clone())),
        None => Cursor::after(key),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Prefixed<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn unique_keys(&self) -> bool {
        self.inner.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        let key = self.below(&object.key);
        self.inner.set(Object { key, ..object }).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        let found = self.inner.get(&self.below(key)).await?;
        Ok(found.map(|object| Object::new(key.clone(), object.value)))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.scan_until_it_fits(&scan, PAID_AT_FIRST).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        let below = Object::new(self.below(&object.key), object.value.clone());
        self.inner.remove(&below).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.inner.delete(&self.below(prefix)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        let limits = self.limits();
        keys.iter().try_for_each(|key| limits.check_key(key))?;
        let below: Vec<Key> = keys.iter().map(|key| self.below(key)).collect();
        let found = self.inner.get_many(&below).await?;
        let found = keys.iter().zip(found);
        Ok(found
            .map(|(key, found)| found.map(|object| Object::new(key.clone(), object.value)))
            .collect())
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let below = scans
            .iter()
            .map(|scan| self.scan_below(scan, PAID_AT_FIRST))
            .collect();
        let found = self.inner.scan_many(below).await?;
        let mut pages = Vec::with_capacity(found.len());
        for (scan, page) in scans.iter().zip(found) {
            pages.push(match self.page_above(scan, PAID_AT_FIRST, page)? {
                Cut::Fits(page) => page,
                Cut::Short | Cut::Long(_) => self.scan_until_it_fits(scan, PAID_AT_FIRST).await?,
            });
        }
        Ok(pages)
    }

    async fn start(&self) -> Result<()> {
        self.inner.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.inner.stop().await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    fn limits(&self) -> Limits {
        let inner = self.inner.limits();
        let prefix = self.prefix.len();
        // Prefixes take at most half of a commit: with a long one it holds fewer changes.
        let commit_changes = match (inner.commit_bytes / 2).checked_div(prefix) {
            Some(most) => inner.commit_changes.min(most),
            None => inner.commit_changes,
        };
        Limits {
            key_bytes: inner.key_bytes.saturating_sub(prefix),
            value_bytes: inner.value_bytes,
            commit_bytes: inner.commit_bytes - commit_changes.saturating_mul(prefix),
            commit_changes,
        }
    }

    fn ownership(&self) -> Ownership {
        self.inner.ownership()
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.inner.atomic().is_some().then_some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.watch().is_some().then_some(self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Atomic for Prefixed<S> {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let below = self.changes_below(changes)?;
        atomic_of(&self.inner)?.commit(below).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let atomic = match atomic_of(&self.inner) {
            Ok(atomic) => atomic,
            Err(error) => return commits.iter().map(|_| Err(error.clone())).collect(),
        };
        let (mut below, mut outcomes) = (Vec::new(), Vec::with_capacity(commits.len()));
        for changes in commits {
            outcomes.push(
                self.changes_below(changes)
                    .map(|changes| below.push(changes)),
            );
        }
        let mut told = atomic.commit_all(below).await.into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = told.next().unwrap_or_else(|| {
                let message = format!(
                    "{} answered fewer commits than it was given",
                    self.inner.name()
                );
                Err(Error::new(ErrorKind::Unknown, message))
            });
        }
        outcomes
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Watch for Prefixed<S> {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        let below = self.below(prefix);
        let events = watch_of(&self.inner)?.watch(&below).await?;
        let own = self.prefix.clone();
        let above = events.filter_map(move |event| {
            let event = match event {
                Event::Changed(key) if key.starts_with(&own) => {
                    let key = key.into_bytes().slice(own.len()..);
                    Some(Event::Changed(key.into()))
                }
                // It stands for everything under this prefix, and more.
                Event::Changed(key) if own.starts_with(&key) => Some(Event::Changed(Key::EMPTY)),
                Event::Changed(_) => None,
                Event::Lagged => Some(Event::Lagged),
            };
            std::future::ready(event)
        });
        Ok(above.boxed())
    }

    fn announce(&self, keys: Vec<Key>) {
        if let Some(watch) = self.inner.watch() {
            watch.announce(keys.iter().map(|key| self.below(key)).collect());
        }
    }
}
