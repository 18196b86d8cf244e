//! One store, what a caller knows of it, and how an operation is done there. What is compared
//! lives in `summary`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kvjob::job::{
    Backoff, Claim, Cursor, Error, Failure, HistoryQuery, JobId, KeyMode, Lease, Level, LogLine,
    LogQuery, LogStore as _, NewJob, Page, Query, QueueStore as _, Reschedule, Retry, Selector,
    State, StateStore as _,
};
use kvjob::kv::{self, Key};
use kvjob_tests::{Fixture, Space};

use crate::operations::{Op, Wish};
use crate::summary::by_milliseconds;

pub struct Side {
    pub f: Fixture,
    pub ids: Vec<JobId>,
    pub leases: Vec<Lease>,
    /// Whether steps were cleared, so that histories may have gaps.
    pub cleared: bool,
}

/// What came of an operation.
#[derive(Clone, Debug)]
pub struct Answer {
    /// With the jobs' numbers in the place of their ids, which are random.
    pub text: String,
    /// That it failed because the store below did.
    pub failure: Option<kv::Error>,
}

impl Side {
    pub fn new(f: Fixture) -> Self {
        Self {
            f,
            ids: Vec::new(),
            leases: Vec::new(),
            cleared: false,
        }
    }

    pub fn id(&self, number: usize) -> JobId {
        let known = self.ids.get(number % self.ids.len().max(1));
        known.copied().unwrap_or(JobId::from_bytes([5; 16]))
    }

    fn lease(&self, number: usize) -> Option<&Lease> {
        self.leases.get(number % self.leases.len().max(1))
    }

    fn job(&self, wish: &Wish) -> NewJob {
        let text = if wish.large { 900 } else { 3 };
        let mut job = NewJob::new(format!("task-{}", wish.task), &"x".repeat(text)).unwrap();
        if wish.tenant {
            job = job.tenant("acme");
        }
        if wish.flag {
            job = job.flag("slow");
        }
        job = match wish.key {
            Some((key, true)) => job.retained_key(key.to_string()),
            Some((key, false)) => job.key(key.to_string()),
            None => job,
        };
        if wish.key.is_some() {
            job = job.key_mode(KeyMode::ALL[usize::from(wish.mode)]);
        }
        if let Some(queue) = wish.queue {
            job = job.queue(queue.to_string());
        }
        job.priority(wish.priority)
            .max_attempts(wish.attempts)
            .run_at(wish.delay.map(|delay| self.f.in_seconds(delay)))
            .backoff(Backoff::Fixed {
                wait: Duration::from_secs(wish.wait),
            })
    }

    /// This, with the jobs' numbers in the place of their ids, be they shown as ids or in keys, and
    /// without the names of what was put aside, which are made of such keys.
    pub fn said(&self, shown: &impl Debug) -> String {
        let mut text = format!("{shown:?}");
        for (number, id) in self.ids.iter().enumerate() {
            let number = format!("#{number}");
            text = text.replace(&id.to_string(), &number);
            let in_key = format!("{:?}", Key::from(id.as_bytes()).to_string());
            text = text.replace(in_key.trim_matches('"'), &number);
        }
        without_digits(&text, "QuarantineId(")
    }

    fn answer<T: Debug>(&self, result: Result<T, Error>) -> Answer {
        let text = self.said(&result);
        let failure = match result {
            Err(Error::Store(error)) => Some(error),
            _ => None,
        };
        Answer { text, failure }
    }

    fn nothing() -> Answer {
        Answer {
            text: String::new(),
            failure: None,
        }
    }

    /// A job's log.
    pub async fn lines(&self, job: usize) -> Result<Vec<LogLine>, Error> {
        self.log(self.id(job), 10).await
    }

    /// The jobs that are stored although no answer said so.
    pub async fn unknown(&self) -> Result<Vec<JobId>, Error> {
        let all = self.all_jobs().await?;
        let ids = all.iter().map(|job| job.id);
        Ok(ids.filter(|id| !self.ids.contains(id)).collect())
    }

