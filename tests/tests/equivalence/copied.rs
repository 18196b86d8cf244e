//! Whatever was done with a job store, a copy of it on another kind of store answers as it does, and
//! a copy of that is what it was, byte by byte.

use kvjob::job::{Existing, Namespace, QueueStore as _, Store as _};
use kvjob_tests::{Fixture, STORES};
use proptest::collection::vec;

use crate::operations::{self, Op};
use crate::side::Side;
use crate::{LENGTH, Verdict, parting};

const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/proptest-regressions/equivalence-copied.txt"
);

#[test]
fn a_copy_answers_like_its_source_and_a_copy_of_it_is_the_source() {
    let stores = 0..STORES.len();
    let made_up = (
        stores.clone(),
        stores,
        vec(operations::op(), 1..=LENGTH),
        vec(operations::undivided(), 0..8),
    );
    crate::try_all(SEEDS, &made_up, &async |(one, other, ops, then)| {
        run(*one, *other, ops, then).await
    });
}

async fn run(one: usize, other: usize, ops: &[Op], then: &[Op]) -> Verdict {
    let mut source = Side::new((STORES[one].open)().await);
    for op in ops {
        source.tick();
        source.apply(op).await;
    }
    let pair = format!("{} to {}", STORES[one].name, STORES[other].name);
    let (there, back) = ((STORES[other].open)().await, (STORES[one].open)().await);
    // What still waits to be written is.
    source.f.jobs.stop().await.unwrap();
    let copied = copy(&source.f, &there)
        .await
        .map_err(|e| format!("{pair}: {e}"))?;
    let again = copy(&there, &back)
        .await
        .map_err(|e| format!("back, {pair}: {e}"))?;
    if copied != again || source.f.raw(Vec::new()).await != back.raw(Vec::new()).await {
        return Err(format!("{pair}: there and back is another"));
    }
    let mut copy = Side::new(there);
    copy.ids.clone_from(&source.ids);
    copy.leases.clone_from(&source.leases);
    copy.cleared = source.cleared;
    copy.f.clock.advance(source.f.now().since(copy.f.now()));
    source.f.reopen().await;
    copy.f.reopen().await;
    // A store of one process takes back at its start what ran out; others do when they are asked.
    for side in [&source, &copy] {
        let expired = side.f.jobs.expire().await;
        expired.map_err(|error| error.to_string())?;
    }
    // The one goes on as the other does.
    for op in then.iter().map(Some).chain([None]) {
        let said = [source.summary().await, copy.summary().await];
        let [one, other] = said.map(|said| said.map_err(|error| error.to_string()));
        if one != other {
            let [one, other] = parting(&one, &other);
            return Err(format!("{pair}, before {op:?}:\n  {one}\n  {other}"));
        }
        if let Some(op) = op {
            source.tick();
            copy.tick();
            let answers = [source.apply(op).await.text, copy.apply(op).await.text];
            if answers[0] != answers[1] {
                return Err(format!("{pair}, {op:?}: {answers:#?}"));
            }
        }
    }
    Ok(())
}

/// Copies all, and says the digest.
async fn copy(from: &Fixture, to: &Fixture) -> Result<String, kvjob::job::Error> {
    to.jobs.stop().await?;
    let open = async |f: &Fixture| Namespace::open(f.store.clone(), "kvjob").await;
    let (from, to) = (open(from).await?, open(to).await?);
    let copied = from.copy_to(&to, Existing::Refuse, |_| {}).await?;
    Ok(copied.digest)
}
