//! Storing a job inside a transaction of the user's, so that business data and the job are saved
//! together or not at all (protocol rule 18).
//!
//! A transaction stays in the user's hands, planning is the store's. So an operation is planned over
//! what has been [read ahead](Ahead) of the transaction; where it asks for more, that is read and
//! the operation planned again. A transaction of an engine in this process, which is synchronous
//! and stays on its thread, and one on a server differ in nothing but who waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::KvStore;
use super::request::Request;
use crate::job::ops::Operation;
use crate::job::plan::{Context, Effect, Held, Lanes, Look, Plan, Settings, View};
use crate::job::{Enqueued, NewJob, Result, Retention};
use crate::kv::{self, AsyncTransaction, ErrorKind, Key, Object, Page, Scan, Store, Transaction};

/// How often a plan may ask for more keys before it is given up: each asks for what the last one
/// found, and none goes that deep.
const MOST_ROUNDS: usize = 16;

impl KvStore {
    /// Stores a job inside a transaction of the user's: it is there when the transaction commits,
    /// and never was when it rolls back. Does not block beyond the transaction's own reads and
    /// writes, and retries nothing.
    ///
    /// The transaction must be one of the store below: the same store that this job store was
    /// opened on, not one that wraps it. Inside it call nothing else of this job store; awaiting
    /// its other operations there **deadlocks**, for their commits wait until the transaction ends.
    ///
    /// Keep the [`Receipt`] and call [`committed`](Receipt::committed) once the transaction is
    /// committed, so that waiting workers hear of the job at once; else they find it within a
    /// second. Dropping it, as one does after a rollback, is harmless.
    ///
    /// # Errors
    /// As [`enqueue`](crate::job::QueueStore::enqueue); return the error from the transaction's
    /// body, so that it rolls back.
    pub fn enqueue_within<T: Transaction>(
        &self,
        transaction: &mut T,
        job: NewJob,
    ) -> Result<(Enqueued, Receipt)> {
        let operation = self.enqueue_operation(job)?;
        let mut within = Within::new(self, operation, transaction.limits());
        loop {
            match within.step()? {
                Step::Read(keys) => {
                    let values = transaction.get(&keys)?;
                    within.ahead.fill(keys, values);
                }
                Step::Write(enqueued, plan) => {
                    transaction.change(&plan.changes)?;
                    return Ok((enqueued, self.receipt(plan)));
                }
            }
        }
    }

    /// Stores a job inside a transaction of the user's on a server: as
    /// [`enqueue_within`](Self::enqueue_within), and the same holds. It takes a trip or two.
    ///
    /// The keys of the job stay locked until the transaction ends: another enqueue of the same
    /// [job key](NewJob::key) waits for that, so be short.
    ///
    /// Keep the [`Receipt`] and call [`committed`](Receipt::committed) once the transaction is
    /// committed, so that waiting workers, those of other processes too, hear of the job at once.
    ///
    /// # Errors
    /// As [`enqueue`](crate::job::QueueStore::enqueue); roll the transaction back then.
    pub async fn enqueue_within_async<T: AsyncTransaction + ?Sized>(
        &self,
        transaction: &mut T,
        job: NewJob,
    ) -> Result<(Enqueued, Receipt)> {
        let operation = self.enqueue_operation(job)?;
        let mut within = Within::new(self, operation, transaction.limits());
        loop {
            match within.step()? {
                Step::Read(keys) => {
                    let values = transaction.get(&keys).await?;
                    within.ahead.fill(keys, values);
                }
                Step::Write(enqueued, plan) => {
                    transaction.change(&plan.changes).await?;
                    return Ok((enqueued, self.receipt(plan)));
                }
            }
        }
    }

    fn receipt(&self, plan: Plan) -> Receipt {
        let puts = plan.changes.into_iter();
        let puts = puts.filter(|change| change.after.is_some() && !change.is_check());
        Receipt {
            put: puts.map(|change| change.key).collect(),
            effects: plan.effects,
            store: Arc::clone(&self.0.store),
            requests: self.0.requests.clone(),
        }
    }

