//! What the tests of several backends share: a job store on each of them under a manual clock,
//! and a store that fails when told to.

// Here a panic is how a promise that was broken is reported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod faulty;
mod five_methods;
mod fixture;
mod stores;

pub use faulty::{Fault, Faulty};
pub use five_methods::FiveMethods;
pub use fixture::{Fixture, Space, text, within};
pub use stores::{Named, STORES};
