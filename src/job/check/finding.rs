//! What a check tells its caller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::JobId;

/// What kind of damage it is. In JSON, and printed, a name that stays: `not-placed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Damage {
    /// A header cannot be read.
    CorruptHeader,
    /// A header contradicts itself.
    HeaderDisagrees,
    /// A job waits, but stands nowhere: nothing would ever run it.
    NotPlaced,
    /// A job waits, and stands where it must not.
    PlacedWrongly,
    /// A job runs, but no worker record has its lease: nothing would ever take it back.
    LeaseMissing,
    /// A lease stands in more worker records than one, or more than once in one.
    LeaseTwice,
    /// A job was asked to stop, but its holder cannot see it.
    SignalMissing,
    /// A job ended badly, or late, but is not listed with those that did.
    AttentionMissing,
    /// A job's arguments are gone.
    PayloadMissing,
    /// A job's arguments are not what was stored.
    CorruptPayload,
    /// The value that a job completed with is gone.
    ResultMissing,
    /// The value that a job completed with is not what was stored.
    CorruptResult,
    /// A job key would let a second job in.
    KeyMissing,
    /// A job's key belongs to another job.
    KeyTaken,
    /// Steps of a job's history are gone.
    HistoryGap,
    /// A part of a job's history cannot be read.
    CorruptHistory,
    /// A step of a job's history is told in two ways.
    HistoryDisagrees,
    /// A line of a job's log cannot be read.
    CorruptLog,
    /// A job's removal was cut off.
    PurgeCutOff,
    /// Something belongs to a job that does not exist.
    Orphan,
    /// Something says of its job what its header does not say.
    Stale,
    /// An entry is at its place, but does not say what it must.
    CorruptEntry,
    /// A worker record cannot be read.
    CorruptWorker,
    /// A serial queue's record does not say what its jobs do.
    QueueDisagrees,
    /// A serial queue's record cannot be read.
    CorruptQueue,
    /// A record in the quarantine cannot be read.
    CorruptQuarantine,
    /// The record that says which format the namespace has cannot be read.
    CorruptFormat,
    /// The record that says which format the namespace has is gone.
    FormatMissing,
    /// A key that kvjob does not write.
    UnknownKey,
    /// On a bag: another value under a key that has one.
    ForeignValue,
}

impl Damage {
    /// Its name, as in JSON: `not-placed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CorruptHeader => "corrupt-header",
            Self::HeaderDisagrees => "header-disagrees",
            Self::NotPlaced => "not-placed",
            Self::PlacedWrongly => "placed-wrongly",
            Self::LeaseMissing => "lease-missing",
            Self::LeaseTwice => "lease-twice",
            Self::SignalMissing => "signal-missing",
            Self::AttentionMissing => "attention-missing",
            Self::PayloadMissing => "payload-missing",
            Self::CorruptPayload => "corrupt-payload",
            Self::ResultMissing => "result-missing",
            Self::CorruptResult => "corrupt-result",
            Self::KeyMissing => "key-missing",
            Self::KeyTaken => "key-taken",
            Self::HistoryGap => "history-gap",
            Self::CorruptHistory => "corrupt-history",
            Self::HistoryDisagrees => "history-disagrees",
            Self::CorruptLog => "corrupt-log",
            Self::PurgeCutOff => "purge-cut-off",
            Self::Orphan => "orphan",
            Self::Stale => "stale",
            Self::CorruptEntry => "corrupt-entry",
            Self::CorruptWorker => "corrupt-worker",
            Self::QueueDisagrees => "queue-disagrees",
            Self::CorruptQueue => "corrupt-queue",
            Self::CorruptQuarantine => "corrupt-quarantine",
            Self::CorruptFormat => "corrupt-format",
            Self::FormatMissing => "format-missing",
            Self::UnknownKey => "unknown-key",
            Self::ForeignValue => "foreign-value",
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something in a store that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of damage it is.
    pub damage: Damage,
    /// The key it is about, printable.
    pub key: String,
    /// The job it is about, where that is known.
    pub job: Option<JobId>,
    /// What is wrong, in a sentence.
    pub message: String,
    /// Whether it was mended. Never without repair.
    pub mended: bool,
    /// What was done about it; with repair and not mended, why nothing was.
    pub action: Option<String>,
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checked {
    /// Headers that were looked at.
    pub jobs: u64,
    /// Objects that were looked at, headers included.
    pub objects: u64,
    /// Records of a newer version, left alone with what belongs to them.
    pub too_new: u64,
    /// Findings.
    pub found: u64,
    /// Those that were mended.
    pub mended: u64,
    /// Findings by kind; kinds without findings are left out.
    pub damages: BTreeMap<Damage, u64>,
}

impl Checked {
    /// Findings that are still there.
    pub fn left(&self) -> u64 {
        self.found - self.mended
    }
}

/// What happens while a check runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckEvent {
    /// So many objects were looked at by now.
    Looked(u64),
    /// Something is not as it must be. However many there are: a check keeps none of them.
    Found(Finding),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_damage_is_called_the_same_in_json_and_print() {
        for damage in [
            Damage::CorruptHeader,
            Damage::HeaderDisagrees,
            Damage::NotPlaced,
            Damage::PlacedWrongly,
            Damage::LeaseMissing,
            Damage::LeaseTwice,
            Damage::SignalMissing,
            Damage::AttentionMissing,
            Damage::PayloadMissing,
            Damage::CorruptPayload,
            Damage::ResultMissing,
            Damage::CorruptResult,
            Damage::KeyMissing,
            Damage::KeyTaken,
            Damage::HistoryGap,
            Damage::CorruptHistory,
            Damage::HistoryDisagrees,
            Damage::CorruptLog,
            Damage::PurgeCutOff,
            Damage::Orphan,
            Damage::Stale,
            Damage::CorruptEntry,
            Damage::CorruptWorker,
            Damage::QueueDisagrees,
            Damage::CorruptQueue,
            Damage::CorruptQuarantine,
            Damage::CorruptFormat,
            Damage::FormatMissing,
            Damage::UnknownKey,
            Damage::ForeignValue,
        ] {
            assert_eq!(
                serde_json::to_string(&damage).unwrap(),
                format!("{:?}", damage.to_string())
            );
        }
    }
}
