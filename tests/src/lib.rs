//! What the tests of several backends share: a job store on each of them under a manual clock,
//! and the least a store may be.

// Here a panic is how a promise that was broken is reported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod dump;
mod five_methods;
mod fixture;
mod shared;
mod stores;

pub use dump::{dump, load};
pub use five_methods::FiveMethods;
pub use fixture::{Fixture, Space, text, within};
pub use shared::Shared;
pub use stores::{Named, STORES};
