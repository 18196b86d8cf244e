//! Commits as etcd's transactions, and what their answers mean. Nothing is sent here.
//!
//! A commit is one transaction: its conditions are compares, its writes the success branch. The
//! failure branch reads the keys that have conditions, so that the answer tells which of them
//! failed, seen at the moment they did.
//!
//! Several commits are one transaction that does nothing but hold theirs. etcd decides all
//! compares before it applies anything, so a commit that has to do with a key which an earlier
//! one writes waits for the next transaction; there it sees what was written. (That two of them
//! put one key etcd would refuse anyway.)

use std::collections::HashSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use kvjob::kv::{Change, Error, ErrorKind, Expect, Key, Result};
use prost::Message as _;

use crate::proto::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest,
    Request, RequestOp, Response, ResponseOp, TargetUnion, TxnRequest, TxnResponse,
};

/// What etcd takes in one request, where it is not told otherwise (1.5 MiB), less what it adds
/// itself.
pub(crate) const REQUEST_BYTES: usize = (3 << 19) - (8 << 10);
/// Operations etcd takes in each list of a transaction, where it is not told otherwise; those of
/// transactions within it are counted on top of its own.
pub(crate) const OPERATIONS: usize = 128;

/// The keys of a store among all of etcd's: those behind a prefix.
#[derive(Clone, Debug)]
pub(crate) struct KeySpace {
    prefix: Bytes,
    end: Bytes,
}

impl KeySpace {
    /// The keys behind this prefix, or `None` where that would be all there are.
    pub(crate) fn new(prefix: &str) -> Option<Self> {
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        let end = Key::from(prefix.clone()).prefix_end()?.into_bytes();
        Some(Self { prefix, end })
    }

    /// The end of our keys, exclusive.
    pub(crate) fn end(&self) -> Bytes {
        self.end.clone()
    }

    /// The prefix itself, which is no key of ours.
    pub(crate) fn prefix(&self) -> Bytes {
        self.prefix.clone()
    }

    /// A key as etcd has it.
    pub(crate) fn outer(&self, key: &Key) -> Bytes {
        self.join(key, &[])
    }

    /// The smallest key behind this one, as etcd has it.
    pub(crate) fn behind(&self, key: &Key) -> Bytes {
        self.join(key, &[0])
    }

    fn join(&self, key: &Key, end: &[u8]) -> Bytes {
        let mut outer = BytesMut::with_capacity(self.prefix.len() + key.len() + end.len());
        outer.put_slice(&self.prefix);
        outer.put_slice(key.as_bytes());
        outer.put_slice(end);
        outer.freeze()
    }

    /// A key of etcd's as ours.
    ///
    /// # Errors
    /// `Corrupt` if it is none of ours, which we did not ask for.
    pub(crate) fn inner(&self, outer: &Bytes) -> Result<Key> {
        match outer.strip_prefix(self.prefix.as_ref()) {
            Some(key) if !key.is_empty() => Ok(Key::from(outer.slice(self.prefix.len()..))),
            _ => Err(unexpected("a key that was not asked for")),
        }
    }
}

/// etcd answered what no etcd answers.
pub(crate) fn unexpected(what: &str) -> Error {
    let message = format!("etcd answered with {what}");
    Error::new(ErrorKind::Corrupt, message)
}

/// A commit as a transaction.
pub(crate) fn commit(space: &KeySpace, changes: &[Change]) -> TxnRequest {
    build(space, changes, |value| {
        (CompareTarget::Value, TargetUnion::Value(value.clone()))
    })
}

/// A commit as a transaction that compares the revisions of its keys with those of `found`, one
/// for each condition, instead of sending the values it expects.
pub(crate) fn commit_by_revision(
    space: &KeySpace,
    changes: &[Change],
    found: &[Option<KeyValue>],
) -> TxnRequest {
    let mut found = found.iter();
    let mut txn = build(space, changes, |_| {
        (CompareTarget::Mod, TargetUnion::ModRevision(0))
    });
    for compare in &mut txn.compare {
        let revision = found.next().and_then(Option::as_ref);
        if compare.target() == CompareTarget::Mod
            && let Some(found) = revision
        {
            compare.target_union = Some(TargetUnion::ModRevision(found.mod_revision));
        }
    }
    txn
}

