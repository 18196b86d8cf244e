//! A job store of any key-value store.
//!
//! | file | what lives there |
//! |---|---|
//! | `planner` | the task that plans operations together and commits them |
//! | `commit` | what became of a commit whose answer is lost |
//! | `request` | what callers send to it, and how they are answered |
//! | `queue`, `state`, `logs`, `cron` | the traits of a job store, one file each |
//! | `by_hand` | changing jobs by hand, by id, key or worker |
//! | `history` | reading and clearing histories, of one job and across jobs |
//! | `wait` | how jobs ended, for those who wait for it |
//! | `lanes` | what is set for lanes, and how they stand |
//! | `queues` | serial queues: their limits, and how they stand |
//! | `list` | the queue in claim order |
//! | `glance` | a look of bounded cost, and what is seen to happen |
//! | `within` | storing a job inside a transaction of the user's |
//! | `check` | a walk over everything stored, and what is mended on the way |
//! | `listener` | hearing of what other processes do |
//! | `sweep` | when what is no longer to be kept is removed |

mod by_hand;
mod check;
mod commit;
mod cron;
mod glance;
mod history;
mod lanes;
mod list;
mod listener;
mod logs;
mod options;
mod planner;
mod queue;
mod queues;
mod request;
mod state;
mod sweep;
mod wait;
mod within;

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub use options::{DEFAULT_NAMESPACE, Options};
pub use within::Receipt;

use self::listener::Listener;
use self::planner::{Memory, Planner};
use self::request::{Request, Waiter};
use self::sweep::Sweeper;
use self::wait::Waits;
use super::format::Format;
use super::id::IdSource;
use super::keys::{KeySpace, Space};
use super::ops::Operation;
use super::ops::expire::Expire;
use super::plan::Stamps;
use super::scheme::Scheme;
use super::{Error, JobId, Result, Store};
use crate::clock::{Clock, SystemClock};
use crate::kv::wrap::Journaled;
use crate::kv::{self, Change, ErrorKind, Health, Ownership};

/// Requests that may wait for the planner; beyond that callers wait to send.
const MOST_WAITING: usize = 4096;

/// What tells this process from others in the incarnations of its stores (rule 7).
static PROCESS: LazyLock<[u8; 8]> = LazyLock::new(|| SystemClock.random().to_be_bytes());

/// A job store of any [`kv::Store`].
///
/// Cloning it is cheap; all clones share one planner task, which ends with the last of them. It
/// needs a tokio runtime with time enabled, and lives on the one it was opened on.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use kvjob::job::{Claim, KvStore, NewJob, Options, QueueStore};
/// use kvjob::kv::Memory;
///
/// let jobs = KvStore::open(Arc::new(Memory::new()), Options::default()).await?;
/// jobs.enqueue(NewJob::new("greet", "world")?).await?;
/// for claimed in jobs.claim(Claim::new("worker-1")).await?.jobs {
///     assert_eq!(claimed.job.payload.parse::<String>()?, "world");
///     jobs.complete(&claimed.lease).await?;
/// }
/// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct KvStore(Arc<Inner>);

