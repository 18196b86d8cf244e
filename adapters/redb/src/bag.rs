//! What the store reads and writes where a key holds a set of values: a multimap table.

use bytes::Bytes;
use kvjob::kv::{Direction, Key, Range, Result, Scan, Write};
use redb::{MultimapTableDefinition, MultimapValue, ReadableMultimapTable};

use crate::error::{reading, writing};

/// Of the same name as the table where keys are unique, so that a file can hold only one of them.
pub(crate) const TABLE: MultimapTableDefinition<&[u8], &[u8]> =
    MultimapTableDefinition::new("kvjob");

pub(crate) type ReadOnlyTable = redb::ReadOnlyMultimapTable<&'static [u8], &'static [u8]>;
pub(crate) type Table<'t> = redb::MultimapTable<'t, &'static [u8], &'static [u8]>;

pub(crate) fn get(
    table: &impl ReadableMultimapTable<&'static [u8], &'static [u8]>,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>> {
    keys.iter()
        .map(|key| {
            let mut values = table.get(key.as_bytes()).map_err(reading)?;
            let smallest = values.next().transpose().map_err(reading)?;
            Ok(smallest.map(|value| Bytes::copy_from_slice(value.value())))
        })
        .collect()
}

pub(crate) fn scan(
    table: &impl ReadableMultimapTable<&'static [u8], &'static [u8]>,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let mut keys = table.range::<&[u8]>(range.as_bytes()).map_err(reading)?;
    while let Some(found) = next(&mut keys, range.direction) {
        let (key, mut values): (_, MultimapValue<'_, &[u8]>) = found.map_err(reading)?;
        while let Some(value) = next(&mut values, range.direction) {
            if !visit(key.value(), value.map_err(reading)?.value()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn next<T>(within: &mut impl DoubleEndedIterator<Item = T>, direction: Direction) -> Option<T> {
    match direction {
        Direction::Forward => within.next(),
        Direction::Reverse => within.next_back(),
    }
}

pub(crate) fn write(table: &mut Table<'_>, writes: &[Write<'_>]) -> Result<()> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                table
                    .insert(key.as_bytes(), value.as_ref())
                    .map_err(writing)?;
            }
            Write::Remove(key) => drop(table.remove_all(key.as_bytes()).map_err(writing)?),
            Write::RemovePair { key, value } => {
                table
                    .remove(key.as_bytes(), value.as_ref())
                    .map_err(writing)?;
            }
            Write::DeletePrefix(prefix) => delete(table, prefix)?,
        }
    }
    Ok(())
}

fn delete(table: &mut Table<'_>, prefix: &Key) -> Result<()> {
    /// Keys that are held in memory at a time, for they cannot be removed while they are walked.
    const AT_ONCE: usize = 1000;
    let range = Scan::prefix(prefix.clone()).range(false);
    loop {
        let keys = table.range::<&[u8]>(range.as_bytes()).map_err(reading)?;
        let keys: Vec<Vec<u8>> = keys
            .take(AT_ONCE)
            .map(|found| found.map(|(key, _)| key.value().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(reading)?;
        for key in &keys {
            drop(table.remove_all(key.as_slice()).map_err(writing)?);
        }
        if keys.len() < AT_ONCE {
            return Ok(());
        }
    }
}
