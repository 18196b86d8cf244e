use foundationdb_tuple::{Bytes, Element as Oracle, Uuid, pack};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{DecodeError, Found, Reader, Tuple};
use crate::encoding::golden;

/// Its derived order is the order the document gives: by type code, then by value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Element {
    Bytes(Vec<u8>),
    String(String),
    Integer(i128),
    Bool(bool),
    Uuid([u8; 16]),
}

impl Element {
    fn write(&self, tuple: Tuple) -> Tuple {
        match self {
            Self::Bytes(value) => tuple.bytes(value),
            Self::String(value) => tuple.string(value),
            Self::Integer(value) => match i64::try_from(*value) {
                Ok(value) => tuple.int(value),
                Err(_) => tuple.uint(u64::try_from(*value).unwrap()),
            },
            Self::Bool(value) => tuple.bool(*value),
            Self::Uuid(value) => tuple.uuid(value),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let integer = |reader: &mut Reader<'_>| {
            let signed = reader.read_i64().map(i128::from);
            signed.or_else(|_| reader.read_u64().map(i128::from))
        };
        None.or_else(|| reader.read_bytes().ok().map(|v| Self::Bytes(v.into())))
            .or_else(|| reader.read_string().ok().map(|v| Self::String(v.into())))
            .or_else(|| integer(reader).ok().map(Self::Integer))
            .or_else(|| reader.read_bool().ok().map(Self::Bool))
            .or_else(|| reader.read_uuid().ok().map(Self::Uuid))
    }

    /// The same element for the other implementation, which takes integers only as far as `i64`.
    fn oracle(&self) -> Option<Oracle<'_>> {
        Some(match self {
            Self::Bytes(value) => Oracle::Bytes(Bytes::from(value.as_slice())),
            Self::String(value) => Oracle::String(value.into()),
            Self::Integer(value) => Oracle::Int(i64::try_from(*value).ok()?),
            Self::Bool(value) => Oracle::Bool(*value),
            Self::Uuid(value) => Oracle::Uuid(Uuid::from_bytes(*value)),
        })
    }
}

fn write(elements: &[Element]) -> Vec<u8> {
    let tuple = elements.iter().fold(Tuple::new(), |t, e| e.write(t));
    tuple.finish()
}

fn read(key: &[u8]) -> Option<Vec<Element>> {
    let mut reader = Reader::new(key);
    let mut elements = Vec::new();
    while !reader.is_empty() {
        elements.push(Element::read(&mut reader)?);
    }
    reader.finish().ok().map(|()| elements)
}

/// Bytes that meet the escaping: few values, those at its edges among them.
fn edgy_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()],
        0..6,
    )
}

fn edgy_string() -> impl Strategy<Value = String> {
    let char = prop_oneof![
        Just('\0'),
        Just('\u{1}'),
        Just('a'),
        Just('\u{7f}'),
        Just('\u{80}'),
        Just('\u{d7ff}'),
        Just('\u{e000}'),
        Just('\u{ffff}'),
        Just('\u{10000}'),
        any::<char>()
    ];
    vec(char, 0..5).prop_map(String::from_iter)
}

/// Integers of every length, and those beside a change of length.
fn edgy_integer() -> impl Strategy<Value = i128> {
    let power = (0..=64_u32, -2..=2_i128, any::<bool>()).prop_map(|(bits, off, negative)| {
        let value = (1_i128 << bits) + off;
        if negative { -value } else { value }
    });
    let any = prop_oneof![
        any::<i64>().prop_map(i128::from),
        any::<u64>().prop_map(i128::from)
    ];
    let shorter = (any, 0..64_u32).prop_map(|(value, by)| value >> by);
    prop_oneof![power, shorter].prop_map(|v| v.clamp(i64::MIN.into(), u64::MAX.into()))
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        edgy_bytes().prop_map(Element::Bytes),
        edgy_string().prop_map(Element::String),
        edgy_integer().prop_map(Element::Integer),
        any::<bool>().prop_map(Element::Bool),
        prop_oneof![any::<[u8; 16]>(), any::<u8>().prop_map(|b| [b; 16])].prop_map(Element::Uuid),
    ]
}

