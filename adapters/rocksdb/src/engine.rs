//! [`Engine`]: one column family of a RocksDB database.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use kvjob::kv::{self, Direction, Gaps, Health, Key, Limits, Range, Result, Scan, Write};
use rocksdb::{ColumnFamily, DB, FlushOptions, ReadOptions, WriteBatch, WriteOptions, properties};

use crate::error::{committing, missing, reading, syncing};

/// What the store's column family is called.
pub(crate) const FAMILY: &str = "kvjob";

/// The largest things a store in RocksDB takes. RocksDB itself takes keys of 8 MiB and values of
/// 4 GiB; these keep a commit within what it holds in memory anyway.
pub const LIMITS: Limits = Limits {
    key_bytes: 64 << 10,
    value_bytes: 64 << 20,
    commit_bytes: 64 << 20,
    commit_changes: 64 << 10,
};

/// The column family `kvjob` of a RocksDB database. Users have it inside a
/// [`RocksDb`](crate::RocksDb).
pub struct Engine {
    database: DB,
    gaps: Gaps,
}

impl Engine {
    /// An engine on this database, which has the column family.
    pub(crate) fn new(database: DB) -> Self {
        Self {
            database,
            gaps: Gaps::new(),
        }
    }

    fn family(&self) -> Result<&ColumnFamily> {
        self.database.cf_handle(FAMILY).ok_or_else(missing)
    }

    /// Reads from a snapshot of this moment.
    fn read(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut options = ReadOptions::default();
        match &range.start {
            Bound::Included(key) => options.set_iterate_lower_bound(key.as_bytes()),
            Bound::Excluded(key) => options.set_iterate_lower_bound(behind(key)),
            Bound::Unbounded => {}
        }
        match &range.end {
            Bound::Included(key) => options.set_iterate_upper_bound(behind(key)),
            Bound::Excluded(key) => options.set_iterate_upper_bound(key.as_bytes()),
            Bound::Unbounded => {}
        }
        let mut objects = self.database.raw_iterator_cf_opt(self.family()?, options);
        match range.direction {
            Direction::Forward => objects.seek_to_first(),
            Direction::Reverse => objects.seek_to_last(),
        }
        while let Some((key, value)) = objects.item() {
            if !visit(key, value) {
                return Ok(());
            }
            match range.direction {
                Direction::Forward => objects.next(),
                Direction::Reverse => objects.prev(),
            }
        }
        objects.status().map_err(reading)
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "rocksdb"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        // Reads all of them from one snapshot.
        let values = self.database.batched_multi_get_cf(
            self.family()?,
            keys.iter().map(Key::as_bytes),
            false,
        );
        values
            .into_iter()
            .map(|value| {
                let value = value.map_err(reading)?;
                Ok(value.map(|value| Bytes::copy_from_slice(&value)))
            })
            .collect()
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.gaps
            .scan(range, visit, |range, visit| self.read(range, visit))
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        let family = self.family()?;
        let mut batch = WriteBatch::default();
        let (mut puts, mut wiped) = (Vec::new(), false);
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    batch.put_cf(family, key.as_bytes(), value);
                    puts.push((*key).clone());
                }
                Write::Remove(key) | Write::RemovePair { key, .. } => {
                    batch.delete_cf(family, key.as_bytes());
                }
                Write::DeletePrefix(prefix) => {
                    let (start, end) = every_key(prefix);
                    batch.delete_range_cf(family, start, end);
                    wiped = true;
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.gaps.write(puts, || {
            let written = self.database.write_opt(batch, &options);
            written.map_err(committing)
        })?;
        if wiped {
            // What is still in memory would be passed over one by one; tables as a whole.
            let mut options = FlushOptions::default();
            options.set_wait(false);
            let flushed = self.database.flush_cf_opt(family, &options);
            flushed.map_err(syncing)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.database.flush_wal(true).map_err(syncing)
    }

    fn health(&self) -> Result<Health> {
        let errors = self
            .database
            .property_int_value(properties::BACKGROUND_ERRORS)
            .map_err(reading)?
            .unwrap_or_default();
        let mut health = Health::default();
        if errors > 0 {
            health.warnings.push(format!(
                "rocksdb: failed {errors} times to bring tables to disk in the background; \
                 {}/LOG says why; is the disk full?",
                self.database.path().display()
            ));
        }
        Ok(health)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// The first key with this prefix, and one behind the last within the limits.
fn every_key(prefix: &Key) -> (Vec<u8>, Vec<u8>) {
    let end = match Scan::prefix(prefix.clone()).range(true).end {
        Bound::Excluded(end) | Bound::Included(end) => end.as_bytes().to_vec(),
        Bound::Unbounded => vec![0xff; LIMITS.key_bytes + 1],
    };
    (prefix.as_bytes().to_vec(), end)
}

/// The smallest key behind this one.
fn behind(key: &Key) -> Vec<u8> {
    [key.as_bytes(), &[0]].concat()
}
