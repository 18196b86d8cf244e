//! A look at the queues whose cost is bounded, and what is seen to happen to jobs, whoever does it.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::KvStore;
use crate::job::header::{self, Header, Phase};
use crate::job::keys::{Space, Waiting};
use crate::job::plan::WorkerRecord;
use crate::job::{Glance, Result, Seen, State};
use crate::kv::{Event, Key, Object, Scan};

/// Headers read at once, and events taken together.
const PAGE: usize = 256;

impl KvStore {
    /// How many jobs wait, run and ended badly, by task: of each of these at most the `most` first
    /// ones are counted, and of those that wait in serial queues as many again, so that it costs
    /// the same however large the store is. What completed is not counted.
    ///
    /// # Errors
    /// What the store says.
    pub async fn glance(&self, most: usize) -> Result<Glance> {
        let mut glance = Glance::default();
        let now = self.clock().now();
        let keys = &self.0.keys;
        let (ready, more) = self.first(keys.ready_all(), most, true).await?;
        for object in &ready {
            if let Ok(ready) = keys.read_ready(&object.key) {
                glance.count(&ready.task, State::Ready);
            }
        }
        glance.cut(more, [State::Ready]);
        let (waiting, more) = self.first(keys.prefix(Space::Wait), most, true).await?;
        for object in &waiting {
            if let Ok(wait) = keys.read_wait(&object.key) {
                glance.count(&wait.task, State::Ready);
            }
        }
        glance.cut(more, [State::Ready]);
        let (scheduled, more) = self.first(keys.scheduled_all(), most, false).await?;
        for object in &scheduled {
            if let Ok((run_at, _)) = keys.read_scheduled(&object.key) {
                let waiting: Waiting = header::decode_or_default(object);
                let is_due = run_at <= now;
                let state = if is_due {
                    State::Ready
                } else {
                    State::Scheduled
                };
                glance.count(&waiting.lane.task, state);
            }
        }
        glance.cut(more, [State::Scheduled]);

        let (records, mut more) = self.first(keys.workers(), most, false).await?;
        let mut running = Vec::new();
        for object in &records {
            // One that cannot be read is put aside by whoever claims.
            if let Ok(record) = header::decode::<WorkerRecord>(&object.key, &object.value) {
                running.extend(record.entries.iter().map(|entry| keys.job(entry.id())));
            }
        }
        more |= running.len() > most;
        running.truncate(most);
        // A record may still hold jobs that have ended.
        self.count_headers(&mut glance, &running, |header| {
            header.phase == Phase::Running
        })
        .await?;
        glance.cut(more, [State::Running]);

        let (ended, more) = self.first(keys.attention_all(), most, true).await?;
        let ended: Vec<Key> = ended
            .iter()
            .filter_map(|object| keys.read_attention(&object.key).ok())
            .map(|(_, id)| keys.job(id))
            .collect();
        let bad = |header: &Header| {
            matches!(
                header.phase,
                Phase::Failed | Phase::Canceled | Phase::TimedOut
            )
        };
        self.count_headers(&mut glance, &ended, bad).await?;
        glance.cut(more, [State::Failed, State::Canceled, State::TimedOut]);
        Ok(glance)
    }

    /// The first objects under a prefix, and whether there are more.
    async fn first(
        &self,
        prefix: Key,
        most: usize,
        keys_only: bool,
    ) -> Result<(Vec<Object>, bool)> {
        let mut scan = Scan::prefix(prefix);
        scan.keys_only = keys_only;
        let mut found = Vec::new();
        loop {
            scan.limit = most.saturating_sub(found.len()).min(4 * PAGE);
            let page = self.0.store.scan(scan.clone()).await?;
            found.extend(page.objects);
            match page.next {
                Some(next) if found.len() < most => scan = scan.after(next),
                next => return Ok((found, next.is_some())),
            }
        }
    }

    async fn count_headers(
        &self,
        glance: &mut Glance,
        keys: &[Key],
        counts: impl Fn(&Header) -> bool,
    ) -> Result<()> {
        let now = self.clock().now();
        for keys in keys.chunks(PAGE) {
            for object in self.0.store.get_many(keys).await?.iter().flatten() {
                if let Ok(header) = Header::decode(&object.key, &object.value)
                    && counts(&header)
                {
                    glance.count(&header.lane.task, header.state(now));
                }
            }
        }
        Ok(())
    }

    /// What happens to jobs from now on, in any process, as far as it is seen in the store: states
    /// that a job only passed through may be left out, and the same may be seen again. `None`
    /// where the store cannot be watched. Ends when the store closes.
    ///
    /// # Errors
    /// What the store says.
    pub async fn sightings(&self) -> Result<Option<BoxStream<'static, Result<Seen>>>> {
        let Some(watch) = self.0.store.watch() else {
            return Ok(None);
        };
        let events = watch.watch(&self.0.keys.jobs()).await?;
        let jobs = self.clone();
        let seen = events.ready_chunks(PAGE).then(move |events| {
            let jobs = jobs.clone();
            async move {
                let seen = jobs.see(events).await;
                let seen = seen.map_or_else(
                    |error| vec![Err(error)],
                    |seen| seen.into_iter().map(Ok).collect(),
                );
                futures::stream::iter(seen)
            }
        });
        Ok(Some(seen.flatten().boxed()))
    }

    async fn see(&self, events: Vec<Event>) -> Result<Vec<Seen>> {
        let now = self.clock().now();
        let mut seen = Vec::new();
        let mut changed = BTreeSet::new();
        let mut lagged = false;
        for event in events {
            match event {
                Event::Changed(key) if self.0.keys.job_id(&key).is_ok() => {
                    changed.insert(key);
                }
                // Or a key that stands for several.
                _ => lagged = true,
            }
        }
        if lagged {
            seen.push(Seen::Missed);
        }
        let changed: Vec<Key> = changed.into_iter().collect();
        for object in self.0.store.get_many(&changed).await?.into_iter().flatten() {
            let (Ok(id), Ok(header)) = (
                self.0.keys.job_id(&object.key),
                Header::decode(&object.key, &object.value),
            ) else {
                continue;
            };
            if header.phase != Phase::Deleting {
                seen.push(Seen::Job {
                    id,
                    state: header.state(now),
                    attempts: header.attempts,
                    error: header.last_error().map(ToOwned::to_owned),
                    task: header.lane.task,
                });
            }
        }
        Ok(seen)
    }
}