fn build(
    space: &KeySpace,
    changes: &[Change],
    expected: impl Fn(&Bytes) -> (CompareTarget, TargetUnion),
) -> TxnRequest {
    let mut txn = TxnRequest::default();
    for change in changes {
        let key = space.outer(&change.key);
        let compared = match &change.before {
            Expect::Any => None,
            // Its version counts from 1.
            Expect::Absent => Some((CompareTarget::Version, TargetUnion::Version(0))),
            Expect::Value(value) => Some(expected(value)),
        };
        if let Some((target, union)) = compared {
            txn.compare.push(Compare {
                result: CompareResult::Equal.into(),
                target: target.into(),
                key: key.clone(),
                target_union: Some(union),
            });
            txn.failure.push(read(key.clone()));
        }
        if !change.is_check() {
            let write = if let Some(value) = change.after.clone() {
                Request::Put(PutRequest { key, value })
            } else {
                let range_end = Bytes::new();
                Request::DeleteRange(DeleteRangeRequest { key, range_end })
            };
            txn.success.push(write.into());
        }
    }
    txn
}

fn read(key: Bytes) -> RequestOp {
    let range = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    Request::Range(range).into()
}

/// A transaction that reads what the conditions of a commit speak of.
pub(crate) fn conditions(space: &KeySpace, changes: &[Change]) -> TxnRequest {
    let conditions = changes.iter().filter(|change| has_condition(change));
    TxnRequest {
        success: conditions
            .map(|change| read(space.outer(&change.key)))
            .collect(),
        ..TxnRequest::default()
    }
}

/// A transaction that would need to read and write all our keys, and does neither: no version is
/// below 0.
pub(crate) fn trial(space: &KeySpace) -> TxnRequest {
    let all = RangeRequest {
        key: space.behind(&Key::EMPTY),
        range_end: space.end(),
        limit: 1,
        keys_only: true,
        ..RangeRequest::default()
    };
    let delete = DeleteRangeRequest {
        key: all.key.clone(),
        range_end: all.range_end.clone(),
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Less.into(),
            target: CompareTarget::Version.into(),
            key: all.key.clone(),
            target_union: Some(TargetUnion::Version(0)),
        }],
        success: vec![
            Request::Range(all).into(),
            Request::DeleteRange(delete).into(),
        ],
        failure: Vec::new(),
    }
}

/// A transaction of ranges.
pub(crate) fn ranges(ranges: &[RangeRequest]) -> TxnRequest {
    let ranges = ranges.iter().cloned();
    TxnRequest {
        success: ranges.map(|range| Request::Range(range).into()).collect(),
        ..TxnRequest::default()
    }
}

fn has_condition(change: &Change) -> bool {
    change.before != Expect::Any
}

/// Whether a transaction can be sent.
pub(crate) fn fits(txn: &TxnRequest) -> bool {
    txn.encoded_len() <= REQUEST_BYTES
}

/// The first object of each range that was read, in their order.
pub(crate) fn found(responses: Vec<ResponseOp>) -> Result<Vec<Option<KeyValue>>> {
    let found = responses
        .into_iter()
        .map(|response| match response.response {
            Some(Response::Range(range)) => Ok(range.kvs.into_iter().next()),
            _ => Err(unexpected("something else than what was read")),
        });
    found.collect()
}

/// Positions of the changes whose conditions do not hold for what was found, one for each
/// condition.
pub(crate) fn failed(changes: &[Change], found: &[Option<KeyValue>]) -> Result<Vec<usize>> {
    let conditions = changes.iter().enumerate();
    let conditions: Vec<_> = conditions
        .filter(|(_, change)| has_condition(change))
        .collect();
    if conditions.len() != found.len() {
        return Err(unexpected("another number of objects than was read"));
    }
    let failed = conditions.into_iter().zip(found);
    let failed = failed.filter(|((_, change), found)| {
        let found = found.as_ref();
        !change.holds(found.map(|found| found.value.as_ref()))
    });
    Ok(failed.map(|((index, _), _)| index).collect())
}

/// What became of a commit, from the answer to its transaction. `None` where a condition failed
/// and yet all hold: it was compared by revision, and somebody put the same value again.
pub(crate) fn outcome(changes: &[Change], answer: TxnResponse) -> Option<Result<()>> {
    if answer.succeeded {
        return Some(Ok(()));
    }
    let failed = found(answer.responses).and_then(|found| failed(changes, &found));
    match failed {
        Ok(failed) if failed.is_empty() => None,
        Ok(failed) => Some(Err(Error::condition_failed(failed))),
        Err(error) => Some(Err(error)),
    }
}

