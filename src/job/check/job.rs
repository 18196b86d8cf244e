//! What must hold for a job, seen from its header.

use bytes::Bytes;

use super::super::header::{Arguments, Header, Phase};
use super::super::keys::Space;
use super::super::plan::{View, WorkerRecord};
use super::super::scheme::Scheme;
use super::super::unique::{self, Unique};
use super::super::{JobId, Result};
use super::history::history;
use super::{Damage, Fix, Named, Problem, Read, Rules, Verdict, expect, named, read};
use crate::kv::{Key, Object, Scan};

/// What is read of a job besides its header and its arguments, so that it can be read for many
/// jobs in one trip.
pub(in crate::job) fn reads(rules: &Rules<'_>, id: JobId, header: &Header) -> Vec<Key> {
    let spaces = [
        Space::Scheduled,
        Space::Ready,
        Space::Wait,
        Space::Signal,
        Space::Attention,
        Space::Unique,
    ];
    let mut keys: Vec<Key> = spaces
        .into_iter()
        .filter_map(|space| expect::key(rules.keys, space, id, header))
        .collect();
    keys.extend(header.queue_hash().map(|hash| rules.keys.queue(&hash)));
    if let Some(holder) = &header.holder {
        keys.push(rules.keys.worker(&holder.incarnation, holder.slot));
    }
    keys
}

/// What is to be said of the job of this header. `chunks` are the objects of its history, where
/// they were read before.
pub(in crate::job) async fn job(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    id: JobId,
    object: &Object,
    chunks: Option<Vec<Object>>,
) -> Result<Verdict> {
    let header: Header = match read(&object.key, &object.value) {
        Read::Good(header) => header,
        Read::TooNew => return Ok(Verdict::TooNew),
        Read::Bad(error) => {
            return Ok(Verdict::Wrong(vec![Problem {
                damage: Damage::CorruptHeader,
                key: object.key.clone(),
                job: Some(id),
                message: error.to_string(),
                fix: Fix::PutAside(object.clone()),
            }]));
        }
    };
    let mut job = Job {
        rules,
        id,
        header: &header,
        object,
        problems: Vec::new(),
    };
    if header.phase == Phase::Deleting {
        job.found(
            Damage::PurgeCutOff,
            object.key.clone(),
            "the job's removal was begun and never finished",
            Fix::Purge,
        );
        return Ok(Verdict::of(job.problems));
    }
    job.payload(view).await?;
    if job
        .problems
        .iter()
        .any(|problem| matches!(problem.fix, Fix::PutAside(_)))
    {
        // Everything else goes with it.
        return Ok(Verdict::of(job.problems));
    }
    match header.phase {
        Phase::Waiting if header.queue.is_some() => job.queued(view).await?,
        Phase::Waiting => job.waiting(view).await?,
        Phase::Running => {
            job.running(view).await?;
            job.runs_in_queue(view).await?;
        }
        _ => job.ended(),
    }
    if header.phase != Phase::Running && header.holder.is_some() {
        job.found(
            Damage::HeaderDisagrees,
            object.key.clone(),
            "the header says that the job does not run, and who runs it",
            Fix::Release,
        );
    }
    job.result(view).await?;
    job.required(view).await?;
    job.unique(view).await?;
    let chunks = match chunks {
        Some(chunks) => chunks,
        None => scan_all(view, &rules.keys.histories(id)).await?,
    };
    history(rules, id, &header, chunks, &mut job.problems)?;
    Ok(Verdict::of(job.problems))
}

/// Everything under a prefix.
async fn scan_all(view: &mut View<'_>, prefix: &Key) -> Result<Vec<Object>> {
    let mut found = Vec::new();
    let mut scan = Scan::prefix(prefix.clone());
    loop {
        let (objects, all) = view.scan(scan.clone()).await?;
        let last = objects.last().map(crate::kv::Cursor::after_object);
        found.extend(objects);
        match last {
            Some(last) if !all => scan = scan.after(last),
            _ => return Ok(found),
        }
    }
}

pub(super) struct Job<'a> {
    pub(super) rules: &'a Rules<'a>,
    pub(super) id: JobId,
    pub(super) header: &'a Header,
    object: &'a Object,
    problems: Vec<Problem>,
}

