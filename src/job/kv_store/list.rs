//! Listing the queue of a [`KvStore`] in claim order.

use super::KvStore;
use super::state::{PAGE, bad_cursor, readable};
use crate::clock::Timestamp;
use crate::encoding::tuple::{Reader, Tuple};
use crate::job::header::{self, Header};
use crate::job::keys::{KeySpace, Position, ReadyKey, Space, Waiting, behind};
use crate::job::{Cursor, Job, JobId, Page, Query, Result};
use crate::kv::{self, Key, Scan};

/// Lanes merged by one page of a list.
const MOST_LANES: usize = 1024;
/// Jobs of lanes that are read in one trip.
const MOST_READ: usize = 16 << 10;

impl KvStore {
    /// Waiting jobs in claim order: the lanes of `ready` and what is due of `scheduled` merged; then
    /// those that are blocked, queue by queue, for when their turn comes nobody knows; then the rest
    /// of `scheduled`.
    pub(super) async fn list_waiting(
        &self,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<Job>> {
        let limit = limit.clamp(1, Query::MAX_LIMIT);
        let from = match &cursor {
            Some(cursor) => ListCursor::read(cursor)?,
            None => ListCursor::Ready(Position::default()),
        };
        let mut ids = Vec::new();
        let mut next = None;
        let (mut blocked, mut rest) = (None, None);
        match from {
            ListCursor::Ready(position) => {
                let now = self.clock().now();
                // In this order, what a claim promotes meanwhile is seen twice, not missed.
                let mut found = self.due_after(&position, now, limit).await?;
                let (ready, mut more) = self.ready_after(&position, limit).await?;
                found.extend(ready);
                found.sort_unstable();
                found.dedup();
                more |= found.len() > limit;
                found.truncate(limit);
                let behind_due = self.0.keys.scheduled_after(now);
                next = more.then(|| found.last().map(|(at, _)| ListCursor::Ready(at.clone())));
                ids.extend(found.into_iter().map(|(_, id)| id));
                if next.is_none() {
                    blocked = Some((self.0.keys.prefix(Space::Wait), behind_due));
                }
            }
            ListCursor::Blocked(key, behind_due) => blocked = Some((key, behind_due)),
            ListCursor::Scheduled(key) => rest = Some(key),
        }
        if let Some((after, behind_due)) = blocked {
            if ids.len() < limit {
                let (found, more) = self.blocked_after(after, limit - ids.len()).await?;
                ids.extend(found);
                match more {
                    Some(more) => next = Some(Some(ListCursor::Blocked(more, behind_due))),
                    None if ids.len() < limit => rest = Some(behind_due),
                    None => next = Some(Some(ListCursor::Scheduled(behind_due))),
                }
            } else {
                next = Some(Some(ListCursor::Blocked(after, behind_due)));
            }
        }
        if let Some(after) = rest {
            let scan = Scan::prefix(self.0.keys.scheduled_all())
                .after(kv::Cursor::after(after))
                .limit(limit - ids.len())
                .keys_only();
            let page = self.0.store.scan(scan).await?;
            for object in &page.objects {
                match self.0.keys.read_scheduled(&object.key) {
                    Ok((_, id)) => ids.push(id),
                    Err(error) => tracing::warn!("left out: {error}"),
                }
            }
            next = page
                .next
                .map(|next| Some(ListCursor::Scheduled(next.key().clone())));
        }
        let keys: Vec<Key> = ids.iter().map(|id| self.0.keys.job(*id)).collect();
        let objects = if keys.is_empty() {
            Vec::new()
        } else {
            self.0.store.get_many(&keys).await?
        };
        let mut found = Vec::with_capacity(ids.len());
        for (id, object) in ids.into_iter().zip(objects) {
            let Some(object) = object else { continue };
            match Header::decode(&object.key, &object.value) {
                // It may have left the queue between the two reads.
                Ok(header) if header.phase == header::Phase::Waiting => found.push((id, header)),
                Ok(_) => {}
                Err(error) => tracing::warn!("left out: {error}"),
            }
        }
        let next = next.flatten().map(|next| next.write());
        let jobs = readable(self.with_arguments(found).await?)?;
        Ok(Page::new(jobs, next))
    }

    /// The jobs that are blocked in queues, behind a key, and behind which one more follow.
    async fn blocked_after(&self, after: Key, limit: usize) -> Result<(Vec<JobId>, Option<Key>)> {
        let scan = Scan::prefix(self.0.keys.prefix(Space::Wait))
            .after(kv::Cursor::after(after))
            .limit(limit)
            .keys_only();
        let page = self.0.store.scan(scan).await?;
        let mut ids = Vec::with_capacity(page.objects.len());
        for object in &page.objects {
            match self.0.keys.read_wait(&object.key) {
                Ok(wait) => ids.push(wait.id),
                Err(error) => tracing::warn!("left out: {error}"),
            }
        }
        Ok((ids, page.next.map(|next| next.key().clone())))
    }

    /// The jobs behind a position that are due, but were not moved to their lanes yet: the first
    /// `limit` of them, and one more.
    async fn due_after(
        &self,
        after: &Position,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Position, JobId)>> {
        let mut found = Vec::new();
        let mut scan = Scan::prefix(self.0.keys.scheduled_all()).limit(PAGE);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            let mut rest = page.next;
            for object in &page.objects {
                let Ok((run_at, id)) = self.0.keys.read_scheduled(&object.key) else {
                    continue;
                };
                if run_at > now {
                    rest = None;
                    break;
                }
                let priority = header::decode_or_default::<Waiting>(object).priority;
                let at = KeySpace::position(priority, run_at, id);
                if at > *after {
                    found.push((at, id));
                }
            }
            // However many are due, no more are kept than the answer needs.
            found.sort_unstable();
            found.truncate(limit + 1);
            match rest {
                Some(next) => scan = scan.after(next),
                None => return Ok(found),
            }
        }
    }

