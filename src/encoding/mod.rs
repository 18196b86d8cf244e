//! Bytes with a meaning: keys whose byte order is the order of what they say ([`mod@tuple`]), and
//! values that still can be read by a later version ([`record`]).
//!
//! What a key or a record of kvjob *contains* is the business of the floors above; this one knows
//! neither jobs nor any store. Keys follow the public [tuple format of FoundationDB][tuples];
//! values are one version byte and a body in the public [format of bincode 2][bincode].
//!
//! Both decoders take anything: bytes that were never written by them are an error that says what is
//! wrong and, in a key, where. They never panic, and never reserve memory without bound because a
//! damaged length asks for it.
//!
//! [tuples]: https://github.com/apple/foundationdb/blob/main/design/tuple.md
//! [bincode]: https://docs.rs/bincode/2.0.1/bincode/spec/index.html

pub mod record;
pub mod tuple;

#[cfg(test)]
mod golden;
