//! Records that were put aside, as their users see them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::Job;
use crate::clock::Timestamp;

/// Names a record that was put aside: sixteen digits, such as `3fa94c01d5b7e682`. They are a hash
/// of its key and its value, so that the same record has the same name, and two that stood under
/// one key have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuarantineId(u64);

impl QuarantineId {
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update(value);
        let first = hash.finalize();
        Self(
            first
                .iter()
                .take(8)
                .fold(0, |id, byte| id << 8 | u64::from(*byte)),
        )
    }

    pub(crate) fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QuarantineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

/// What [`QuarantineId::from_str`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name a record that was put aside: that takes 16 digits of 0-9 and a-f")]
pub struct ParseQuarantineIdError(String);

impl FromStr for QuarantineId {
    type Err = ParseQuarantineIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let read = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        read.map(Self)
            .ok_or_else(|| ParseQuarantineIdError(text.to_owned()))
    }
}

impl Serialize for QuarantineId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuarantineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A record that could not be read and was put aside, as raw bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// Its name.
    pub id: QuarantineId,
    /// The key it stood under, printable.
    pub key: String,
    /// Why it could not be read.
    pub reason: String,
    /// When it was put aside.
    pub at: Timestamp,
    /// How many bytes it has.
    pub bytes: usize,
}

/// A record that was put aside, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantinedRecord {
    /// What is said of it in a list.
    pub about: Quarantined,
    /// The key it stood under.
    pub key: Bytes,
    /// What stood there.
    pub value: Bytes,
}

/// A record that is back in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Released {
    /// The record.
    pub record: Quarantined,
    /// The job, if the record is the header of one that can be read again.
    pub job: Option<Job>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_and_reads_back_and_nothing_else_does() {
        let id = QuarantineId::of(b"key", b"value");
        assert_eq!(id.to_string().len(), 16);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(QuarantineId(7).to_string(), "0000000000000007");
        for bad in [
            "",
            "7",
            "+000000000000007",
            "00000000000000007",
            "000000000000000g",
        ] {
            assert!(bad.parse::<QuarantineId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn key_and_value_both_count_and_do_not_run_together() {
        let id = QuarantineId::of(b"ab", b"c");
        assert_ne!(id, QuarantineId::of(b"ab", b"d"));
        assert_ne!(id, QuarantineId::of(b"a", b"bc"));
    }
}
