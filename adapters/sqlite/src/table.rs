//! The store's table, in SQL: how it is made and told from another's, and what is read from it and
//! written to it, on whichever connection. Which one that is, and in which transaction, is said
//! elsewhere.

use std::borrow::Cow;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use kvjob::kv::{self, Direction, Error, ErrorKind, Key, Range, Result, Write};
use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{CachedStatement, Connection, params};

use crate::error::{at, opening, reading, writing};

const CREATE: &str = "CREATE TABLE main.kvjob (\
    key BLOB PRIMARY KEY NOT NULL, \
    value BLOB NOT NULL\
) WITHOUT ROWID";

/// Whether the table is there. Refuses one of the same name that is not ours.
pub(crate) fn is_there(connection: &Connection, path: &Path) -> Result<bool> {
    let opening = |error| opening(path, error);
    let columns = columns(connection).map_err(opening)?;
    if columns.is_empty() {
        return Ok(false);
    }
    let ours = ["key BLOB 1 1", "value BLOB 1 0"];
    if columns != ours || !is_without_rowid(connection).map_err(opening)? {
        let message = "it has a table or view kvjob that another program made, and was left as it \
                       is; rename that one, or choose another path";
        return Err(at(path, Error::new(ErrorKind::Unsupported, message)));
    }
    Ok(true)
}

/// Makes the table.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(CREATE)
}

/// Name, type, whether it is never null and its place in the primary key, of each column.
fn columns(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut columns = connection.prepare(
        "SELECT concat_ws(' ', name, type, \"notnull\", pk) \
         FROM pragma_table_xinfo('kvjob', 'main') ORDER BY cid",
    )?;
    let columns = columns.query_map([], |row| row.get(0))?;
    columns.collect()
}

fn is_without_rowid(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*) FROM pragma_table_list('kvjob') \
         WHERE schema = 'main' AND type = 'table' AND wr",
        [],
        |row| Ok(row.get::<_, i64>(0)? == 1),
    )
}

/// The values under these keys, each at its key's place.
pub(crate) fn get(connection: &Connection, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
    let mut select = prepare(connection, "SELECT value FROM main.kvjob WHERE key = ?1")?;
    keys.iter()
        .map(|key| {
            let mut rows = select.query([key.as_bytes()]).map_err(reading)?;
            let Some(row) = rows.next().map_err(reading)? else {
                return Ok(None);
            };
            let value = blob(row.get_ref(0).map_err(reading)?)?;
            Ok(Some(Bytes::copy_from_slice(value)))
        })
        .collect()
}

/// Visits the objects of a range, in its order.
pub(crate) fn scan(
    connection: &Connection,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let (start, end) = bounds(range);
    let sql = match (&end, range.direction) {
        (Some(_), Direction::Forward) => {
            "SELECT key, value FROM main.kvjob WHERE key >= ?1 AND key < ?2 ORDER BY key"
        }
        (Some(_), Direction::Reverse) => {
            "SELECT key, value FROM main.kvjob WHERE key >= ?1 AND key < ?2 ORDER BY key DESC"
        }
        (None, Direction::Forward) => {
            "SELECT key, value FROM main.kvjob WHERE key >= ?1 ORDER BY key"
        }
        (None, Direction::Reverse) => {
            "SELECT key, value FROM main.kvjob WHERE key >= ?1 ORDER BY key DESC"
        }
    };
    let mut select = prepare(connection, sql)?;
    let rows = match &end {
        Some(end) => select.query(params![&*start, &**end]),
        None => select.query(params![&*start]),
    };
    let mut rows = rows.map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        let key = blob(row.get_ref(0).map_err(reading)?)?;
        let value = blob(row.get_ref(1).map_err(reading)?)?;
        if !visit(key, value) {
            break;
        }
    }
    Ok(())
}

/// Makes these writes, in this order.
pub(crate) fn write(connection: &Connection, writes: &[Write<'_>]) -> Result<()> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                let put = "REPLACE INTO main.kvjob (key, value) VALUES (?1, ?2)";
                execute(connection, put, params![key.as_bytes(), value.as_ref()])?;
            }
            Write::Remove(key) | Write::RemovePair { key, .. } => {
                let remove = "DELETE FROM main.kvjob WHERE key = ?1";
                execute(connection, remove, params![key.as_bytes()])?;
            }
            Write::DeletePrefix(prefix) => {
                let range = kv::Scan::prefix((*prefix).clone()).range(true);
                match bounds(&range) {
                    (start, Some(end)) => {
                        let delete = "DELETE FROM main.kvjob WHERE key >= ?1 AND key < ?2";
                        execute(connection, delete, params![&*start, &*end])?;
                    }
                    (start, None) => {
                        let delete = "DELETE FROM main.kvjob WHERE key >= ?1";
                        execute(connection, delete, params![&*start])?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    connection.prepare_cached(sql).map_err(reading)
}

fn execute(connection: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).map_err(writing)?;
    statement.execute(params).map_err(writing)?;
    Ok(())
}

/// Where a range starts, and the key before which it ends, if any: one shape for all bounds, for
/// the key behind `k` is `k` with a zero byte.
fn bounds(range: &Range) -> (Cow<'_, [u8]>, Option<Cow<'_, [u8]>>) {
    let start = match &range.start {
        Bound::Included(key) => key.as_bytes().into(),
        Bound::Excluded(key) => behind(key),
        Bound::Unbounded => Cow::default(),
    };
    let end = match &range.end {
        Bound::Included(key) => Some(behind(key)),
        Bound::Excluded(key) => Some(key.as_bytes().into()),
        Bound::Unbounded => None,
    };
    (start, end)
}

fn behind(key: &Key) -> Cow<'_, [u8]> {
    [key.as_bytes(), &[0]].concat().into()
}

/// SQLite keeps a value of any type in any column: what is no blob was not written here.
fn blob(value: ValueRef<'_>) -> Result<&[u8]> {
    value.as_blob().map_err(|error: FromSqlError| {
        let message = format!(
            "the table kvjob holds a value of type {} where only blobs are written; \
             another program wrote to it: remove that row",
            value.data_type()
        );
        Error::new(ErrorKind::Corrupt, message).with_source(error)
    })
}
