//! The store of one case, with the few calls every case makes and messages that say which store
//! broke what. No case lives here.

use std::fmt::{Debug, Display};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::kv::{
    Atomic, Change, Direction, ErrorKind, Key, Limits, Object, Page, PageBuilder, Result, Scan,
    Store,
};
use crate::testkit::{Factory as _, Place};

/// The longest a case may wait for anything that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A limit beyond this is not tried: building what exceeds it would cost more than it tells. The
/// second is for stores in a wrapper.
const BUILDABLE: (usize, usize) = (128 << 20, 8 << 20);

/// A store under test.
#[derive(Debug)]
pub(super) struct Subject {
    store: Arc<dyn Store>,
    /// The largest limit that is tried.
    buildable: usize,
    /// Whether many objects are put by commits: in a wrapper they may cost more than sets.
    fills_by_commits: bool,
}

impl Deref for Subject {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Subject {
    /// The fresh store of this place, started.
    pub(super) async fn open(place: &Place) -> Self {
        let store = Self::of(place, place.open().await);
        store.ok("start", store.start().await);
        store.holds(&[] as &[(&str, &str)], "a fresh store").await;
        store
    }

    fn of(place: &Place, store: Arc<dyn Store>) -> Self {
        let (plain, wrapped) = BUILDABLE;
        Self {
            store,
            buildable: place.size(plain, wrapped),
            fills_by_commits: place.size(true, false),
        }
    }

    /// The same for tasks to share.
    pub(super) async fn shared(place: &Place) -> Arc<Self> {
        Arc::new(Self::open(place).await)
    }

    /// The same data opened again, if it outlives its store.
    pub(super) async fn reopen(self, place: &Place) -> Option<Self> {
        let store = Self::of(place, place.reopen(self.store).await?);
        store.ok("start after opening again", store.start().await);
        Some(store)
    }

    /// What must have worked.
    pub(super) fn ok<T>(&self, what: impl Display, result: Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{}: {what} failed: {error:?}", self.name()),
        }
    }

    /// The kind of what must have failed.
    pub(super) fn refusal<T: Debug>(&self, what: impl Display, result: Result<T>) -> ErrorKind {
        match result {
            Ok(value) => panic!("{}: {what} was accepted with {value:?}", self.name()),
            Err(error) => {
                assert!(
                    !error.to_string().is_empty(),
                    "{}: {what} was refused without a message: {error:?}",
                    self.name()
                );
                error.kind().clone()
            }
        }
    }

    /// What must have failed with this kind.
    pub(super) fn refused<T: Debug>(
        &self,
        what: impl Display,
        result: Result<T>,
        kind: &ErrorKind,
    ) {
        let told = self.refusal(&what, result);
        assert_eq!(&told, kind, "{}: {what}: wrong kind of error", self.name());
    }

    /// What must have been too large for this limit.
    pub(super) fn too_large<T: Debug>(&self, what: impl Display, result: Result<T>, most: usize) {
        let told = self.refusal(&what, result);
        assert!(
            matches!(told, ErrorKind::TooLarge { limit, .. } if limit == most),
            "{}: {what}: told {told:?} instead of TooLarge with the limit {most}",
            self.name()
        );
    }

    /// A commit that must fail at exactly these positions.
    pub(super) async fn fails_at(&self, atomic: &dyn Atomic, changes: Vec<Change>, at: &[usize]) {
        let what = format!("commit of {changes:?}");
        let indices = at.to_vec();
        self.refused(
            what,
            atomic.commit(changes).await,
            &ErrorKind::ConditionFailed { indices },
        );
    }

    /// A commit that must succeed.
    pub(super) async fn commits(&self, atomic: &dyn Atomic, changes: Vec<Change>) {
        let what = format!("commit of {changes:?}");
        self.ok(what, atomic.commit(changes).await);
    }

    pub(super) async fn put(&self, key: impl Into<Key>, value: impl Into<Bytes>) {
        let object = Object::new(key, value);
        let what = format!("set of {}", object.key);
        self.ok(what, self.set(object).await);
    }

    pub(super) async fn value(&self, key: impl Into<Key>) -> Option<Bytes> {
        let key = key.into();
        let got = self.get(&key).await;
        let object = self.ok(format_args!("get of {key}"), got)?;
        assert_eq!(object.key, key, "{}: get gave another key", self.name());
        Some(object.value)
    }

    pub(super) async fn discard(&self, key: impl Into<Key>, value: impl Into<Bytes>) {
        let object = Object::new(key, value);
        let what = format!("remove of {}", object.key);
        self.ok(what, self.remove(&object).await);
    }

    pub(super) async fn clear(&self, prefix: impl Into<Key>) {
        let prefix = prefix.into();
        let what = format!("delete of the prefix {prefix}");
        self.ok(what, self.delete(&prefix).await);
    }

    pub(super) async fn page(&self, scan: &Scan) -> Page {
        let page = self.scan(scan.clone()).await;
        self.ok(format_args!("{scan:?}"), page)
    }

