//! The job floor: what a job is, the traits of a job [`Store`], and [`KvStore`], which makes one
//! of any [`kv::Store`](crate::kv::Store).
//!
//! Nothing here knows a backend or a handler. Where code rests on a rule of the protocol, it
//! names the rule's number.

mod backoff;
mod check;
mod copy;
mod cron;
mod error;
mod format;
mod glance;
#[cfg(test)]
mod golden;
mod header;
mod id;
mod jobs;
mod keyed;
mod keys;
mod kv_store;
mod lane;
mod lease;
mod log;
mod model;
mod new;
mod ops;
mod payload;
mod place;
mod plan;
mod quarantined;
mod query;
mod queue;
mod reschedule;
mod result;
mod retention;
mod scheme;
mod serial;
mod stats;
mod store;
mod task;
mod transition;
mod unique;

pub use backoff::Backoff;
pub use check::{CheckEvent, Checked, Damage, Finding};
pub use copy::{Copied, Copying, Existing, Namespace, Stage, read_dump};
pub use cron::{CronRecord, Fired, MAX_CRON_DEFINITION, MAX_CRON_ID};
pub use error::{Error, Result};
pub use glance::{Glance, Seen};
pub use id::{JobId, ParseJobIdError};
pub use jobs::{Add, Jobs};
pub use keyed::{Done, Enqueued, KeyMode};
pub use kv_store::{DEFAULT_NAMESPACE, KvStore, Options, Receipt};
pub use lane::{LaneFilter, LaneSetting, LaneStatus, Rate};
pub use lease::{Beat, Claim, Claimed, Claims, Failure, Lease, Outcome, Retry, Selector};
pub use log::{Level, LogLine};
pub use model::{Job, Lane, State, Step};
pub use new::{
    DEFAULT_MAX_ATTEMPTS, MAX_FLAG, MAX_FLAGS, MAX_KEY, MAX_QUEUE, MAX_QUEUE_LIMIT, MAX_TASK,
    MAX_TENANT, NewJob,
};
#[cfg(feature = "cron")]
pub(crate) use new::{check_queue, check_text};
pub use payload::Payload;
pub use quarantined::{
    ParseQuarantineIdError, QuarantineId, Quarantined, QuarantinedRecord, Released,
};
pub use query::{Cursor, HistoryQuery, LogQuery, Page, Query};
pub use queue::QueueStatus;
pub use reschedule::Reschedule;
pub use result::Ended;
pub use retention::Retention;
pub use stats::Stats;
pub use store::{CronStore, LaneStore, LogStore, QueueStore, ResultStore, StateStore, Store};
pub use task::Task;
