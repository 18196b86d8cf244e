//! What must hold for every object that is not a header: kvjob wrote its key, its value can be
//! read, its job exists and asks for it.

use super::super::cron;
use super::super::header::{Header, Phase};
use super::super::keys::{KeySpace, Space, Waiting};
use super::super::log::StoredLine;
use super::super::ops::quarantine::Record;
use super::super::ops::set_lanes;
use super::super::ops::sweep::Walks;
use super::super::plan::{View, WorkerRecord};
use super::super::unique::Unique;
use super::super::{Error, JobId, Result};
use super::{Damage, Fix, Named, Problem, Read, Rules, Verdict, expect, named, queue, read};
use crate::kv::{ErrorKind, Key, Object, Scan};

/// What is to be said of an object of this space; `None` is a space that nobody knows.
pub(in crate::job) async fn entry(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    space: Option<Space>,
    object: &Object,
) -> Result<Verdict> {
    let entry = Entry { rules, object };
    match space {
        Some(Space::Retention) if object.key == rules.keys.retention() => Ok(entry.walks()),
        Some(
            Space::Ready
            | Space::Scheduled
            | Space::Wait
            | Space::Attention
            | Space::Signal
            | Space::Retention,
        ) => entry.index(view, space).await,
        Some(Space::Unique) => entry.unique(view).await,
        Some(Space::Payload | Space::Result | Space::History | Space::Log) => {
            entry.satellite(view, space).await
        }
        Some(Space::Worker) => entry.worker(view).await,
        Some(Space::Queue) => queue::record(rules, view, object).await,
        Some(Space::Lane) => Ok(entry.lane()),
        Some(Space::Quarantine) => Ok(entry.quarantine()),
        Some(Space::Cron) => Ok(entry.cron()),
        Some(Space::Job) => Ok(entry.not_ours(&"no id of a job is in it")),
        Some(Space::Format) | None => Ok(entry.elsewhere()),
    }
}

/// The job an object belongs to, as far as its key says it.
pub(in crate::job) fn job_of(rules: &Rules<'_>, space: Space, object: &Object) -> Option<JobId> {
    let (keys, key) = (rules.keys, &object.key);
    let id = match space {
        Space::Ready => keys.read_ready(key).map(|ready| ready.id),
        Space::Scheduled => keys.read_scheduled(key).map(|(_, id)| id),
        Space::Wait => keys.read_wait(key).map(|wait| wait.id),
        Space::Attention => keys.read_attention(key).map(|(_, id)| id),
        Space::Signal => keys.signal_id(key),
        Space::Retention => keys.removal_id(key),
        Space::Job => keys.job_id(key),
        Space::Payload | Space::Result | Space::History | Space::Log => keys.owner(space, key),
        Space::Unique => match read::<Unique>(key, &object.value) {
            Read::Good(unique) => return Some(JobId::from_bytes(unique.id)),
            Read::TooNew | Read::Bad(_) => return None,
        },
        Space::Format
        | Space::Worker
        | Space::Queue
        | Space::Lane
        | Space::Quarantine
        | Space::Cron => return None,
    };
    id.ok()
}

/// Whether a record of this key was put aside.
pub(in crate::job) async fn is_quarantined(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    key: &Key,
) -> Result<bool> {
    let aside = rules.keys.quarantines_of(key);
    let scan = Scan::prefix(aside.clone()).limit(1).keys_only();
    let (found, _) = view.scan(scan).await?;
    Ok(found
        .iter()
        .any(|object| KeySpace::is_of(&aside, &object.key)))
}

struct Entry<'a> {
    rules: &'a Rules<'a>,
    object: &'a Object,
}

