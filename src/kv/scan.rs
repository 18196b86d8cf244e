//! Reading a prefix in order, page by page.

use std::ops::Bound;

use bytes::Bytes;

use super::{Key, Object};

/// The order of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    #[default]
    Forward,
    /// Largest key first.
    Reverse,
}

/// Where a scan goes on: strictly behind this position, in the scan's direction.
///
/// It need not stand on a key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    key: Key,
    value: Option<Bytes>,
}

impl Cursor {
    /// Behind every object of this key.
    pub fn after(key: impl Into<Key>) -> Self {
        Self {
            key: key.into(),
            value: None,
        }
    }

    /// Behind this very object: on a bag the key's further values still follow.
    pub fn after_object(object: &Object) -> Self {
        Self {
            key: object.key.clone(),
            value: Some(object.value.clone()),
        }
    }

    /// The key it stands on.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value it stands on; only a bag needs it.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Whether this pair has the cursor's key and does not lie behind its value.
    fn has_passed(&self, key: &[u8], value: &[u8], direction: Direction) -> bool {
        let Some(stands) = &self.value else {
            return false;
        };
        key == self.key.as_bytes()
            && match direction {
                Direction::Forward => value <= stands.as_ref(),
                Direction::Reverse => value >= stands.as_ref(),
            }
    }
}

/// A request for one page of the objects under a prefix.
///
/// ```
/// use kvjob::kv::Scan;
/// let scan = Scan::prefix("job/").limit(100).reverse().keys_only();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Only keys that begin with this; empty for all.
    pub prefix: Key,
    /// Only what lies strictly behind this position.
    pub after: Option<Cursor>,
    /// The most objects in the page. 0 gives an empty page that goes on where this one began.
    pub limit: usize,
    /// The page ends before the object with which its keys and values would exceed this many
    /// bytes, but holds at least one object.
    pub byte_budget: usize,
    /// The order.
    pub direction: Direction,
    /// Whether values may be left out: each object's value is then empty.
    pub keys_only: bool,
}

impl Scan {
    /// The page size where none is asked for.
    pub const DEFAULT_LIMIT: usize = 256;
    /// The byte budget where none is asked for: 4 MiB.
    pub const DEFAULT_BYTE_BUDGET: usize = 4 << 20;

    /// The first page under `prefix`, forward, with values.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            limit: Self::DEFAULT_LIMIT,
            byte_budget: Self::DEFAULT_BYTE_BUDGET,
            direction: Direction::Forward,
            keys_only: false,
        }
    }

    /// The page behind this position.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// At most this many objects.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// At most this many bytes, but at least one object.
    #[must_use]
    pub fn byte_budget(mut self, bytes: usize) -> Self {
        self.byte_budget = bytes;
        self
    }

    /// Largest key first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.direction = Direction::Reverse;
        self
    }

    /// Keys without their values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The keys this scan covers: the prefix's range, cut at the cursor's key.
    ///
    /// The cursor's own key is left out on a store of unique keys (`unique_keys`), and left in on
    /// a bag where the cursor names a value, for further values of that key may follow;
    /// [`PageBuilder`] passes over those that do not.
    pub fn range(&self, unique_keys: bool) -> Range {
        let mut range = Range {
            start: Bound::Included(self.prefix.clone()),
            end: self
                .prefix
                .prefix_end()
                .map_or(Bound::Unbounded, Bound::Excluded),
            direction: self.direction,
        };
        let Some(cursor) = &self.after else {
            return range;
        };
        let bound = if unique_keys || cursor.value.is_none() {
            Bound::Excluded(cursor.key.clone())
        } else {
            Bound::Included(cursor.key.clone())
        };
        match self.direction {
            Direction::Forward if cursor.key >= self.prefix => range.start = bound,
            Direction::Reverse if self.prefix.prefix_end().is_none_or(|end| cursor.key < end) => {
                range.end = bound;
            }
            // The cursor lies before the whole range: it cuts nothing off.
            Direction::Forward | Direction::Reverse => {}
        }
        range
    }
}

/// A range of keys and the order to visit it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lower bound.
    pub start: Bound<Key>,
    /// The upper bound.
    pub end: Bound<Key>,
    /// The order.
    pub direction: Direction,
}

impl Range {
    /// Whether no key can lie in it. Some ordered maps panic on such bounds; ask first.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        }
    }

    /// The bounds as byte slices.
    pub fn as_bytes(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.start.as_ref().map(Key::as_bytes),
            self.end.as_ref().map(Key::as_bytes),
        )
    }
}

/// Objects of one scan, in its order, consistent among themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Object>,
    /// Where the next page begins: present exactly when more objects followed at the time of
    /// reading (with limit 0: the cursor the scan came with).
    pub next: Option<Cursor>,
}

/// Fills a [`Page`] up to the limit and byte budget of a [`Scan`]: every adapter cuts its pages
/// here, so that all cut them alike.
///
/// An adapter offers what lies in the scan's [range](Scan::range), in its order: of a bag every
/// pair, and always with its value. Pairs under the cursor's key that an earlier page had are
/// passed over here, and `keys_only` takes effect here.
#[derive(Debug)]
pub struct PageBuilder<'a> {
    scan: &'a Scan,
    page: Page,
    bytes: usize,
    /// The cursor, for as long as pairs may come that do not lie behind it.
    passing: Option<&'a Cursor>,
    /// The value of the page's last object where `keys_only` left it out and another object of
    /// its key would not fit: on a bag the cursor would not move on without it.
    left_out: Option<Bytes>,
}

