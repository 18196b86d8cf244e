//! How append-only objects (history chunks, log lines) lie in the store below. Everything else has
//! a key of its own on every store.
//!
//! An appended object has a *prefix* that says what it belongs to (a job's log), a *suffix* that
//! orders it there (time and writer), and a *body*. Where a key holds one value, prefix and suffix
//! make the key. On a bag all objects of a prefix share it as their key, and the suffix leads the
//! value, so that a bag's byte order is the same order: a scan of the prefix reads both alike.
//!
//! A commit has a key only once, so that on a bag it takes one new object of each prefix:
//! [`View`](super::plan::View) knows what to do with a second one.

use bytes::Bytes;

use crate::encoding::tuple::{DecodeError, Reader};
use crate::kv::{Cursor, Key, Object, Store};

/// One of the two layouts. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Every object has a key of its own.
    UniqueKeys,
    /// The objects of a prefix share a key.
    Bag,
}

impl Scheme {
    /// The one for this store.
    pub(crate) fn of(store: &dyn Store) -> Self {
        if store.unique_keys() {
            Self::UniqueKeys
        } else {
            Self::Bag
        }
    }

    /// An object to be appended. The suffix is a tuple.
    pub(crate) fn object(self, prefix: Key, suffix: &[u8], body: &[u8]) -> Object {
        match self {
            Self::UniqueKeys => Object::new(
                [prefix.as_bytes(), suffix].concat(),
                Bytes::copy_from_slice(body),
            ),
            Self::Bag => Object::new(prefix, [suffix, body].concat()),
        }
    }

    /// Where the objects of a prefix begin whose suffix is this one or begins with it: exclusive,
    /// so that a whole suffix is left out.
    pub(crate) fn cursor(self, prefix: Key, suffix: &[u8]) -> Cursor {
        match self {
            Self::UniqueKeys => Cursor::after([prefix.as_bytes(), suffix].concat()),
            Self::Bag => Cursor::after_object(&Object::new(prefix, Bytes::copy_from_slice(suffix))),
        }
    }

    /// An object of this layout in another one.
    pub(crate) fn relaid<'o, T>(
        self,
        to: Self,
        prefix: &Key,
        object: &'o Object,
        read: impl FnOnce(&mut Reader<'o>) -> Result<T, DecodeError>,
    ) -> Result<Object, DecodeError> {
        let (_, body) = self.read(prefix, object, read)?;
        let suffix = match self {
            Self::UniqueKeys => object.key.as_bytes().get(prefix.len()..),
            Self::Bag => object.value.get(..object.value.len() - body.len()),
        };
        Ok(to.object(prefix.clone(), suffix.unwrap_or_default(), body))
    }

    /// Reads an object's suffix with `read`, and returns with it the object's body.
    pub(crate) fn read<'o, T>(
        self,
        prefix: &Key,
        object: &'o Object,
        read: impl FnOnce(&mut Reader<'o>) -> Result<T, DecodeError>,
    ) -> Result<(T, &'o [u8]), DecodeError> {
        let behind = object.key.as_bytes().strip_prefix(prefix.as_bytes());
        let behind = Reader::new(behind.unwrap_or_else(|| object.key.as_bytes()));
        match self {
            Self::UniqueKeys => {
                let mut suffix = behind;
                let read = read(&mut suffix)?;
                suffix.finish()?;
                Ok((read, &object.value))
            }
            Self::Bag => {
                behind.finish()?;
                let mut value = Reader::new(&object.value);
                let read = read(&mut value)?;
                Ok((read, value.rest()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::tuple::Tuple;

    const SCHEMES: [Scheme; 2] = [Scheme::UniqueKeys, Scheme::Bag];

    fn suffix(n: i64) -> Vec<u8> {
        Tuple::new().int(n).finish()
    }

    #[test]
    fn an_object_reads_back_in_both_schemes() {
        for scheme in SCHEMES {
            let prefix = Key::from("log/7");
            let object = scheme.object(prefix.clone(), &suffix(-300), b"body");
            assert!(object.key.starts_with(&prefix));
            let (n, body) = scheme.read(&prefix, &object, Reader::read_i64).unwrap();
            assert_eq!((n, body), (-300, &b"body"[..]));
        }
    }

    #[test]
    fn an_object_is_the_same_in_the_other_scheme_and_back() {
        let prefix = Key::from("log/7");
        for (one, other) in [(SCHEMES[0], SCHEMES[1]), (SCHEMES[1], SCHEMES[0])] {
            let object = one.object(prefix.clone(), &suffix(-300), b"body");
            let there = one.relaid(other, &prefix, &object, Reader::read_i64);
            let there = there.unwrap();
            assert_eq!(there, other.object(prefix.clone(), &suffix(-300), b"body"));
            let back = other.relaid(one, &prefix, &there, Reader::read_i64);
            assert_eq!(back, Ok(object));
        }
    }

    #[test]
    fn both_schemes_order_by_suffix_whatever_the_body() {
        for scheme in SCHEMES {
            let bodies: [&[u8]; 3] = [b"\xff", b"", b"\x00"];
            let objects: Vec<Object> = [-300, -1, 0, 1, 255, 256, 1 << 40]
                .iter()
                .zip(bodies.iter().cycle())
                .map(|(n, body)| scheme.object(Key::from("p"), &suffix(*n), body))
                .collect();
            assert!(objects.is_sorted(), "{scheme:?}");
        }
    }

    #[test]
    fn what_nobody_appended_is_refused() {
        for scheme in SCHEMES {
            let prefix = Key::from("p");
            for foreign in [
                Object::new("p", "foreign"),
                Object::new("p", ""),
                Object::new("pq", suffix(1)),
                Object::new("other", suffix(1)),
            ] {
                assert!(
                    scheme.read(&prefix, &foreign, Reader::read_i64).is_err(),
                    "{scheme:?}: {foreign:?}"
                );
            }
        }
    }
}