impl Job<'_> {
    pub(super) fn found(&mut self, damage: Damage, key: Key, message: impl Into<String>, fix: Fix) {
        self.problems.push(Problem {
            damage,
            key,
            job: Some(self.id),
            message: message.into(),
            fix,
        });
    }

    /// The values under a key. Of a bag, foreign ones are told of where the walk comes to them: if
    /// one is what it must be, its job is sound.
    async fn values(&self, view: &mut View<'_>, key: &Key) -> Result<Vec<Bytes>> {
        if self.rules.keys.scheme == Scheme::UniqueKeys {
            return Ok(view.get(key).await?.into_iter().collect());
        }
        let found = view.read_again(key).await?;
        Ok(found.into_iter().map(|object| object.value).collect())
    }

    pub(super) fn key(&self, space: Space) -> Option<Key> {
        expect::key(self.rules.keys, space, self.id, self.header)
    }

    /// The arguments cannot be built from anything: without them a job cannot run, and it goes to
    /// the quarantine as a claim would send it there. One that runs was given them before.
    async fn payload(&mut self, view: &mut View<'_>) -> Result<()> {
        let lost = match self.header.phase {
            Phase::Running => Fix::Leave("the job runs; check again when it has ended"),
            _ => Fix::PutAside(self.object.clone()),
        };
        let bytes = match &self.header.arguments {
            Arguments::Inline(text) => {
                if let Some(reason) = not_json(text.as_bytes()) {
                    let message = format!("the job's arguments are {reason}");
                    let key = self.object.key.clone();
                    self.found(Damage::CorruptPayload, key, message, lost);
                }
                return Ok(());
            }
            Arguments::Stored { bytes } | Arguments::Replaced { bytes, .. } => *bytes,
        };
        let Some(key) = self.key(Space::Payload) else {
            return Ok(());
        };
        let mut wrong = None;
        for value in self.values(view, &key).await? {
            let Some(reason) = unfit(&value, bytes) else {
                return Ok(());
            };
            wrong = Some(reason);
        }
        match wrong {
            None => {
                let message = "the job's arguments are gone";
                self.found(Damage::PayloadMissing, key, message, lost);
            }
            Some(reason) => {
                let message = format!("the job's arguments are {reason}");
                self.found(Damage::CorruptPayload, key, message, lost);
            }
        }
        Ok(())
    }

    /// A result cannot be built from anything. Without it, its job has none.
    async fn result(&mut self, view: &mut View<'_>) -> Result<()> {
        let bytes = match &self.header.result {
            None => return Ok(()),
            Some(Arguments::Inline(text)) => {
                if let Some(reason) = not_json(text.as_bytes()) {
                    let message = format!("the job's result is {reason}");
                    let key = self.object.key.clone();
                    self.found(Damage::CorruptResult, key, message, Fix::LoseResult);
                }
                return Ok(());
            }
            Some(Arguments::Stored { bytes } | Arguments::Replaced { bytes, .. }) => *bytes,
        };
        let key = self.rules.keys.result(self.id);
        let mut wrong = None;
        for value in self.values(view, &key).await? {
            let Some(reason) = unfit(&value, bytes) else {
                return Ok(());
            };
            wrong = Some(reason);
        }
        let (damage, message) = match wrong {
            None => (Damage::ResultMissing, "the job's result is gone".to_owned()),
            Some(reason) => {
                let message = format!("the job's result is {reason}");
                (Damage::CorruptResult, message)
            }
        };
        // What stands there then belongs to nobody, and is told of and put aside as such.
        self.found(damage, key, message, Fix::LoseResult);
        Ok(())
    }

    /// A waiting job stands in exactly one of `ready` and `scheduled`.
    async fn waiting(&mut self, view: &mut View<'_>) -> Result<()> {
        let (Some(scheduled), Some(ready)) = (self.key(Space::Scheduled), self.key(Space::Ready))
        else {
            return Ok(());
        };
        // In this order: whoever promotes it between the two reads is seen twice, not missed.
        let is_scheduled = view.get(&scheduled).await?.is_some();
        let is_ready = view.get(&ready).await?.is_some();
        let soon = self.rules.now.after(self.rules.max_skew);
        let early = self.header.run_at() > soon;
        let wrong = match (is_scheduled, is_ready) {
            (false, false) => {
                let message = "the job waits, but stands neither in its lane nor among the scheduled ones: nothing would ever run it";
                self.found(Damage::NotPlaced, ready, message, Fix::Place);
                return Ok(());
            }
            // Promoted between the two reads it is at one place now.
            (true, true) if view.read_again(&scheduled).await?.is_empty() => return Ok(()),
            (true, true) => {
                "the job stands in its lane and among the scheduled ones: it could be taken twice"
            }
            (true, false) if !self.header.scheduled => {
                "the job stands among the scheduled ones, but its header does not say so"
            }
            (false, true) if early && self.header.scheduled => {
                "the job stands in its lane before its time"
            }
            _ => return Ok(()),
        };
        let key = if is_scheduled { scheduled } else { ready };
        self.found(Damage::PlacedWrongly, key, wrong, Fix::Place);
        Ok(())
    }

    /// A running job has its lease once in the worker record that its header names.
    async fn running(&mut self, view: &mut View<'_>) -> Result<()> {
        let Some(holder) = &self.header.holder else {
            self.found(
                Damage::HeaderDisagrees,
                self.object.key.clone(),
                "the header says that the job runs, but not who runs it",
                Fix::TakeBack,
            );
            return Ok(());
        };
        let key = self.rules.keys.worker(&holder.incarnation, holder.slot);
        let mut leases = 0;
        for value in self.values(view, &key).await? {
            match read::<WorkerRecord>(&key, &value) {
                Read::TooNew => return Ok(()),
                Read::Bad(_) => {}
                Read::Good(record) => {
                    let epoch = self.header.epoch;
                    let mine = record
                        .entries
                        .iter()
                        .filter(|entry| entry.id() == self.id && entry.epoch == epoch);
                    leases += mine.count();
                }
            }
        }
        match leases {
            1 => {}
            0 => {
                let message = format!(
                    "the job runs, but the record of its worker {:?} has no lease on it: nothing would ever take it back",
                    holder.worker
                );
                self.found(Damage::LeaseMissing, key, message, Fix::Lease);
            }
            more => {
                let message = format!("the job's lease stands {more} times in its worker's record");
                self.found(Damage::LeaseTwice, key, message, Fix::OneLease);
            }
        }
        Ok(())
    }

    fn ended(&mut self) {
        if self.header.ended_at.is_none() {
            self.found(
                Damage::HeaderDisagrees,
                self.object.key.clone(),
                "the header says that the job has ended, but not when",
                Fix::End,
            );
        }
    }

    /// The entries that a header asks for and that can be built from it.
    async fn required(&mut self, view: &mut View<'_>) -> Result<()> {
        for (space, damage, message) in [
            (
                Space::Signal,
                Damage::SignalMissing,
                "the job was asked to stop, but its holder cannot see it",
            ),
            (
                Space::Attention,
                Damage::AttentionMissing,
                "the job ended badly, or late, but is not listed with those that did",
            ),
        ] {
            let Some(key) = self.key(space) else { continue };
            if expect::is_required(space) && view.get(&key).await?.is_none() {
                let value = expect::value(self.rules.keys, space, self.id, self.header)?;
                self.found(damage, key.clone(), message, Fix::Put(key, value));
            }
        }
        Ok(())
    }

    /// A job that has a key, and keeps it, is who the key's record names.
    async fn unique(&mut self, view: &mut View<'_>) -> Result<()> {
        let Some(mine) = unique::kept(self.id, self.header) else {
            return Ok(());
        };
        let key = self.rules.keys.unique(&mine.tenant, &mine.text);
        let value = expect::value(self.rules.keys, Space::Unique, self.id, self.header)?;
        let values = self.values(view, &key).await?;
        if values.iter().any(|found| **found == *value) {
            return Ok(());
        }
        let Some(found) = values.into_iter().next() else {
            let message = format!("the key {:?} of the job is not taken", mine.text);
            self.found(
                Damage::KeyMissing,
                key.clone(),
                message,
                Fix::Put(key, value),
            );
            return Ok(());
        };
        let object = Object::new(key.clone(), found);
        let (message, put_aside) = match read::<Unique>(&key, &object.value) {
            Read::TooNew => return Ok(()),
            Read::Bad(error) => (error.to_string(), true),
            Read::Good(record) if record.id == mine.id => {
                let message = format!(
                    "the record of the job's key says {:?}, its header {:?}",
                    record.text, mine.text
                );
                (message, true)
            }
            Read::Good(record) => {
                let other = JobId::from_bytes(record.id);
                match named(self.rules, view, other).await? {
                    Named::LeftAlone => return Ok(()),
                    Named::Here(header)
                        if expect::key(self.rules.keys, Space::Unique, other, &header)
                            == Some(key.clone()) =>
                    {
                        let message =
                            format!("the job's key {:?} belongs to job {other}", mine.text);
                        let own = self.object.key.clone();
                        self.found(Damage::KeyTaken, own, message, Fix::LoseKey);
                        return Ok(());
                    }
                    Named::Here(_) | Named::Nobody => {}
                }
                let message = format!("the job's key names job {other}, which does not have it");
                (message, false)
            }
        };
        let fix = Fix::Rewrite {
            object,
            value,
            put_aside,
        };
        self.found(Damage::CorruptEntry, key, message, fix);
        Ok(())
    }
}

/// Why this value cannot be arguments of so many bytes, if it cannot.
pub(in crate::job) fn unfit(value: &[u8], bytes: u64) -> Option<String> {
    if value.len() as u64 == bytes {
        not_json(value)
    } else {
        Some(format!("{} bytes, not {bytes}", value.len()))
    }
}

/// Why these bytes are not JSON, if they are not.
fn not_json(bytes: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Some(format!("not UTF-8: {error}")),
    };
    let read: serde_json::Result<serde::de::IgnoredAny> = serde_json::from_str(text);
    read.err().map(|error| format!("not JSON: {error}"))
}
