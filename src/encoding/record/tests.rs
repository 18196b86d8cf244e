use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DecodeError, EncodeError, MAX_BODY, encode, open};
use crate::encoding::golden;

/// Something of every kind that records are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    tiny: u8,
    small: u16,
    medium: u32,
    large: u64,
    signed: i64,
    flag: bool,
    ratio: f64,
    text: String,
    bytes: Vec<u8>,
    id: [u8; 4],
    nothing: Option<u32>,
    something: Option<u32>,
    state: State,
    history: Vec<State>,
    fields: BTreeMap<String, i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    Ready,
    Running(u32),
    Failed { reason: String },
}

fn sample() -> Sample {
    Sample {
        tiny: 255,
        small: 250,
        medium: 251,
        large: 1 << 40,
        signed: -2,
        flag: true,
        ratio: 0.5,
        text: "zoë".into(),
        bytes: vec![0, 0xff],
        id: [1, 2, 3, 4],
        nothing: None,
        something: Some(7),
        state: State::Running(70_000),
        history: vec![
            State::Ready,
            State::Failed {
                reason: "no".into(),
            },
        ],
        fields: BTreeMap::from([("a".into(), 1), ("b".into(), -300)]),
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    open(bytes, u8::MAX)?.1.decode()
}

fn reason<T: serde::de::DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) -> String {
    match decode::<T>(bytes) {
        Err(DecodeError::Corrupt { reason }) => reason,
        other => panic!("not corrupt: {other:?}"),
    }
}

/// What is stored must stay readable, so these bytes never change. If this fails because the format
/// was changed on purpose: a record with the new bytes is a new version, with a golden file of its own
/// (`record-2.hex`) and a test beside this one. Neither this file nor this test is ever edited.
#[test]
fn the_bytes_of_a_record_never_change() {
    let file = golden::bytes(include_str!("../../../tests/fixtures/records/record-1.hex"));
    assert_eq!(encode(1, &sample()).unwrap(), file);
    let (version, body) = open(&file, 1).unwrap();
    assert_eq!(version, 1);
    assert_eq!(body.decode::<Sample>().unwrap(), sample());
}

#[test]
fn an_older_version_is_handed_out_to_be_read() {
    let record = encode(3, "three").unwrap();
    let (version, body) = open(&record, 5).unwrap();
    assert_eq!(
        (version, body.decode::<String>().unwrap().as_str()),
        (3, "three")
    );
}

#[test]
fn a_newer_version_is_not_called_corrupt() {
    let error = open(&[3, 0xfd, 0xff], 2).unwrap_err();
    assert_eq!(
        error,
        DecodeError::TooNew {
            found: 3,
            newest: 2
        }
    );
}

#[test]
fn what_was_never_written_is_corrupt_and_says_why() {
    assert_eq!(reason::<u8>(&[]), "it is empty");
    assert_eq!(reason::<u8>(&[0, 7]), "its version is 0");
    assert_eq!(reason::<u8>(&[1, 7, 8]), "1 bytes follow the u8");
    assert!(reason::<u8>(&[1]).starts_with("it is no u8: UnexpectedEnd"));
    assert!(reason::<bool>(&[1, 2]).starts_with("it is no bool: InvalidBooleanValue"));
    assert!(reason::<String>(&[1, 1, 0xff]).contains("Utf8"));
    assert!(reason::<State>(&[1, 9]).contains("State"));
}

#[test]
fn version_zero_is_not_written() {
    assert_eq!(encode(0, &1_u8), Err(EncodeError::VersionZero));
}

#[test]
fn a_type_that_cannot_be_read_back_is_refused_where_bincode_can_tell() {
    /// A sequence that does not know its length.
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::from_fn(|| None::<u8>))
        }
    }
    let error = encode(1, &Endless).unwrap_err();
    assert!(error.to_string().contains("Endless"), "{error}");
}

/// A length that was damaged must not make a small record ask for all the memory there is.
#[test]
fn a_damaged_length_is_corrupt_not_a_huge_allocation() {
    let huge = [1, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    assert!(reason::<String>(&huge).contains("LimitExceeded"));
    reason::<Vec<u8>>(&huge);
    reason::<Vec<[u64; 8]>>(&huge);
    reason::<BTreeMap<String, u32>>(&huge);
}

#[test]
fn the_limit_of_a_body_holds_both_ways() {
    // Five bytes of length stand before the text: 252 and the length in four bytes.
    let largest = "x".repeat(MAX_BODY - 5);
    let mut record = encode(1, &largest).unwrap();
    assert_eq!(record.len(), 1 + MAX_BODY);
    assert_eq!(decode::<String>(&record).unwrap(), largest);

    let larger = format!("{largest}x");
    let error = EncodeError::TooLarge { limit: MAX_BODY };
    assert_eq!(encode(1, &larger), Err(error));
    record.push(b'x');
    assert!(open(&record, 1).is_err());
}

/// bincode counts what it reads by its size in memory: sixteen for each byte of this body.
#[test]
fn a_body_within_the_limit_is_read_even_if_it_is_over_it_in_memory() {
    let many = vec![1_u128; MAX_BODY / 8];
    let record = encode(1, &many).unwrap();
    assert!(record.len() < MAX_BODY);
    assert!(decode::<Vec<u128>>(&record).unwrap() == many);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode::<Sample>(&bytes);
        let _ = decode::<Vec<Vec<String>>>(&bytes);
    }

    #[test]
    fn a_damaged_record_is_read_or_refused(at in 0..90_usize, to in any::<u8>(), keep in 0..90_usize) {
        let mut record = encode(1, &sample()).unwrap();
        record.truncate(keep.max(1));
        if let Some(byte) = record.get_mut(at) {
            *byte = to;
        }
        let _ = decode::<Sample>(&record);
    }

    #[test]
    fn a_record_cut_short_is_corrupt(keep in 0..90_usize) {
        let record = encode(1, &sample()).unwrap();
        if let Some(cut) = record.get(..keep).filter(|cut| cut.len() < record.len()) {
            prop_assert!(decode::<Sample>(cut).is_err());
        }
    }

    #[test]
    fn what_was_written_is_read(
        version in 1..=u8::MAX,
        text in any::<String>(),
        numbers in vec(any::<(i64, u64, Option<bool>)>(), 0..20),
    ) {
        let record = encode(version, &(&text, &numbers)).unwrap();
        let (found, body) = open(&record, version).unwrap();
        prop_assert_eq!(found, version);
        prop_assert_eq!(body.decode::<(String, Vec<_>)>().unwrap(), (text, numbers));
    }
}
