//! kvjob turns any key-value store into a job store.
//!
//! A backend implements the handful of methods of [`kv::Store`]; everything above it (queue,
//! leases, retries, history, logs, workers) is written once, against that small trait, and
//! behaves the same on every backend.
//!
//! | floor | what lives there |
//! |---|---|
//! | [`kv`] | bytes, order, atomic changes: the trait an adapter implements |
//! | [`encoding`] | order-preserving keys, versioned records |
//! | [`job`] | the job model, the job store traits, and [`job::KvStore`], which makes them of a [`kv::Store`] |
//! | [`worker`] | runs handlers over a [`job::Store`]: concurrency, heartbeats, retries, graceful stop |
//! | `cron` | adds jobs when schedules say so: crontabs, time zones, what was missed (feature `cron`) |
//! | `testkit` | the conformance suite, the manual clock, and virtual time for tests of handlers (feature `testkit`) |
//! | `blocking` | a facade for programs without async (feature `blocking`) |
//!
//! An import never goes up a floor.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod clock;
#[cfg(feature = "cron")]
pub mod cron;
pub mod encoding;
pub mod job;
pub mod kv;
pub mod worker;

#[cfg(feature = "testkit")]
pub mod testkit;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
