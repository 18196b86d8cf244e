//! What must hold for serial queues: their records, and the jobs in them, agree.

use std::collections::BTreeSet;

use super::super::header::{Header, Phase};
use super::super::keys::{KeySpace, Space};
use super::super::plan::View;
use super::super::serial::{Record, Standing};
use super::super::{Error, JobId, Lane, Result};
use super::job::Job;
use super::{Damage, Fix, Named, Problem, Read, Rules, Verdict, named, read};
use crate::kv::{Object, Scan};

impl Job<'_> {
    /// The record of its queue, if it can be read. What cannot is told where the walk comes to it.
    async fn record(&self, view: &mut View<'_>) -> Result<Option<Record>> {
        let Some(hash) = self.header.queue_hash() else {
            return Ok(None);
        };
        let key = self.rules.keys.queue(&hash);
        Ok(match view.get(&key).await? {
            None => Some(Record::default()),
            Some(value) => match read(&key, &value) {
                Read::Good(record) => Some(record),
                Read::TooNew | Read::Bad(_) => None,
            },
        })
    }

    /// A waiting job of a queue stands in exactly one of `scheduled`, `ready` and `wait`, and the
    /// record of its queue knows.
    pub(super) async fn queued(&mut self, view: &mut View<'_>) -> Result<()> {
        let (Some(scheduled), Some(ready), Some(wait)) = (
            self.key(Space::Scheduled),
            self.key(Space::Ready),
            self.key(Space::Wait),
        ) else {
            return Ok(());
        };
        // In this order: whoever promotes it between the reads is seen twice, not missed; and what
        // changes behind the record's back is no longer what the record was read for.
        let mut is_scheduled = view.get(&scheduled).await?.is_some();
        let Some(record) = self.record(view).await? else {
            return Ok(());
        };
        let is_ready = view.get(&ready).await?.is_some();
        let waits = view.get(&wait).await?.is_some();
        if is_scheduled && (is_ready || waits) {
            is_scheduled = !view.read_again(&scheduled).await?.is_empty();
        }
        let exposed = record.exposes(self.id);
        let soon = self.rules.now.after(self.rules.max_skew);
        let early = self.header.run_at() > soon && self.header.scheduled;
        let (damage, key, wrong) = match (is_scheduled, is_ready, waits) {
            (false, false, false) => (
                Damage::NotPlaced,
                ready,
                "the job waits, but stands neither in its lane nor in its queue, nor among the scheduled ones: nothing would ever run it",
            ),
            (true, false, false) if exposed => (
                Damage::QueueDisagrees,
                scheduled,
                "the job stands among the scheduled ones, but its queue counts on it now",
            ),
            (true, false, false) if self.header.scheduled => return Ok(()),
            (true, false, false) => (
                Damage::PlacedWrongly,
                scheduled,
                "the job stands among the scheduled ones, but its header does not say so",
            ),
            (false, true, false) | (false, false, true) if early => (
                Damage::PlacedWrongly,
                ready,
                "the job stands in its lane or queue before its time",
            ),
            (false, true, false) if exposed => return Ok(()),
            (false, false, true) if !exposed && record.has_waiting(&self.header.lane) => {
                return Ok(());
            }
            (false, true, false) => (
                Damage::QueueDisagrees,
                ready,
                "the job stands in its lane, but its queue does not know",
            ),
            (false, false, true) => (
                Damage::QueueDisagrees,
                wait,
                "the job is blocked in its queue, which does not know: it would not be found",
            ),
            _ => (
                Damage::PlacedWrongly,
                ready,
                "the job stands at more places than one: it could be taken twice",
            ),
        };
        self.found(damage, key, wrong, Fix::Place);
        Ok(())
    }

    /// A running job counts as such in its queue.
    pub(super) async fn runs_in_queue(&mut self, view: &mut View<'_>) -> Result<()> {
        let Some(record) = self.record(view).await? else {
            return Ok(());
        };
        if let Some(hash) = self.header.queue_hash()
            && !record.runs(self.id)
        {
            let key = self.rules.keys.queue(&hash);
            let message = "the job runs, but its queue does not know: another could run, too";
            self.found(Damage::QueueDisagrees, key, message, Fix::Enlist);
        }
        Ok(())
    }
}

