//! The bytes of every record of this floor, pinned: a build that writes other bytes, or cannot
//! read these, fails.
//!
//! To change a format on purpose, give it the next version, keep reading the old one, and add a
//! file; never change one that is there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cron::Stored;
use super::format::Unfinished;
use super::header::{self, Arguments, Header, Holder, JobKey, Phase, Recent, StoredStep};
use super::keys::{KeySpace, Waiting};
use super::log::{Level, StoredLine};
use super::ops::quarantine::Record;
use super::ops::sweep::{Moment, Walks};
use super::plan::{Entry, StoredSetting, WorkerRecord};
use super::scheme::Scheme;
use super::serial::{self, QueueLane, Standing};
use super::{Backoff, JobId, Lane, LaneFilter, Rate, State};
use crate::clock::Timestamp;
use crate::kv::Key;

const GOLDEN: &str = include_str!("../../tests/fixtures/records/job-1.hex");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes pinned under this name.
fn pinned(name: &str) -> &'static str {
    GOLDEN
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(pinned, _)| *pinned == name)
        .unwrap_or_else(|| panic!("no bytes are pinned for {name}"))
        .1
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = header::encode(value).unwrap();
    assert_eq!(hex(&bytes), pinned(name), "{name} is written differently");
    let read: T = header::decode(&Key::from(name), &unhex(pinned(name))).unwrap();
    assert_eq!(&read, value, "{name} is read differently");
}

fn lane() -> Lane {
    Lane {
        tenant: "acme".into(),
        task: "send-mail".into(),
        flags: vec!["slow".into()],
    }
}

