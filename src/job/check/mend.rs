//! How each kind of damage is mended, within a plan.
//!
//! Nothing is thrown away that was not written twice: entries that follow from headers are removed
//! and built again; everything else that is in the way goes to the quarantine, as raw bytes.

use super::super::header::{self, Header, Phase};
use super::super::keys::Space;
use super::super::ops::expire::LEASE_EXPIRED;
use super::super::ops::quarantine;
use super::super::plan::{Context, Entry, View, WorkerRecord};
use super::super::serial::Queue;
use super::super::transition::{self, Next, Why};
use super::super::{JobId, QuarantineId, Result, place, retention};
use super::history::notes;
use super::{Damage, Finding, Fix, Problem, Read, read};
use crate::kv::{Key, Object};

/// What became of a fix.
enum Done {
    /// It is done, and this is what was done.
    Mended(&'static str),
    /// It cannot be done, and why.
    Left(&'static str),
    /// This commit has a change of the same key already: do it in the next one.
    Later,
}

/// Mends what is wrong with one job, or one object, and says what was done. Problems that have to
/// wait for another commit are left out.
pub(in crate::job) async fn apply(
    cx: &Context<'_>,
    view: &mut View<'_>,
    problems: Vec<Problem>,
    header: Option<Object>,
) -> Result<Vec<Finding>> {
    let mut mender = Mender {
        header: match &header {
            Some(object) => match read(&object.key, &object.value) {
                Read::Good(header) => Some(header),
                Read::TooNew | Read::Bad(_) => None,
            },
            None => None,
        },
        changed: Vec::new(),
        cx,
        view,
    };
    let mut findings = Vec::with_capacity(problems.len());
    let mut job = None;
    for problem in problems {
        job = job.or(problem.job);
        let done = mender.mend(&problem).await?;
        findings.push(match done {
            Done::Mended(action) => problem.found(true, Some(action)),
            Done::Left(why) => problem.found(false, Some(why)),
            Done::Later => continue,
        });
    }
    if let Some(id) = job {
        mender.finish(id)?;
    }
    Ok(findings)
}

impl Problem {
    /// As it is told.
    pub(in crate::job) fn found(self, mended: bool, action: Option<&str>) -> Finding {
        Finding {
            damage: self.damage,
            key: self.key.to_string(),
            job: self.job,
            message: self.message,
            mended,
            action: action.map(ToOwned::to_owned),
        }
    }
}

struct Mender<'a, 'c, 's> {
    cx: &'a Context<'c>,
    view: &'a mut View<'s>,
    /// The header of the job in question, as it is to be.
    header: Option<Header>,
    /// Why it is to be written.
    changed: Vec<String>,
}

impl Mender<'_, '_, '_> {
    /// Writes the header if it was changed, with a step that says why.
    fn finish(&mut self, id: JobId) -> Result<()> {
        if let (false, Some(header)) = (self.changed.is_empty(), &mut self.header) {
            let note = format!("mended by a check: {}", self.changed.join("; "));
            let state = header.state(self.cx.now);
            transition::step(self.cx, header, state, Why::Note(&note));
            transition::write(self.cx, self.view, id, header)?;
        }
        Ok(())
    }

    async fn mend(&mut self, problem: &Problem) -> Result<Done> {
        match &problem.fix {
            Fix::Leave(why) => Ok(Done::Left(why)),
            Fix::Purge => Ok(Done::Left("the removal could not be finished")),
            Fix::Remove(object) => {
                if self.view.writes(&object.key) {
                    return Ok(Done::Later);
                }
                self.view.remove_object(object);
                Ok(Done::Mended("removed"))
            }
            Fix::PutAside(object) => {
                let done = self.put_aside(object, problem)?;
                if matches!(done, Done::Mended(_)) {
                    self.view.remove_object(object);
                }
                Ok(done)
            }
            Fix::Rewrite {
                object,
                value,
                put_aside,
            } => self.rewrite(object, value, *put_aside, problem),
            Fix::Put(key, value) => {
                if self.view.writes(key) {
                    return Ok(Done::Later);
                }
                self.view.put(key.clone(), value.clone());
                self.walk_again(key);
                Ok(Done::Mended("written again"))
            }
            Fix::DropLease { id, epoch } => self.drop_lease(&problem.key, *id, *epoch).await,
            Fix::Settle(gone) => self.settle(&problem.key, gone).await,
            Fix::Rebuild => self.rebuild(problem).await,
            fix => match problem.job {
                Some(id) => self.mend_job(id, fix, problem).await,
                None => Ok(Done::Left("nobody knows which job it is about")),
            },
        }
    }

