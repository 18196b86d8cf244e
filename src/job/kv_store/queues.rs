//! Serial queues: how many jobs of one may run, and how it stands.

use super::KvStore;
use super::state::behind;
use crate::job::header;
use crate::job::keys::{KeySpace, Space};
use crate::job::new::{check_queue, check_text};
use crate::job::ops::limit::LimitQueue;
use crate::job::serial::Record;
use crate::job::{Cursor, Error, JobId, MAX_QUEUE_LIMIT, MAX_TENANT, Page, QueueStatus, Result};
use crate::kv::Scan;

/// Records read at once.
const PAGE: usize = 256;
/// Queues whose blocked jobs are counted in one trip.
const COUNTED: usize = 32;

impl KvStore {
    /// How many jobs of a [serial queue](crate::job::NewJob::queue) may run at a time, from now on:
    /// between 1, as where this was not said, and [`MAX_QUEUE_LIMIT`]. It is stored with the queue,
    /// and holds whichever process claims. Where more run than a lower limit allows, they go on,
    /// and no other begins before there is room. Says whether it was another before.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// # use kvjob::job::{Claim, KvStore, NewJob, Options, QueueStore};
    /// # let jobs = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
    /// jobs.limit_queue("", "printer", 2).await?;
    /// for page in 1..=3 {
    ///     jobs.enqueue(NewJob::new("print", &page)?.queue("printer")).await?;
    /// }
    /// assert_eq!(jobs.claim(Claim::new("w").max(9)).await?.jobs.len(), 2);
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `queue-limit` for a limit that is none, `queue-key-too-long` and what else a name can be
    /// refused for, or what the store says.
    pub async fn limit_queue(&self, tenant: &str, queue: &str, limit: u32) -> Result<bool> {
        check_text("tenant", tenant, 0, MAX_TENANT)?;
        check_queue(queue)?;
        if !(1..=MAX_QUEUE_LIMIT).contains(&limit) {
            let message =
                format!("a queue's limit of {limit} is not between 1 and {MAX_QUEUE_LIMIT}");
            return Err(Error::invalid("queue-limit", message));
        }
        let (tenant, queue) = (tenant.to_owned(), queue.to_owned());
        self.run(LimitQueue {
            tenant,
            queue,
            limit,
        })
        .await
    }

    /// How a [serial queue](crate::job::NewJob::queue) stands: its limit, which jobs run, how many
    /// wait. A queue that nobody has used yet is an empty one. What changes meanwhile may be seen
    /// as it was before, or after.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// # use kvjob::job::{Claim, KvStore, NewJob, Options, QueueStore};
    /// # let jobs = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
    /// for page in 1..=3 {
    ///     jobs.enqueue(NewJob::new("print", &page)?.queue("printer")).await?;
    /// }
    /// jobs.claim(Claim::new("w")).await?;
    /// let printer = jobs.queue_status("", "printer").await?;
    /// assert_eq!((printer.concurrency, printer.running.len(), printer.ready), (1, 1, 2));
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `queue-key-too-long` and what else a name can be refused for; `Corrupt` or `TooNew` for a
    /// queue whose record cannot be read; or what the store says.
    pub async fn queue_status(&self, tenant: &str, queue: &str) -> Result<QueueStatus> {
        check_text("tenant", tenant, 0, MAX_TENANT)?;
        check_queue(queue)?;
        let hash = KeySpace::queue_hash(tenant, queue);
        let key = self.0.keys.queue(&hash);
        let record = match self.0.store.get(&key).await? {
            Some(object) => header::decode(&key, &object.value)?,
            None => Record::default(),
        };
        let waits = self.count_blocked(&[(hash, &record)]).await?;
        let waits = waits.into_iter().next().unwrap_or_default();
        let mut status = status(record, waits);
        tenant.clone_into(&mut status.tenant);
        queue.clone_into(&mut status.queue);
        Ok(status)
    }

    /// The [serial queues](crate::job::NewJob::queue) in which a job runs or is due, and those for
    /// which a limit is set, as [`queue_status`](Self::queue_status) shows them, in no order that
    /// means anything: up to this many, at most 256 at once. Those whose records cannot be read are
    /// left out and said, so that a page may have fewer although more follow.
    ///
    /// # Errors
    /// `bad-cursor` for a cursor of something else, or what the store says.
    pub async fn queues(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<QueueStatus>> {
        let mut scan = Scan::prefix(self.0.keys.prefix(Space::Queue)).limit(limit.clamp(1, PAGE));
        if let Some(cursor) = &cursor {
            scan = behind(scan, cursor)?;
        }
        let page = self.0.store.scan(scan).await?;
        let mut found: Vec<([u8; 16], Record)> = Vec::with_capacity(page.objects.len());
        for object in &page.objects {
            let hash = self.0.keys.read_queue(&object.key);
            let record = header::decode::<Record>(&object.key, &object.value);
            match (hash, record) {
                (Ok(_), Ok(record)) if record.text.is_empty() => {
                    tracing::warn!("left out: nobody knows whose queue {} is", object.key);
                }
                (Ok(hash), Ok(record)) => found.push((hash, record)),
                (Err(error), _) => tracing::warn!("left out: {error}"),
                (_, Err(error)) => tracing::warn!("left out: {error}"),
            }
        }
        let mut waits = Vec::with_capacity(found.len());
        for part in found.chunks(COUNTED) {
            let part: Vec<_> = part.iter().map(|(hash, record)| (*hash, record)).collect();
            waits.extend(self.count_blocked(&part).await?);
        }
        let records = found.into_iter().map(|(_, record)| record);
        let items = records
            .zip(waits)
            .map(|(record, waits)| status(record, waits));
        let next = (page.next).map(|next| Cursor::from_bytes(next.key().as_bytes()));
        Ok(Page::new(items.collect(), next))
    }

    /// How many jobs of each of these queues stand in `wait`, as far as they are counted, and
    /// whether there are more; in one trip.
    async fn count_blocked(&self, queues: &[([u8; 16], &Record)]) -> Result<Vec<(u64, bool)>> {
        let blocks = |record: &Record| record.lanes.iter().any(|lane| lane.waits);
        let most = usize::try_from(QueueStatus::MOST_COUNTED).unwrap_or(usize::MAX);
        let scan = |hash| {
            Scan::prefix(self.0.keys.waits(hash))
                .limit(most)
                .keys_only()
        };
        let asked = queues.iter().filter(|(_, record)| blocks(record));
        let scans: Vec<Scan> = asked.map(|(hash, _)| scan(hash)).collect();
        let mut pages = if scans.is_empty() {
            Vec::new()
        } else {
            self.0.store.scan_many(scans).await?
        }
        .into_iter();
        let mut count = |(_, record): &(_, &Record)| {
            let page = blocks(record).then(|| pages.next()).flatten();
            let page = page.unwrap_or_default();
            (page.objects.len() as u64, page.next.is_some())
        };
        Ok(queues.iter().map(&mut count).collect())
    }
}

fn status(record: Record, (blocked, more): (u64, bool)) -> QueueStatus {
    let exposed = record.lanes.iter().map(|lane| lane.exposed.len() as u64);
    let ready = blocked + exposed.sum::<u64>();
    QueueStatus {
        concurrency: record.limit(),
        ready: ready.min(QueueStatus::MOST_COUNTED),
        more: more || ready > QueueStatus::MOST_COUNTED,
        running: record
            .running
            .iter()
            .map(|id| JobId::from_bytes(*id))
            .collect(),
        tenant: record.tenant,
        queue: record.text,
    }
}