/// The record of a queue names jobs that run, and jobs that may, and misses none that may.
pub(super) async fn record(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    object: &Object,
) -> Result<Verdict> {
    let problem = |damage, message: String, fix| {
        Verdict::Wrong(vec![Problem {
            damage,
            key: object.key.clone(),
            job: None,
            message,
            fix,
        }])
    };
    let hash = match rules.keys.read_queue(&object.key) {
        Ok(hash) => hash,
        Err(Error::Store(error)) => {
            let message = format!("kvjob does not write such a key: {error}");
            let fix = Fix::PutAside(object.clone());
            return Ok(problem(Damage::UnknownKey, message, fix));
        }
        Err(error) => return Err(error),
    };
    let record: Record = match read(&object.key, &object.value) {
        Read::Good(record) => record,
        Read::TooNew => return Ok(Verdict::TooNew),
        Read::Bad(error) => {
            return Ok(problem(
                Damage::CorruptQueue,
                error.to_string(),
                Fix::Rebuild,
            ));
        }
    };
    if KeySpace::queue_hash(&record.tenant, &record.text) != hash {
        let message = format!("it says {:?}, which does not stand here", record.text);
        return Ok(problem(Damage::CorruptQueue, message, Fix::Rebuild));
    }
    let wrong = strangers(rules, view, &record).await?;
    if !wrong.is_empty() {
        let names: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        let message = format!(
            "the queue {:?} counts on jobs that neither run nor wait as it says: {}",
            record.text,
            names.join(", ")
        );
        return Ok(problem(Damage::QueueDisagrees, message, Fix::Settle(wrong)));
    }
    for (index, lane) in record.lanes.iter().enumerate() {
        let quota = record.quota(index);
        let prefix = rules.keys.wait_lane(
            &hash,
            &Lane {
                tenant: record.tenant.clone(),
                task: lane.task.clone(),
                flags: lane.flags.clone(),
            },
        );
        let lacks = lane.exposed.len() < quota && {
            let (waiting, _) = view.scan(Scan::prefix(prefix).limit(1).keys_only()).await?;
            !waiting.is_empty()
        };
        let message = match lane.exposed.len() > quota {
            true => "lets more jobs run at a time than it may",
            false if lacks => "is free, but serves no job: nothing would ever run those in it",
            false => continue,
        };
        let message = format!("the queue {:?} {message}", record.text);
        let fix = Fix::Settle(Vec::new());
        return Ok(problem(Damage::QueueDisagrees, message, fix));
    }
    Ok(Verdict::Sound)
}

/// The jobs of which a record says what their headers do not.
async fn strangers(rules: &Rules<'_>, view: &mut View<'_>, record: &Record) -> Result<Vec<JobId>> {
    let exposed = record.lanes.iter().flat_map(|lane| {
        let of_lane = lane.exposed.iter();
        of_lane.map(move |job| (job.id, Some((lane, *job))))
    });
    let running = record.running.iter().map(|id| (*id, None));
    let named_jobs: Vec<_> = running.chain(exposed).collect();
    let ids = named_jobs.iter().map(|(id, _)| JobId::from_bytes(*id));
    let headers: Vec<_> = ids.map(|id| rules.keys.job(id)).collect();
    view.load(&headers).await?;
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (bytes, exposed) in named_jobs {
        let id = JobId::from_bytes(bytes);
        let is_right = match named(rules, view, id).await? {
            Named::LeftAlone => true,
            Named::Nobody => false,
            Named::Here(header) => {
                let of_queue = header.queue.as_ref() == Some(&record.text)
                    && header.lane.tenant == record.tenant;
                of_queue
                    && match exposed {
                        None => header.phase == Phase::Running,
                        Some((lane, standing)) => {
                            let is_lane =
                                lane.task == header.lane.task && lane.flags == header.lane.flags;
                            is_lane && stands(id, &header, standing)
                        }
                    }
            }
        };
        if !seen.insert(bytes) || !is_right {
            wrong.push(id);
        }
    }
    Ok(wrong)
}

fn stands(id: JobId, header: &Header, standing: Standing) -> bool {
    header.phase == Phase::Waiting && Standing::of(id, header) == standing
}
