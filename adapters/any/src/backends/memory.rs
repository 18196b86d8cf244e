//! The memory of this process.

use std::sync::Arc;

use kvjob::kv::{Memory, Ownership, Store as _};

use super::{Backend, Opening};
use crate::StoreUrl;

pub(super) fn backend() -> Backend {
    Backend {
        name: "memory",
        schemes: &["memory"],
        url: "memory:",
        options: &[],
        durability: "nothing: it ends with the process",
        atomic: true,
        watch: true,
        ownership: Ownership::Exclusive,
        limits: Some(Memory::new().limits()),
        open: Some(open),
    }
}

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move {
        if url.path.is_empty() {
            Ok(Arc::new(Memory::new()) as _)
        } else {
            Err(url.refused("memory: takes no path"))
        }
    })
}
