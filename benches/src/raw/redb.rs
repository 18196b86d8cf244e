//! redb, one table.

use std::path::Path;

use kvjob::kv::Durability;
use redb::{Database, TableDefinition};

use super::{Engine, Write};
use crate::Result;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("raw");

pub(super) struct Raw {
    database: Database,
    durability: redb::Durability,
}

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let durability = match durability {
            Durability::Immediate => redb::Durability::Immediate,
            _ => redb::Durability::None,
        };
        Ok(Self {
            database: Database::create(path)?,
            durability,
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in writes {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }
}
