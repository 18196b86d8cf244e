//! fjall, one keyspace.

use std::path::Path;

use fjall::{Database, Keyspace, PersistMode};
use kvjob::kv::Durability;

use super::{Engine, Write};
use crate::Result;

pub(super) struct Raw {
    keyspace: Keyspace,
    database: Database,
    persist: PersistMode,
}

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let database = Database::builder(path).open()?;
        Ok(Self {
            keyspace: database.keyspace("raw", Default::default)?,
            database,
            persist: match durability {
                Durability::Immediate => PersistMode::SyncData,
                _ => PersistMode::Buffer,
            },
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(self.persist));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.keyspace, key.as_slice(), value.as_slice()),
                None => batch.remove(&self.keyspace, key.as_slice()),
            }
        }
        Ok(batch.commit()?)
    }
}
