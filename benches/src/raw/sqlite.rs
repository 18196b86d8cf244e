//! SQLite, one table.

use std::path::Path;

use kvjob::kv::Durability;
use rusqlite::{Connection, params};

use super::{Engine, Write};
use crate::Result;

pub(super) struct Raw(Connection);

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let synchronous = match durability {
            Durability::Immediate => "FULL",
            _ => "NORMAL",
        };
        let connection = Connection::open(path)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = {synchronous};
             CREATE TABLE raw (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
        ))?;
        Ok(Self(connection))
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let transaction = self.0.transaction()?;
        for (key, value) in writes {
            match value {
                Some(value) => transaction
                    .prepare_cached("REPLACE INTO raw (key, value) VALUES (?1, ?2)")?
                    .execute(params![key, value])?,
                None => transaction
                    .prepare_cached("DELETE FROM raw WHERE key = ?1")?
                    .execute(params![key])?,
            };
        }
        Ok(transaction.commit()?)
    }
}