struct Inner {
    store: Arc<dyn kv::Store>,
    keys: KeySpace,
    options: Options,
    ids: IdSource,
    stamps: Arc<Stamps>,
    requests: mpsc::Sender<Request>,
    activity: watch::Sender<u64>,
    crons: watch::Sender<u64>,
    incarnation: [u8; 16],
    max_skew: Duration,
    started: Mutex<bool>,
    sweeper: OnceLock<Sweeper>,
    listener: OnceLock<Listener>,
    waits: Arc<Waits>,
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvStore")
            .field("store", &self.0.store)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl KvStore {
    /// Opens (and [starts](Store::start)) the job store that lives in `store`.
    ///
    /// A store without [`Atomic`](kv::Atomic) is put under a [journal](Journaled), which serves
    /// one process, and in it one job store: opening another over the same store closes the
    /// first. To open several of them, with a namespace each, hand in the `Journaled` itself.
    ///
    /// # Errors
    /// As [`start`](Store::start); [`Invalid`](Error::Invalid) for a namespace that cannot be.
    pub async fn open(store: Arc<dyn kv::Store>, options: Options) -> Result<Self> {
        let opened = Self::over(store, options)?;
        opened.start().await?;
        Ok(opened)
    }

    /// Opens the job store that lives in `store` as it stands, to [`check`](Self::check) it: no
    /// lease of a dead process is taken back, no record is put aside, and one that says in which
    /// format the namespace is need not be readable. [`start`](Store::start) makes up for it. What
    /// a [journal](Journaled) finds half done is finished.
    ///
    /// # Errors
    /// As [`open`](Self::open), less what concerns the format.
    pub async fn open_to_check(store: Arc<dyn kv::Store>, options: Options) -> Result<Self> {
        let opened = Self::over(store, options)?;
        opened.0.store.start().await?;
        Ok(opened)
    }

    fn over(store: Arc<dyn kv::Store>, options: Options) -> Result<Self> {
        let keys = KeySpace::new(&options.namespace, Scheme::of(&*store))?;
        let store = if store.atomic().is_some() {
            store
        } else {
            Arc::new(Journaled::new(store))
        };
        let clock = &options.clock;
        let mut incarnation = [0; 16];
        for (to, from) in incarnation
            .iter_mut()
            .zip(PROCESS.iter().chain(&clock.random().to_be_bytes()))
        {
            *to = *from;
        }
        let max_skew = options.max_skew.unwrap_or(match store.ownership() {
            Ownership::Exclusive => Duration::ZERO,
            Ownership::Shared => Duration::from_secs(10),
        });
        let (requests, received) = mpsc::channel(MOST_WAITING);
        let (activity, crons) = (watch::Sender::new(0), watch::Sender::new(0));
        let stamps = Arc::new(Stamps::new(clock.random()));
        let waits = Arc::new(Waits::default());
        let planner = Planner {
            store: Arc::clone(&store),
            keys: keys.clone(),
            clock: Arc::clone(clock),
            stamps: Arc::clone(&stamps),
            incarnation,
            max_skew,
            retention: options.retention,
            activity: activity.clone(),
            crons: crons.clone(),
            requests: received,
            waits: Arc::clone(&waits),
            memory: Memory::default(),
        };
        tokio::spawn(planner.run());
        Ok(Self(Arc::new(Inner {
            store,
            keys,
            options,
            ids: IdSource::default(),
            stamps,
            requests,
            activity,
            crons,
            incarnation,
            max_skew,
            started: Mutex::new(false),
            sweeper: OnceLock::new(),
            listener: OnceLock::new(),
            waits,
        })))
    }

    fn clock(&self) -> &dyn Clock {
        &*self.0.options.clock
    }

    /// Hears from now on of what others write to an exclusive store, through a handle that this
    /// process lends them, such as a socket: jobs they add are then claimed, and jobs they cancel
    /// stopped, at once, as on a shared store, whose changes are heard anyway. Nothing happens if
    /// it hears already.
    pub fn hear(&self, others: Arc<dyn kv::Watch>) {
        self.0.listener.get_or_init(|| self.listen(others));
    }

    /// Listens to what other processes do that concerns this one.
    fn listen(&self, source: Arc<dyn kv::Watch>) -> Listener {
        let keys = &self.0.keys;
        let prefixes = vec![
            keys.ready_all(),
            keys.scheduled_all(),
            keys.lane_settings(),
            keys.prefix(Space::Cron),
            keys.signals(&self.0.incarnation),
        ];
        let clock = Arc::clone(&self.0.options.clock);
        Listener::start(source, prefixes, self.0.requests.downgrade(), clock)
    }

    async fn send(&self, request: Request) -> Result<()> {
        self.0
            .requests
            .send(request)
            .await
            .map_err(|_| Error::Stopped)
    }

    /// Hands an operation to the planner.
    async fn submit<O: Operation>(
        &self,
        operation: O,
    ) -> Result<oneshot::Receiver<Result<O::Output>>>
    where
        O::Output: Sync,
    {
        submit(&self.0.requests, operation).await
    }

    /// Runs one operation.
    async fn run<O: Operation>(&self, operation: O) -> Result<O::Output>
    where
        O::Output: Sync,
    {
        self.submit(operation)
            .await?
            .await
            .unwrap_or(Err(Error::Stopped))
    }

    /// Runs operations in this order, in few commits; each has its own answer.
    async fn run_each<O: Operation>(&self, operations: Vec<O>) -> Result<Vec<Result<O::Output>>>
    where
        O::Output: Sync,
    {
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            answers.push(self.submit(operation).await?);
        }
        let mut outputs = Vec::with_capacity(answers.len());
        for answer in answers {
            outputs.push(answer.await.unwrap_or(Err(Error::Stopped)));
        }
        Ok(outputs)
    }