impl Entry<'_> {
    fn problem(
        &self,
        damage: Damage,
        job: Option<JobId>,
        message: impl Into<String>,
        fix: Fix,
    ) -> Verdict {
        Verdict::Wrong(vec![Problem {
            damage,
            key: self.object.key.clone(),
            job,
            message: message.into(),
            fix,
        }])
    }

    fn put_aside(&self) -> Fix {
        Fix::PutAside(self.object.clone())
    }

    fn remove(&self) -> Fix {
        Fix::Remove(self.object.clone())
    }

    fn not_ours(&self, reason: &dyn std::fmt::Display) -> Verdict {
        let message = format!("kvjob does not write such a key: {reason}");
        self.problem(Damage::UnknownKey, None, message, self.put_aside())
    }

    /// An entry that can be built from headers: its job asks for this very key and value.
    async fn index(&self, view: &mut View<'_>, space: Option<Space>) -> Result<Verdict> {
        let Some(space) = space else {
            return Ok(Verdict::Sound);
        };
        let Some(id) = job_of(self.rules, space, self.object) else {
            return Ok(self.not_ours(&"it does not name a job as the keys of its space do"));
        };
        let header = match named(self.rules, view, id).await? {
            Named::LeftAlone => return Ok(Verdict::Sound),
            Named::Nobody => return Ok(self.orphan(id, self.remove())),
            Named::Here(header) => header,
        };
        if expect::key(self.rules.keys, space, id, &header).as_ref() != Some(&self.object.key) {
            return Ok(self.stale(id, &header, self.remove()));
        }
        let rewrite = |put_aside| {
            Ok::<_, Error>(Fix::Rewrite {
                object: self.object.clone(),
                value: expect::value(self.rules.keys, space, id, &header)?,
                put_aside,
            })
        };
        let (message, put_aside) = match space {
            Space::Ready | Space::Scheduled | Space::Wait => match self.waiting() {
                Read::TooNew => return Ok(Verdict::TooNew),
                Read::Good(waiting) if waiting == expect::waiting(space, &header) => {
                    return Ok(Verdict::Sound);
                }
                Read::Good(_) => (
                    "the entry says another lane or priority than the job's header".to_owned(),
                    false,
                ),
                Read::Bad(error) => (error.to_string(), true),
            },
            _ if self.object.value == expect::value(self.rules.keys, space, id, &header)? => {
                return Ok(Verdict::Sound);
            }
            _ => ("the entry has another value than it must".to_owned(), true),
        };
        Ok(self.problem(Damage::CorruptEntry, Some(id), message, rewrite(put_aside)?))
    }

    /// Nothing is the default.
    fn waiting(&self) -> Read<Waiting> {
        if self.object.value.is_empty() {
            return Read::Good(Waiting::default());
        }
        read(&self.object.key, &self.object.value)
    }

    fn orphan(&self, id: JobId, fix: Fix) -> Verdict {
        let message = format!("it belongs to job {id}, which does not exist");
        self.problem(Damage::Orphan, Some(id), message, fix)
    }

    fn stale(&self, id: JobId, header: &Header, fix: Fix) -> Verdict {
        let message = format!(
            "job {id} is {}, and its header does not ask for it",
            header.state(self.rules.now)
        );
        self.problem(Damage::Stale, Some(id), message, fix)
    }

    /// A job key's record names a job that has the key, and stands where it belongs. A job without
    /// its record finds that out itself.
    async fn unique(&self, view: &mut View<'_>) -> Result<Verdict> {
        let unique: Unique = match read(&self.object.key, &self.object.value) {
            Read::Good(unique) => unique,
            Read::TooNew => return Ok(Verdict::TooNew),
            Read::Bad(error) => {
                let message = error.to_string();
                return Ok(self.problem(Damage::CorruptEntry, None, message, self.put_aside()));
            }
        };
        let id = JobId::from_bytes(unique.id);
        if self.rules.keys.unique(&unique.tenant, &unique.text) != self.object.key {
            let message = format!("it says {:?}, which does not stand here", unique.text);
            return Ok(self.problem(Damage::CorruptEntry, Some(id), message, self.put_aside()));
        }
        Ok(match named(self.rules, view, id).await? {
            Named::LeftAlone => Verdict::Sound,
            Named::Nobody => self.orphan(id, self.remove()),
            Named::Here(header) => {
                let asked = expect::key(self.rules.keys, Space::Unique, id, &header);
                if asked.as_ref() == Some(&self.object.key) {
                    Verdict::Sound
                } else {
                    self.stale(id, &header, self.remove())
                }
            }
        })
    }

    /// Arguments, results, history and logs can be built from nothing: what nobody asks for is kept, in the
    /// quarantine.
    async fn satellite(&self, view: &mut View<'_>, space: Option<Space>) -> Result<Verdict> {
        let Some(space) = space else {
            return Ok(Verdict::Sound);
        };
        let Some(id) = job_of(self.rules, space, self.object) else {
            return Ok(self.not_ours(&"it does not name a job as the keys of its space do"));
        };
        let header = match named(self.rules, view, id).await? {
            Named::LeftAlone => return Ok(Verdict::Sound),
            Named::Nobody => return Ok(self.orphan(id, self.put_aside())),
            Named::Here(header) => header,
        };
        if header.phase == Phase::Deleting {
            return Ok(Verdict::Sound);
        }
        Ok(match space {
            Space::Payload | Space::Result => {
                let asked = expect::key(self.rules.keys, space, id, &header);
                if asked.as_ref() == Some(&self.object.key) {
                    Verdict::Sound
                } else {
                    self.stale(id, &header, self.put_aside())
                }
            }
            Space::Log => match self.line(id)? {
                Read::Good(_) => Verdict::Sound,
                Read::TooNew => Verdict::TooNew,
                Read::Bad(error) => self.problem(
                    Damage::CorruptLog,
                    Some(id),
                    error.to_string(),
                    self.put_aside(),
                ),
            },
            // Its job looks into it.
            _ => Verdict::Sound,
        })
    }

    fn line(&self, id: JobId) -> Result<Read<StoredLine>> {
        match self.rules.keys.read_log(id, self.object) {
            Ok((_, _, body)) => Ok(read(&self.object.key, body)),
            Err(Error::Store(error)) => Ok(Read::Bad(error)),
            Err(error) => Err(error),
        }
    }

    /// A worker record holds no lease that another one holds, too. Leases that have ended stay in
    /// it until its worker writes it again (protocol rule 6).
    async fn worker(&self, view: &mut View<'_>) -> Result<Verdict> {
        let (incarnation, slot) = match self.rules.keys.read_worker(&self.object.key) {
            Ok(read) => read,
            Err(Error::Store(error)) => return Ok(self.not_ours(&error)),
            Err(error) => return Err(error),
        };
        let record: WorkerRecord = match read(&self.object.key, &self.object.value) {
            Read::Good(record) => record,
            Read::TooNew => return Ok(Verdict::TooNew),
            Read::Bad(error) => {
                let message = error.to_string();
                return Ok(self.problem(Damage::CorruptWorker, None, message, self.put_aside()));
            }
        };
        let headers: Vec<Key> = record
            .entries
            .iter()
            .map(|entry| self.rules.keys.job(entry.id()))
            .collect();
        view.load(&headers).await?;
        let mut problems = Vec::new();
        for entry in &record.entries {
            // An epoch is one lease: another holder at the same epoch never was.
            if let Named::Here(header) = named(self.rules, view, entry.id()).await?
                && header.phase == Phase::Running
                && header.epoch == entry.epoch
                && let Some(holder) = &header.holder
                && (holder.incarnation, holder.slot) != (incarnation, slot)
            {
                let (id, epoch) = (entry.id(), entry.epoch);
                let message = format!("it has a lease on job {id}, which another worker holds");
                let fix = Fix::DropLease { id, epoch };
                let problem = self.problem(Damage::LeaseTwice, Some(id), message, fix);
                problems.extend(problem.problems());
            }
        }
        Ok(Verdict::of(problems))
    }

    /// What is set for lanes. Without it, they are as if nothing had been.
    fn lane(&self) -> Verdict {
        match set_lanes::read(self.rules.keys, self.object) {
            Ok(_) => Verdict::Sound,
            Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => Verdict::TooNew,
            Err(error) => {
                let message = error.to_string();
                self.problem(Damage::CorruptEntry, None, message, self.put_aside())
            }
        }
    }

    /// How far sweeps have come. Without it they begin again.
    fn walks(&self) -> Verdict {
        match read::<Walks>(&self.object.key, &self.object.value) {
            Read::Good(_) => Verdict::Sound,
            Read::TooNew => Verdict::TooNew,
            Read::Bad(error) => {
                let message = error.to_string();
                self.problem(Damage::CorruptEntry, None, message, self.put_aside())
            }
        }
    }

    /// What is kept of a cron schedule belongs to no job.
    fn cron(&self) -> Verdict {
        if let Err(error) = self.rules.keys.cron_id(&self.object.key) {
            return self.not_ours(&error);
        }
        match read::<cron::Stored>(&self.object.key, &self.object.value) {
            Read::Good(_) => Verdict::Sound,
            Read::TooNew => Verdict::TooNew,
            Read::Bad(error) => {
                let message = error.to_string();
                self.problem(Damage::CorruptEntry, None, message, self.put_aside())
            }
        }
    }

    fn quarantine(&self) -> Verdict {
        match read::<Record>(&self.object.key, &self.object.value) {
            Read::TooNew => Verdict::TooNew,
            Read::Good(record) => {
                let (keys, key) = (self.rules.keys, Key::from(&*record.key));
                let hash = record.id().as_u64();
                // Once they had no names.
                let places = [keys.quarantine(&key, hash), keys.quarantines_of(&key)];
                if places.contains(&self.object.key) {
                    return Verdict::Sound;
                }
                let message = "the record belongs under another key";
                self.problem(Damage::CorruptQuarantine, None, message, self.put_aside())
            }
            Read::Bad(error) => {
                let message = error.to_string();
                self.problem(Damage::CorruptQuarantine, None, message, self.put_aside())
            }
        }
    }

    /// Whatever lies in no space of ours: what newer software wrote is its own business.
    fn elsewhere(&self) -> Verdict {
        if self.rules.shared_with_newer {
            return Verdict::TooNew;
        }
        self.not_ours(&"it lies in no space that this version knows")
    }
}
