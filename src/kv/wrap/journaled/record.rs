//! What the journal writes into the store below, byte by byte: the redo record of a commit, and
//! the mark of the owner. When they are written and read is decided elsewhere.
//!
//! Whatever the version, all begin with it and end with a checksum of the key and everything
//! before it, so that what was cut, changed, or put under another key is noticed, and told from
//! what newer software wrote. Numbers are big-endian.
//!
//! | of | bytes |
//! |---|---|
//! | record | version, then for each write: what it does (1), length of the key (4), key, digest of the value it takes out (16, if it does), length (4) and bytes of the value it puts (if it does); checksum (16) |
//! | mark | version, term (8), owner (16), state (1), what the state holds; checksum (16) |
//!
//! The key of a record ends with its owner (16) and its number (8).

use bytes::{BufMut as _, Bytes};
use sha2::{Digest as _, Sha256};

use super::hidden::RECORDS;
use crate::kv::{Change, Expect, Key, Limits};

/// The newest version this software knows.
const VERSION: u8 = 1;
const DIGEST: usize = 16;
/// Bytes of a record without writes: version and checksum.
const EMPTY: usize = 1 + DIGEST;

/// What tells owners apart: random, drawn at each start.
pub(super) type Owner = [u8; 16];

/// Why something cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It has this version, which newer software wrote.
    TooNew(u8),
    /// Nobody ever wrote it so.
    Damaged(&'static str),
}

/// One write of a commit. Doing it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) takes: Takes,
    pub(super) puts: Option<Bytes>,
}

/// What a write takes out before it puts anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// This value of the key, on a bag.
    Value(Bytes),
    /// The same, as a record remembers it: by its digest, so that the size of a record does not
    /// depend on what is replaced.
    Digest([u8; DIGEST]),
    /// Everything under the key.
    All,
}

impl Write {
    /// What a change does to a store of this kind, if its expectation holds. Not for checks.
    pub(super) fn of(change: &Change, unique_keys: bool) -> Self {
        let takes = match (&change.before, &change.after) {
            (Expect::Value(value), _) if !unique_keys => Takes::Value(value.clone()),
            (_, Some(_)) => Takes::Nothing,
            (_, None) => Takes::All,
        };
        Self {
            key: change.key.clone(),
            takes,
            puts: change.after.clone(),
        }
    }

    /// Whether the store below does it as one.
    pub(super) fn is_one(&self, unique_keys: bool) -> bool {
        unique_keys
            || matches!(
                (&self.takes, &self.puts),
                (Takes::Nothing, Some(_)) | (Takes::Value(_), None)
            )
    }
}

/// The limits of commits whose record fits one value of a store with these limits.
pub(super) fn limits(inner: Limits, unique_keys: bool) -> Limits {
    // What it does, the lengths of key and value, and on a bag the digest.
    let each = 1 + 4 + 4 + if unique_keys { 0 } else { DIGEST };
    let lengths = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    let room = inner.value_bytes.min(lengths).saturating_sub(EMPTY);
    // At most half of a record is not keys and values: a small one holds fewer changes.
    let commit_changes = inner.commit_changes.min(room / 2 / each);
    Limits {
        commit_bytes: inner.commit_bytes.min(room - commit_changes * each),
        commit_changes,
        ..inner
    }
}

/// The key of a record.
pub(super) fn record_key(owner: &Owner, number: u64) -> Key {
    [RECORDS, owner, &number.to_be_bytes()].concat().into()
}

/// Whose record has this key, and its number.
pub(super) fn record_owner(key: &Key) -> Result<(Owner, u64), Unreadable> {
    let mut rest = Reader(key.as_bytes().strip_prefix(RECORDS).unwrap_or_default());
    let read = (rest.array()?, u64::from_be_bytes(rest.array()?));
    rest.end()?;
    Ok(read)
}

const PUTS: u8 = 4;

/// The record of these writes, for this key.
pub(super) fn encode(key: &Key, writes: &[Write]) -> Bytes {
    let mut record = vec![VERSION];
    for write in writes {
        let digest = match &write.takes {
            Takes::Nothing | Takes::All => None,
            Takes::Value(value) => Some(digest(&[value])),
            Takes::Digest(digest) => Some(*digest),
        };
        let takes = match &write.takes {
            Takes::Nothing => 0,
            Takes::Value(_) | Takes::Digest(_) => 1,
            Takes::All => 2,
        };
        record.put_u8(takes | if write.puts.is_some() { PUTS } else { 0 });
        put_bytes(&mut record, write.key.as_bytes());
        record.extend(digest.into_iter().flatten());
        if let Some(value) = &write.puts {
            put_bytes(&mut record, value);
        }
    }
    seal(key, record)
}

