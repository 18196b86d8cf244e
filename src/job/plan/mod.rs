//! What an operation plans with: the [`View`] of the store it reads and writes, and the
//! [`Context`] of the process it may know besides.
//!
//! Nothing here commits; `kv_store` does.

mod context;
mod held;
mod lanes;
mod settings;
mod stamps;
mod view;

pub(in crate::job) use context::{Context, Look};
pub(in crate::job) use held::{Entry, Held, WorkerRecord};
pub(in crate::job) use lanes::{Known, Lanes};
pub(in crate::job) use settings::{Bucket, Settings, StoredSetting};
pub(in crate::job) use stamps::Stamps;
pub(in crate::job) use view::{Effect, Plan, View};
