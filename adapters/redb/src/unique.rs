//! What the store reads and writes where a key holds one value: a table.

use bytes::Bytes;
use kvjob::kv::{Direction, Key, Range, Result, Scan, Write};
use redb::{ReadableTable, TableDefinition};

use crate::error::{reading, writing};

pub(crate) const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kvjob");

pub(crate) type ReadOnlyTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;
pub(crate) type Table<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

pub(crate) fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>> {
    keys.iter()
        .map(|key| {
            let value = table.get(key.as_bytes()).map_err(reading)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
        .collect()
}

pub(crate) fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let mut objects = table.range::<&[u8]>(range.as_bytes()).map_err(reading)?;
    while let Some(object) = match range.direction {
        Direction::Forward => objects.next(),
        Direction::Reverse => objects.next_back(),
    } {
        let (key, value) = object.map_err(reading)?;
        if !visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

pub(crate) fn write(table: &mut Table<'_>, writes: &[Write<'_>]) -> Result<()> {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                table
                    .insert(key.as_bytes(), value.as_ref())
                    .map_err(writing)?;
            }
            Write::Remove(key) | Write::RemovePair { key, .. } => {
                table.remove(key.as_bytes()).map_err(writing)?;
            }
            Write::DeletePrefix(prefix) => {
                let range = Scan::prefix((*prefix).clone()).range(true);
                table
                    .retain_in::<&[u8], _>(range.as_bytes(), |_, _| false)
                    .map_err(writing)?;
            }
        }
    }
    Ok(())
}
