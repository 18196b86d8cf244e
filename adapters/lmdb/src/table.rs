//! The store's database in LMDB: how it is made and told from another's, and what is read from it
//! and written to it, in whichever transaction. Which one that is, is said elsewhere.

use std::ops::Bound;

use bytes::Bytes;
use heed::types::{Bytes as Slice, DecodeIgnore};
use heed::{CommitOrAbort, Database, MdbError, RoTxn, RwTxn};
use kvjob::kv::{Direction, Error, ErrorKind, Key, Range, Result, Scan, Write};

use crate::error::{committing, reading, writing};
use crate::{Env, NAME};

/// The handle. It is good for as long as the environment is open.
pub(crate) type Table = Database<'static, Slice, Slice>;

/// The store's database, made if it is not there. One of its name that is not ours is refused.
pub(crate) fn open(env: &Env) -> Result<Table> {
    let transaction = env.read_txn().map_err(reading)?;
    let found = env.open_databases_and_commit(transaction, |opener, transaction| {
        let names = opener.open_database::<Slice, Slice>(transaction, None)?;
        let record = match &names {
            Some(names) => names.get(transaction, NAME.as_bytes())?,
            None => None,
        };
        if record.is_some_and(has_flags) {
            return Err(MdbError::Incompatible.into());
        }
        opener
            .open_database::<Slice, Slice>(transaction, Some(NAME))
            .map(CommitOrAbort::<_, ()>::Commit)
    });
    if let Some(table) = found.map_err(refused)?.commit().flatten() {
        return Ok(table);
    }
    let transaction = env.write_txn().map_err(writing)?;
    let made = env.create_databases_and_commit(transaction, |opener, transaction| {
        opener
            .create_database::<Slice, Slice>(transaction, Some(NAME))
            .map(CommitOrAbort::<_, ()>::Commit)
    });
    made.map_err(refused)?.commit().ok_or_else(|| {
        let message = format!("LMDB did not make the database {NAME}");
        Error::new(ErrorKind::Backend, message)
    })
}

/// Whether a database has flags, which ours has not: one with several values a key, or with keys in
/// another order. `record` is what LMDB keeps of a database under its name: four bytes, then its
/// flags.
fn has_flags(record: &[u8]) -> bool {
    record
        .get(4..6)
        .is_some_and(|flags| flags.iter().any(|byte| *byte != 0))
}

fn refused(source: heed::Error) -> Error {
    match source {
        heed::Error::Mdb(MdbError::Incompatible) => {
            let message = format!(
                "it has a database or a record {NAME} that another program made, and was left as \
                 it is; choose another path"
            );
            Error::new(ErrorKind::Unsupported, message).with_source(source)
        }
        heed::Error::Mdb(MdbError::DbsFull) => {
            let message = format!(
                "the environment was opened for too few databases to have {NAME}, too: raise its \
                 max_dbs by one"
            );
            Error::new(ErrorKind::Unsupported, message).with_source(source)
        }
        source => committing(source),
    }
}

/// The values under these keys, each at its key's place.
pub(crate) fn get(table: Table, txn: &RoTxn<'_>, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
    keys.iter()
        .map(|key| {
            let value = table.get(txn, key.as_bytes()).map_err(reading)?;
            Ok(value.map(Bytes::copy_from_slice))
        })
        .collect()
}

/// Visits the objects of a range, in its order.
pub(crate) fn scan(
    table: Table,
    txn: &RoTxn<'_>,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let bounds = bounds(range);
    match range.direction {
        Direction::Forward => {
            for found in table.range(txn, &bounds).map_err(reading)? {
                let (key, value) = found.map_err(reading)?;
                if !visit(key, value) {
                    break;
                }
            }
        }
        Direction::Reverse => {
            for found in table.rev_range(txn, &bounds).map_err(reading)? {
                let (key, value) = found.map_err(reading)?;
                if !visit(key, value) {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Makes these writes, in this order.
pub(crate) fn write(table: Table, txn: &mut RwTxn<'_>, writes: &[Write<'_>]) -> Result<()> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                table
                    .put(txn, key.as_bytes(), value.as_ref())
                    .map_err(writing)?;
            }
            Write::Remove(key) | Write::RemovePair { key, .. } => {
                table.delete(txn, key.as_bytes()).map_err(writing)?;
            }
            Write::DeletePrefix(prefix) => while delete(table, txn, prefix)? {},
        }
    }
    Ok(())
}

/// Removes some of the keys that begin with this prefix. Whether there are more.
pub(crate) fn delete(table: Table, txn: &mut RwTxn<'_>, prefix: &Key) -> Result<bool> {
    /// Keys that go at a time, which bounds the pages that are changed.
    const AT_ONCE: usize = 4096;
    let range = Scan::prefix(prefix.clone()).range(true);
    let (start, end) = bounds(&range);
    let beyond = {
        let keys = table.remap_data_type::<DecodeIgnore>();
        let mut found = keys.range(txn, &(start, end)).map_err(reading)?;
        let beyond = found.nth(AT_ONCE).transpose().map_err(reading)?;
        beyond.map(|(key, ())| key.to_vec())
    };
    let until = beyond.as_deref().map_or(end, Bound::Excluded);
    table.delete_range(txn, &(start, until)).map_err(writing)?;
    Ok(beyond.is_some())
}

/// LMDB knows no empty key, not even as a bound.
fn bounds(range: &Range) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let (start, end) = range.as_bytes();
    match start {
        Bound::Included([]) | Bound::Excluded([]) => (Bound::Unbounded, end),
        _ => (start, end),
    }
}
