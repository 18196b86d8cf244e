//! redb: see the crate kvjob-redb.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY};

pub(super) fn backend() -> Backend {
    Backend {
        name: "redb",
        schemes: &["redb"],
        url: "redb:PATH",
        options: &[DURABILITY],
        durability: "kill -9 and power loss (immediate); the same, but for the last interval (interval); a stop (memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "redb")]
        limits: Some(kvjob_redb::LIMITS),
        #[cfg(feature = "redb")]
        open: Some(open),
        #[cfg(not(feature = "redb"))]
        limits: None,
        #[cfg(not(feature = "redb"))]
        open: None,
    }
}

#[cfg(feature = "redb")]
fn open(url: crate::StoreUrl) -> super::Opening {
    Box::pin(super::path::open(url, "a file", |path, durability| {
        let options = kvjob_redb::Options::new().durability(durability);
        options.open(path)
    }))
}
