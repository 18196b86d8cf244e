//! sled, its default tree.

use std::fs::{File, OpenOptions};
use std::path::Path;

use kvjob::kv::Durability;
use sled::{Batch, Db};

use super::{Engine, Write};
use crate::Result;

pub(super) struct Raw {
    database: Db,
    log: File,
    sync: bool,
}

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let config = sled::Config::new().path(path).flush_every_ms(None);
        Ok(Self {
            database: config.open()?,
            log: OpenOptions::new().write(true).open(path.join("db"))?,
            sync: durability == Durability::Immediate,
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        self.database.apply_batch(batch)?;
        if self.sync {
            self.database.flush()?;
            // Its flush alone is not a sync.
            self.log.sync_data()?;
        }
        Ok(())
    }
}