    /// Lets a moment pass, so that what one operation makes is younger than what any before it
    /// made: ids and log lines of one moment have no order among several openings of a store.
    pub fn tick(&self) {
        self.f.clock.advance(Duration::from_millis(1));
    }

    pub async fn apply(&mut self, op: &Op) -> Answer {
        let jobs = self.f.jobs.clone();
        match op {
            Op::Enqueue(wish) => {
                let added = jobs.enqueue(self.job(wish)).await;
                if let Ok(added) = &added
                    && added.is_new
                {
                    self.ids.push(added.job.id);
                }
                self.answer(added)
            }
            Op::EnqueueMany(wishes) => {
                let wanted = wishes.iter().map(|wish| self.job(wish)).collect();
                let added = jobs.enqueue_many(wanted).await;
                match &added {
                    Ok(added) => {
                        let new = added.iter().filter(|one| one.is_new);
                        self.ids.extend(new.map(|one| one.job.id));
                    }
                    // Some of them may be stored.
                    Err(_) => self.ids.extend(self.unknown().await.unwrap()),
                }
                self.answer(added)
            }
            Op::Claim {
                max,
                task,
                forbid,
                lease,
            } => {
                let claim = Claim::new(format!("worker-{max}")).max(*max);
                let mut claim = claim.lease(Duration::from_secs(*lease));
                if let Some(task) = task {
                    claim = claim.tasks([format!("task-{task}")]);
                }
                if *forbid {
                    claim = claim.forbid_flag("slow");
                }
                let claims = jobs.claim(claim).await;
                if let Ok(claims) = &claims {
                    let leases = claims.jobs.iter().map(|claimed| claimed.lease.clone());
                    self.leases.extend(leases);
                }
                self.answer(claims)
            }
            Op::Spoil(number) => {
                if self.ids.is_empty() {
                    return Self::nothing();
                }
                let key = Fixture::key(Space::Job, self.id(*number));
                if !self.f.raw(key.clone()).await.is_empty() {
                    self.f.overwrite(key, b"\x01garbage").await;
                }
                Self::nothing()
            }
            Op::Pass(millis) => {
                self.f.clock.advance(Duration::from_millis(*millis));
                Self::nothing()
            }
            Op::Reopen => {
                self.f.reopen().await;
                // Where one process alone has the store it is done at the start (rule 7).
                self.answer(sorted(self.f.jobs.expire().await).map(drop))
            }
            Op::Complete(_)
            | Op::Fail { .. }
            | Op::Snooze(..)
            | Op::Abandon(_)
            | Op::Heartbeat(..)
            | Op::Expire => self.end(op).await,
            Op::Release(..) | Op::RemoveAside(_) => self.tidy(op).await,
            Op::ClearHistory(..) | Op::ClearLogs(..) => {
                self.cleared |= matches!(op, Op::ClearHistory(..));
                self.clear(op).await
            }
            Op::Cancel(..) | Op::Retry(..) | Op::Purge(_) | Op::DequeueNext | Op::Dequeue(_) => {
                self.administer(op).await
            }
            Op::Remove(..)
            | Op::CompleteByHand(_)
            | Op::FailByHand(..)
            | Op::Reschedule(..)
            | Op::Unlock(_) => self.by_hand(op).await,
            Op::Canceled
            | Op::List(_)
            | Op::Lookup(..)
            | Op::History(_)
            | Op::Log(..)
            | Op::Logs(..)
            | Op::Stats
            | Op::Quarantine(_) => self.ask(op).await,
        }
    }

