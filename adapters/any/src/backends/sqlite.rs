//! SQLite: see the crate kvjob-sqlite.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY, SHARED};

pub(super) fn backend() -> Backend {
    Backend {
        name: "sqlite",
        schemes: &["sqlite"],
        url: "sqlite:PATH",
        options: &[DURABILITY, SHARED],
        durability: "kill -9 and power loss (immediate); the same, but a power loss may take the last interval (interval); kill -9 (memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "sqlite")]
        limits: Some(kvjob_sqlite::LIMITS),
        #[cfg(feature = "sqlite")]
        open: Some(open),
        #[cfg(not(feature = "sqlite"))]
        limits: None,
        #[cfg(not(feature = "sqlite"))]
        open: None,
    }
}

#[cfg(feature = "sqlite")]
fn open(url: crate::StoreUrl) -> super::Opening {
    let shared = url.has(SHARED);
    Box::pin(super::path::open(url, "a file", move |path, durability| {
        let options = kvjob_sqlite::Options::new().durability(durability);
        let options = if shared { options.shared() } else { options };
        options.open(path)
    }))
}
