//! What is read, in SQL, and what the answers mean.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Bound;

use bytes::Bytes;
use futures::future::try_join_all;
use kvjob::kv::{Direction, Key, Object, Page, PageBuilder, Range, Scan};
use tokio_postgres::{Error, Row};

use crate::LIMITS;
use crate::schema::Table;
use crate::session::Session;

/// The statement for the values under some keys.
pub(crate) fn get(table: &Table) -> String {
    format!("SELECT key, value FROM {} WHERE key = ANY($1)", table.name)
}

/// The statement for one page: at most so many objects (`$3`), up to the one with which they would
/// be more than so many bytes (`$4`), but never one alone, for the second tells that more follow.
/// What a page has no room for is not sent.
pub(crate) fn scan(table: &Table, reverse: bool, keys_only: bool) -> String {
    let table = &table.name;
    let order = if reverse { "DESC" } else { "ASC" };
    let (columns, size) = if keys_only {
        ("key", "octet_length(key)")
    } else {
        ("key, value", "octet_length(key) + octet_length(value)")
    };
    format!(
        "SELECT {columns} FROM (\
             SELECT {columns}, count(*) OVER earlier AS objects, sum({size}) OVER earlier AS bytes \
             FROM (\
                 SELECT {columns} FROM {table} WHERE key >= $1 AND key < $2 \
                 ORDER BY key {order} LIMIT $3\
             ) AS page WINDOW earlier AS (\
                 ORDER BY key {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING\
             )\
         ) AS measured WHERE objects <= 1 OR bytes <= $4 ORDER BY key {order}"
    )
}

/// The objects under these keys, each at its key's place, all of one moment.
pub(crate) async fn objects(session: &Session, keys: &[Key]) -> Result<Vec<Option<Object>>, Error> {
    let wanted: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
    let get = &session.statements.get;
    let rows = session.client.query(get, &[&wanted]).await?;
    let values = values(&rows, keys)?;
    let objects = keys.iter().zip(values);
    Ok(objects
        .map(|(key, value)| value.map(|value| Object::new(key.clone(), value)))
        .collect())
}

/// The values that were found, each at its key's place.
pub(crate) fn values(rows: &[Row], keys: &[Key]) -> Result<Vec<Option<Bytes>>, Error> {
    let mut found: HashMap<&[u8], Bytes> = HashMap::with_capacity(rows.len());
    for row in rows {
        let value = row.try_get::<_, &[u8]>(1)?;
        found.insert(row.try_get(0)?, Bytes::copy_from_slice(value));
    }
    Ok(keys
        .iter()
        .map(|key| found.get(key.as_bytes()).cloned())
        .collect())
}

/// A page for each scan, at its place, in one trip.
pub(crate) async fn pages(session: &Session, scans: &[Scan]) -> Result<Vec<Page>, Error> {
    // They are sent at once and answered one after the other.
    try_join_all(scans.iter().map(|scan| page(session, scan))).await
}

async fn page(session: &Session, scan: &Scan) -> Result<Page, Error> {
    let range = scan.range(true);
    let mut page = PageBuilder::new(scan);
    if range.is_empty() {
        return Ok(page.finish());
    }
    let (start, end) = bounds(&range);
    // One more tells whether more follow.
    let limit = i64::try_from(scan.limit)
        .unwrap_or(i64::MAX)
        .saturating_add(1);
    let budget = i64::try_from(scan.byte_budget).unwrap_or(i64::MAX);
    let [forward, reverse] = &session.statements.scans;
    let [with_values, keys_only] = match scan.direction {
        Direction::Forward => forward,
        Direction::Reverse => reverse,
    };
    let statement = if scan.keys_only {
        keys_only
    } else {
        with_values
    };
    let rows = session
        .client
        .query(statement, &[&&*start, &&*end, &limit, &budget])
        .await?;
    for row in rows {
        let value = if scan.keys_only {
            &[]
        } else {
            row.try_get::<_, &[u8]>(1)?
        };
        if !page.offer(row.try_get(0)?, value) {
            break;
        }
    }
    Ok(page.finish())
}

/// Where a range starts, and the key before which it ends: one shape for all bounds, for the key
/// behind `k` is `k` with a zero byte, and no key is as long as the one behind all of them.
pub(crate) fn bounds(range: &Range) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
    const BEHIND_ALL: &[u8] = &[0xff; LIMITS.key_bytes + 1];
    let start = match &range.start {
        Bound::Included(key) => key.as_bytes().into(),
        Bound::Excluded(key) => behind(key),
        Bound::Unbounded => Cow::default(),
    };
    let end = match &range.end {
        Bound::Included(key) => behind(key),
        Bound::Excluded(key) => key.as_bytes().into(),
        Bound::Unbounded => BEHIND_ALL.into(),
    };
    (start, end)
}

fn behind(key: &Key) -> Cow<'_, [u8]> {
    [key.as_bytes(), &[0]].concat().into()
}

/// The statement that removes a piece of a range and says how many objects it looked at: fewer
/// than it might (`$3`) were the last. Rows are locked in the order of their keys, as commits do.
pub(crate) fn delete_sql(table: &Table) -> String {
    let table = &table.name;
    format!(
        "WITH piece AS MATERIALIZED (\
             SELECT key FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3\
         ), locked AS MATERIALIZED (\
             SELECT t.key FROM piece JOIN {table} AS t ON t.key = piece.key \
             ORDER BY t.key FOR UPDATE OF t\
         ), gone AS (\
             DELETE FROM {table} AS t USING locked WHERE t.key = locked.key\
         ) SELECT count(*) FROM piece"
    )
}

/// Removes a piece, and says how many objects it looked at.
pub(crate) async fn delete(
    session: &Session,
    sql: &str,
    (start, end): (&[u8], &[u8]),
    piece: i64,
) -> Result<i64, Error> {
    let rows = session.client.query(sql, &[&start, &end, &piece]).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}
