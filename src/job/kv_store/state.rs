//! [`StateStore`] of a [`KvStore`]: reads, which need no planner.

use async_trait::async_trait;
use bytes::Bytes;

use super::KvStore;
use super::history::Of;
use crate::clock::Timestamp;
use crate::job::header::{self, Header};
use crate::job::keys::LATE;
use crate::job::ops::quarantine::Record;
use crate::job::{
    Cursor, Error, HistoryQuery, Job, JobId, Page, QuarantineId, Quarantined, QuarantinedRecord,
    Query, Result, State, StateStore, Stats, Step,
};
use crate::kv::{self, ErrorKind, Key, Object, Scan};

/// Headers read at once.
pub(super) const PAGE: usize = 256;
/// The most headers one page of answers looks at: a page may have fewer answers than asked for.
const MOST_LOOKED_AT: usize = 10_000;

impl KvStore {
    /// The jobs of these headers, with their arguments and results, in one trip; each may turn out
    /// to be unreadable. Those that are gone meanwhile are left out.
    pub(super) async fn with_arguments(
        &self,
        found: Vec<(JobId, Header)>,
    ) -> Result<Vec<Result<Job>>> {
        let now = self.clock().now();
        let stored: Vec<Key> = found
            .iter()
            .flat_map(|(id, header)| {
                let payload = header.payload_key(&self.0.keys, *id);
                let result = header.result_stored().then(|| self.0.keys.result(*id));
                payload.into_iter().chain(result)
            })
            .collect();
        let mut values = if stored.is_empty() {
            Vec::new()
        } else {
            self.0.store.get_many(&stored).await?
        }
        .into_iter();
        let mut next = |is_stored: bool| {
            let object = is_stored.then(|| values.next().flatten()).flatten();
            object.map(|object| object.value)
        };
        let mut jobs = Vec::with_capacity(found.len());
        for (id, header) in found {
            let payload = next(header.stored_bytes() > 0);
            let result = next(header.result_stored());
            if payload.is_none() && header.stored_bytes() > 0 {
                // It may have been replaced or removed between the two reads.
                jobs.extend(self.read_job(id).await.transpose());
            } else {
                jobs.push(header.to_job(id, payload.as_deref(), result.as_deref(), now));
            }
        }
        Ok(jobs)
    }

    /// A job with its arguments and its result; `None` if there is none, or nothing but its removal
    /// is left to do.
    async fn read_job(&self, id: JobId) -> Result<Option<Job>> {
        let key = self.0.keys.job(id);
        let mut before = None;
        loop {
            let Some(object) = self.0.store.get(&key).await? else {
                return Ok(None);
            };
            let header = Header::decode(&key, &object.value)?;
            if header.phase == header::Phase::Deleting {
                return Ok(None);
            }
            let payload_key = header.payload_key(&self.0.keys, id);
            let result_key = header.result_stored().then(|| self.0.keys.result(id));
            let payload = self.value_of(payload_key.as_ref()).await?;
            let result = self.value_of(result_key.as_ref()).await?;
            let is_missing = payload.is_none() && payload_key.is_some();
            // Whoever replaces a job, or removes it, changes its header.
            if is_missing && before.replace(header.revision) != Some(header.revision) {
                continue;
            }
            let now = self.clock().now();
            let job = header.to_job(id, payload.as_deref(), result.as_deref(), now);
            return job.map(Some);
        }
    }

    /// What stands under a key, where there is a key.
    async fn value_of(&self, key: Option<&Key>) -> Result<Option<Bytes>> {
        let Some(key) = key else { return Ok(None) };
        Ok(self.0.store.get(key).await?.map(|object| object.value))
    }

