//! LMDB: see the crate kvjob-lmdb.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY, SHARED};

pub(super) fn backend() -> Backend {
    Backend {
        name: "lmdb",
        schemes: &["lmdb"],
        url: "lmdb:PATH",
        options: &[DURABILITY, SHARED],
        durability: "kill -9 and power loss (immediate); the same, but a power loss may take the last group (interval, memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "lmdb")]
        limits: Some(kvjob_lmdb::LIMITS),
        #[cfg(feature = "lmdb")]
        open: Some(open),
        #[cfg(not(feature = "lmdb"))]
        limits: None,
        #[cfg(not(feature = "lmdb"))]
        open: None,
    }
}

#[cfg(feature = "lmdb")]
fn open(url: crate::StoreUrl) -> super::Opening {
    let shared = url.has(SHARED);
    Box::pin(super::path::open(url, "a file", move |path, durability| {
        let options = kvjob_lmdb::Options::new().durability(durability);
        let options = if shared { options.shared() } else { options };
        options.open(path)
    }))
}