fn elements() -> impl Strategy<Value = Vec<Element>> {
    vec(element(), 0..5)
}

/// Two tuples that are likely to begin alike, for the order is decided where they part.
fn two_tuples() -> impl Strategy<Value = (Vec<Element>, Vec<Element>)> {
    (elements(), elements(), elements()).prop_map(|(start, a, b)| {
        (
            start.iter().cloned().chain(a).collect(),
            start.into_iter().chain(b).collect(),
        )
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(elements in elements()) {
        prop_assert_eq!(read(&write(&elements)), Some(elements));
    }

    #[test]
    fn byte_order_is_tuple_order((a, b) in two_tuples()) {
        prop_assert_eq!(write(&a).cmp(&write(&b)), a.cmp(&b));
    }

    #[test]
    fn byte_order_is_element_order_within_a_type(
        (a, b) in prop_oneof![
            (edgy_integer(), edgy_integer())
                .prop_map(|(a, b)| (Element::Integer(a), Element::Integer(b))),
            (edgy_string(), edgy_string())
                .prop_map(|(a, b)| (Element::String(a), Element::String(b))),
            (edgy_bytes(), edgy_bytes())
                .prop_map(|(a, b)| (Element::Bytes(a), Element::Bytes(b))),
        ],
        tail in element(),
    ) {
        let keys = [&a, &b].map(|e| write(&[e.clone(), tail.clone()]));
        prop_assert_eq!(keys[0].cmp(&keys[1]), a.cmp(&b));
    }

    #[test]
    fn bytes_equal_those_of_the_foundationdb_crate(elements in elements()) {
        let mut expected = Vec::new();
        for element in &elements {
            match (element, element.oracle()) {
                (_, Some(oracle)) => expected.extend(pack(&oracle)),
                (Element::Integer(value), None) => {
                    expected.extend(pack(&u64::try_from(*value).unwrap()));
                }
                (other, None) => panic!("no oracle for {other:?}"),
            }
        }
        prop_assert_eq!(write(&elements), expected);
    }

    #[test]
    fn an_integer_has_the_same_bytes_signed_and_unsigned(value in 0..=i64::MAX) {
        let unsigned = Tuple::new().uint(value.unsigned_abs()).finish();
        prop_assert_eq!(Tuple::new().int(value).finish(), unsigned);
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_read_only_if_written_so(
        key in prop_oneof![vec(any::<u8>(), 0..64), edgy_bytes()],
        code in 0..=0x31_u8,
    ) {
        for key in [&key[..], &[&[code][..], &key].concat()] {
            if let Some(elements) = read(key) {
                prop_assert_eq!(write(&elements), key);
            }
        }
    }

    #[test]
    fn a_key_cut_short_never_reads_as_the_whole(elements in vec(element(), 1..4)) {
        let key = write(&elements);
        for end in 0..key.len() {
            prop_assert_ne!(read(&key[..end]), Some(elements.clone()));
        }
    }

    #[test]
    fn a_failed_read_leaves_the_reader_where_it_was(key in vec(any::<u8>(), 0..24)) {
        let before = Reader::new(&key);
        let reads: [fn(&mut Reader<'_>) -> bool; 6] = [
            |r| r.read_bytes().is_ok(),
            |r| r.read_string().is_ok(),
            |r| r.read_i64().is_ok(),
            |r| r.read_u64().is_ok(),
            |r| r.read_bool().is_ok(),
            |r| r.read_uuid().is_ok(),
        ];
        for read in reads {
            let mut after = before.clone();
            if !read(&mut after) {
                prop_assert_eq!(format!("{after:?}"), format!("{before:?}"));
            }
        }
    }
}

#[test]
fn the_test_cases_of_the_document_hold() {
    let bytes = Tuple::new().bytes(b"foo\x00bar").finish();
    assert_eq!(bytes, b"\x01foo\x00\xffbar\x00");
    let string = Tuple::new().string("F\u{d4}O\u{0}bar").finish();
    assert_eq!(string, b"\x02F\xc3\x94O\x00\xffbar\x00");
    assert_eq!(Tuple::new().int(-5_551_212).finish(), b"\x11\xabK\x93");
    assert_eq!(Tuple::new().int(-1).finish(), b"\x13\xfe");
    assert_eq!(Tuple::new().int(0).finish(), b"\x14");
    assert_eq!(Tuple::new().bool(false).bool(true).finish(), b"\x26\x27");
}

/// Keys are stored, so these bytes can never change. If this fails, the code is wrong, not the file.
#[test]
fn the_bytes_of_a_key_never_change() {
    let uuid = 0x018f_3c1d_5e00_7abc_8def_0011_2233_4455_u128;
    let key = Tuple::new()
        .string("ready")
        .string("zoë\0!")
        .bytes(b"")
        .bytes(&[0x00, 0xff])
        .int(i64::MIN)
        .int(-1)
        .int(0)
        .int(255)
        .uint(256)
        .uint(u64::MAX)
        .bool(false)
        .bool(true)
        .uuid(&uuid.to_be_bytes())
        .finish();
    let file = include_str!("../../../tests/fixtures/records/tuple.hex");
    assert_eq!(key, golden::bytes(file));
}

#[test]
fn a_prefix_with_room_is_appended_to_without_another_allocation() {
    let prefix = Tuple::new().string("job").finish();
    let room = Tuple::after(&prefix, 17).finish().capacity();
    let key = Tuple::after(&prefix, 17).uuid(&[9; 16]).finish();
    assert_eq!(key.capacity(), room);
    assert_eq!(key, Tuple::in_buffer(prefix).uuid(&[9; 16]).finish());
}

#[test]
fn an_error_says_where_what_was_expected_and_what_was_found() {
    let key = Tuple::new().string("a").int(-1).finish();
    let mut reader = Reader::new(&key);
    assert_eq!(reader.read_string().unwrap(), "a");
    let error = reader.read_uuid().unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a UUID at byte 3 of the key, found an integer (type code 0x13)"
    );
    let error = reader.read_u64().unwrap_err();
    assert_eq!((error.offset, error.found), (3, Found::OutOfRange));
    let error = reader.clone().finish().unwrap_err();
    assert_eq!((error.offset, error.found), (3, Found::Code(0x13)));
    assert_eq!(reader.read_i64(), Ok(-1));
    let error = reader.read_bool().unwrap_err();
    assert_eq!((error.offset, error.found), (5, Found::End));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn what_no_writer_writes_is_refused() {
    let found = |result: Result<_, DecodeError>| result.map(drop).unwrap_err().found;
    let int = |key| found(Reader::new(key).read_i64().map(drop));
    let uint = |key| found(Reader::new(key).read_u64().map(drop));
    let string = |key| found(Reader::new(key).read_string().map(drop));

    assert_eq!(int(b"\x16\x00\x05"), Found::NotShortest);
    assert_eq!(
        int(b"\x15\x00"),
        Found::NotShortest,
        "zero has a code of its own"
    );
    assert_eq!(int(b"\x13\xff"), Found::NotShortest, "so has minus zero");
    assert_eq!(int(b"\x12\xff\xfa"), Found::NotShortest);
    assert_eq!(
        int(b"\x1c\xff\xff\xff\xff\xff\xff\xff\xff"),
        Found::OutOfRange
    );
    assert_eq!(
        int(b"\x0c\x7f\xff\xff\xff\xff\xff\xff\xfe"),
        Found::OutOfRange
    );
    assert_eq!(uint(b"\x13\xfe"), Found::OutOfRange);
    assert_eq!(int(b"\x16\x01"), Found::End);
    assert_eq!(
        int(b"\x1d\x09"),
        Found::Code(0x1d),
        "larger integers are not ours"
    );
    assert_eq!(string(b"\x02abc"), Found::End);
    assert_eq!(string(b"\x02abc\x00\xff"), Found::End);
    assert_eq!(string(b"\x02\xff\x00"), Found::NotUtf8);
    assert_eq!(string(b"\x02\x00\xff\xff\x00"), Found::NotUtf8);
    assert_eq!(string(b"\x01abc\x00"), Found::Code(0x01));
    let uuid = Reader::new(&[0x30; 16]).read_uuid().map(drop);
    assert_eq!(found(uuid), Found::End);
}