fn sample() -> Header {
    let step = |number, state, reason: Option<&str>, worker: Option<&str>| StoredStep {
        number,
        at: 1_795_249_800_000_000 + i64::from(number),
        state,
        attempt: 1,
        token: 0x0123_4567_89ab_cdef,
        cleared: false,
        is_error: reason.is_some(),
        reason: reason.map(Into::into),
        worker: worker.map(Into::into),
    };
    Header {
        revision: 3,
        token: 0x0123_4567_89ab_cdef,
        epoch: 1,
        phase: Phase::Running,
        lane: lane(),
        priority: -5,
        run_at: 1_795_249_800_000_000,
        scheduled: true,
        attempts: 2,
        max_attempts: 25,
        losses: 1,
        backoff: Backoff::Exponential {
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
        },
        timeout: Some(Duration::from_millis(1500)),
        key: Some(JobKey {
            text: "order/7".into(),
            retain: true,
        }),
        queue: Some("account/3".into()),
        holder: Some(Holder {
            incarnation: [7; 16],
            slot: 300,
            worker: "w-1".into(),
        }),
        cancel_requested: true,
        arguments: Arguments::Inline(r#"{"to":"ada"}"#.into()),
        result: Some(Arguments::Inline("42".into())),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        created_at: 1_795_249_800_000_000,
        started_at: Some(1_795_249_800_000_001),
        ended_at: None,
        history: Recent {
            next: 3,
            cleared: 1,
            steps: vec![
                step(0, State::Created, None, None),
                step(1, State::Scheduled, Some("exit status 75"), None),
                step(2, State::Running, None, Some("w-1")),
            ],
        },
    }
}

#[test]
fn the_bytes_of_records_do_not_change() {
    holds("header", &sample());
    let stored = Header {
        phase: Phase::Deleting,
        arguments: Arguments::Stored { bytes: 513 },
        result: Some(Arguments::Stored { bytes: 514 }),
        traceparent: None,
        backoff: Backoff::Default,
        holder: None,
        ended_at: Some(-1),
        ..sample()
    };
    holds("header-stored", &stored);
    holds(
        "waiting",
        &Waiting {
            lane: lane(),
            priority: 9,
            payload_stored: true,
            queue: Some([3; 16]),
        },
    );
    let entry = Entry {
        id: [1; 16],
        epoch: 4,
        deadline: 1_795_249_800_000_000,
        queue: Some([3; 16]),
    };
    let record = WorkerRecord {
        worker: "w-1".into(),
        lease: 300_000_000,
        entries: vec![entry, entry],
    };
    holds("worker", &record);
    let standing = Standing {
        priority: -5,
        run_at: 1_795_249_800_000_000,
        id: [9; 16],
        payload_stored: true,
    };
    let queue = QueueLane {
        task: "send-mail".into(),
        flags: vec!["slow".into()],
        waits: true,
        exposed: vec![standing],
    };
    let queue = serial::Record {
        tenant: "acme".into(),
        text: "account/3".into(),
        counter: 0x0123_4567_89ab_cdef,
        limit: Some(2),
        running: vec![[1; 16]],
        lanes: vec![queue],
    };
    holds("queue", &queue);
    holds(
        "lane",
        &StoredSetting {
            flags: lane().flags,
            paused_at: Some(1_795_249_800_000_000),
            rate: Some(Rate::new(10, Duration::from_secs(1)).burst(3)),
        },
    );
    let moment = Moment {
        ended_at: 1_795_249_800_000_000,
        id: [1; 16],
    };
    let walks = Walks {
        token: 0x0123_4567_89ab_cdef,
        ids: Some([2; 16]),
        late: None,
        bad: Some(moment),
    };
    holds("walks", &walks);
    let record = Record {
        key: b"kvjob\xff".to_vec(),
        value: vec![0, 1],
        reason: "unknown version".into(),
        at: 1_795_249_800_000_000,
    };
    holds("quarantined", &record);
    let cron = Stored {
        revision: 300,
        definition: Some(r#"{"id":"nightly"}"#.into()),
        added_at: 1_795_249_800_000_000,
        settled: 1_795_249_800_000_001,
        last_slot: Some(-1),
        paused: true,
    };
    holds("cron", &cron);
    let mark = Unfinished::mark(0x0123_4567_89ab_cdef).unwrap();
    assert_eq!(hex(&mark), pinned("unfinished"));
    let fields = BTreeMap::from([("stream".to_owned(), "stdout".to_owned())]);
    holds(
        "log",
        &StoredLine {
            level: Level::Warn,
            message: "hm".into(),
            fields,
        },
    );
}

#[test]
fn the_bytes_of_keys_do_not_change() {
    let keys = KeySpace::new("kvjob", Scheme::UniqueKeys).unwrap();
    let (id, at) = (
        JobId::from_bytes([9; 16]),
        Timestamp::from_micros(1_795_249_800_000_000),
    );
    let one_lane = LaneFilter {
        tenant: Some(lane().tenant),
        task: Some(lane().task),
        flags: Some(lane().flags),
    };
    let built = [
        ("key-format", keys.format()),
        ("key-job", keys.job(id)),
        ("key-payload", keys.payload(id)),
        ("key-ready", keys.ready(&lane(), -5, at, id)),
        ("key-scheduled", keys.scheduled(at, id)),
        ("key-wait", keys.wait(&[3; 16], &lane(), -5, at, id)),
        (
            "key-queue",
            keys.queue(&KeySpace::queue_hash("acme", "account/3")),
        ),
        ("key-worker", keys.worker(&[7; 16], 300)),
        ("key-attention", keys.attention(at, id)),
        ("key-lane-all", keys.lane_setting(&LaneFilter::all())),
        ("key-lane", keys.lane_setting(&one_lane)),
        ("key-unique", keys.unique("acme", "order/7")),
        ("key-history", keys.history(id, 8, &[]).key),
        ("key-log", keys.log(id, at, u64::MAX, &[]).key),
        ("key-signal", keys.signal(&[7; 16], id)),
        ("key-quarantined", keys.quarantine(&keys.job(id), 0xfa)),
        ("key-retention", keys.retention()),
        ("key-removal", keys.removal(id)),
        ("key-result", keys.result(id)),
        ("key-cron", keys.cron("nightly")),
    ];
    // As it was before it had a hash; such keys are still read.
    let quarantined = hex(keys.quarantine(&keys.job(id), 0xfa).as_bytes());
    assert!(quarantined.starts_with(pinned("key-quarantine")));
    for (name, key) in built {
        assert_eq!(
            hex(key.as_bytes()),
            pinned(name),
            "{name} is built differently"
        );
    }
}
