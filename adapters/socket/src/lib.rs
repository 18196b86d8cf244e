//! Lets other processes of the same user reach an exclusive store through the process that holds
//! it. What lives here is bytes only; jobs are not known.
//!
//! The holder [listens](Socket::listen) on a Unix socket beside the store, and others
//! [connect](Remote::connect): a [`Remote`] is a [`kv::Store`] like any other, so that whatever is
//! built on one works through it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use kvjob::job::{KvStore, Options};
//! use kvjob_socket::{Remote, Socket, path_beside};
//!
//! // The process that holds the store:
//! let store = Arc::new(kvjob_redb::open("jobs.redb")?);
//! let jobs = KvStore::open(store.clone(), Options::default()).await?;
//! let socket = Socket::listen(store.clone(), path_beside("jobs.redb"))?;
//! jobs.hear(socket.writes());
//!
//! // Another one:
//! if let Some(store) = Remote::connect(path_beside("jobs.redb")).await? {
//!     let jobs = KvStore::open(Arc::new(store), Options::default()).await?;
//! }
//!
//! // The holder again, at its end: the socket goes before the store.
//! socket.close().await;
//! # Ok(()) }
//! ```
//!
//! # Who gets in
//!
//! The socket is made with mode 0600, and at no moment with more; each side also asks the system
//! for the other one's user, who must be its own. What a killed process left behind is replaced by
//! the next holder, who can be only one: the store's OS lock sees to it.
//!
//! # What goes over it
//!
//! Frames of at most 16 MiB, each a [record](kvjob::encoding::record) behind its length (four
//! bytes, little endian). The holder greets with what its store is; then calls carry a number, and
//! answers the number of their call. Whoever sends what is no such frame loses the connection.

#![cfg(unix)]

mod client;
mod place;
mod server;
mod wire;

pub use client::Remote;
pub use place::path_beside;
pub use server::Socket;

#[cfg(doc)]
use kvjob::kv;
