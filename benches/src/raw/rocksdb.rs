//! RocksDB, its default column family.

use std::path::Path;

use kvjob::kv::Durability;
use rocksdb::{DB, WriteBatch, WriteOptions};

use super::{Engine, Write};
use crate::Result;

pub(super) struct Raw {
    database: DB,
    options: WriteOptions,
}

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Immediate);
        Ok(Self {
            database: DB::open_default(path)?,
            options,
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        Ok(self.database.write_opt(batch, &self.options)?)
    }
}
