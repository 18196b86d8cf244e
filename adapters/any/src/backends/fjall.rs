//! fjall 3: see the crate kvjob-fjall.

use kvjob::kv::Ownership;

use super::{Backend, DURABILITY};

pub(super) fn backend() -> Backend {
    Backend {
        name: "fjall",
        schemes: &["fjall"],
        url: "fjall:PATH",
        options: &[DURABILITY],
        durability: "kill -9 and power loss (immediate); the same, but a power loss may take the last interval (interval); kill -9 (memory)",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        #[cfg(feature = "fjall")]
        limits: Some(kvjob_fjall::LIMITS),
        #[cfg(feature = "fjall")]
        open: Some(open),
        #[cfg(not(feature = "fjall"))]
        limits: None,
        #[cfg(not(feature = "fjall"))]
        open: None,
    }
}

#[cfg(feature = "fjall")]
fn open(url: crate::StoreUrl) -> super::Opening {
    Box::pin(super::path::open(url, "a directory", |path, durability| {
        let options = kvjob_fjall::Options::new().durability(durability);
        options.open(path)
    }))
}