    /// Headers that match a query, a page at a time. Those that cannot be read are left out and
    /// said.
    pub(super) async fn find(&self, query: &Query) -> Result<Page<(JobId, Header)>> {
        if let Some(id) = query.id {
            let key = self.0.keys.job(id);
            let header = match self.0.store.get(&key).await? {
                Some(object) => Some(Header::decode(&key, &object.value)?),
                None => None,
            };
            let found = header
                .filter(|header| self.matches(query, header))
                .map(|one| (id, one));
            return Ok(Page::new(found.into_iter().collect(), None));
        }
        let by_end = !query.states.is_empty()
            && query
                .states
                .iter()
                .all(|state| matches!(state, State::Failed | State::Canceled | State::TimedOut));
        let prefix = if by_end {
            self.0.keys.attention_all()
        } else {
            self.0.keys.jobs()
        };
        let mut scan = Scan::prefix(prefix).limit(PAGE);
        if let Some(cursor) = &query.cursor {
            scan = behind(scan, cursor)?;
        } else if let (false, Some(after)) = (by_end, query.after) {
            // Ids are made from milliseconds: begin one early.
            let after = after.before(std::time::Duration::from_millis(1));
            let first = self.0.keys.job(JobId::lower_bound(after));
            scan = scan.after(kv::Cursor::after(first));
        }
        let end = if by_end {
            query
                .ended_before
                .map(|before| self.0.keys.attention(before, JobId::from_bytes([0; 16])))
        } else {
            query.before.map(|before| {
                let end = before.after(std::time::Duration::from_millis(1));
                self.0.keys.job(JobId::lower_bound(end))
            })
        };
        let most = query.page_size();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            let headers = if by_end {
                self.headers_of(&page.objects).await?
            } else {
                Vec::new()
            };
            for (index, object) in page.objects.iter().enumerate() {
                if end.as_ref().is_some_and(|end| object.key >= *end) {
                    return Ok(Page::new(found, None));
                }
                looked_at += 1;
                let read = if by_end {
                    headers.get(index).and_then(Option::as_ref).map(|object| {
                        (
                            self.0.keys.job_id(&object.key),
                            Header::decode(&object.key, &object.value),
                        )
                    })
                } else {
                    Some((
                        self.0.keys.job_id(&object.key),
                        Header::decode(&object.key, &object.value),
                    ))
                };
                match read {
                    Some((Ok(id), Ok(header))) if self.matches(query, &header) => {
                        found.push((id, header));
                    }
                    Some((Err(error), _)) => tracing::warn!("left out: {error}"),
                    Some((_, Err(error))) => tracing::warn!("left out: {error}"),
                    Some((Ok(_), Ok(_))) | None => {}
                }
                if found.len() >= most || looked_at >= MOST_LOOKED_AT {
                    let more = index + 1 < page.objects.len() || page.next.is_some();
                    let next = more.then(|| Cursor::from_bytes(object.key.as_bytes()));
                    return Ok(Page::new(found, next));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(Page::new(found, None)),
            }
        }
    }

    /// The headers of `attention` entries, each at its place.
    async fn headers_of(&self, entries: &[Object]) -> Result<Vec<Option<Object>>> {
        let mut keys = Vec::with_capacity(entries.len());
        for entry in entries {
            keys.push(match self.0.keys.read_attention(&entry.key) {
                Ok((_, id)) if entry.value != LATE => self.0.keys.job(id),
                // It did not end badly. No job has this id; the entry keeps its place.
                _ => self.0.keys.job(JobId::from_bytes([0; 16])),
            });
        }
        Ok(if keys.is_empty() {
            Vec::new()
        } else {
            self.0.store.get_many(&keys).await?
        })
    }

    fn matches(&self, query: &Query, header: &Header) -> bool {
        let created = Timestamp::from_micros(header.created_at);
        (query.states.is_empty() || query.states.contains(&header.state(self.clock().now())))
            && query
                .task
                .as_ref()
                .is_none_or(|task| *task == header.lane.task)
            && query.after.is_none_or(|after| created >= after)
            && query.before.is_none_or(|before| created < before)
            && query
                .ended_before
                .is_none_or(|before| header.ended_at.is_some_and(|at| at < before.as_micros()))
    }

