//! Does each operation on the store and on the reference, and compares the answers.

use std::fmt::Debug;

use bytes::Bytes;

use super::operation::{After, Before, Draft, Operation};
use super::reference::{Reference, page};
use crate::kv::{Change, ErrorKind, Expect, Key, Object, Page, Result, Scan, Store};
use crate::testkit::Factory;

/// A commit larger than this is not made: it would cost more than it tells.
const BUILDABLE_BYTES: usize = 4 << 20;
const BUILDABLE_CHANGES: usize = 2_000;

/// Nothing, or the difference.
type Verdict = Result<(), String>;

/// Does the operations on a factory's store; where the data is gone with the store, on another
/// one's from there on.
pub(super) async fn run<F: Factory>(make: &impl Fn() -> F, operations: &[Operation]) -> Verdict {
    let mut factory = make();
    let mut store = factory.open().await;
    same("start", &Ok(()), &kind(store.start().await))?;
    let mut reference = Reference::new(store.unique_keys(), store.limits());
    for (step, operation) in operations.iter().enumerate() {
        let performed = if matches!(operation, Operation::Reopen) {
            store = if let Some(again) = factory.reopen(store).await {
                again
            } else {
                factory = make();
                reference.forget();
                factory.open().await
            };
            same("start", &Ok(()), &kind(store.start().await))
        } else {
            perform(&store, &mut reference, operation).await
        };
        let verdict = match performed {
            Ok(()) => content(&store, &reference)
                .await
                .map_err(|d| format!("afterwards {d}")),
            difference => difference,
        };
        verdict.map_err(|difference| {
            let shown: String = format!("{operation:?}").chars().take(1000).collect();
            format!("{}: step {step}, {shown}: {difference}", store.name())
        })?;
    }
    Ok(())
}

async fn perform<S: Store>(store: &S, model: &mut Reference, operation: &Operation) -> Verdict {
    match operation {
        Operation::Set(object) => {
            let expected = model.set(object);
            same("set", &expected, &kind(store.set(object.clone()).await))
        }
        Operation::Get(key) => same("get", &model.get(key), &kind(store.get(key).await)),
        Operation::GetMany(keys) => {
            let expected: Result<Vec<_>, _> = keys.iter().map(|key| model.get(key)).collect();
            same("get_many", &expected, &kind(store.get_many(keys).await))
        }
        Operation::Remove(object) => {
            let expected = model.remove(object);
            same("remove", &expected, &kind(store.remove(object).await))
        }
        Operation::Delete(prefix) => {
            model.delete(prefix);
            same("delete", &Ok(()), &kind(store.delete(prefix).await))
        }
        Operation::Scan(scan) => {
            let found = kind(store.scan(scan.clone()).await);
            same_page(&model.scan(scan), &answered(found)?)
        }
        Operation::Walk(scan) => walk(store, model, scan).await,
        Operation::ScanMany(scans) => {
            let found = answered(kind(store.scan_many(scans.clone()).await))?;
            same("pages of scan_many", &scans.len(), &found.len())?;
            scans
                .iter()
                .zip(found)
                .try_for_each(|(scan, page)| same_page(&model.scan(scan), &page))
        }
        Operation::Commit(drafts) => {
            let changes = fill_in(model, drafts);
            commit(store, model, changes).await
        }
        Operation::CommitAll(commits) => commit_all(store, model, commits).await,
        Operation::ManyChanges { over, before } => {
            let count = model
                .limits
                .commit_changes
                .saturating_add(usize::from(*over));
            if count > BUILDABLE_CHANGES {
                return Ok(());
            }
            let keys = (0..count).map(|n| Key::from(format!("a{n:04}").into_bytes()));
            let after = After::Value(Bytes::from_static(b"many"));
            let drafts: Vec<Draft> = keys
                .map(|key| Draft {
                    key,
                    before: before.clone(),
                    after: after.clone(),
                })
                .collect();
            commit(store, model, fill_in(model, &drafts)).await
        }
        Operation::ManyBytes { over } => match full_commit(model, *over) {
            Some(changes) => commit(store, model, changes).await,
            None => Ok(()),
        },
        Operation::Reopen => Ok(()),
    }
}

