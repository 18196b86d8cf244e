//! How many jobs the claims of one pass may take: under the limits of lanes (protocol rule 24), and
//! of the tasks of which they want [no more](Selector::at_most).

use std::time::Duration;

use super::super::super::plan::{Bucket, Context, View};
use super::super::super::{Lane, LaneFilter, Selector};
use crate::clock::Timestamp;

/// The limits that a lane is under, by their numbers.
pub(super) type Under = Vec<usize>;

/// What is left of every limit. Jobs are counted as soon as they are queued for a claim, so that no
/// more are read than may be taken.
#[derive(Debug, Default)]
pub(super) struct Limits(Vec<Limit>);

#[derive(Debug)]
struct Limit {
    lanes: LaneFilter,
    /// What fills again with time; nothing where the claims themselves want no more.
    bucket: Option<Bucket>,
    left: u64,
}

impl Limits {
    /// As they stand behind the operations of this group.
    pub(super) fn new(cx: &Context<'_>, view: &View<'_>, selector: &Selector) -> Self {
        let limits = cx.settings.buckets().iter().map(|(lanes, bucket)| {
            let mut bucket = *bucket;
            for (lane, at) in view.spent() {
                if lanes.matches(lane) {
                    bucket.spend(at);
                }
            }
            Limit {
                lanes: lanes.clone(),
                bucket: Some(bucket),
                left: bucket.left(cx.monotonic),
            }
        });
        let wanted = selector.at_most.iter().map(|(task, most)| Limit {
            lanes: LaneFilter::all().task(task),
            bucket: None,
            left: u64::try_from(*most).unwrap_or(u64::MAX),
        });
        Self(limits.chain(wanted).collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The limits this lane is under.
    pub(super) fn over(&self, lane: &Lane) -> Under {
        let limits = self.0.iter().enumerate();
        limits
            .filter(|(_, limit)| limit.lanes.matches(lane))
            .map(|(number, _)| number)
            .collect()
    }

    /// Whether they let another job go.
    pub(super) fn allow(&self, under: &[usize]) -> bool {
        self.of(under).all(|limit| limit.left > 0)
    }

    /// A job is queued.
    pub(super) fn reserve(&mut self, under: &[usize]) {
        self.each(under, |limit| limit.left = limit.left.saturating_sub(1));
    }

    /// One that was queued is not taken after all.
    pub(super) fn give_back(&mut self, under: &[usize]) {
        self.each(under, |limit| limit.left = limit.left.saturating_add(1));
    }

    /// One that was queued is taken.
    pub(super) fn spend(&mut self, under: &[usize], now: Duration) {
        self.each(under, |limit| {
            if let Some(bucket) = &mut limit.bucket {
                bucket.spend(now);
            }
        });
    }

    /// When they let the next job go; never in this claim if it wants no more.
    pub(super) fn next(&self, under: &[usize], cx: &Context<'_>) -> Option<Timestamp> {
        if self
            .of(under)
            .any(|limit| limit.bucket.is_none() && limit.left == 0)
        {
            return None;
        }
        let buckets = self.of(under).filter_map(|limit| limit.bucket);
        let next = buckets.map(|bucket| bucket.next()).max();
        let wait = next.unwrap_or_default().saturating_sub(cx.monotonic);
        // Wall-clock time has microseconds: never before it is time.
        Some(cx.now.after(wait.saturating_add(Duration::from_nanos(999))))
    }

    fn of<'a>(&'a self, under: &'a [usize]) -> impl Iterator<Item = &'a Limit> {
        under.iter().filter_map(|number| self.0.get(*number))
    }

    fn each(&mut self, under: &[usize], change: impl Fn(&mut Limit)) {
        for number in under {
            if let Some(limit) = self.0.get_mut(*number) {
                change(limit);
            }
        }
    }
}
