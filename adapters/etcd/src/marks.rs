//! [`Marks`]: where to cut the ranges that etcd is asked for.
//!
//! etcd counts every key of a range for each answer, whatever the limit, and in reverse it reads
//! and sorts them all: the first of a million waiting jobs would cost what all of them do. So
//! ranges end at keys of which it is known that not many lie before them. Such marks are only
//! about cost: what lies behind one is asked for next if the page is not full, and one that is
//! out of date costs a trip or a longer range.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::proto::{KeyValue, RangeRequest, SortOrder};

/// Keys from one mark to the next.
const BETWEEN: usize = 1024;
/// So few keys before a mark are not worth a trip of their own.
const FEW: i64 = 128;
/// So many keys in a range are worth learning marks.
const MANY: i64 = 4096;
/// Keys that are read to learn from.
const LEARNED: i64 = 8192;
/// Marks that are kept. Who knows so many learns those he needs anew.
const MOST: usize = 16 << 10;

/// Keys of etcd's, about as far from each other as many keys lie between them.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: Mutex<BTreeSet<Bytes>>,
    /// Held by who learns: what several would learn at once is the same.
    pub(crate) learning: tokio::sync::Mutex<()>,
}

impl Marks {
    /// The part of this range to ask for, and the mark it was cut at. It holds a page of `limit`
    /// objects if marks are right, and the more the oftener that was too little.
    pub(crate) fn cut(
        &self,
        range: &RangeRequest,
        limit: usize,
        passed: u32,
    ) -> (RangeRequest, Option<Bytes>) {
        let mut part = range.clone();
        let steps = (limit / BETWEEN)
            .saturating_add(1)
            .saturating_mul(1 << passed.min(16));
        let within = (
            Bound::Excluded(range.key.clone()),
            Bound::Excluded(range.range_end.clone()),
        );
        if range.key >= range.range_end {
            return (part, None);
        }
        let marks = self.marks();
        let mut within = marks.range::<Bytes, _>(within);
        let mark = if is_reverse(range) {
            within.nth_back(steps - 1).cloned()
        } else {
            within.nth(steps - 1).cloned()
        };
        if let Some(mark) = &mark {
            *far_end(&mut part) = mark.clone();
        }
        (part, mark)
    }

    /// What to read to learn where such a range can be cut, if it held so many keys although few
    /// were asked for.
    pub(crate) fn lesson(range: &RangeRequest, asked: i64, count: i64) -> Option<RangeRequest> {
        (count > MANY.max(asked.saturating_mul(4))).then(|| RangeRequest {
            limit: LEARNED,
            keys_only: true,
            revision: 0,
            ..range.clone()
        })
    }

    /// Learns from keys that follow each other.
    pub(crate) fn learn(&self, keys: Vec<KeyValue>) {
        let mut marks = self.marks();
        if marks.len() >= MOST {
            marks.clear();
        }
        let apart = keys.into_iter().skip(BETWEEN - 1).step_by(BETWEEN);
        marks.extend(apart.map(|object| object.key));
    }

    /// Forgets a mark before which hardly anything is left.
    pub(crate) fn forget(&self, mark: &Bytes, count: i64) {
        if count < FEW {
            self.marks().remove(mark);
        }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeSet<Bytes>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_reverse(range: &RangeRequest) -> bool {
    range.sort_order() == SortOrder::Descend
}

/// The end of a range that is come to last.
fn far_end(range: &mut RangeRequest) -> &mut Bytes {
    if is_reverse(range) {
        &mut range.key
    } else {
        &mut range.range_end
    }
}

/// The end of a range that is come to first.
pub(crate) fn near_end(range: &mut RangeRequest) -> &mut Bytes {
    if is_reverse(range) {
        &mut range.range_end
    } else {
        &mut range.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Bytes {
        format!("k/{number:06}").into()
    }

    fn range(start: usize, end: usize, order: SortOrder) -> RangeRequest {
        RangeRequest {
            key: key(start),
            range_end: key(end),
            sort_order: order.into(),
            ..RangeRequest::default()
        }
    }

    /// Marks at 1023, 2047, ...
    fn marks() -> Marks {
        let marks = Marks::default();
        let keys = (0..8192).map(|number| KeyValue {
            key: key(number),
            ..KeyValue::default()
        });
        marks.learn(keys.collect());
        marks
    }

    #[test]
    fn a_range_ends_at_the_next_mark_and_later_further_away() {
        let marks = marks();
        let forward = range(10, 9000, SortOrder::None);
        for (limit, passed, end) in [
            (1, 0, 1023),
            (1000, 0, 1023),
            (2000, 0, 2047),
            (1, 1, 2047),
            (1, 2, 4095),
        ] {
            let (part, mark) = marks.cut(&forward, limit, passed);
            assert_eq!((&part.key, &part.range_end), (&key(10), &key(end)));
            assert_eq!(mark, Some(key(end)));
        }
        let (part, mark) = marks.cut(&range(10, 5000, SortOrder::Descend), 1, 1);
        assert_eq!((part.key, part.range_end), (key(3071), key(5000)));
        assert_eq!(mark, Some(key(3071)));
    }

    #[test]
    fn a_range_without_marks_stays_whole() {
        let marks = marks();
        for (start, end) in [(10, 500), (9000, 9500), (1023, 2047), (500, 10)] {
            for order in [SortOrder::None, SortOrder::Descend] {
                let whole = range(start, end, order);
                assert_eq!(marks.cut(&whole, 1, 0), (whole.clone(), None));
            }
        }
    }

    #[test]
    fn a_mark_with_nothing_before_it_is_forgotten() {
        let marks = marks();
        marks.forget(&key(1023), FEW);
        marks.forget(&key(2047), 0);
        let (_, mark) = marks.cut(&range(1500, 9000, SortOrder::None), 1, 0);
        assert_eq!(mark, Some(key(3071)));
        let (_, mark) = marks.cut(&range(0, 9000, SortOrder::None), 1, 0);
        assert_eq!(mark, Some(key(1023)));
    }
}
