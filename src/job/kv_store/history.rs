//! Reading and clearing histories: of one job, and across jobs.

use std::collections::BTreeSet;

use super::KvStore;
use super::state::bad_cursor;
use crate::encoding::tuple::{DecodeError, Reader, Tuple};
use crate::job::header::{self, Header, Phase, StoredStep};
use crate::job::ops::clear_history::ClearHistory;
use crate::job::{Cursor, Error, HistoryQuery, JobId, Page, Result, Step};
use crate::kv::{self, ErrorKind, Object, Scan};

/// Headers read at once.
const PAGE: usize = 256;
/// The most steps, and jobs, that one page of answers looks at: a page may have fewer answers than
/// asked for.
const MOST_LOOKED_AT: usize = 10_000;

/// Whose steps are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    All,
    /// Of jobs that have ended.
    Ended,
}

impl KvStore {
    /// The steps of a job, oldest first.
    pub(super) async fn steps_of(&self, id: JobId, of: Of) -> Result<Vec<Step>> {
        let key = self.0.keys.job(id);
        match self.0.store.get(&key).await? {
            Some(object) => {
                let header = Header::decode(&key, &object.value)?;
                self.whole(id, header, of).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// The steps in a header that was read, and those in chunks.
    async fn whole(&self, id: JobId, header: Header, of: Of) -> Result<Vec<Step>> {
        if of == Of::Ended && !header.state(self.clock().now()).is_final() {
            return Ok(Vec::new());
        }
        let has_spilled = header.history.has_spilled();
        let mut steps = header.history.steps;
        // The header was first, then come the chunks: what spills in between is then seen twice,
        // not missed (rule 3).
        let mut scan = has_spilled.then(|| Scan::prefix(self.0.keys.histories(id)));
        while let Some(chunks) = scan {
            let page = self.0.store.scan(chunks.clone()).await?;
            for object in &page.objects {
                let body = self.0.keys.read_history(id, object)?;
                let chunk: Vec<StoredStep> = header::decode(&object.key, body)?;
                steps.extend(chunk);
            }
            scan = page.next.map(|next| chunks.after(next));
        }
        steps.sort_by_key(|step| step.number);
        steps.dedup_by_key(|step| step.number);
        let told = steps.iter().filter(|step| !step.cleared);
        Ok(told.map(StoredStep::to_step).collect())
    }

    /// Clears steps of jobs that have ended, a page at a time.
    pub(super) async fn clear_steps(&self, query: &HistoryQuery) -> Result<Page<(JobId, Step)>> {
        let page = self.find_steps(query, Of::Ended).await?;
        let mut left: Vec<ClearHistory> = Vec::new();
        for (id, step) in page.items {
            match left.last_mut() {
                Some(job) if job.id == id => drop(job.steps.insert(step.number)),
                _ => left.push(ClearHistory {
                    id,
                    steps: BTreeSet::from([step.number]),
                }),
            }
        }
        let mut cleared = Vec::new();
        while !left.is_empty() {
            let done = self.run_all(left.clone()).await?;
            let mut done = done.into_iter();
            left.retain(|job| {
                let done = done.next().unwrap_or_default();
                cleared.extend(done.steps.into_iter().map(|step| (job.id, step)));
                done.more
            });
        }
        cleared.sort_unstable_by_key(|(id, step)| (*id, step.number));
        Ok(Page::new(cleared, page.next))
    }

    /// Steps of one job or of all, a page at a time.
    pub(super) async fn find_steps(
        &self,
        query: &HistoryQuery,
        of: Of,
    ) -> Result<Page<(JobId, Step)>> {
        let from = query.cursor.as_ref().map(read_cursor).transpose()?;
        let mut answer = Answer {
            query,
            from,
            steps: Vec::new(),
            looked_at: 0,
        };
        if let Some(id) = query.id {
            if let (Some(cursor), Some((job, _))) = (&query.cursor, from)
                && job != id
            {
                return Err(bad_cursor(cursor));
            }
            let next = answer.take(id, self.steps_of(id, of).await?);
            return Ok(Page::new(answer.steps, next));
        }
        let mut scan = Scan::prefix(self.0.keys.jobs()).limit(PAGE);
        // The job itself is read again: more of its steps may follow.
        if let Some(below) = from.and_then(|(id, _)| before(id)) {
            scan = scan.after(kv::Cursor::after(self.0.keys.job(below)));
        }
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for object in &page.objects {
                let Some((id, steps)) = self.of_object(object, of).await? else {
                    continue;
                };
                if let Some(next) = answer.take(id, steps) {
                    return Ok(Page::new(answer.steps, Some(next)));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(Page::new(answer.steps, None)),
            }
        }
    }

    /// A job's steps, its header read before; `None` if it cannot be read, or is being removed.
    async fn of_object(&self, object: &Object, of: Of) -> Result<Option<(JobId, Vec<Step>)>> {
        let unreadable = |error: Error| match error {
            Error::Store(error)
                if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooNew) =>
            {
                tracing::warn!("left out: {error}");
                Ok(None)
            }
            error => Err(error),
        };
        let read = self.0.keys.job_id(&object.key);
        let read = read.and_then(|id| Ok((id, Header::decode(&object.key, &object.value)?)));
        match read {
            Ok((_, header)) if header.phase == Phase::Deleting => Ok(None),
            Ok((id, header)) => match self.whole(id, header, of).await {
                Ok(steps) => Ok(Some((id, steps))),
                Err(error) => unreadable(error),
            },
            Err(error) => unreadable(error),
        }
    }
}

/// A page that is being filled.
struct Answer<'q> {
    query: &'q HistoryQuery,
    /// The first step that may be in it: the job, and the step's number.
    from: Option<(JobId, u32)>,
    steps: Vec<(JobId, Step)>,
    looked_at: usize,
}

impl Answer<'_> {
    /// Takes those steps of a job that are asked for. Says where to go on if the page is full.
    fn take(&mut self, id: JobId, steps: Vec<Step>) -> Option<Cursor> {
        let first = match self.from {
            Some((from, number)) if from == id => number,
            _ => 0,
        };
        // A job without steps costs a look, too.
        self.looked_at += 1;
        for step in steps.into_iter().filter(|step| step.number >= first) {
            if self.steps.len() >= self.query.limit || self.looked_at > MOST_LOOKED_AT {
                return Some(write_cursor(id, step.number));
            }
            self.looked_at += 1;
            if self.query.matches(&step) {
                self.steps.push((id, step));
            }
        }
        None
    }
}

/// The cursor before a step.
fn write_cursor(id: JobId, number: u32) -> Cursor {
    let step = Tuple::new().uuid(id.as_bytes()).uint(number.into());
    Cursor::from_bytes(&step.finish())
}

fn read_cursor(cursor: &Cursor) -> Result<(JobId, u32)> {
    let bytes = cursor.to_bytes().unwrap_or_default();
    let mut reader = Reader::new(&bytes);
    let read = (|| {
        let step = (JobId::from_bytes(reader.read_uuid()?), reader.read_u64()?);
        reader.finish()?;
        Ok::<_, DecodeError>(step)
    })();
    match read.map(|(id, number)| (id, u32::try_from(number))) {
        Ok((id, Ok(number))) => Ok((id, number)),
        _ => Err(bad_cursor(cursor)),
    }
}

/// The id right before this one.
fn before(id: JobId) -> Option<JobId> {
    let number = u128::from_be_bytes(*id.as_bytes()).checked_sub(1)?;
    Some(JobId::from_bytes(number.to_be_bytes()))
}