    /// What is done with leases.
    async fn end(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        let lease = match op {
            Op::Complete(number) | Op::Snooze(number, _) | Op::Abandon(number) => *number,
            Op::Fail { lease, .. } => *lease,
            Op::Heartbeat(numbers, time) => {
                let leases = numbers.iter().filter_map(|number| self.lease(*number));
                let leases: Vec<Lease> = leases.cloned().collect();
                let beats = jobs.heartbeat(&leases, Duration::from_secs(*time)).await;
                return self.answer(beats);
            }
            _ => return self.answer(sorted(jobs.expire().await)),
        };
        let Some(lease) = self.lease(lease) else {
            return Self::nothing();
        };
        match op {
            Op::Fail {
                timed_out,
                retry,
                long,
                ..
            } => {
                let error = "e".repeat(if *long { 1500 } else { 5 });
                let failure = if *timed_out {
                    Failure::timed_out(error)
                } else {
                    Failure::new(error)
                };
                let retry = match retry {
                    0 => Retry::Never,
                    1 => Retry::After(Duration::from_secs(3)),
                    _ => Retry::Backoff,
                };
                self.answer(jobs.fail(lease, failure.retry(retry)).await)
            }
            Op::Snooze(_, wait) => self.answer(jobs.snooze(lease, self.f.in_seconds(*wait)).await),
            Op::Abandon(_) => self.answer(jobs.abandon(lease).await),
            _ => self.answer(jobs.complete(lease).await),
        }
    }

    /// What is done without leases.
    async fn administer(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        match op {
            Op::Cancel(job, task) => {
                let query = self.query(*job, *task).limit(3);
                let read = async |cursor| jobs.cancel(&query.clone().cursor(cursor)).await;
                self.answer(all_pages(read).await)
            }
            Op::Retry(job, task) => {
                let query = self.query(*job, *task).limit(2);
                let read = async |cursor| jobs.retry(&query.clone().cursor(cursor)).await;
                self.answer(all_pages(read).await)
            }
            Op::Purge(job) => {
                let query = self.query(*job, None).limit(2);
                let read = async |cursor| jobs.purge(&query.clone().cursor(cursor)).await;
                self.answer(all_pages(read).await)
            }
            Op::Dequeue(job) => self.answer(jobs.dequeue(self.id(*job)).await),
            _ => self.answer(jobs.dequeue_next(&Selector::default()).await),
        }
    }

    /// What is done to jobs by name.
    async fn by_hand(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        let ids = |numbers: &[usize]| -> Vec<JobId> {
            numbers.iter().map(|number| self.id(*number)).collect()
        };
        match op {
            Op::Remove(key, tenant) => {
                let tenant = if *tenant { "acme" } else { "" };
                self.answer(jobs.remove_job(tenant, &key.to_string()).await)
            }
            Op::FailByHand(numbers, long) => {
                let reason = long.then(|| "r".repeat(1500));
                let failed = jobs.fail_jobs(&ids(numbers), reason.as_deref()).await;
                self.answer(failed)
            }
            Op::Reschedule(numbers, to) => {
                let to = Reschedule::new()
                    .run_at(to.delay.map(|delay| self.f.in_seconds(delay)))
                    .priority(to.priority)
                    .attempts(to.attempts)
                    .max_attempts(to.max_attempts);
                self.answer(jobs.reschedule_jobs(&ids(numbers), to).await)
            }
            Op::Unlock(names) => {
                let names: Vec<String> = names.iter().map(|n| format!("worker-{n}")).collect();
                let unlocked = jobs.force_unlock(&names).await;
                self.answer(unlocked.map(|mut jobs| {
                    jobs.sort_by_key(|job| job.id);
                    jobs
                }))
            }
            Op::CompleteByHand(numbers) => self.answer(jobs.complete_jobs(&ids(numbers)).await),
            _ => Self::nothing(),
        }
    }