    /// The jobs of all lanes behind a position, in claim order, and whether more follow.
    ///
    /// Small lanes are read many in one trip. Of one that a page ends in, the rest is skipped; it is
    /// read again from the position on, together with others, if what was read of it may not be all
    /// that the answer needs.
    async fn ready_after(
        &self,
        after: &Position,
        limit: usize,
    ) -> Result<(Vec<(Position, JobId)>, bool)> {
        let mut lanes = Lanes::default();
        let mut from = None;
        while lanes.count < MOST_LANES {
            let scan = Scan::prefix(self.0.keys.ready_all())
                .after(from.take())
                .limit(limit.max(PAGE))
                .keys_only();
            let page = self.0.store.scan(scan).await?;
            for object in &page.objects {
                if let Ok(ready) = self.0.keys.read_ready(&object.key) {
                    lanes.read(&object.key, &ready, after);
                }
            }
            lanes.keep(limit);
            let Some(next) = page.next else { break };
            from = Some(match &lanes.last {
                Some(lane) if next.key().starts_with(lane) => {
                    let lane = lane.clone();
                    let behind = behind(lane.as_bytes());
                    lanes.cut(lane, limit);
                    behind
                }
                _ => next,
            });
        }
        for some in std::mem::take(&mut lanes.unread).chunks((MOST_READ / limit).clamp(1, PAGE)) {
            let rest = |lane: &Key| {
                let from = [lane.as_bytes(), after].concat();
                Scan::prefix(lane.clone())
                    .after((!after.is_empty()).then(|| kv::Cursor::after(from)))
                    .limit(limit)
                    .keys_only()
            };
            let scans = some.iter().map(rest).collect();
            for page in self.0.store.scan_many(scans).await? {
                lanes.more |= page.next.is_some();
                for object in &page.objects {
                    if let Ok(ready) = self.0.keys.read_ready(&object.key) {
                        lanes.read(&object.key, &ready, after);
                    }
                }
            }
            lanes.keep(limit);
        }
        Ok((lanes.found, lanes.more))
    }
}

/// What was read of the lanes, behind a position.
#[derive(Default)]
struct Lanes {
    found: Vec<(Position, JobId)>,
    /// Whether more follow.
    more: bool,
    count: usize,
    /// The lane that was read last, and how much was found in it.
    last: Option<Key>,
    of_last: usize,
    /// Those to be read from the position on.
    unread: Vec<Key>,
}

impl Lanes {
    fn read(&mut self, key: &Key, ready: &ReadyKey, after: &Position) {
        let (lane, at) = key.as_bytes().split_at(ready.lane_len);
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.as_bytes() != lane)
        {
            self.last = Some(lane.into());
            self.count += 1;
            self.of_last = 0;
        }
        if *at > **after {
            self.of_last += 1;
            self.found.push((at.into(), ready.id));
        }
    }

    /// Reading ended within the lane that was read last.
    fn cut(&mut self, lane: Key, limit: usize) {
        if self.of_last < limit {
            self.unread.push(lane);
        } else {
            self.more = true;
        }
    }

    /// However many there are, no more are kept than the answer needs.
    fn keep(&mut self, limit: usize) {
        self.found.sort_unstable();
        self.found.dedup();
        self.more |= self.found.len() > limit;
        self.found.truncate(limit);
    }
}

/// Where a page of the list begins.
enum ListCursor {
    Ready(Position),
    /// Behind which of those in queues, and which of the scheduled ones come behind them.
    Blocked(Key, Key),
    Scheduled(Key),
}

impl ListCursor {
    fn read(cursor: &Cursor) -> Result<Self> {
        let bytes = cursor.to_bytes().ok_or_else(|| bad_cursor(cursor))?;
        let mut reader = Reader::new(&bytes);
        let read = (|| {
            let kind = reader.read_u64()?;
            let from = reader.read_bytes()?.into_owned();
            let then = reader.read_bytes()?.into_owned();
            reader.finish()?;
            Ok::<_, crate::encoding::tuple::DecodeError>((kind, from, then))
        })();
        match read {
            Ok((0, position, _)) => Ok(Self::Ready(position.into())),
            Ok((1, key, then)) => Ok(Self::Blocked(key.into(), then.into())),
            Ok((2, key, _)) => Ok(Self::Scheduled(key.into())),
            Ok(_) | Err(_) => Err(bad_cursor(cursor)),
        }
    }

    fn write(&self) -> Cursor {
        let (kind, from, then): (u64, &[u8], &[u8]) = match self {
            Self::Ready(position) => (0, position, &[]),
            Self::Blocked(key, then) => (1, key.as_bytes(), then.as_bytes()),
            Self::Scheduled(key) => (2, key.as_bytes(), &[]),
        };
        Cursor::from_bytes(&Tuple::new().uint(kind).bytes(from).bytes(then).finish())
    }
}
