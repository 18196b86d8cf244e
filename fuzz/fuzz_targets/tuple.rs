//! Any bytes are a key or an error, and a key that is read is written again with the same bytes.

#![no_main]

use kvjob::encoding::tuple::{Reader, Tuple};
use libfuzzer_sys::fuzz_target;

/// Reads the next element, of whatever type it is, and writes it.
fn copy(reader: &mut Reader<'_>, tuple: Tuple) -> Option<Tuple> {
    if let Ok(value) = reader.read_bytes() {
        Some(tuple.bytes(&value))
    } else if let Ok(value) = reader.read_string() {
        Some(tuple.string(&value))
    } else if let Ok(value) = reader.read_i64() {
        Some(tuple.int(value))
    } else if let Ok(value) = reader.read_u64() {
        Some(tuple.uint(value))
    } else if let Ok(value) = reader.read_bool() {
        Some(tuple.bool(value))
    } else if let Ok(value) = reader.read_uuid() {
        Some(tuple.uuid(&value))
    } else {
        None
    }
}

fuzz_target!(|key: &[u8]| {
    let mut reader = Reader::new(key);
    let mut tuple = Tuple::new();
    while !reader.is_empty() {
        match copy(&mut reader, tuple) {
            Some(longer) => tuple = longer,
            None => {
                assert!(reader.finish().is_err(), "what cannot be read is left over");
                return;
            }
        }
    }
    assert_eq!(tuple.finish(), key);
});
