//! The promises of [`kv::Store`](crate::kv::Store), one named case each. What a store does with
//! jobs is not tried here.
//!
//! [`conformance!`](macro@super::conformance) writes out a test for every case; see
//! [`testkit`](super) for how to call it. A case is skipped where the store does not have the
//! capability it tries ([`Store::atomic`](crate::kv::Store::atomic),
//! [`Store::watch`](crate::kv::Store::watch)) or does not keep its data
//! ([`Factory::reopen`](super::Factory::reopen)). Limits above 128 MiB are not tried, either.
//! What a store does not say it can do must be seen to be missing: it has the capability at no
//! time, a second value of a key is none where keys are unique, and what is over a limit is
//! refused.
//!
//! # The three wrappings
//!
//! Every case runs three times, in a module for each:
//!
//! | module | the store | what it tells |
//! |---|---|---|
//! | `plain` | as its factory opens it | whether the adapter keeps its promises |
//! | `prefixed` | under [`Prefixed`](crate::kv::wrap::Prefixed), among keys of others | whether a part of it is a store, too: the adapter treats no key specially and leaves neighbours alone |
//! | `journaled` | under [`Journaled`](crate::kv::wrap::Journaled), its own `Atomic` unused | whether its five methods alone carry commits, put to the whole proof: [`KvStore`](crate::job::KvStore) builds on that where there is no `Atomic` |
//!
//! Opening again closes the wrapper, opens the factory's data again and wraps that. In a wrapper
//! what takes long runs in a smaller size, where nothing that is promised depends on it, and
//! limits above 8 MiB are not tried; the model test tries a quarter of its sequences.
//!
//! # The cases by theme
//!
//! | theme | what is promised | runs on |
//! |---|---|---|
//! | [`basics`] | set, get, remove, delete, one thing at a time; the empty key is refused | one thread |
//! | [`bags`] | the values of a key: one, or a set of them in byte order | one thread |
//! | [`limits`] | what is at a limit is taken; what is over it is `TooLarge`, and nothing is applied | one thread |
//! | [`binary_keys`] | 0x00, 0xff and the neighbours of a prefix are nothing special | one thread |
//! | [`scans`] | order, limit, cursors, byte budget, `keys_only` of one page | one thread |
//! | [`paging`] | walks over thousands of keys; `get_many` and `scan_many` agree with `get` and `scan` | one thread |
//! | [`conditions`] | each kind of condition, where it holds and where it fails; all failed positions are told | one thread |
//! | [`commits`] | all or nothing, what is refused, `commit_all` | one thread |
//! | [`concurrency`] | writers among themselves: none of the anomalies below | two workers |
//! | [`isolation`] | readers while others write: none of the anomalies below | two workers |
//! | [`durability`] | closing and opening again keeps what was acknowledged | one thread |
//! | [`lifecycle`] | start, stop, `Closed`, health | one thread |
//! | [`watching`] | what was put is heard, or its loss is told | two workers |
//! | [`model`](super::model) | random operations answer as a map in memory does | one thread |
//!
//! # Anomalies ruled out
//!
//! | anomaly | case |
//! |---|---|
//! | lost update: two read, both write, one write vanishes | [`counters_lose_no_increment`](concurrency::counters_lose_no_increment) |
//! | lost write: a plain `set` vanishes beside others | [`concurrent_sets_all_stay`](concurrency::concurrent_sets_all_stay) |
//! | write skew: two check each other's key, both write their own | [`crossed_checks_never_both_pass`](concurrency::crossed_checks_never_both_pass) |
//! | duplicate creation | [`one_creation_of_a_key_wins`](concurrency::one_creation_of_a_key_wins) |
//! | double delivery: two take the same object | [`an_object_is_taken_once`](concurrency::an_object_is_taken_once) |
//! | torn read, read skew: a page shows half a commit | [`a_page_never_shows_half_a_commit`](isolation::a_page_never_shows_half_a_commit) |
//! | phantom: a page shows a key that moved twice or not at all | [`a_page_shows_a_moved_key_once`](isolation::a_page_shows_a_moved_key_once) |
//! | partial application | [`transfers_keep_the_sum`](isolation::transfers_keep_the_sum) |
//! | dirty read: a commit that fails is seen | [`a_failed_commit_is_never_seen`](isolation::a_failed_commit_is_never_seen) |
//! | stale read: what was acknowledged is not seen yet | [`an_acknowledged_write_is_seen_by_all`](isolation::an_acknowledged_write_is_seen_by_all) |
//! | skipped or repeated key in a walk | [`a_walk_during_writes_misses_nothing`](isolation::a_walk_during_writes_misses_nothing) |
//! | mixed-up answers of concurrent callers | [`concurrent_commit_all_keeps_answers_apart`](concurrency::concurrent_commit_all_keeps_answers_apart) |
//! | missed wake-up | [`subscribe_then_scan_misses_nothing`](watching::subscribe_then_scan_misses_nothing) |
//!
//! # Adding a case
//!
//! Write an `async fn` that takes a [`Place`](super::Place) into the file of its theme, say in
//! its first line what it promises, and add its name to the list in `list.rs`.

pub mod bags;
pub mod basics;
pub mod binary_keys;
pub mod commits;
pub mod concurrency;
pub mod conditions;
pub mod durability;
pub mod isolation;
pub mod lifecycle;
pub mod limits;
mod list;
pub mod paging;
pub mod scans;
mod subject;
pub mod watching;

#[doc(hidden)]
pub use list::{model, run};
