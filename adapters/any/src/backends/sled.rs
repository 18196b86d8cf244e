//! sled 0.34: see the crate kvjob-sled.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY};

pub(super) fn backend() -> Backend {
    Backend {
        name: "sled",
        schemes: &["sled"],
        url: "sled:PATH",
        options: &[DURABILITY],
        durability: "as redb, as far as sled 0.34 can: it is old, and no longer maintained",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "sled")]
        limits: Some(kvjob_sled::LIMITS),
        #[cfg(feature = "sled")]
        open: Some(open),
        #[cfg(not(feature = "sled"))]
        limits: None,
        #[cfg(not(feature = "sled"))]
        open: None,
    }
}

#[cfg(feature = "sled")]
fn open(url: crate::StoreUrl) -> super::Opening {
    Box::pin(super::path::open(url, "a directory", |path, durability| {
        let options = kvjob_sled::Options::new().durability(durability);
        options.open(path)
    }))
}
