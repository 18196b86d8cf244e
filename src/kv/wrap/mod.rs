//! Stores around stores: each takes a [`Store`] and is one that does something
//! more, one file each. No backend lives here.
//!
//! | wrapper | what it adds |
//! |---|---|
//! | [`Journaled`] | [`Atomic`] for a store that has none |
//! | [`Prefixed`] | a prefix before every key, so that several share one store |
//! | [`Traced`] | spans and counters |
//! | `Faulty` | faults, for tests (feature `testkit`) |
//!
//! A wrapper forwards every method, so that what the store below does better is not lost.

#[cfg(feature = "testkit")]
mod faulty;
mod journaled;
mod prefixed;
mod traced;

#[cfg(feature = "testkit")]
pub use faulty::{Fault, Faulty, Odds};
pub use journaled::Journaled;
pub use prefixed::Prefixed;
pub use traced::{Counts, Operation, Traced};

use super::{Atomic, Error, ErrorKind, Result, Store, Watch};

/// What a wrapper calls, which shows its own only where the store below has one.
fn atomic_of(below: &impl Store) -> Result<&dyn Atomic> {
    below.atomic().ok_or_else(|| lacks(below, "atomic commits"))
}

/// The same for being told of changes.
fn watch_of(below: &impl Store) -> Result<&dyn Watch> {
    below.watch().ok_or_else(|| lacks(below, "watch"))
}

fn lacks(below: &impl Store, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{} has no {what}", below.name()),
    )
}