impl<'a> PageBuilder<'a> {
    /// An empty page for this scan.
    pub fn new(scan: &'a Scan) -> Self {
        Self {
            scan,
            page: Page::default(),
            bytes: 0,
            passing: scan.after.as_ref(),
            left_out: None,
        }
    }

    /// Offers the next object of the range. `false` means: the page is full and this object is
    /// not in it; offer no further ones.
    pub fn offer(&mut self, key: &[u8], value: &[u8]) -> bool {
        if let Some(cursor) = self.passing {
            if cursor.has_passed(key, value, self.scan.direction) {
                return true;
            }
            self.passing = None;
        }
        let kept = if self.scan.keys_only { &[] } else { value };
        let size = key.len() + kept.len();
        if self.is_full_for(size) {
            self.page.next = self.next();
            return false;
        }
        self.bytes = self.bytes.saturating_add(size);
        self.page
            .objects
            .push(Object::new(key, Bytes::copy_from_slice(kept)));
        self.left_out = (self.scan.keys_only && self.is_full_for(key.len()))
            .then(|| Bytes::copy_from_slice(value));
        true
    }

    fn is_full_for(&self, size: usize) -> bool {
        self.page.objects.len() >= self.scan.limit
            || (!self.page.objects.is_empty()
                && self.bytes.saturating_add(size) > self.scan.byte_budget)
    }

    /// Behind the page's last object, or where the scan began.
    fn next(&mut self) -> Option<Cursor> {
        let Some(last) = self.page.objects.last() else {
            return self.scan.after.clone();
        };
        Some(Cursor {
            key: last.key.clone(),
            value: if self.scan.keys_only {
                // None only where the object that did not fit has another key.
                self.left_out.take()
            } else {
                Some(last.value.clone())
            },
        })
    }

    /// The page.
    pub fn finish(self) -> Page {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_before_the_prefix_cuts_nothing_off() {
        let forward = Scan::prefix("b").after(Cursor::after("a")).range(true);
        assert_eq!(forward, Scan::prefix("b").range(true));
        let reverse = Scan::prefix("b")
            .after(Cursor::after("c"))
            .reverse()
            .range(true);
        assert_eq!(reverse, Scan::prefix("b").reverse().range(true));
    }

    #[test]
    fn a_cursor_behind_the_prefix_leaves_nothing() {
        assert!(
            Scan::prefix("b")
                .after(Cursor::after("c"))
                .range(true)
                .is_empty()
        );
        assert!(
            Scan::prefix("b")
                .after(Cursor::after("a"))
                .reverse()
                .range(true)
                .is_empty()
        );
    }

    #[test]
    fn a_page_holds_one_object_however_small_the_budget() {
        let scan = Scan::prefix("").byte_budget(1);
        let mut page = PageBuilder::new(&scan);
        assert!(page.offer(b"a", b"value"));
        assert!(!page.offer(b"b", b"value"));
        let page = page.finish();
        assert_eq!(page.objects.len(), 1);
        assert_eq!(page.next.unwrap().key(), &Key::from("a"));
    }

    /// The pages of a walk over the values of one key.
    fn walk(scan: Scan, values: &[&str]) -> Vec<Page> {
        let mut values = values.to_vec();
        if scan.direction == Direction::Reverse {
            values.reverse();
        }
        let mut pages = Vec::new();
        let mut scan = Some(scan);
        while let Some(this) = scan {
            let mut page = PageBuilder::new(&this);
            let _ = values.iter().all(|v| page.offer(b"k", v.as_bytes()));
            let page = page.finish();
            scan = page.next.clone().map(|next| this.clone().after(next));
            pages.push(page);
            assert!(pages.len() <= values.len(), "the cursor moves on");
        }
        pages
    }

    #[test]
    fn a_walk_over_a_bag_comes_to_every_pair_once() {
        let values = ["", "1", "10", "2"];
        let limits = [1, 2, 3, 4].map(|limit| Scan::prefix("").limit(limit));
        let budgets = [1, 2, 4, 5].map(|bytes| Scan::prefix("").byte_budget(bytes));
        for forward in limits.into_iter().chain(budgets) {
            for scan in [forward.clone(), forward.clone().reverse()] {
                let pages = walk(scan.clone(), &values);
                let mut found: Vec<_> = pages.into_iter().flat_map(|page| page.objects).collect();
                if scan.direction == Direction::Reverse {
                    found.reverse();
                }
                assert_eq!(found, values.map(|value| Object::new("k", value)));
                let pages = walk(scan.keys_only(), &values);
                let keys: Vec<_> = pages.into_iter().flat_map(|page| page.objects).collect();
                assert_eq!(keys, [(); 4].map(|()| Object::new("k", "")));
            }
        }
    }

    #[test]
    fn a_page_without_values_goes_on_behind_the_value_it_left_out() {
        let scan = Scan::prefix("").limit(1).keys_only();
        let mut page = PageBuilder::new(&scan);
        assert!(page.offer(b"k", b"1"));
        assert!(!page.offer(b"k", b"2"));
        let next = page.finish().next;
        assert_eq!(next, Some(Cursor::after_object(&Object::new("k", "1"))));
    }
}
