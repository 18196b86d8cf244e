//! [`CronStore`] of a [`KvStore`].

use async_trait::async_trait;
use tokio::sync::watch;

use super::KvStore;
use super::state::{PAGE, behind};
use crate::clock::Timestamp;
use crate::job::cron::{MAX_CRON_DEFINITION, MAX_CRON_ID, Stored};
use crate::job::keys::Space;
use crate::job::new::check_text;
use crate::job::ops::cron::{Fire, Keep, Pause, Remove};
use crate::job::{CronRecord, CronStore, Cursor, Error, Fired, NewJob, Page, Result};
use crate::kv::{Object, Scan};

impl KvStore {
    fn read_cron(&self, object: &Object) -> Result<CronRecord> {
        let id = self.0.keys.cron_id(&object.key)?;
        Ok(Stored::decode(&object.key, &object.value)?.to_record(&id))
    }
}

#[async_trait]
impl CronStore for KvStore {
    async fn crons(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<CronRecord>> {
        let prefix = self.0.keys.prefix(Space::Cron);
        let mut scan = Scan::prefix(prefix).limit(limit.clamp(1, PAGE));
        if let Some(cursor) = cursor {
            scan = behind(scan, &cursor)?;
        }
        let page = self.0.store.scan(scan).await?;
        let next = page
            .next
            .map(|next| Cursor::from_bytes(next.key().as_bytes()));
        let records = page.objects.iter().map(|object| self.read_cron(object));
        Ok(Page::new(super::state::readable(records)?, next))
    }

    async fn cron(&self, id: &str) -> Result<Option<CronRecord>> {
        check_text("the id of a schedule", id, 1, MAX_CRON_ID)?;
        let object = self.0.store.get(&self.0.keys.cron(id)).await?;
        object.map(|object| self.read_cron(&object)).transpose()
    }

    async fn keep_cron(&self, id: &str, definition: Option<String>) -> Result<(CronRecord, bool)> {
        check_text("the id of a schedule", id, 1, MAX_CRON_ID)?;
        let most = MAX_CRON_DEFINITION.min(self.0.store.limits().value_bytes / 2);
        if let Some(length) = definition.as_ref().map(String::len)
            && length > most
        {
            let message = format!(
                "the schedule {id:?} takes {length} bytes, over the limit of {most}: give it a smaller payload"
            );
            return Err(Error::invalid("cron-too-large", message));
        }
        let id = id.to_owned();
        self.run(Keep { id, definition }).await
    }

    async fn fire_cron(&self, record: &CronRecord, slot: Timestamp, job: NewJob) -> Result<Fired> {
        let fire = Fire {
            id: record.id.clone(),
            revision: record.revision,
            slot,
            enqueue: self.enqueue_operation(job)?,
        };
        self.run(fire).await
    }

    async fn pause_cron(&self, id: &str) -> Result<Option<CronRecord>> {
        check_text("the id of a schedule", id, 1, MAX_CRON_ID)?;
        let (id, paused) = (id.to_owned(), true);
        self.run(Pause { id, paused }).await
    }

    async fn resume_cron(&self, id: &str) -> Result<Option<CronRecord>> {
        check_text("the id of a schedule", id, 1, MAX_CRON_ID)?;
        let (id, paused) = (id.to_owned(), false);
        self.run(Pause { id, paused }).await
    }

    async fn remove_cron(&self, id: &str) -> Result<bool> {
        check_text("the id of a schedule", id, 1, MAX_CRON_ID)?;
        self.run(Remove { id: id.to_owned() }).await
    }

    fn cron_changes(&self) -> watch::Receiver<u64> {
        self.0.crons.subscribe()
    }
}
