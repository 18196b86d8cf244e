//! What goes over the socket, and how it is written. The order of fields and variants is the
//! format: a change of it is a new [`VERSION`].

use bytes::{Bytes, BytesMut};
use kvjob::encoding::record::{self, DecodeError, EncodeError, MAX_BODY};
use kvjob::kv::{Change, Cursor, Direction, Error, ErrorKind, Expect, Limits, Object, Page, Scan};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
pub(crate) use tokio_util::codec::LengthDelimitedCodec as Codec;

/// The version of all that is here.
const VERSION: u8 = 1;

/// The most a frame can hold: a record and its version.
pub(crate) const MAX_FRAME: usize = MAX_BODY + 1;

/// The most that is sent at once where it can be had in parts: half a frame, for the other half may
/// be what a commit expects.
pub(crate) const MOST_BYTES: usize = MAX_BODY / 2;

/// The number of what answers no call.
pub(crate) const NO_CALL: u64 = 0;

/// What holds frames apart.
pub(crate) fn codec() -> Codec {
    Codec::builder()
        .little_endian()
        .length_field_type::<u32>()
        .max_frame_length(MAX_FRAME)
        .new_codec()
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Bytes, Error> {
    record::encode(VERSION, message)
        .map(Bytes::from)
        .map_err(|error| match error {
            EncodeError::TooLarge { limit } => {
                let message = format!("it is over the {limit} bytes that go through a socket");
                let what = "bytes through a socket";
                Error::new(ErrorKind::TooLarge { what, limit }, message)
            }
            other => Error::new(ErrorKind::Backend, other.to_string()).with_source(other),
        })
}

pub(crate) fn decode<T: DeserializeOwned>(frame: &BytesMut) -> Result<T, Error> {
    let read = |frame| record::open(frame, VERSION)?.1.decode();
    read(frame).map_err(|error: DecodeError| match error {
        DecodeError::TooNew { found, newest } => Error::new(
            ErrorKind::TooNew,
            format!("the other process speaks version {found}, this one {newest}: use the same kvjob for both"),
        ),
        other => Error::new(ErrorKind::Corrupt, other.to_string()),
    })
}

/// The holder's first words.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) process: u32,
    pub(crate) name: String,
    pub(crate) unique_keys: bool,
    pub(crate) watch: bool,
    /// Of a key, a value, a commit; changes in a commit.
    pub(crate) limits: [usize; 4],
}

pub(crate) fn of_limits(limits: &Limits) -> [usize; 4] {
    [
        limits.key_bytes,
        limits.value_bytes,
        limits.commit_bytes,
        limits.commit_changes,
    ]
}

/// Those of the holder, as far as they fit into a frame.
pub(crate) fn to_limits([key, value, commit, changes]: [usize; 4]) -> Limits {
    Limits {
        key_bytes: key.min(64 << 10),
        value_bytes: value.min(MOST_BYTES),
        commit_bytes: commit.min(MOST_BYTES),
        commit_changes: changes.min(64 << 10),
    }
}

/// A call and its number, which is not [`NO_CALL`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Set(WireObject),
    Get(Vec<Bytes>),
    Scan(Vec<WireScan>),
    Remove(WireObject),
    Delete(Bytes),
    Commit(Vec<Vec<WireChange>>),
    Health,
    /// Answered with `Done`, then with what was heard, under the same number.
    Watch(Bytes),
    /// Ends the watch of this number, without an answer.
    Unwatch,
}

/// An answer, under the number of its call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tell {
    pub(crate) id: u64,
    pub(crate) told: Result<Told, Fault>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Done,
    Values(Vec<Option<Bytes>>),
    Pages(Vec<WirePage>),
    Outcomes(Vec<Result<(), Fault>>),
    Health(Vec<String>),
    Changed(Bytes),
    Lagged,
    /// The store closed: the watch hears no more.
    WatchEnded,
}

/// A key and a value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireObject(Bytes, Bytes);

impl From<Object> for WireObject {
    fn from(Object { key, value }: Object) -> Self {
        Self(key.into_bytes(), value)
    }
}

