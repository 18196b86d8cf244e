//! [`Reading`]: a page on its way, in one trip or several. Nothing is sent here.

use bytes::Bytes;
use kvjob::kv::{Direction, Page, PageBuilder, Result, Scan};

use crate::marks::{Marks, near_end};
use crate::proto::{RangeRequest, RangeResponse, SortOrder};
use crate::txn::KeySpace;

/// Objects that are asked for before it is known how large they are, and at most.
const OBJECTS: (usize, usize) = (129, 4096);

/// A page on its way: how far it is, and what is asked for next.
pub(crate) struct Reading<'a> {
    scan: &'a Scan,
    page: PageBuilder<'a>,
    taken: usize,
    bytes: usize,
    /// What is left of the range, if anything is.
    rest: Option<RangeRequest>,
    /// The limit that was asked for last.
    asked: i64,
    /// The mark at which the part was cut that was asked for last.
    mark: Option<Bytes>,
    /// How many marks the page has passed.
    passed: u32,
    lesson: Option<RangeRequest>,
}

impl<'a> Reading<'a> {
    /// The page of this scan, of keys between these bounds.
    pub(crate) fn new(scan: &'a Scan, bounds: Option<(Bytes, Bytes)>) -> Self {
        let sort_order = match scan.direction {
            Direction::Forward => SortOrder::None,
            Direction::Reverse => SortOrder::Descend,
        };
        Self {
            scan,
            page: PageBuilder::new(scan),
            taken: 0,
            bytes: 0,
            rest: bounds.map(|(key, range_end)| RangeRequest {
                key,
                range_end,
                sort_order: sort_order.into(),
                keys_only: scan.keys_only,
                ..RangeRequest::default()
            }),
            asked: 0,
            mark: None,
            passed: 0,
            lesson: None,
        }
    }

    /// What to ask for next, if the page is not whole.
    pub(crate) fn next(&mut self, marks: &Marks) -> Option<RangeRequest> {
        let (first, most) = OBJECTS;
        // One more tells whether the page has a successor.
        let wanted = (self.scan.limit.saturating_add(1)).saturating_sub(self.taken);
        let fitting = if self.scan.keys_only {
            most
        } else if let Some(size) = self.bytes.checked_div(self.taken) {
            let left = self.scan.byte_budget.saturating_sub(self.bytes);
            left / size.max(1) + 1
        } else {
            first
        };
        let limit = wanted.min(fitting.clamp(1, most)).max(1);
        let (mut part, mark) = marks.cut(self.rest.as_ref()?, limit, self.passed);
        self.asked = i64::try_from(limit).unwrap_or(i64::MAX);
        part.limit = self.asked;
        self.mark = mark;
        Some(part)
    }

    /// Takes the answer to what was asked for.
    pub(crate) fn take(
        &mut self,
        space: &KeySpace,
        marks: &Marks,
        answer: RangeResponse,
    ) -> Result<()> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(());
        };
        if self.passed == 0 {
            self.lesson = Marks::lesson(&rest, self.asked, answer.count);
        }
        if let Some(mark) = &self.mark
            && self.scan.after.is_none()
        {
            // A page that does not begin within what an earlier one read.
            marks.forget(mark, answer.count);
        }
        let last = answer.kvs.last().map(|object| object.key.clone());
        for object in answer.kvs {
            let key = space.inner(&object.key)?;
            self.taken += 1;
            self.bytes += key.len() + object.value.len();
            if !self.page.offer(key.as_bytes(), &object.value) {
                return Ok(());
            }
        }
        // A page is of one moment.
        rest.revision = answer.header.map_or(0, |header| header.revision);
        let from = match (last, self.scan.direction, self.mark.take()) {
            (Some(last), Direction::Forward, _) if answer.more => [&last, &[0][..]].concat().into(),
            (Some(last), Direction::Reverse, _) if answer.more => last,
            (_, _, Some(mark)) => {
                self.passed += 1;
                mark
            }
            (_, _, None) => return Ok(()),
        };
        *near_end(&mut rest) = from;
        self.rest = Some(rest);
        Ok(())
    }

    /// What to read to learn where such ranges can be cut.
    pub(crate) fn lesson(&self) -> Option<RangeRequest> {
        self.lesson.clone()
    }

    /// The page.
    pub(crate) fn finish(self) -> Page {
        self.page.finish()
    }
}
