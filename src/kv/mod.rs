//! The ground floor: bytes, order, and atomic changes. Nothing here knows jobs or handlers.
//!
//! # For those who write an adapter
//!
//! Five methods of [`Store`] make an adapter: [`set`](Store::set), [`get`](Store::get),
//! [`scan`](Store::scan), [`remove`](Store::remove) and [`delete`](Store::delete). What a backend
//! can do beyond that it shows through accessors which hand out another small trait
//! ([`Store::atomic`], [`Store::watch`]), so that presence and implementation cannot disagree: a
//! missing capability is `None`, never faked.
//!
//! An embedded (synchronous) engine implements [`Engine`] instead and gets group commit,
//! durability modes, a file lock and a watch from [`Embedded`].
//!
//! # The contract, in short
//!
//! - Keys are bytes, compared as bytes; the empty key is not a key ([`ErrorKind::InvalidKey`]),
//!   the empty prefix is every key's prefix.
//! - A [`Page`] is ordered, holds exactly [`Scan::limit`] objects where there are as many, is
//!   consistent in itself, and carries a cursor exactly when more objects follow.
//! - Absence is `None`, never an error; removing what is not there is `Ok`.
//! - A commit applies all of its changes or none; see [`Change`].
//! - Errors tell apart what was not applied from what may have been: [`Error::maybe_applied`].

mod change;
mod durability;
mod embedded;
mod engine;
mod error;
mod ext;
mod key;
mod limits;
mod lock;
mod memory;
mod object;
mod scan;
mod store;
mod transaction;
mod watch;
pub mod wrap;

pub use change::{Atomic, Change, Expect, check_commit};
pub use durability::Durability;
pub use embedded::{Embedded, Gaps, Options};
pub use engine::{Engine, Shareable, Transaction, Transactional, Write};
pub use error::{Error, ErrorKind, Result};
pub use ext::StoreExt;
pub use key::Key;
pub use limits::{Health, Limits, Ownership};
pub use lock::FileLock;
pub use memory::Memory;
pub use object::Object;
pub use scan::{Cursor, Direction, Page, PageBuilder, Range, Scan};
pub use store::Store;
pub use transaction::AsyncTransaction;
pub use watch::{Event, Hub, Watch, Watcher};