/// Changes of as many bytes as the limit allows, or one more; where they are not too many.
fn full_commit(model: &Reference, over: bool) -> Option<Vec<Change>> {
    let limits = &model.limits;
    let mut rest = limits.commit_bytes.checked_add(usize::from(over))?;
    if rest > BUILDABLE_BYTES {
        return None;
    }
    let mut changes = Vec::new();
    while rest > 0 {
        let key = format!("\u{1}{:04}", changes.len()).into_bytes();
        let mut value = limits.value_bytes.min(rest.checked_sub(key.len())?);
        let left = rest - key.len() - value;
        if left > 0 && left < key.len() {
            value = value.checked_sub(key.len())?;
        }
        rest -= key.len() + value;
        changes.push(Change::put(key, vec![b'b'; value]));
    }
    (changes.len() <= limits.commit_changes).then_some(changes)
}

async fn commit<S: Store>(store: &S, model: &mut Reference, changes: Vec<Change>) -> Verdict {
    let Some(atomic) = store.atomic() else {
        return Ok(());
    };
    let expected = model.commit(&changes);
    same(
        "commit",
        &alike(expected),
        &alike(kind(atomic.commit(changes).await)),
    )
}

async fn commit_all<S: Store>(store: &S, model: &mut Reference, commits: &[Vec<Draft>]) -> Verdict {
    let Some(atomic) = store.atomic() else {
        return Ok(());
    };
    let (mut made, mut expected) = (Vec::new(), Vec::new());
    for drafts in commits {
        let changes = fill_in(model, drafts);
        expected.push(alike(model.commit(&changes)));
        made.push(changes);
    }
    let outcomes = atomic.commit_all(made).await;
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| alike(kind(outcome)))
        .collect();
    same("commit_all", &expected, &outcomes)
}

/// Follows the store's own cursors, for where they stand is its own business.
async fn walk<S: Store>(store: &S, model: &Reference, scan: &Scan) -> Verdict {
    let (mut theirs, mut rest) = (scan.clone(), model.within(scan));
    loop {
        let found = answered(kind(store.scan(theirs.clone()).await))?;
        same_page(&page(&theirs, &rest), &found)?;
        rest.drain(..found.objects.len());
        match found.next {
            Some(next) if theirs.limit > 0 => theirs = theirs.after(next),
            _ => return Ok(()),
        }
    }
}

/// Compares everything the store holds.
async fn content<S: Store>(store: &S, model: &Reference) -> Verdict {
    walk(store, model, &Scan::prefix("")).await
}

fn fill_in(model: &Reference, drafts: &[Draft]) -> Vec<Change> {
    let changes = drafts.iter().map(|draft| {
        let before = match &draft.before {
            Before::Any => Expect::Any,
            Before::Absent => Expect::Absent,
            Before::Value(value) => Expect::Value(value.clone()),
            Before::Smallest | Before::Largest => {
                let mut values = model.values(&draft.key);
                let value = match &draft.before {
                    Before::Largest => values.next_back(),
                    _ => values.next(),
                };
                value.map_or(Expect::Absent, |value| Expect::Value(value.clone()))
            }
        };
        let after = match (&draft.after, &before) {
            (After::Value(value), _) | (After::Same, Expect::Value(value)) => Some(value.clone()),
            (After::Nothing | After::Same, _) => None,
        };
        Change {
            key: draft.key.clone(),
            before,
            after,
        }
    });
    changes.collect()
}

fn kind<T>(outcome: Result<T>) -> Result<T, ErrorKind> {
    outcome.map_err(|error| error.kind().clone())
}

/// A commit with several flaws may be refused for any of them.
fn alike(outcome: Result<(), ErrorKind>) -> Result<(), ErrorKind> {
    outcome.map_err(|kind| match kind {
        ErrorKind::TooLarge { .. } | ErrorKind::Unsupported => ErrorKind::InvalidKey,
        other => other,
    })
}

fn answered<T>(outcome: Result<T, ErrorKind>) -> Result<T, String> {
    outcome.map_err(|kind| format!("failed with {kind:?}"))
}

fn same<T: PartialEq + Debug>(what: &str, expected: &T, found: &T) -> Verdict {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what} gave {found:?} instead of {expected:?}"))
}

fn same_page(expected: &Page, found: &Page) -> Verdict {
    let brief = |objects: &[Object]| -> Vec<String> {
        let objects = objects.iter();
        objects
            .map(|object| {
                let value = object.value.get(..8).unwrap_or(&object.value);
                let (key, length) = (&object.key, object.value.len());
                format!("{key} = \"{}\" ({length} bytes)", value.escape_ascii())
            })
            .collect()
    };
    if expected.objects != found.objects {
        let (expected, found) = (brief(&expected.objects), brief(&found.objects));
        return Err(format!("a page holds {found:?} instead of {expected:?}"));
    }
    same(
        "a page's cursor there:",
        &expected.next.is_some(),
        &found.next.is_some(),
    )
}
