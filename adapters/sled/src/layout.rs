//! How objects stand in the tree `kvjob`, so that sled 0.34 can bear them. What is written and
//! read, and when, is the engine's.
//!
//! | key | value |
//! |---|---|
//! | `00`, the key | `00`, the value; or `01` and the number of its pieces (4 bytes) |
//! | `01`, the key, `ff`, the number of the piece (4 bytes) | the piece |
//!
//! Keys are stored without a byte `ff`: it becomes `fe 01`, and `fe` becomes `fe 00`, which keeps
//! the order. sled walks backwards from one page to the one before it by guessing a key in
//! between, and guesses that no key has more than four bytes `ff` in a row. Where one has, the
//! walk never ends (sled gives up with a panic after a million steps).
//!
//! Values of more than 4 KiB are cut in pieces. A page of up to 17 objects that is larger than
//! 128 KiB, or an object that is, gets a file of its own (a "blob"). sled does not sync these
//! files, and does not remove them when it should: a few MB of them that change grow to GBs.

use std::borrow::Cow;
use std::ops::Bound;

use kvjob::kv::{Error, ErrorKind, Result};

/// The largest piece of a value.
pub(crate) const PIECE: usize = 4 << 10;

const OBJECT: u8 = 0;
const PIECES: u8 = 1;
const ESCAPE: u8 = 0xfe;
const END: u8 = 0xff;

/// A stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Whole(&'a [u8]),
    /// In so many pieces.
    Cut(u32),
}

/// The key of an object.
pub(crate) fn object_key(key: &[u8]) -> Vec<u8> {
    escaped(OBJECT, key)
}

/// The bounds of a range of objects.
pub(crate) fn bounds(
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match start.map(object_key) {
        Bound::Unbounded => Bound::Included(vec![OBJECT]),
        start => start,
    };
    let end = match end.map(object_key) {
        Bound::Unbounded => Bound::Excluded(vec![OBJECT + 1]),
        end => end,
    };
    (start, end)
}

/// The key whose [`object_key`] this is.
pub(crate) fn key_of(stored: &[u8]) -> Result<Cow<'_, [u8]>> {
    let foreign = || foreign("a key", stored);
    let [OBJECT, escaped @ ..] = stored else {
        return Err(foreign());
    };
    if escaped.iter().all(|byte| *byte < ESCAPE) {
        return Ok(Cow::Borrowed(escaped));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(match *byte {
            ESCAPE => match bytes.next() {
                Some(which @ 0..=1) => ESCAPE + which,
                _ => return Err(foreign()),
            },
            END => return Err(foreign()),
            byte => byte,
        });
    }
    Ok(Cow::Owned(key))
}

/// The keys of the pieces with these numbers.
pub(crate) fn piece_keys(
    key: &[u8],
    numbers: std::ops::Range<u32>,
) -> impl Iterator<Item = Vec<u8>> {
    let mut start = escaped(PIECES, key);
    start.push(END);
    numbers.map(move |number| [&*start, &number.to_be_bytes()].concat())
}

/// What is stored under the key of an object of this value.
pub(crate) fn stored(value: &[u8]) -> Vec<u8> {
    match pieces(value) {
        0 => [&[OBJECT], value].concat(),
        count => [&[PIECES][..], &count.to_be_bytes()].concat(),
    }
}

/// In how many pieces a value is stored; 0 for one that is not cut.
pub(crate) fn pieces(value: &[u8]) -> u32 {
    if value.len() <= PIECE {
        return 0;
    }
    // The limits of the store leave far fewer.
    u32::try_from(value.len().div_ceil(PIECE)).unwrap_or(u32::MAX)
}

/// What was stored with [`stored`].
pub(crate) fn value_of(stored: &[u8]) -> Result<Stored<'_>> {
    match stored {
        [OBJECT, value @ ..] => Ok(Stored::Whole(value)),
        [PIECES, count @ ..] => {
            let count = count.try_into().map_err(|_| foreign("a value", stored))?;
            Ok(Stored::Cut(u32::from_be_bytes(count)))
        }
        _ => Err(foreign("a value", stored)),
    }
}

fn escaped(space: u8, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 8);
    stored.push(space);
    for byte in key {
        match byte.checked_sub(ESCAPE) {
            Some(which) => stored.extend([ESCAPE, which]),
            None => stored.push(*byte),
        }
    }
    stored
}

fn foreign(what: &str, stored: &[u8]) -> Error {
    let start = stored.get(..64).unwrap_or(stored).escape_ascii();
    let message = format!("sled holds {what} that kvjob did not write: {start}");
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![any::<u8>(), 0xfc..=0xffu8, 0..=1u8];
        vec(byte, 0..12)
    }

    proptest! {
        #[test]
        fn keys_read_back_keep_their_order_and_have_no_ff(a in key(), b in key()) {
            let (left, right) = (object_key(&a), object_key(&b));
            prop_assert_eq!(key_of(&left).unwrap(), &*a);
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            prop_assert!(!left.contains(&0xff) && left.len() <= 1 + 2 * a.len());
        }

        #[test]
        fn pieces_of_different_keys_are_told_apart(a in key(), b in key(), m in 0..300u32, n in 0..300u32) {
            let piece = |key: &[u8], n: u32| piece_keys(key, n..n + 1).next();
            prop_assert_eq!(piece(&a, m) == piece(&b, n), (a, m) == (b, n));
        }
    }

    #[test]
    fn values_read_back() {
        for length in [0, 1, PIECE] {
            let value = vec![1; length];
            assert_eq!(value_of(&stored(&value)).unwrap(), Stored::Whole(&value));
        }
        for (length, count) in [(PIECE + 1, 2), (2 * PIECE, 2), (2 * PIECE + 1, 3)] {
            let value = vec![1; length];
            assert_eq!(value_of(&stored(&value)).unwrap(), Stored::Cut(count));
            assert_eq!(value.chunks(PIECE).count(), count as usize);
        }
    }

    #[test]
    fn what_was_never_stored_is_corrupt() {
        for foreign in [
            &b""[..],
            b"\x01",
            b"\x00\xff",
            b"\x00a\xfe",
            b"\x00\xfe\x02",
        ] {
            let error = key_of(foreign).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        }
        for foreign in [&b""[..], b"\x01", b"\x01\x00\x00\x00", b"\x02"] {
            let error = value_of(foreign).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        }
    }
}