    /// Plans an operation over what was read ahead.
    fn plan_within<O: Operation>(
        &self,
        ahead: &Ahead,
        operation: &O,
        limits: kv::Limits,
    ) -> Result<(O::Output, Plan)> {
        let (lanes, held) = (Lanes::default(), Held::default());
        let cx = Context {
            keys: &self.0.keys,
            clock: self.clock(),
            now: self.clock().now(),
            monotonic: self.clock().monotonic(),
            token: self.0.options.clock.random(),
            incarnation: self.0.incarnation,
            max_skew: self.0.max_skew,
            retention: Retention::new(),
            max_changes: limits.commit_changes,
            max_bytes: limits.commit_bytes,
            lanes: &lanes,
            settings: &Settings::default(),
            settings_known: true,
            last_tenant: None,
            heard: &BTreeSet::new(),
            blocks: 1,
            held: &held,
            stamps: &self.0.stamps,
            look: Look::Not,
            since_step: None,
        };
        let planning = async {
            let mut view = View::new(ahead);
            let output = operation.plan(&cx, &mut view).await?;
            Ok((output, view.finish().await?))
        };
        // Everything it awaits has been read, or fails at once.
        planning.now_or_never().unwrap_or_else(|| {
            let message = "an enqueue waited inside a transaction: this is a bug of kvjob";
            Err(kv::Error::new(ErrorKind::Backend, message).into())
        })
    }
}

/// An operation on its way into a transaction.
struct Within<'s, O> {
    jobs: &'s KvStore,
    operation: O,
    limits: kv::Limits,
    ahead: Ahead,
    rounds: usize,
}

/// What the transaction is to do next.
enum Step<T> {
    /// Read these keys, for [`Ahead::fill`].
    Read(Vec<Key>),
    /// Make these changes; that is all.
    Write(T, Plan),
}

impl<'s, O: Operation> Within<'s, O> {
    fn new(jobs: &'s KvStore, operation: O, limits: kv::Limits) -> Self {
        Self {
            ahead: Ahead::new(jobs.0.store.unique_keys()),
            jobs,
            operation,
            limits,
            rounds: 0,
        }
    }

    fn step(&mut self) -> Result<Step<O::Output>> {
        let planned = self
            .jobs
            .plan_within(&self.ahead, &self.operation, self.limits);
        let unread = self.ahead.take_unread();
        if unread.is_empty() {
            let (output, plan) = planned?;
            return Ok(Step::Write(output, plan));
        }
        self.rounds += 1;
        if self.rounds > MOST_ROUNDS {
            let message = "an enqueue asked for more and more keys: this is a bug of kvjob";
            return Err(kv::Error::new(ErrorKind::Backend, message).into());
        }
        Ok(Step::Read(unread))
    }
}

/// What follows from a change made [within](KvStore::enqueue_within) a transaction, once that is
/// committed.
#[derive(Debug)]
#[must_use = "call committed() after the transaction was committed"]
pub struct Receipt {
    effects: Vec<Effect>,
    put: Vec<Key>,
    store: Arc<dyn Store>,
    requests: mpsc::Sender<Request>,
}

impl Receipt {
    /// Says that the transaction was committed: workers of this process that wait for jobs look
    /// for them now, and those of other processes, where the store reaches them. Waits only while
    /// very many requests are under way.
    pub async fn committed(self) {
        if let Some(watch) = self.store.watch() {
            watch.announce(self.put);
        }
        // A store that has stopped has nobody to tell.
        let _ = self.requests.send(Request::Committed(self.effects)).await;
    }
}

/// A store of what was read ahead of a transaction. It remembers what it was asked for in vain.
#[derive(Debug)]
struct Ahead {
    unique_keys: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    values: HashMap<Key, Option<Bytes>>,
    unread: Vec<Key>,
}

impl Ahead {
    fn new(unique_keys: bool) -> Self {
        Self {
            unique_keys,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_unread(&self) -> Vec<Key> {
        std::mem::take(&mut self.known().unread)
    }

    fn fill(&self, keys: Vec<Key>, values: Vec<Option<Bytes>>) {
        self.known().values.extend(keys.into_iter().zip(values));
    }
}

fn only_reads<T>() -> kv::Result<T> {
    let message = "inside a transaction an operation only reads keys, and writes by its plan";
    Err(kv::Error::new(ErrorKind::Unsupported, message))
}

#[async_trait]
impl Store for Ahead {
    fn name(&self) -> &'static str {
        "transaction"
    }

    fn unique_keys(&self) -> bool {
        self.unique_keys
    }

    async fn set(&self, _: Object) -> kv::Result<()> {
        only_reads()
    }

    async fn get(&self, key: &Key) -> kv::Result<Option<Object>> {
        let mut known = self.known();
        if let Some(value) = known.values.get(key) {
            let value = value.clone();
            return Ok(value.map(|value| Object::new(key.clone(), value)));
        }
        known.unread.push(key.clone());
        let message = format!("the key {key} is not read yet");
        Err(kv::Error::new(ErrorKind::Transient, message))
    }

    async fn scan(&self, _: Scan) -> kv::Result<Page> {
        only_reads()
    }

    async fn remove(&self, _: &Object) -> kv::Result<()> {
        only_reads()
    }

    async fn delete(&self, _: &Key) -> kv::Result<()> {
        only_reads()
    }
}
