//! For those who write an adapter or test their handlers: the [`mod@conformance`] suite, the
//! [`model`] test, a [`ManualClock`], and a [`Runtime`] that runs handlers and schedules under one.
//! No store lives here, and no test of the library itself.
//!
//! Handlers are tested with a [`Runtime`]; what follows is for adapters.
//!
//! # Proving an adapter
//!
//! An adapter says where its stores come from with a [`Factory`] and writes out the suite with
//! [`conformance!`](macro@conformance), one named test for each case, three times: on the store
//! as it is, on a part of it, and on its five methods alone (see
//! [the three wrappings](mod@conformance#the-three-wrappings)):
//!
//! ```
//! use kvjob::kv::Memory;
//! use kvjob::testkit::Factory;
//!
//! struct InMemory;
//!
//! impl Factory for InMemory {
//!     type Store = Memory;
//!
//!     async fn open(&self) -> Memory {
//!         Memory::new()
//!     }
//! }
//!
//! kvjob::testkit::conformance!(InMemory);
//! # fn main() {}
//! ```
//!
//! A store that keeps its data also says how it is closed and opened again; see [`Factory`].

// Here a panic is how a promise that was broken is reported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod clock;
pub mod conformance;
mod factory;
pub mod model;
mod place;
mod runtime;
#[doc(hidden)]
pub mod wrapped;

#[doc(inline)]
pub use crate::__kvjob_conformance as conformance;
pub use clock::ManualClock;
pub use factory::Factory;
pub use place::Place;
pub use runtime::{Ran, Runtime, RuntimeBuilder};