    /// The fixes of a job whose header can be read.
    async fn mend_job(&mut self, id: JobId, fix: &Fix, problem: &Problem) -> Result<Done> {
        let Some(header) = &mut self.header else {
            return Ok(Done::Left("its header cannot be read"));
        };
        let action = match fix {
            Fix::Place => {
                place::anew(self.cx, self.view, id, header).await?;
                "put where it belongs"
            }
            Fix::Enlist => {
                if let Some(mut queue) = Queue::of(self.cx, self.view, header).await? {
                    queue.run(id);
                    queue.close(self.cx, self.view).await?;
                }
                return Ok(Done::Mended("its queue knows now"));
            }
            Fix::Lease | Fix::OneLease => return self.lease(id, problem).await,
            Fix::TakeBack => {
                header.losses = header.losses.saturating_add(1);
                header.epoch += 1;
                let pause = header.backoff.wait(header.attempts, self.cx.clock.random());
                let next = Next::After(pause);
                transition::failed(self.cx, self.view, id, header, LEASE_EXPIRED, next).await?;
                return Ok(Done::Mended("taken back like a lease that ran out"));
            }
            Fix::Release => {
                header.holder = None;
                "held by nobody now"
            }
            Fix::End => {
                let last = header.history.steps.last().map(|step| step.at);
                let ended_at = last.unwrap_or(header.created_at);
                header.ended_at = Some(ended_at);
                if let Some((entry, value)) = retention::attention(self.cx.keys, id, header) {
                    self.view.put(entry.clone(), value);
                    self.walk_again(&entry);
                }
                "ended with its last step"
            }
            Fix::LoseKey => {
                header.key = None;
                "without a key now"
            }
            Fix::LoseResult => {
                header.result = None;
                "without a result now"
            }
            Fix::CountFrom(next) => {
                header.history.next = *next;
                "counted anew"
            }
            Fix::Fill(gaps) => {
                for (first, last) in gaps {
                    if self.view.writes(&self.cx.keys.history(id, *first, &[]).key) {
                        return Ok(Done::Later);
                    }
                    let chunk = header::encode(&notes(header, *first, *last))?;
                    let object = self.cx.keys.history(id, *first, &chunk);
                    self.view.append(object);
                }
                return Ok(Done::Mended("notes stand in their place"));
            }
            _ => return Ok(Done::Left("nobody knows how")),
        };
        self.changed.push(problem.message.clone());
        Ok(Done::Mended(action))
    }

    /// An entry that comes to stand where sweeps may have passed makes them begin again, once.
    fn walk_again(&mut self, entry: &Key) {
        if self.cx.keys.space_of(entry) == Some(Space::Attention) {
            self.view.remove(self.cx.keys.retention());
        }
    }

    /// An object's raw bytes go to the quarantine; the caller removes it.
    fn put_aside(&mut self, object: &Object, problem: &Problem) -> Result<Done> {
        let name = QuarantineId::of(object.key.as_bytes(), &object.value);
        let aside = self.cx.keys.quarantine(&object.key, name.as_u64());
        if self.view.writes(&object.key) || self.view.writes(&aside) {
            return Ok(Done::Later);
        }
        let limits = self.view.limits();
        let size = object.size() + problem.message.len() + 64;
        if limits.check_key(&aside).is_err()
            || size > limits.value_bytes
            || size + aside.len() > limits.commit_bytes
        {
            return Ok(Done::Left(
                "it is too large to be put aside: remove it by the means of the store",
            ));
        }
        quarantine::put_aside(
            self.cx,
            self.view,
            &object.key,
            &object.value,
            &problem.message,
        )?;
        Ok(Done::Mended("put aside"))
    }

