//! Opens any kvjob backend by URL. Each backend is behind a feature of its name; here is only
//! which there are and how a URL reaches them.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use kvjob::kv::Object;
//!
//! let store = kvjob_any::open("memory:").await?;
//! store.set(Object::new("greeting", "hello")).await?;
//! # Ok::<_, kvjob::kv::Error>(()) }).unwrap();
//! ```
//!
//! A [`StoreUrl`] is `scheme:path?option=value&option=value`. The path runs up to the first `?`
//! and is taken as it stands: nothing in it is percent-decoded. Options are
//!
//! - `durability=immediate` (the default), `interval:100ms` or `memory`: when an acknowledged
//!   change is on disk;
//! - `namespace=NAME`: for the job layer;
//! - and what a backend takes beside these: see [`Backend::options`].

mod backends;
mod url;

use std::sync::Arc;

use kvjob::kv::{self, Result};

pub use backends::{Backend, backends};
pub use url::StoreUrl;

/// Opens the store of this URL, and creates it where it is not there.
///
/// # Errors
/// [`Unsupported`](kv::ErrorKind::Unsupported) for a URL that names no backend, or one that is not
/// compiled in, or an option that is not known: the message lists those that are. Otherwise what
/// the backend says.
pub async fn open(url: &str) -> Result<Arc<dyn kv::Store>> {
    url.parse::<StoreUrl>()?.open().await
}
