//! PostgreSQL: see the crate kvjob-postgres.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY};

/// An option that this crate's URLs have, and PostgreSQL's own do not.
#[cfg(feature = "postgres")]
const TABLE: &str = "table";

pub(super) fn backend() -> Backend {
    Backend {
        name: "postgres",
        schemes: &["postgres", "postgresql"],
        url: "postgres://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]...]/DATABASE",
        options: &[
            DURABILITY,
            "table=[SCHEMA.]TABLE",
            "sslmode=disable|prefer|require",
            "sslrootcert=FILE",
            "sslcert=FILE",
            "sslkey=FILE",
            "target_session_attrs=any|read-write",
            "application_name=NAME",
        ],
        durability: "a crash of the server and power loss (immediate); a crash of the server may take the last interval (interval), or the last second (memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Shared,
        #[cfg(feature = "postgres")]
        limits: Some(kvjob_postgres::LIMITS),
        #[cfg(feature = "postgres")]
        open: Some(|url| Box::pin(open(url))),
        #[cfg(not(feature = "postgres"))]
        limits: None,
        #[cfg(not(feature = "postgres"))]
        open: None,
    }
}

#[cfg(feature = "postgres")]
async fn open(url: crate::StoreUrl) -> kvjob::kv::Result<std::sync::Arc<dyn kvjob::kv::Store>> {
    let durability = url.durability.unwrap_or_default();
    let mut options = kvjob_postgres::Options::new().durability(durability);
    let mut text = format!("{}:{}?", url.scheme, url.path);
    for (name, value) in &url.options {
        let value = value.as_deref().unwrap_or_default();
        if name == TABLE {
            options = options.table(value);
        } else {
            text = text + name + "=" + value + "&";
        }
    }
    Ok(std::sync::Arc::new(options.open(&text).await?))
}
