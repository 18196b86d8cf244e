//! The store's table and its function, in SQL: how they are made, and told from another's. What a
//! commit does with them is argued in [`commit`](super::commit); who calls them is said elsewhere.

use kvjob::kv::{Error, ErrorKind, Result};
use tokio_postgres::Client;

use crate::error;

/// Of a name of the table or its schema. The function's name is longer than the table's.
const LONGEST_NAME: usize = 48;

/// What the store's table is called, and what else is named after it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// With its schema, quoted: as it stands in a statement.
    pub(crate) name: String,
    /// The function that makes a commit, in the same way.
    pub(crate) commit: String,
    /// Where puts are announced. The table's own number keeps stores of one database apart.
    pub(crate) channel: String,
}

/// What was asked for: a table, perhaps in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    schema: Option<String>,
    table: String,
}

impl Name {
    /// Reads `table` or `schema.table`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, text),
        };
        let plain = |name: &str| {
            let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
            let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            starts && name.len() <= LONGEST_NAME && name.chars().all(goes_on)
        };
        if !plain(table) || !schema.is_none_or(plain) {
            let message = format!(
                "{text:?} cannot be the name of the store's table: use TABLE or SCHEMA.TABLE, each \
                 of a-z, 0-9 and _, not beginning with a digit, of at most {LONGEST_NAME} bytes"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(Self {
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
        })
    }
}

/// Columns, primary key and kind of a table, in a form that is easy to compare. `u` is an
/// unlogged table, `p` a permanent one, `t` a temporary one.
const LOOK: &str = "\
SELECT n.nspname, c.oid, c.relkind::text, c.relpersistence::text, \
    (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), \
            a.attnotnull), ', ' ORDER BY a.attnum) \
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
    (SELECT string_agg(pg_get_indexdef(i.indexrelid, 1, true), ', ') \
        FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1) \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

/// The table, made if it is not there. Refuses one that is not ours, and leaves it as it is.
pub(crate) async fn open(client: &Client, name: &Name) -> Result<Table> {
    let failed = |error| error::opening("make sure of the store's table", &error);
    let asked = match &name.schema {
        Some(schema) => format!("{schema}.{}", name.table),
        None => name.table.clone(),
    };
    if let Some(table) = look(client, &asked).await? {
        return Ok(table);
    }
    let schema = if let Some(schema) = &name.schema {
        schema.clone()
    } else {
        let row = client.query_one("SELECT current_schema()::text", &[]);
        let schema: Option<String> = row.await.map_err(failed)?.try_get(0).map_err(failed)?;
        schema.ok_or_else(|| {
            let message = "no schema of the user's search_path exists to make the table in; \
                               name one, as in SCHEMA.TABLE";
            Error::new(ErrorKind::Unsupported, message)
        })?
    };
    // The lock makes others wait who open it for the first time just now.
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('kvjob', 0)); {} {} COMMIT",
        create_table(&schema, &name.table),
        create_commit(&schema, &name.table),
    );
    if let Err(failure) = client.batch_execute(&sql).await {
        // The connection is not used any further, and so need not be brought out of the
        // transaction.
        return Err(failed(failure));
    }
    look(client, &format!("{schema}.{}", name.table))
        .await?
        .ok_or_else(|| {
            let message = format!("the table {asked} was made, and is not there: was it removed?");
            Error::new(ErrorKind::Backend, message)
        })
}

