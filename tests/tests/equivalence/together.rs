//! All stores beside each other.

use std::fmt::{Debug, Display};

use kvjob::job::Store as _;
use kvjob_tests::STORES;
use proptest::collection::vec;

use crate::operations::{self, Op};
use crate::side::Side;
use crate::{LENGTH, Verdict, parting};

const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/equivalence-together.txt"
);

#[test]
fn the_same_operations_give_the_same_answers_on_every_store() {
    crate::try_all(SEEDS, &vec(operations::op(), 1..=LENGTH), &async |ops| {
        run(ops).await
    });
}

async fn run(ops: &[Op]) -> Verdict {
    let mut sides = Vec::new();
    for store in STORES {
        sides.push(Side::new((store.open)().await));
    }
    for (number, op) in ops.iter().enumerate() {
        let mut answers = Vec::new();
        for side in &mut sides {
            side.tick();
            answers.push(side.apply(op).await.text);
        }
        same(&answers, format_args!("operation {number}, {op:?}"))?;
    }
    // What is left of a job whose record was thrown away lies under other keys on a bag, and so is
    // found and put aside under other names.
    if ops.iter().any(|op| matches!(op, Op::RemoveAside(_))) {
        return same_in_the_end(&sides).await;
    }
    for repair in [false, true] {
        same_in_the_end(&sides).await?;
        let mut findings = Vec::new();
        for side in &sides {
            findings.push(side.findings(repair).await.unwrap());
        }
        let spoilt = ops.iter().any(|op| matches!(op, Op::Spoil(_)));
        if !spoilt && !findings[0].is_empty() {
            return Err(format!("a check finds {:#?}", findings[0]));
        }
        same(&findings, "a check")?;
    }
    same_in_the_end(&sides).await?;
    for side in &sides {
        let left = side.findings(false).await.unwrap();
        if !left.is_empty() {
            let name = side.f.jobs.name();
            return Err(format!("{name}: not mended: {left:#?}"));
        }
    }
    Ok(())
}

async fn same_in_the_end(sides: &[Side]) -> Verdict {
    let mut summaries = Vec::new();
    for side in sides {
        summaries.push(side.summary().await.map_err(|error| error.to_string()));
    }
    same(&summaries, "in the end")
}

/// That every store says what the first one says.
fn same<T: PartialEq + Debug>(said: &[T], when: impl Display) -> Verdict {
    let Some(other) = said.iter().position(|other| *other != said[0]) else {
        return Ok(());
    };
    let (first, name) = (STORES[0].name, STORES[other].name);
    let [one, another] = parting(&said[0], &said[other]);
    Err(format!("{when}:\n  {first}: {one}\n  {name}: {another}"))
}