impl From<WireObject> for Object {
    fn from(WireObject(key, value): WireObject) -> Self {
        Self::new(key, value)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct WireCursor(Bytes, Option<Bytes>);

impl From<Cursor> for WireCursor {
    fn from(cursor: Cursor) -> Self {
        Self(cursor.key().clone().into_bytes(), cursor.value().cloned())
    }
}

impl From<WireCursor> for Cursor {
    fn from(WireCursor(key, value): WireCursor) -> Self {
        match value {
            Some(value) => Self::after_object(&Object::new(key, value)),
            None => Self::after(key),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireScan {
    prefix: Bytes,
    after: Option<WireCursor>,
    limit: usize,
    byte_budget: usize,
    reverse: bool,
    keys_only: bool,
}

impl From<Scan> for WireScan {
    fn from(scan: Scan) -> Self {
        Self {
            prefix: scan.prefix.into_bytes(),
            after: scan.after.map(Into::into),
            limit: scan.limit,
            byte_budget: scan.byte_budget,
            reverse: scan.direction == Direction::Reverse,
            keys_only: scan.keys_only,
        }
    }
}

impl From<WireScan> for Scan {
    /// With what fits into a frame.
    fn from(scan: WireScan) -> Self {
        Self {
            prefix: scan.prefix.into(),
            after: scan.after.map(Into::into),
            limit: scan.limit,
            byte_budget: scan.byte_budget.min(MOST_BYTES),
            direction: if scan.reverse {
                Direction::Reverse
            } else {
                Direction::Forward
            },
            keys_only: scan.keys_only,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WirePage(Vec<WireObject>, Option<WireCursor>);

impl From<Page> for WirePage {
    fn from(page: Page) -> Self {
        let objects = page.objects.into_iter().map(Into::into).collect();
        Self(objects, page.next.map(Into::into))
    }
}

impl From<WirePage> for Page {
    fn from(WirePage(objects, next): WirePage) -> Self {
        Self {
            objects: objects.into_iter().map(Into::into).collect(),
            next: next.map(Into::into),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireChange {
    key: Bytes,
    before: WireExpect,
    after: Option<Bytes>,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireExpect {
    Any,
    Absent,
    Value(Bytes),
}

/// Bytes of a change in a frame, about.
pub(crate) fn size(change: &Change) -> usize {
    let before = match &change.before {
        Expect::Value(value) => value.len(),
        Expect::Any | Expect::Absent => 0,
    };
    change.size() + before + 16
}

impl From<Change> for WireChange {
    fn from(change: Change) -> Self {
        Self {
            key: change.key.into_bytes(),
            before: match change.before {
                Expect::Any => WireExpect::Any,
                Expect::Absent => WireExpect::Absent,
                Expect::Value(value) => WireExpect::Value(value),
            },
            after: change.after,
        }
    }
}

impl From<WireChange> for Change {
    fn from(change: WireChange) -> Self {
        Self {
            key: change.key.into(),
            before: match change.before {
                WireExpect::Any => Expect::Any,
                WireExpect::Absent => Expect::Absent,
                WireExpect::Value(value) => Expect::Value(value),
            },
            after: change.after,
        }
    }
}

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    kind: WireKind,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireKind {
    ConditionFailed(Vec<usize>),
    Conflict,
    Transient,
    Unknown,
    TooLarge(String, usize),
    InvalidKey,
    Unsupported,
    Corrupt,
    TooNew,
    Closed,
    InUse,
    Backend,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            let text = source.to_string();
            if !message.contains(&text) {
                message = message + ": " + &text;
            }
            cause = source.source();
        }
        let kind = match error.kind() {
            ErrorKind::ConditionFailed { indices } => WireKind::ConditionFailed(indices.clone()),
            ErrorKind::Conflict => WireKind::Conflict,
            ErrorKind::Transient => WireKind::Transient,
            ErrorKind::Unknown => WireKind::Unknown,
            ErrorKind::TooLarge { what, limit } => WireKind::TooLarge((*what).to_owned(), *limit),
            ErrorKind::InvalidKey => WireKind::InvalidKey,
            ErrorKind::Unsupported => WireKind::Unsupported,
            ErrorKind::Corrupt => WireKind::Corrupt,
            ErrorKind::TooNew => WireKind::TooNew,
            ErrorKind::Closed => WireKind::Closed,
            ErrorKind::InUse => WireKind::InUse,
            _ => WireKind::Backend,
        };
        Self { kind, message }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            WireKind::ConditionFailed(indices) => ErrorKind::ConditionFailed { indices },
            WireKind::Conflict => ErrorKind::Conflict,
            WireKind::Transient => ErrorKind::Transient,
            WireKind::Unknown => ErrorKind::Unknown,
            WireKind::TooLarge(what, limit) => {
                let known = [
                    "bytes of a key",
                    "bytes of a value",
                    "bytes of a commit",
                    "changes in a commit",
                    "bytes through a socket",
                ];
                let what = known.into_iter().find(|known| *known == what);
                let what = what.unwrap_or("size");
                ErrorKind::TooLarge { what, limit }
            }
            WireKind::InvalidKey => ErrorKind::InvalidKey,
            WireKind::Unsupported => ErrorKind::Unsupported,
            WireKind::Corrupt => ErrorKind::Corrupt,
            WireKind::TooNew => ErrorKind::TooNew,
            WireKind::Closed => ErrorKind::Closed,
            WireKind::InUse => ErrorKind::InUse,
            WireKind::Backend => ErrorKind::Backend,
        };
        Self::new(kind, fault.message)
    }
}
