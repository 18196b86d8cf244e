//! A commit as PostgreSQL makes it: one call of a function that [`schema`](super::schema) put into
//! the database. Here is how the call is made, and why it is right; who calls it, and what becomes
//! of an answer that is lost, is said in [`writer`](super::writer).
//!
//! # Why a function
//!
//! Conditions and writes go in one trip, and a trip is one transaction. One *statement* would not
//! do: it sees one snapshot, taken before it waits for a lock that another commit holds. When it
//! has the lock, PostgreSQL shows it the newest version of the *row* it waited for, but a row that
//! was removed and put again, or put for the first time, stays invisible. In a function each
//! statement takes a snapshot of its own (`READ COMMITTED`), after the locks of those before it.
//!
//! # Why it is right
//!
//! The function (`commit.sql`) takes these steps:
//!
//! 1. It locks all rows that are there under the commit's keys, in the order of the keys (protocol
//!    rule 17), pure checks included, and compares each as it is *once it is locked*: a `Value`
//!    that holds cannot change any more. So of two commits that check each other's key one waits,
//!    and then sees what the other wrote: no write skew. Locks in one order make no deadlock.
//! 2. If that does not bear out every condition, all are judged again in a new snapshot, which is
//!    one moment, and all that fail are returned. Nothing was written; the locks go. Should all
//!    hold now (a row was removed and put again while we waited), the call fails as
//!    a serialization failure, and is made again.
//! 3. It inserts what is not there yet, again in the order of the keys, and overwrites nothing: where
//!    a row is in the way, one that step 1 could not see, the call fails as in step 2. The index
//!    makes sure of it: of two transactions that insert one key, the later one waits and then finds
//!    the row.
//! 4. It writes the other values, to rows that are locked.
//! 5. It removes. A blind removal takes what the newest snapshot shows.
//!
//! So who waits in step 1 holds locks of smaller keys alone, who waits in step 3 has inserted
//! smaller keys alone, and nobody waits later who named what it expected: there is no circle of
//! those who wait. A commit that removes without a condition a key that others put at that moment
//! may be part of one; PostgreSQL finds it, and the call fails as a deadlock.
//!
//! Everything it relied on stays locked until it commits, and whoever waited for it sees what it
//! wrote. What is *not* locked is a key without a row that a blind removal names: of two commits
//! that put, without a condition, what the other one removes without a condition, both puts may
//! stay. Where a condition stands between them that cannot be.
//!
//! In the stricter isolations, which a transaction of the user's may have, a row that changed
//! after its snapshot makes PostgreSQL refuse the lock (`40001`): never is a stale one believed.

use kvjob::kv::{Change, Error, ErrorKind, Expect, Result};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

/// The types of the function's arguments.
const TYPES: [Type; 8] = [
    Type::CHAR_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT4,
];

/// The call of the function of this name.
pub(crate) fn sql(function: &str) -> String {
    format!("SELECT {function}($1, $2, $3, $4, $5, $6, $7, $8)")
}

/// The arguments of one call: the changes of one commit or of several, with no key twice, in the
/// order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    operations: Vec<i8>,
    keys: Vec<&'a [u8]>,
    befores: Vec<Option<&'a [u8]>>,
    afters: Vec<Option<&'a [u8]>>,
    comparing: i32,
    putting: i32,
    replacing: i32,
    removing: i32,
    /// Which commit each came from, and its place in that.
    places: Vec<(usize, usize)>,
}

/// The positions that failed, of each commit that has any.
pub(crate) type Failed = std::collections::BTreeMap<usize, Vec<usize>>;

impl<'a> Call<'a> {
    /// The call for these commits.
    pub(crate) fn of(commits: impl IntoIterator<Item = &'a [Change]>) -> Self {
        let mut changes: Vec<(usize, usize, &Change)> = commits
            .into_iter()
            .enumerate()
            .flat_map(|(commit, changes)| {
                let places = changes.iter().enumerate();
                places.map(move |(place, change)| (commit, place, change))
            })
            .collect();
        changes.sort_unstable_by(|(_, _, one), (_, _, other)| one.key.cmp(&other.key));
        let mut call = Self::default();
        for (commit, place, change) in changes {
            call.places.push((commit, place));
            call.push(change);
        }
        call
    }

    fn push(&mut self, change: &'a Change) {
        let (operation, before) = match (&change.before, &change.after) {
            (Expect::Value(before), _) if change.is_check() => (b'k', Some(before.as_ref())),
            (Expect::Value(before), Some(_)) => (b'r', Some(before.as_ref())),
            (Expect::Value(before), None) => (b'x', Some(before.as_ref())),
            (Expect::Absent, Some(_)) => (b'c', None),
            (Expect::Any, Some(_)) => (b'p', None),
            // Nothing checks absence alone: `check_commit` refuses it.
            (Expect::Any | Expect::Absent, None) => (b'd', None),
        };
        self.comparing += i32::from(before.is_some());
        self.putting += i32::from(matches!(operation, b'c' | b'p'));
        self.replacing += i32::from(operation == b'r');
        self.removing += i32::from(matches!(operation, b'd' | b'x'));
        self.operations.push(operation.cast_signed());
        self.keys.push(change.key.as_bytes());
        self.befores.push(before);
        let written = change.after.as_deref().filter(|_| operation != b'k');
        self.afters.push(written);
    }

    fn arguments(&self) -> [&(dyn ToSql + Sync); 8] {
        [
            &self.operations,
            &self.keys,
            &self.befores,
            &self.afters,
            &self.comparing,
            &self.putting,
            &self.replacing,
            &self.removing,
        ]
    }

    /// Makes the call, in a transaction of its own.
    pub(crate) async fn run(
        &self,
        client: &Client,
        statement: &Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        client.query(statement, &self.arguments()).await
    }

    /// Makes the call in a transaction of somebody else's.
    pub(crate) async fn run_within(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        sql: &str,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let typed: Vec<_> = self.arguments().into_iter().zip(TYPES).collect();
        transaction.query_typed(sql, &typed).await
    }

    /// What failed, as the function says. Empty: everything was applied.
    pub(crate) fn failed(&self, answer: &[Row]) -> Result<Failed> {
        let garbled = || {
            let message = "the store's function gave no answer that can be understood, and the \
                           commit may have been applied";
            Error::new(ErrorKind::Unknown, message)
        };
        let row = answer.first().ok_or_else(garbled)?;
        let numbers: Vec<i32> = row
            .try_get(0)
            .map_err(|error| garbled().with_source(error))?;
        let mut failed = Failed::new();
        for number in numbers {
            let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
            let place = index.and_then(|index| self.places.get(index));
            let (commit, place) = place.ok_or_else(garbled)?;
            failed.entry(*commit).or_default().push(*place);
        }
        for places in failed.values_mut() {
            places.sort_unstable();
        }
        Ok(failed)
    }
}
