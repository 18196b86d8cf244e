//! RocksDB: see the crate kvjob-rocksdb.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY};

pub(super) fn backend() -> Backend {
    Backend {
        name: "rocksdb",
        schemes: &["rocksdb"],
        url: "rocksdb:PATH",
        options: &[DURABILITY],
        durability: "kill -9 and power loss (immediate); the same, but a power loss may take the last interval (interval); kill -9 (memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "rocksdb")]
        limits: Some(kvjob_rocksdb::LIMITS),
        #[cfg(feature = "rocksdb")]
        open: Some(open),
        #[cfg(not(feature = "rocksdb"))]
        limits: None,
        #[cfg(not(feature = "rocksdb"))]
        open: None,
    }
}

#[cfg(feature = "rocksdb")]
fn open(url: crate::StoreUrl) -> super::Opening {
    Box::pin(super::path::open(url, "a directory", |path, durability| {
        let options = kvjob_rocksdb::Options::new().durability(durability);
        options.open(path)
    }))
}
