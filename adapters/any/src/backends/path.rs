//! Opening what is at a path.

#![allow(
    dead_code,
    reason = "of use to those backends alone that are compiled in"
)]

use std::sync::Arc;

use kvjob::kv::{self, Durability, Error, Result};

use crate::StoreUrl;

/// Opens what is at the path of the URL, away from the async threads: after a crash it may take
/// long.
pub(super) async fn open<S: kv::Store>(
    url: StoreUrl,
    what: &str,
    open: impl FnOnce(&str, Durability) -> Result<S> + Send + 'static,
) -> Result<Arc<dyn kv::Store>> {
    if url.path.is_empty() {
        let why = format_args!("{}: needs the path of {what}", url.scheme);
        return Err(url.refused(why));
    }
    let name = url.to_string();
    let durability = url.durability.unwrap_or_default();
    let opened = tokio::task::spawn_blocking(move || open(&url.path, durability)).await;
    let store = opened.map_err(|error| {
        let message = format!("cannot open {name}: {error}");
        Error::new(kv::ErrorKind::Backend, message).with_source(error)
    })??;
    Ok(Arc::new(store))
}
