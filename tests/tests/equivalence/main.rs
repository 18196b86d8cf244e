//! The same random job operations, under a manual clock, give the same answers on every store,
//! state by state, and a check finds the same in the end: nothing, where no record was spoilt.
//!
//! The stores are those of `tests/src/stores.rs`; a new one joins by its line there.
//!
//! | file | what lives there |
//! |---|---|
//! | `operations` | what is done |
//! | `side` | how it is done on one store |
//! | `summary` | everything that can be read of it |
//! | `together` | all stores beside each other |
//! | `copied` | a copy beside its source |
//! | `faults` | each store, failing by itself, beside one that never does |
//!
//! A failure prints the shortest sequence that was found and saves its seed under
//! `proptest-regressions/`; commit that file, for its seeds are tried first from then on. 50
//! sequences are tried, or as many as the environment variable `PROPTEST_CASES` says: a thousand by
//! `make equivalence-test`.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod copied;
mod faults;
mod operations;
mod side;
mod summary;
mod together;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestRunner};

/// Sequences of operations where the environment does not say how many.
const CASES: u32 = 50;
/// The most operations in one sequence.
const LENGTH: usize = 60;

/// Nothing, or the difference.
type Verdict = Result<(), String>;

/// The place where two answers part, and what stands around it.
fn parting(one: &impl Debug, other: &impl Debug) -> [String; 2] {
    let both = [format!("{one:?}"), format!("{other:?}")].map(|text| text.chars().collect());
    let [one, other]: &[Vec<char>; 2] = &both;
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    both.map(|text| text.iter().skip(at.saturating_sub(300)).take(600).collect())
}

/// Tries what is made up, and first the seeds that are saved in this file.
fn try_all<T: Debug>(
    seeds: &'static str,
    made_up: &impl Strategy<Value = T>,
    run: &impl AsyncFn(&T) -> Verdict,
) {
    let mut config = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tried = TestRunner::new(config).run(made_up, |made_up| {
        runtime
            .block_on(kvjob_tests::within(run(&made_up)))
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}
