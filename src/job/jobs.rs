//! Adding jobs by the type of their payload.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Backoff, Enqueued, NewJob, Result, Store, Task};
use crate::clock::Timestamp;

/// A job store in the hand of those who add jobs of their own types to it. It also derefs to the
/// store. Clones are the same.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # use std::sync::Arc;
/// use std::time::Duration;
/// use kvjob::job::{Jobs, KvStore, Options, Task};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendEmail {
///     to: String,
/// }
///
/// impl Task for SendEmail {
///     const NAME: &'static str = "send-email";
/// }
///
/// # let store = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
/// let jobs = Jobs::new(Arc::new(store));
/// let added = jobs
///     .add(SendEmail { to: "ada@example.org".to_owned() })
///     .key("welcome/ada")
///     .priority(-5)
///     .await?;
/// assert_eq!(added.job.lane.task, "send-email");
/// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
/// ```
///
/// What is no [`Task`] cannot be added:
///
/// ```compile_fail,E0277
/// # async fn example(jobs: kvjob::job::Jobs) -> kvjob::job::Result<()> {
/// jobs.add("ada@example.org").await?;
/// # Ok(()) }
/// ```
///
/// Jobs that are added from inside a [handler](crate::worker::Context::jobs) stand in the same
/// distributed trace as its own job, unless they say where they stand.
#[derive(Clone)]
pub struct Jobs {
    store: Arc<dyn Store>,
    /// Of whom jobs have it that have none.
    traceparent: Option<String>,
}

impl Jobs {
    /// Adds jobs to this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            traceparent: None,
        }
    }

    /// The same, for jobs of this distributed trace.
    pub(crate) fn within_trace(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    /// A job with this payload, of the task its type is pinned to. It is stored when this is
    /// awaited; before, more may be said about it.
    #[allow(clippy::needless_pass_by_value)] // It is made for this, and used nowhere else.
    pub fn add<T: Task>(&self, task: T) -> Add {
        Add {
            store: Arc::clone(&self.store),
            job: NewJob::of(&task).map(|job| job.traceparent(self.traceparent.clone())),
        }
    }

    /// The same for a job whose task is known by name.
    pub fn add_job(&self, job: NewJob) -> Add {
        let traceparent = job.traceparent.clone();
        let traceparent = traceparent.or_else(|| self.traceparent.clone());
        Add {
            store: Arc::clone(&self.store),
            job: Ok(job.traceparent(traceparent)),
        }
    }
}

impl Deref for Jobs {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("store", &self.store)
            .field("traceparent", &self.traceparent)
            .finish()
    }
}

/// A job about to be added by [`Jobs::add`]. Await it:
///
/// # Errors
/// As [`NewJob::new`] and [`enqueue`](super::QueueStore::enqueue).
#[derive(Debug)]
#[must_use = "a job is stored when this is awaited"]
pub struct Add {
    store: Arc<dyn Store>,
    job: Result<NewJob>,
}

/// Says of the job what [`NewJob`] says of one.
macro_rules! say {
    ($($name:ident($value:ident: $type:ty);)*) => {$(
        #[doc = concat!("See [`NewJob::", stringify!($name), "`].")]
        pub fn $name(mut self, $value: $type) -> Self {
            self.job = self.job.map(|job| job.$name($value));
            self
        }
    )*};
}

impl Add {
    say! {
        priority(priority: i16);
        run_at(run_at: impl Into<Option<Timestamp>>);
        max_attempts(max_attempts: u32);
        backoff(backoff: Backoff);
        timeout(timeout: impl Into<Option<Duration>>);
        key(key: impl Into<String>);
        retained_key(key: impl Into<String>);
        traceparent(traceparent: impl Into<Option<String>>);
        tenant(tenant: impl Into<String>);
        flag(flag: impl Into<String>);
        queue(queue: impl Into<String>);
    }
}

impl IntoFuture for Add {
    type Output = Result<Enqueued>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.store.enqueue(self.job?).await })
    }
}