    /// The record of this name in quarantine, and where it stands.
    pub(super) async fn find_quarantined(&self, id: QuarantineId) -> Result<Option<(Key, Record)>> {
        let mut scan = Scan::prefix(self.0.keys.quarantines());
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            let found = page.objects.iter().find_map(|object| {
                let record = Record::read(object);
                (record.id() == id).then(|| (object.key.clone(), record))
            });
            match (found, page.next) {
                (None, Some(next)) => scan = scan.after(next),
                (found, _) => return Ok(found),
            }
        }
    }
}

/// Leaves out what cannot be read, and says so: it must not stand in the way of the others.
pub(super) fn readable<T>(answers: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let unreadable = |error: &Error| {
        matches!(error, Error::Store(error)
            if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooNew))
    };
    let mut found = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => found.push(answer),
            Err(error) if unreadable(&error) => tracing::warn!("left out: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The scan from where a cursor stands that was made of one of its keys.
pub(super) fn behind(scan: Scan, cursor: &Cursor) -> Result<Scan> {
    let key = cursor
        .to_bytes()
        .map(Key::from)
        .filter(|key| key.starts_with(&scan.prefix));
    let key = key.ok_or_else(|| bad_cursor(cursor))?;
    Ok(scan.after(kv::Cursor::after(key)))
}

pub(super) fn bad_cursor(cursor: &Cursor) -> Error {
    Error::invalid(
        "bad-cursor",
        format!("the cursor {cursor} does not belong to this query"),
    )
}

#[async_trait]
impl StateStore for KvStore {
    async fn get(&self, id: JobId) -> Result<Option<Job>> {
        self.read_job(id).await
    }

    async fn lookup(&self, query: &Query) -> Result<Page<Job>> {
        let mut page = self.find(query).await?;
        // Only a purge that goes on where one was cut off still finds those (rule 19).
        page.items
            .retain(|(_, header)| header.phase != header::Phase::Deleting);
        let jobs = readable(self.with_arguments(page.items).await?)?;
        Ok(Page::new(jobs, page.next))
    }

    async fn history(&self, id: JobId) -> Result<Vec<Step>> {
        self.steps_of(id, Of::All).await
    }

    async fn lookup_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>> {
        self.find_steps(query, Of::All).await
    }

    async fn clear_history(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>> {
        self.clear_steps(query).await
    }

    async fn stats(&self) -> Result<Stats> {
        let now = self.clock().now();
        let mut counts = Stats::default();
        let mut scan = Scan::prefix(self.0.keys.jobs()).limit(1024);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for object in &page.objects {
                match Header::decode(&object.key, &object.value) {
                    Ok(header) if header.phase == header::Phase::Deleting => {}
                    Ok(header) => {
                        let state = header.state(now);
                        counts.total += 1;
                        *counts.states.entry(state).or_default() += 1;
                        let task = counts.tasks.entry(header.lane.task).or_default();
                        *task.entry(state).or_default() += 1;
                    }
                    Err(error) if *error.kind() == ErrorKind::TooNew => counts.too_new += 1,
                    Err(_) => counts.unreadable += 1,
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => break,
            }
        }
        let mut scan = Scan::prefix(self.0.keys.quarantines())
            .limit(1024)
            .keys_only();
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            counts.quarantined += page.objects.len() as u64;
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(counts),
            }
        }
    }

    async fn quarantine(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Quarantined>> {
        let mut scan = Scan::prefix(self.0.keys.quarantines()).limit(limit.clamp(1, PAGE));
        if let Some(cursor) = cursor {
            scan = behind(scan, &cursor)?;
        }
        let page = self.0.store.scan(scan).await?;
        let next = page
            .next
            .map(|next| Cursor::from_bytes(next.key().as_bytes()));
        let items = page
            .objects
            .iter()
            .map(|object| Record::read(object).to_quarantined())
            .collect();
        Ok(Page::new(items, next))
    }

    async fn quarantined(&self, id: QuarantineId) -> Result<Option<QuarantinedRecord>> {
        let found = self.find_quarantined(id).await?;
        Ok(found.map(|(_, record)| record.into_raw()))
    }
}