    /// What is done to what jobs tell.
    async fn clear(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        match op {
            Op::ClearHistory(job, states, limit) => {
                let of_all = HistoryQuery::of_all_jobs();
                let query = job.map_or(of_all, |job| HistoryQuery::new(self.id(job)));
                let states = states.iter().map(|state| State::ALL[usize::from(*state)]);
                let page = jobs
                    .clear_history(&query.states(states).limit(*limit))
                    .await;
                self.answer(page.map(|page| page.items))
            }
            Op::ClearLogs(job, when, limit) => {
                let of_all = LogQuery::of_all_jobs();
                let query = job.map_or(of_all, |job| LogQuery::new(self.id(job)));
                let ago = |millis: u64| self.f.now().before(Duration::from_millis(millis));
                let query = match when {
                    Ok(millis) => query.after(ago(*millis)),
                    Err(millis) => query.before(ago(*millis)),
                };
                let query = query.limit(*limit);
                let clear = async |cursor| jobs.clear_logs(&query.clone().cursor(cursor)).await;
                self.answer(all_pages(clear).await.map(by_milliseconds))
            }
            _ => Self::nothing(),
        }
    }

    /// What is done with records that were put aside.
    async fn tidy(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        let aside = all_pages(async |cursor| jobs.quarantine(2, cursor).await).await;
        let (Op::Release(number, _) | Op::RemoveAside(number), Ok(aside)) = (op, &aside) else {
            return self.answer(aside);
        };
        let Some(record) = aside.get(*number) else {
            return Self::nothing();
        };
        let mut answer = match op {
            Op::Release(_, any) => self.answer(jobs.release_quarantined(record.id, *any).await),
            _ => self.answer(jobs.remove_quarantined(record.id).await),
        };
        // An error names it in words.
        answer.text = answer.text.replace(&record.id.to_string(), "it");
        answer
    }

    /// What changes nothing, but that a line is written.
    async fn ask(&self, op: &Op) -> Answer {
        let jobs = &self.f.jobs;
        match op {
            Op::Canceled => self.answer(sorted(jobs.canceled().await)),
            Op::List(limit) => {
                let read = async |cursor| jobs.list(*limit, cursor).await;
                self.answer(all_pages(read).await)
            }
            Op::Lookup(states, task, limit) => {
                let states = states.iter().map(|state| State::ALL[usize::from(*state)]);
                let query = self.query(None, *task).states(states).limit(*limit);
                let read = async |cursor| jobs.lookup(&query.clone().cursor(cursor)).await;
                self.answer(all_pages(read).await)
            }
            Op::History(job) => self.answer(jobs.history(self.id(*job)).await),
            Op::Log(job, line) => {
                // A line about a job that is gone is damage to a check.
                match jobs.get(self.id(*job)).await {
                    Ok(Some(_)) => {}
                    other => return self.answer(other),
                }
                let (line, fields) = (line.clone(), BTreeMap::new());
                self.answer(jobs.log(self.id(*job), Level::Info, line, fields).await)
            }
            Op::Logs(job, limit) => self.answer(self.log(self.id(*job), *limit).await),
            Op::Quarantine(limit) => {
                let read = async |cursor| jobs.quarantine(*limit, cursor).await;
                self.answer(all_pages(read).await)
            }
            _ => self.answer(jobs.stats().await),
        }
    }

    fn query(&self, job: Option<usize>, task: Option<u8>) -> Query {
        let mut query = Query::new();
        if let Some(job) = job {
            query = query.id(self.id(job));
        }
        if let Some(task) = task {
            query = query.task(format!("task-{task}"));
        }
        query
    }
}

/// The text without the digits behind each of these words.
fn without_digits(text: &str, words: &str) -> String {
    let mut parts = text.split(words);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + words + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// In the order in which the jobs were stored.
fn sorted(ids: Result<Vec<JobId>, Error>) -> Result<Vec<JobId>, Error> {
    ids.map(|mut ids| {
        ids.sort_unstable();
        ids
    })
}

/// The items of all pages.
pub async fn all_pages<T>(
    read: impl AsyncFn(Option<Cursor>) -> Result<Page<T>, Error>,
) -> Result<Vec<T>, Error> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = read(cursor).await?;
        all.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}
