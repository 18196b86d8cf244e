//! A transaction of the user's, with the store's keys in it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{AsyncTransaction, Change, Error, Key, Limits, Result, check_commit};
use tokio_postgres::types::{ToSql, Type};

use crate::commit::{self, Call};
use crate::schema::Table;
use crate::{LIMITS, error, read};

/// The store's side of a transaction of yours, which [`within`](crate::Postgres::within) gives
/// out: what is done through it is there when you commit, and never was when you roll back.
///
/// See [the crate](crate#together-with-your-own-tables) for an example.
///
/// The transaction must be on the store's own database. An error other than
/// [`ConditionFailed`](kvjob::kv::ErrorKind::ConditionFailed) leaves it aborted, as PostgreSQL
/// does: roll it back. Nothing is retried.
pub struct Transaction<'t> {
    transaction: &'t tokio_postgres::Transaction<'t>,
    table: Arc<Table>,
}

impl<'t> Transaction<'t> {
    pub(crate) fn new(transaction: &'t tokio_postgres::Transaction<'t>, table: Arc<Table>) -> Self {
        Self { transaction, table }
    }
}

#[async_trait]
impl AsyncTransaction for Transaction<'_> {
    fn limits(&self) -> Limits {
        LIMITS
    }

    async fn get(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().try_for_each(|key| LIMITS.check_key(key))?;
        let wanted: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
        let sql = read::get(&self.table);
        let arguments: [(&(dyn ToSql + Sync), Type); 1] = [(&wanted, Type::BYTEA_ARRAY)];
        let rows = self.transaction.query_typed(&sql, &arguments).await;
        let rows = rows.map_err(|failed| error::reading(&failed))?;
        read::values(&rows, keys).map_err(|failed| error::reading(&failed))
    }

    async fn change(&mut self, changes: &[Change]) -> Result<()> {
        check_commit(changes, &LIMITS)?;
        if changes.is_empty() {
            return Ok(());
        }
        let call = Call::of([changes]);
        let sql = commit::sql(&self.table.commit);
        let answer = call.run_within(self.transaction, &sql).await;
        let answer = answer.map_err(|failed| error::writing(&failed))?;
        match call.failed(&answer)?.pop_first() {
            None => Ok(()),
            Some((_, indices)) => Err(Error::condition_failed(indices)),
        }
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("table", &self.table.name)
            .finish_non_exhaustive()
    }
}