/// Commits that go out in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    commits: Vec<&'a [Change]>,
    transactions: Vec<TxnRequest>,
    written: HashSet<&'a Key>,
    most_changes: usize,
    bytes: usize,
}

impl<'a> Group<'a> {
    /// Adds a commit, or gives it back: then it belongs into the next group.
    pub(crate) fn add(&mut self, changes: &'a [Change], txn: TxnRequest) -> Result<(), TxnRequest> {
        /// What a transaction within another adds to it.
        const AROUND: usize = 16;
        let most_changes = self.most_changes.max(changes.len());
        let bytes = self.bytes + txn.encoded_len() + AROUND;
        let fits = most_changes + self.commits.len() < OPERATIONS && bytes <= REQUEST_BYTES;
        let sees_all = !changes
            .iter()
            .any(|change| self.written.contains(&change.key));
        if !(self.commits.is_empty() || fits && sees_all) {
            return Err(txn);
        }
        let writes = changes.iter().filter(|change| !change.is_check());
        self.written.extend(writes.map(|change| &change.key));
        self.most_changes = most_changes;
        self.bytes = bytes;
        self.commits.push(changes);
        self.transactions.push(txn);
        Ok(())
    }

    /// The commits and their one transaction.
    pub(crate) fn close(mut self) -> (Vec<&'a [Change]>, Option<TxnRequest>) {
        let txn = if self.transactions.len() > 1 {
            let transactions = self.transactions.into_iter();
            Some(TxnRequest {
                success: transactions.map(|txn| Request::Txn(txn).into()).collect(),
                ..TxnRequest::default()
            })
        } else {
            self.transactions.pop()
        };
        (self.commits, txn)
    }
}

/// What became of each commit of a group of several.
pub(crate) fn outcomes(commits: &[&[Change]], answer: TxnResponse) -> Vec<Result<()>> {
    let mut answers = answer.responses.into_iter();
    let outcomes = commits.iter().map(|changes| {
        match answers.next().and_then(|answer| answer.response) {
            // By value a condition that failed is found to have failed.
            Some(Response::Txn(answer)) => outcome(changes, answer)
                .unwrap_or_else(|| Err(unexpected("a failure in which nothing failed"))),
            _ => Err(unexpected("something else than transactions")),
        }
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> KeySpace {
        KeySpace::new("kvjob/").unwrap()
    }

    #[test]
    fn keys_stand_behind_the_prefix_and_come_back_without_it() {
        let space = space();
        let key = Key::from(b"\x00\xff");
        assert_eq!(space.inner(&space.outer(&key)).unwrap(), key);
        assert_eq!(space.end(), "kvjob0");
        for foreign in ["kvjob/", "kvjob", "kvjoc/a"] {
            assert!(space.inner(&Bytes::from(foreign)).is_err(), "{foreign}");
        }
        assert!(KeySpace::new("").is_none());
    }

    #[test]
    fn a_commit_waits_for_the_next_group_if_an_earlier_one_writes_its_key() {
        let create = vec![Change::create("a", "1")];
        let check = vec![Change::check("b", "1")];
        let write_checked = vec![Change::put("b", "2")];
        let after_create = vec![Change::check("a", "1"), Change::put("c", "1")];
        let mut group = Group::default();
        for changes in [&create, &check, &write_checked] {
            group.add(changes, commit(&space(), changes)).unwrap();
        }
        let txn = commit(&space(), &after_create);
        assert!(group.add(&after_create, txn).is_err());
        let (commits, txn) = group.close();
        assert_eq!(commits.len(), 3);
        assert_eq!(txn.unwrap().success.len(), 3);
    }

    #[test]
    fn a_group_keeps_to_the_limits_of_one_transaction() {
        let commits: Vec<_> = (0..200u8)
            .map(|n| {
                vec![
                    Change::put([n].as_slice(), "1"),
                    Change::put([n, 0].as_slice(), "1"),
                ]
            })
            .collect();
        let mut group = Group::default();
        let fitted = commits
            .iter()
            .take_while(|changes| group.add(changes, commit(&space(), changes)).is_ok());
        // So many transactions, and two changes in each.
        assert_eq!(fitted.count(), OPERATIONS - 2);
        let large = vec![Change::put("a", vec![0; 1 << 20])];
        let also_large = vec![Change::put("b", vec![0; 1 << 20])];
        let mut group = Group::default();
        group.add(&large, commit(&space(), &large)).unwrap();
        let txn = commit(&space(), &also_large);
        assert!(group.add(&also_large, txn).is_err());
    }
}
