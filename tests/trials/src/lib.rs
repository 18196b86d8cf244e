//! What adapters are put through beyond the conformance suite, where several are put through the
//! same: here is how a trial goes and what must hold, and in an adapter's own tests which store
//! goes through it and what only that one promises. No trial knows any adapter.
//!
//! What is public, for those who write an adapter elsewhere, is in `kvjob::testkit`.
//!
//! A trial that needs other processes has them run functions of the adapter's own test program,
//! which are `#[ignore]`d, because a process must know which store to open: see [`Process`].

#![allow(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "made for tests"
)]

pub mod faults;
pub mod kill;
pub mod opening;
pub mod outages;
mod process;
pub mod proxy;
mod random;
pub mod readers;
pub mod shared;
pub mod transaction;

pub use process::{Process, errand};
pub use random::Random;
