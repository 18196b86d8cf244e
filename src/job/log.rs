//! A job's log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::header;
use super::keys::{KeySpace, Space};
use super::{JobId, LogQuery, Result};
use crate::clock::Timestamp;
use crate::kv::Object;

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For whoever looks into a fault.
    Debug,
    /// What happened.
    Info,
    /// What should not have happened but did no harm.
    Warn,
    /// What went wrong.
    Error,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// Whose log it is in.
    pub job: JobId,
    /// When it was written.
    pub at: Timestamp,
    /// How grave it is.
    pub level: Level,
    /// What it says; may have several lines.
    pub message: String,
    /// What else is known, by name.
    pub fields: BTreeMap<String, String>,
}

/// What stands under a `log` key; the time stands in the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLine {
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Where a line stands among all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) job: JobId,
    pub(crate) at: Timestamp,
    pub(crate) writer: u64,
}

/// A line as it is stored. `None` if it cannot be read and is left out, for all jobs are asked for.
pub(crate) fn read_for(
    query: &LogQuery,
    keys: &KeySpace,
    object: &Object,
) -> Result<Option<(LogLine, Place)>> {
    match (read(keys, object), query.id) {
        (Ok(read), _) => Ok(Some(read)),
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) => {
            tracing::warn!("left out: {error}");
            Ok(None)
        }
    }
}

fn read(keys: &KeySpace, object: &Object) -> Result<(LogLine, Place)> {
    let job = keys.owner(Space::Log, &object.key)?;
    let (at, writer, body) = keys.read_log(job, object)?;
    let StoredLine {
        level,
        message,
        fields,
    } = header::decode(&object.key, body)?;
    let line = LogLine {
        job,
        at,
        level,
        message,
        fields,
    };
    Ok((line, Place { job, at, writer }))
}