/// The writes of a record.
pub(super) fn decode(key: &Key, record: &Bytes) -> Result<Vec<Write>, Unreadable> {
    let mut rest = unseal(key, record)?;
    let mut writes = Vec::new();
    while !rest.0.is_empty() {
        let [does] = rest.array()?;
        let key = Key::from(rest.bytes()?);
        let takes = match does & !PUTS {
            0 => Takes::Nothing,
            1 => Takes::Digest(rest.array()?),
            2 => Takes::All,
            _ => return Err(Unreadable::Damaged("it holds a write of no known kind")),
        };
        let puts = if does & PUTS == 0 {
            None
        } else {
            Some(Bytes::copy_from_slice(rest.bytes()?))
        };
        writes.push(Write { key, takes, puts });
    }
    Ok(writes)
}

/// The first 16 bytes of the SHA-256 of these parts.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let mut short = [0; DIGEST];
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

/// The mark of an owner: whoever's mark stands in the store below may write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// One more than that of the owner before.
    pub(super) term: u64,
    pub(super) owner: Owner,
    pub(super) state: MarkState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MarkState {
    /// It finishes what the last owner that had opened the store may have left, if there was one,
    /// and has committed nothing yet.
    TakingOver(Option<Left>),
    /// It has opened the store; its records up to this number are finished.
    Opened(u64),
}

/// What is known of an owner's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) owner: Owner,
    /// Its records up to this number are finished.
    pub(super) finished: u64,
}

impl Mark {
    /// The last owner that had opened the store, as far as this mark tells.
    pub(super) fn left(&self) -> Option<Left> {
        match self.state {
            MarkState::TakingOver(left) => left,
            MarkState::Opened(finished) => Some(Left {
                owner: self.owner,
                finished,
            }),
        }
    }

    /// The order in which marks were written; on a bag several may stand side by side.
    pub(super) fn age(&self) -> (u64, Option<u64>) {
        let opened = match self.state {
            MarkState::TakingOver(_) => None,
            MarkState::Opened(finished) => Some(finished),
        };
        (self.term, opened)
    }

    pub(super) fn encode(&self, key: &Key) -> Bytes {
        let mut mark = vec![VERSION];
        mark.put_u64(self.term);
        mark.extend(self.owner);
        match &self.state {
            MarkState::TakingOver(None) => mark.put_u8(0),
            MarkState::TakingOver(Some(left)) => {
                mark.put_u8(1);
                mark.extend(left.owner);
                mark.put_u64(left.finished);
            }
            MarkState::Opened(finished) => {
                mark.put_u8(2);
                mark.put_u64(*finished);
            }
        }
        seal(key, mark)
    }

    pub(super) fn decode(key: &Key, mark: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = unseal(key, mark)?;
        let term = u64::from_be_bytes(rest.array()?);
        let owner = rest.array()?;
        let [state] = rest.array()?;
        let state = match state {
            0 => MarkState::TakingOver(None),
            1 => MarkState::TakingOver(Some(Left {
                owner: rest.array()?,
                finished: u64::from_be_bytes(rest.array()?),
            })),
            2 => MarkState::Opened(u64::from_be_bytes(rest.array()?)),
            _ => return Err(Unreadable::Damaged("it is in no known state")),
        };
        rest.end()?;
        Ok(Self { term, owner, state })
    }
}

/// Appends bytes and their length, which the limits of a commit keep within 32 bits.
fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.extend_from_slice(bytes);
}

/// Appends the checksum.
fn seal(key: &Key, mut content: Vec<u8>) -> Bytes {
    let checksum = digest(&[key.as_bytes(), &content]);
    content.extend(checksum);
    content.into()
}

/// What stands between version and checksum.
fn unseal<'a>(key: &Key, sealed: &'a [u8]) -> Result<Reader<'a>, Unreadable> {
    let (content, checksum) = sealed
        .split_last_chunk::<DIGEST>()
        .ok_or(Unreadable::Damaged("it is too short"))?;
    if digest(&[key.as_bytes(), content]) != *checksum {
        return Err(Unreadable::Damaged("its checksum is wrong"));
    }
    match content.split_first() {
        Some((&VERSION, rest)) => Ok(Reader(rest)),
        Some((&version, _)) if version > VERSION => Err(Unreadable::TooNew(version)),
        _ => Err(Unreadable::Damaged("it does not begin with a version")),
    }
}