    fn rewrite(
        &mut self,
        object: &Object,
        value: &[u8],
        put_aside: bool,
        problem: &Problem,
    ) -> Result<Done> {
        if self.view.writes(&object.key) {
            return Ok(Done::Later);
        }
        if put_aside {
            let done = self.put_aside(object, problem)?;
            if !matches!(done, Done::Mended(_)) {
                return Ok(done);
            }
        }
        self.view.replace_object(object, value.to_vec());
        self.walk_again(&object.key);
        Ok(Done::Mended(if put_aside {
            "put aside, and written again"
        } else {
            "written again"
        }))
    }

    /// The record of a running job's worker has one lease on it afterwards.
    async fn lease(&mut self, id: JobId, problem: &Problem) -> Result<Done> {
        let Some((holder, epoch)) = self.header.as_ref().and_then(|header| {
            let running = header.phase == Phase::Running;
            let holder = header.holder.as_ref().filter(|_| running)?;
            Some((holder.clone(), header.epoch))
        }) else {
            return Ok(Done::Left("nobody holds it"));
        };
        let key = self.cx.keys.worker(&holder.incarnation, holder.slot);
        let mut record = match self.view.get(&key).await? {
            None => WorkerRecord {
                worker: holder.worker,
                ..WorkerRecord::default()
            },
            Some(value) => match read(&key, &value) {
                Read::Good(record) => record,
                Read::TooNew | Read::Bad(_) => {
                    return Ok(Done::Left("its worker's record cannot be read"));
                }
            },
        };
        let is_mine = |entry: &Entry| entry.id() == id && entry.epoch == epoch;
        let latest = record.entries.iter().filter(|entry| is_mine(entry));
        let deadline = latest.map(|entry| entry.deadline).max();
        record.entries.retain(|entry| !is_mine(entry));
        record.entries.push(Entry {
            id: *id.as_bytes(),
            epoch,
            deadline: deadline.unwrap_or(self.cx.now.as_micros()),
            queue: self.header.as_ref().and_then(Header::queue_hash),
        });
        self.view
            .replace(key, Some(header::encode(&record)?.into()));
        Ok(Done::Mended(match problem.damage {
            Damage::LeaseTwice => "the longest one stays",
            _ => "a lease that runs out now: the job is taken back unless its worker still lives",
        }))
    }

    /// A queue forgets jobs, which are not as it says, and exposes those that it should.
    async fn settle(&mut self, key: &Key, gone: &[JobId]) -> Result<Done> {
        let hash = self.cx.keys.read_queue(key)?;
        let mut queue = Queue::open(self.cx, self.view, hash).await?;
        queue.retain(|id| !gone.contains(&id));
        queue.close(self.cx, self.view).await?;
        Ok(Done::Mended("made to agree with its jobs"))
    }

    async fn rebuild(&mut self, problem: &Problem) -> Result<Done> {
        let key = &problem.key;
        let Some(value) = self.view.get(key).await? else {
            return Ok(Done::Mended("the record is gone"));
        };
        let object = Object::new(key.clone(), value);
        let done = self.put_aside(&object, problem)?;
        if matches!(done, Done::Mended(_)) {
            let hash = self.cx.keys.read_queue(key)?;
            let queue = Queue::rebuild(self.cx, self.view, hash).await?;
            queue.close(self.cx, self.view).await?;
            return Ok(Done::Mended("put aside, and built again from its jobs"));
        }
        Ok(done)
    }

    async fn drop_lease(&mut self, key: &Key, id: JobId, epoch: u64) -> Result<Done> {
        let Some(value) = self.view.get(key).await? else {
            return Ok(Done::Mended("the record is gone"));
        };
        let mut record: WorkerRecord = match read(key, &value) {
            Read::Good(record) => record,
            Read::TooNew | Read::Bad(_) => return Ok(Done::Left("the record cannot be read")),
        };
        record
            .entries
            .retain(|entry| entry.id() != id || entry.epoch != epoch);
        self.view
            .replace(key.clone(), Some(header::encode(&record)?.into()));
        Ok(Done::Mended("removed"))
    }
}
