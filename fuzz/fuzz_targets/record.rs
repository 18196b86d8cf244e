//! Any bytes are a record or an error, and a value that is read can be written and read again.

#![no_main]

use std::collections::BTreeMap;

use kvjob::encoding::record;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Something of every kind that records are made of, compared by its bytes (for NaN is not itself).
#[derive(Serialize, Deserialize)]
struct Sample {
    version: u8,
    count: u64,
    signed: i32,
    flag: bool,
    ratio: f64,
    letter: char,
    id: [u8; 16],
    text: String,
    bytes: Vec<u8>,
    maybe: Option<Box<State>>,
    states: Vec<State>,
    fields: BTreeMap<String, i64>,
}

#[derive(Serialize, Deserialize)]
enum State {
    Ready,
    Running(u128),
    Failed { reason: String },
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((version, body)) = record::open(bytes, 3) else {
        return;
    };
    assert!((1..=3).contains(&version));
    let Ok(value) = body.decode::<Sample>() else {
        return;
    };
    let written = record::encode(version, &value).expect("what was read can be written");
    let (again, body) = record::open(&written, 3).expect("what was written can be opened");
    assert_eq!(again, version);
    let value: Sample = body.decode().expect("what was written can be read");
    assert_eq!(record::encode(version, &value).as_ref(), Ok(&written));
});
