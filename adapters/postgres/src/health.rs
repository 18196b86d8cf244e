//! What would surprise a user of this server.

use kvjob::kv::{Durability, Health};
use tokio_postgres::Error;

use crate::schema::Table;
use crate::session::Session;

/// Settings, the age of the oldest transaction in this database in seconds (where the user may see
/// it), and whether dead rows of the table are cleared away.
const LOOK: &str = "\
SELECT current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off', \
    current_setting('synchronous_commit'), \
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on', \
    (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::bigint \
        FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL), \
    current_setting('autovacuum') = 'off' OR EXISTS (\
        SELECT FROM pg_class WHERE oid = to_regclass($1) \
            AND 'autovacuum_enabled=false' = ANY (reloptions))";

/// An older transaction than this many seconds is told of.
const OLD: i64 = 5 * 60;

pub(crate) async fn look(
    session: &Session,
    table: &Table,
    durability: Durability,
) -> Result<Health, Error> {
    let row = session.client.query_one(LOOK, &[&table.name]).await?;
    let mut warnings = Vec::new();
    if row.try_get(0)? {
        warnings.push(
            "fsync is off: after a crash of the server's machine the whole database may be lost"
                .to_owned(),
        );
    }
    if row.try_get(1)? {
        warnings.push(
            "full_page_writes is off: after a crash of the server's machine pages may be torn"
                .to_owned(),
        );
    }
    let synchronous: String = row.try_get(2)?;
    if synchronous == "off" && durability != Durability::Immediate {
        warnings.push(format!(
            "synchronous_commit is off for this store, as its durability ({durability}) asks for: \
             a crash of the server loses what it acknowledged last"
        ));
    }
    if row.try_get(3)? {
        warnings.push("the server is a standby or only reads: no commit will succeed".to_owned());
    }
    if let Some(age) = row.try_get::<_, Option<i64>>(4)?.filter(|age| *age > OLD) {
        warnings.push(format!(
            "a transaction has been open in this database for {} minutes: dead rows pile up \
             behind it, and claims become slow; see pg_stat_activity",
            age / 60
        ));
    }
    if row.try_get(5)? {
        warnings.push(
            "autovacuum is off: dead rows pile up, and claims become slow; switch it on, or \
             VACUUM the table often"
                .to_owned(),
        );
    }
    let mut health = Health::default();
    health.warnings = warnings;
    Ok(health)
}