/// The rest of what is read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Self::CUT)?;
        self.0 = rest;
        Ok(*array)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| Self::CUT)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Self::CUT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn end(&self) -> Result<(), Unreadable> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Unreadable::Damaged("something follows its end"))
    }

    const CUT: Unreadable = Unreadable::Damaged("it ends too early");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        record_key(&[7; 16], 0x0102_0304)
    }

    fn write(takes: Takes, puts: Option<&'static str>) -> Write {
        Write {
            key: "key".into(),
            takes,
            puts: puts.map(Bytes::from),
        }
    }

    fn writes() -> Vec<Write> {
        vec![
            write(Takes::Nothing, Some("value")),
            write(Takes::Nothing, Some("")),
            write(Takes::All, None),
            write(Takes::Value("old".into()), None),
            write(Takes::Value("old".into()), Some("new")),
        ]
    }

    /// The writes as a record remembers them.
    fn remembered() -> Vec<Write> {
        let mut writes = writes();
        for write in &mut writes {
            if let Takes::Value(value) = &write.takes {
                write.takes = Takes::Digest(digest(&[value]));
            }
        }
        writes
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = encode(&key(), &writes());
        assert_eq!(decode(&key(), &record).unwrap(), remembered());
        assert_eq!(encode(&key(), &remembered()), record);
        assert_eq!(record_owner(&key()).unwrap(), ([7; 16], 0x0102_0304));
    }

    #[test]
    fn a_record_that_was_cut_or_changed_anywhere_is_damaged() {
        let damaged =
            |record: Vec<u8>| matches!(decode(&key(), &record.into()), Err(Unreadable::Damaged(_)));
        let record = encode(&key(), &writes()).to_vec();
        for length in 0..record.len() {
            assert!(damaged(record[..length].to_vec()), "cut to {length}");
        }
        for place in 0..record.len() {
            for bit in 0..8 {
                let mut changed = record.clone();
                changed[place] ^= 1 << bit;
                assert!(damaged(changed), "bit {bit} of byte {place}");
            }
        }
        let mut longer = record.clone();
        longer.push(0);
        assert!(damaged(longer));
        let elsewhere = decode(&record_key(&[7; 16], 1), &record.into());
        assert!(matches!(elsewhere, Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let newer = seal(&key(), vec![2, 77]);
        assert_eq!(decode(&key(), &newer), Err(Unreadable::TooNew(2)));
        assert_eq!(
            Mark::decode(&key(), &newer).unwrap_err(),
            Unreadable::TooNew(2)
        );
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let left = Left {
            owner: [3; 16],
            finished: 9,
        };
        for state in [
            MarkState::TakingOver(None),
            MarkState::TakingOver(Some(left)),
            MarkState::Opened(5),
        ] {
            let mark = Mark {
                term: 77,
                owner: [1; 16],
                state,
            };
            let bytes = mark.encode(&key());
            assert_eq!(Mark::decode(&key(), &bytes), Ok(mark));
            for length in 0..bytes.len() {
                assert!(Mark::decode(&key(), &bytes[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn the_record_of_a_commit_at_the_limits_fits_one_value() {
        for (unique_keys, inner) in [
            (true, Limits::default()),
            (false, Limits::default()),
            (
                false,
                Limits {
                    value_bytes: 4096,
                    ..Limits::default()
                },
            ),
            (
                true,
                Limits {
                    value_bytes: 100,
                    ..Limits::default()
                },
            ),
        ] {
            let limits = limits(inner, unique_keys);
            let mut rest = limits.commit_bytes;
            let mut changes: Vec<Change> = Vec::new();
            for n in 0..limits.commit_changes {
                let value = if n + 1 == limits.commit_changes {
                    rest - 4
                } else {
                    0
                };
                rest -= 4 + value;
                let key = format!("{n:04}").into_bytes();
                changes.push(Change::replace(key, "old", Bytes::from(vec![b'v'; value])));
            }
            let writes: Vec<Write> = changes.iter().map(|c| Write::of(c, unique_keys)).collect();
            let record = encode(&key(), &writes);
            assert_eq!(record.len(), inner.value_bytes.min(record.len()));
            assert!(record.len() + 9 > inner.value_bytes, "room is left");
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let record = encode(&key(), &writes());
        let mark = Mark {
            term: 1,
            owner: [1; 16],
            state: MarkState::Opened(2),
        };
        let hex = |bytes: &[u8]| {
            let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            pairs.concat()
        };
        let expected = [
            "01",
            "04000000036b65790000000576616c7565",
            "04000000036b657900000000",
            "02000000036b6579",
            "01000000036b6579cba06b5736faf67e54b07b561eae9439",
            "05000000036b6579cba06b5736faf67e54b07b561eae9439000000036e6577",
            "088f3c7a2dde09d1ad7ef20d98b52939",
        ];
        assert_eq!(hex(&record), expected.concat());
        let expected = [
            "010000000000000001",
            "01010101010101010101010101010101",
            "020000000000000002",
            "be523c21b351ec5911340ba003a8d5c6",
        ];
        assert_eq!(hex(&mark.encode(&"k".into())), expected.concat());
    }
}
