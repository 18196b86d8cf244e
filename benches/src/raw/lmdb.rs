//! LMDB, one database.

use std::path::Path;

use kvjob::kv::Durability;
use kvjob_lmdb::heed::types::Bytes;
use kvjob_lmdb::heed::{self, CommitOrAbort, Database, Env, WithoutTls};

use super::{Engine, Write};
use crate::Result;

pub(super) struct Raw {
    database: Database<'static, Bytes, Bytes>,
    env: Env<WithoutTls>,
    durability: Durability,
}

impl Raw {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self> {
        let env = kvjob_lmdb::Options::new().environment(path, 0)?;
        let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let made = opener.create_database(txn, Some("raw"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(made))
        })?;
        let database = made.commit().ok_or("the database was not made")?;
        Ok(Self {
            database,
            env,
            durability,
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in writes {
            match value {
                Some(value) => self.database.put(&mut transaction, key, value)?,
                None => drop(self.database.delete(&mut transaction, key)?),
            }
        }
        // Syncs its pages, in this environment.
        transaction.commit()?;
        if self.durability == Durability::Immediate {
            self.env.force_sync()?;
        }
        Ok(())
    }
}
