//! The model test: random operations must answer as a map in memory does. Which operations there
//! are lives in `operation`, the map in `reference`; the cases with names are in
//! [`conformance`](mod@super::conformance).
//!
//! Keys are made of the bytes 00, 01, 61 and ff, up to four of them, and often one of two, so that
//! operations meet and the keys of a bag come to hold several values; the empty key is among them
//! and must be refused. Pages are small, with values and without, commits are as large as the
//! limits allow, and the store is closed and opened again in the midst of it.
//!
//! # When it fails
//!
//! It prints the shortest sequence of operations it found, and saves the seed under
//! `proptest-regressions/` in the directory of the crate that called it. Commit that file: its
//! seeds are tried first from then on. 64 sequences are tried, or as many as the environment
//! variable `PROPTEST_CASES` says.

mod operation;
mod reference;
mod run;
#[cfg(test)]
mod tests;

use proptest::collection::vec;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use super::Factory;

/// Sequences of operations where the environment does not say how many.
pub(super) const CASES: u32 = 64;
/// The most operations in one sequence.
const LENGTH: usize = 40;

/// Tries random sequences of operations, each on the fresh store of a factory of its own.
///
/// `directory` is that of the calling crate, `name` what the file of failing seeds is called:
/// `env!("CARGO_MANIFEST_DIR")` and `module_path!()`. [`conformance!`](macro@super::conformance)
/// calls it, so that an adapter need not.
///
/// # Panics
/// If a store answers otherwise than the map.
pub fn check<F: Factory>(directory: &str, name: &str, make: impl Fn() -> F) {
    check_some(CASES, directory, name, make);
}

/// The same with so many sequences where the environment does not say how many.
pub(super) fn check_some<F: Factory>(
    cases: u32,
    directory: &str,
    name: &str,
    make: impl Fn() -> F,
) {
    let mut config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds(
            directory, name,
        )))),
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a tokio runtime");
    let tried = TestRunner::new(config).run(&vec(operation::any(), 1..=LENGTH), |operations| {
        runtime
            .block_on(run::run(&make, &operations))
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("the store answers otherwise than a map in memory: {failure}");
    }
}

/// The file for failing seeds. proptest wants a static name, of which there is one for each test.
fn seeds(directory: &str, name: &str) -> &'static str {
    let name = name.replace("::", "-");
    format!("{directory}/proptest-regressions/{name}.txt").leak()
}