    /// Everything the scan finds, page by page.
    pub(super) async fn walk(&self, scan: Scan) -> Vec<Object> {
        let mut found = Vec::new();
        let mut next = scan.clone();
        loop {
            let page = self.page(&next).await;
            let name = self.name();
            assert!(
                page.objects.len() <= scan.limit,
                "{name}: {next:?} gave {} objects",
                page.objects.len()
            );
            assert!(
                page.next.is_none() || !page.objects.is_empty(),
                "{name}: {next:?} gave an empty page that goes on"
            );
            // Also what ends a walk whose cursors do not move on.
            for object in page.objects {
                let behind = found
                    .last()
                    .is_none_or(|last| follows(&scan, last, &object));
                assert!(behind, "{name}: {next:?} went back, to {}", object.key);
                found.push(object);
            }
            match page.next {
                Some(cursor) => next = next.after(cursor),
                None => return found,
            }
        }
    }

    /// Asserts that these objects, in this order, are all the store holds.
    pub(super) async fn holds<K, V>(&self, expected: &[(K, V)], when: impl Display)
    where
        K: Clone + Into<Key>,
        V: Clone + Into<Bytes>,
    {
        let expected: Vec<Object> = objects(expected);
        self.same(&self.walk(Scan::prefix("")).await, &expected, when);
    }

    /// Asserts that what was read is what it should be.
    pub(super) fn same(&self, found: &[Object], expected: &[Object], when: impl Display) {
        if let Some(place) = (0..found.len().max(expected.len()))
            .find(|place| found.get(*place) != expected.get(*place))
        {
            panic!(
                "{}: {when}: {} objects where {} should be; at {place} there is {:?} instead of {:?}",
                self.name(),
                found.len(),
                expected.len(),
                found.get(place).map(brief),
                expected.get(place).map(brief),
            );
        }
    }

    /// Asserts that the scan gives the page that the rule of [`PageBuilder`] cuts from these
    /// objects, which lie in its range and order.
    pub(super) async fn cuts(&self, scan: &Scan, within: &[Object]) -> Page {
        let page = self.page(scan).await;
        let mut rule = PageBuilder::new(scan);
        let _ = within
            .iter()
            .all(|o| rule.offer(o.key.as_bytes(), &o.value));
        let rule = rule.finish();
        self.same(&page.objects, &rule.objects, format_args!("{scan:?}"));
        assert_eq!(
            page.next.is_some(),
            rule.next.is_some(),
            "{}: {scan:?}: a cursor must be there exactly when more objects follow",
            self.name()
        );
        page
    }

    /// Puts many objects under keys that are not there yet, as fast as the store takes them.
    pub(super) async fn fill(&self, objects: Vec<Object>) {
        const CHUNK: usize = 1000;
        let Some(atomic) = self.atomic().filter(|_| self.fills_by_commits) else {
            let sets = futures::stream::iter(objects.into_iter().map(|object| self.set(object)));
            let done: Result<()> = sets.buffer_unordered(64).try_collect().await;
            return self.ok("a set of many", done);
        };
        let limits = self.limits();
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for object in objects {
            bytes += object.size();
            if changes.len() >= limits.commit_changes.min(CHUNK) || bytes > limits.commit_bytes {
                bytes = object.size();
                self.ok(
                    "a commit of many",
                    atomic.commit(std::mem::take(&mut changes)).await,
                );
            }
            changes.push(Change::create(object.key, object.value));
        }
        self.ok("a commit of many", atomic.commit(changes).await);
    }

    /// One of the limits, if a test can build what lies beyond it.
    pub(super) fn buildable(&self, limit: impl FnOnce(&Limits) -> usize) -> Option<usize> {
        Some(limit(&self.limits())).filter(|limit| *limit <= self.buildable)
    }
}

/// Whether a walk may come to `object` after `last`.
fn follows(scan: &Scan, last: &Object, object: &Object) -> bool {
    let order = if scan.keys_only {
        last.key.cmp(&object.key)
    } else {
        last.cmp(object)
    };
    match scan.direction {
        Direction::Forward => order.is_lt(),
        Direction::Reverse => order.is_gt(),
    }
}

/// Objects of pairs.
pub(super) fn objects<K, V>(pairs: &[(K, V)]) -> Vec<Object>
where
    K: Clone + Into<Key>,
    V: Clone + Into<Bytes>,
{
    let pairs = pairs.iter().cloned();
    pairs.map(|(key, value)| Object::new(key, value)).collect()
}

/// `prefix` followed by `number` in five digits, so that byte order is numeric order.
pub(super) fn numbered(prefix: &str, number: usize) -> Key {
    Key::from(format!("{prefix}{number:05}").into_bytes())
}

/// The number a value shows in decimal digits.
pub(super) fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{:?} is no number any test wrote", value.escape_ascii()))
}

fn brief(object: &Object) -> String {
    let value = object.value.get(..32).unwrap_or(&object.value);
    let (key, length) = (&object.key, object.value.len());
    format!("{key} = \"{}\" ({length} bytes)", value.escape_ascii())
}