/// The table of this name if it is there, with the function.
async fn look(client: &Client, asked: &str) -> Result<Option<Table>> {
    let failed = |error| error::opening("look for the store's table", &error);
    let rows = client.query(LOOK, &[&asked]).await.map_err(failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let schema: String = row.try_get(0).map_err(failed)?;
    let oid: u32 = row.try_get(1).map_err(failed)?;
    let kind: String = row.try_get(2).map_err(failed)?;
    let persistence: String = row.try_get(3).map_err(failed)?;
    let columns: Option<String> = row.try_get(4).map_err(failed)?;
    let primary: Option<String> = row.try_get(5).map_err(failed)?;
    let ours = kind == "r"
        && columns.as_deref() == Some("key bytea t, value bytea t")
        && primary.as_deref() == Some("key");
    if !ours {
        let message = format!(
            "{asked} is there already and was made by another program (kvjob's is a table of two \
             columns, key bytea PRIMARY KEY and value bytea NOT NULL); it was left as it is: give \
             the store another table by the option `table`"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if persistence != "p" {
        let message = format!(
            "the table {asked} is unlogged or temporary: PostgreSQL empties it after a crash; \
             ALTER TABLE {asked} SET LOGGED, or give the store another table"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let table = asked.rsplit('.').next().unwrap_or(asked);
    look_for_commit(client, &schema, table).await?;
    Ok(Some(Table {
        name: quoted(&schema, table),
        commit: quoted(&schema, &commit_name(table)),
        channel: format!("kvjob_{oid}"),
    }))
}

/// Makes sure that the function is there, and is this one: conditions are as good as it is.
async fn look_for_commit(client: &Client, schema: &str, table: &str) -> Result<()> {
    const SOURCE: &str = "SELECT p.prosrc FROM pg_proc p JOIN pg_namespace n \
        ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = $2";
    let failed = |error| error::opening("look for the store's function", &error);
    let name = commit_name(table);
    let find = async || {
        let rows = client.query(SOURCE, &[&schema, &name]).await?;
        let sources = rows.iter().map(|row| row.try_get(0));
        sources.collect::<std::result::Result<Vec<String>, _>>()
    };
    let mut found = find().await.map_err(failed)?;
    if found.is_empty() {
        // An older version of this crate made the table.
        let sql = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('kvjob', 0)); {} COMMIT",
            create_commit(schema, table)
        );
        let made = client.batch_execute(&sql).await;
        made.map_err(|error| error::opening("make the store's function", &error))?;
        found = find().await.map_err(failed)?;
    }
    let body = commit_body(&quoted(schema, table));
    if found.iter().map(|source| source.trim()).ne([body.trim()]) {
        let message = format!(
            "the function {schema}.{name} is not the one that this version of kvjob makes: \
             somebody changed it; drop it, and it is made again"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(())
}

fn quoted(schema: &str, name: &str) -> String {
    format!("\"{schema}\".\"{name}\"")
}

/// The number changes with the function, so that several versions serve side by side.
fn commit_name(table: &str) -> String {
    format!("{table}_commit_1")
}

/// Rows of a queue are written a few times and go. So a page keeps room for the next version of a
/// row (its key never changes, and no index needs to be told then), and dead rows are cleared
/// away after a few thousand, not after a fifth of the table: a claim reads at the queue's head,
/// where they are.
fn create_table(schema: &str, table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (key bytea PRIMARY KEY, value bytea NOT NULL) \
         WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, \
               autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);",
        quoted(schema, table)
    )
}

/// The planner is told the only plan that is right for a table of any size, lest it choose by
/// what the table was like when it was last looked at.
fn create_commit(schema: &str, table: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {}(operations \"char\"[], keys bytea[], befores bytea[], \
             afters bytea[], comparing int, putting int, replacing int, removing int) \
         RETURNS int[] LANGUAGE plpgsql \
         SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan \
         SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off \
         SET enable_mergejoin = off SET jit = off \
         AS $kvjob${}$kvjob$;",
        quoted(schema, &commit_name(table)),
        commit_body(&quoted(schema, table)),
    )
}

/// What the function does: see [`commit`](super::commit).
fn commit_body(table: &str) -> String {
    include_str!("commit.sql").replace("{table}", table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_plainly() {
        for good in ["kvjob", "_jobs2", "shop.jobs"] {
            Name::parse(good).expect(good);
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for bad in [
            "", ".", "shop.", "Jobs", "2jobs", "a b", "a;b", "a.b.c", "a\"b", &long,
        ] {
            let error = Name::parse(bad).expect_err(bad);
            assert!(error.to_string().contains("SCHEMA.TABLE"), "{error}");
        }
    }
}