    /// Runs operations in this order, in few commits, all of which must succeed.
    async fn run_all<O: Operation>(&self, operations: Vec<O>) -> Result<Vec<O::Output>>
    where
        O::Output: Sync,
    {
        self.run_each(operations).await?.into_iter().collect()
    }

    /// Takes back leases until a sweep finds no more.
    async fn expire_all(&self, others_are_dead: bool) -> Result<Vec<JobId>> {
        let mut ids = Vec::new();
        loop {
            let expired = self.run(Expire { others_are_dead }).await?;
            ids.extend(expired.ids);
            if !expired.more {
                return Ok(ids);
            }
        }
    }

    /// Refuses a namespace that newer software wrote, and marks a new one (rule 20).
    async fn check_format(&self) -> Result<()> {
        let key = self.0.keys.format();
        if let Some(object) = self.0.store.get(&key).await? {
            Format::read(&self.0.options.namespace, &key, &object.value)?;
            return Ok(());
        }
        let Some(atomic) = self.0.store.atomic() else {
            return Ok(());
        };
        match atomic
            .commit(vec![Change::create(key, Format::present()?)])
            .await
        {
            // Another process was faster and wrote the same.
            Err(error) if matches!(error.kind(), ErrorKind::ConditionFailed { .. }) => Ok(()),
            outcome => Ok(outcome?),
        }
    }
}

async fn submit<O: Operation>(
    requests: &mpsc::Sender<Request>,
    operation: O,
) -> Result<oneshot::Receiver<Result<O::Output>>>
where
    O::Output: Sync,
{
    let (reply, answer) = oneshot::channel();
    let request = Request::Operation(Box::new(Waiter {
        operation,
        output: None,
        reply,
    }));
    let sent = requests.send(request).await;
    sent.map_err(|_| Error::Stopped)?;
    Ok(answer)
}

#[async_trait]
impl Store for KvStore {
    fn name(&self) -> &str {
        self.0.store.name()
    }

    async fn start(&self) -> Result<()> {
        let mut started = self.0.started.lock().await;
        if !*started {
            self.0.store.start().await?;
            self.check_format().await?;
            if self.0.store.ownership() == Ownership::Exclusive {
                let ids = self.expire_all(true).await?;
                if !ids.is_empty() {
                    tracing::info!(jobs = ids.len(), "took back the leases of dead processes");
                }
            } else if self.0.store.watch().is_some() {
                self.hear(Arc::new(listener::Told(Arc::clone(&self.0.store))));
            }
            if self.0.options.retention.removes() {
                self.0.sweeper.get_or_init(|| {
                    let clock = Arc::clone(&self.0.options.clock);
                    Sweeper::start(self.0.requests.downgrade(), clock)
                });
            }
            *started = true;
        }
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        if let Some(sweeper) = self.0.sweeper.get() {
            sweeper.stop();
        }
        if let Some(listener) = self.0.listener.get() {
            listener.stop();
        }
        let (reply, stopped) = oneshot::channel();
        if self.send(Request::Stop(reply)).await.is_ok() {
            // An error means that it has stopped already.
            let _ = stopped.await;
        }
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.0.store.delete(&self.0.keys.everything()).await?;
        // What this process remembers of it is gone, too.
        let forget = Request::Heard(vec![kv::Event::Lagged]);
        // One that is stopped remembers nothing.
        let _ = self.send(forget).await;
        self.check_format().await
    }

    async fn health(&self) -> Result<Health> {
        Ok(self.0.store.health().await?)
    }
}
