//! What a worker promises, one test for each promise, on a store in memory under a manual clock; and
//! the chief ones on every store: see [`every_store`].

// Tests may unwrap: a test that panics is a test that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unchecked_time_subtraction
)]

mod batches;
mod ends;
mod events;
mod every_store;
mod faulty;
mod interrupting;
mod lanes;
mod leases;
mod limits;
mod metrics;
mod misbehaving;
mod once;
mod options;
mod outages;
mod prefetch;
mod recording;
mod resizing;
mod signals;
mod stopping;
mod support;
mod taking;
mod together;
mod typed;
