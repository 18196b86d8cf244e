//! The promises of [`kv::Store`](crate::kv::Store), one named case each. What a store does with
//! jobs is not tried here.
//!
//! [`conformance!`](macro@super::conformance) writes out a test for every case; see
//! [`testkit`](super) for how to call it. A case is skipped where the store does not have the
//! capability it tries ([`Store::atomic`](crate::kv::Store::atomic),
//! [`Store::watch`](crate::kv::Store::watch)) or does not keep its data
//! ([`Factory::reopen`](super::Factory::reopen)). Limits above 128 MiB are not tried, either.
//!
//! # The cases by theme
//!
//! | theme | what is promised | runs on |
//! |---|---|---|
//! | [`basics`] | set, get, remove, delete, one thing at a time; the empty key is refused | one thread |
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
//! Write an `async fn` that takes a [`Factory`](super::Factory) into the file of its theme, say
//! in its first line what it promises, and add its name to the list at the end of this file.

pub mod basics;
pub mod binary_keys;
pub mod commits;
pub mod concurrency;
pub mod conditions;
pub mod durability;
pub mod isolation;
pub mod lifecycle;
pub mod limits;
pub mod paging;
pub mod scans;
mod subject;
pub mod watching;

#[doc(hidden)]
pub use subject::{concurrent, plain};

/// Writes out the [`conformance`](self) suite: a module for each theme with a `#[test]` for each
/// case, so that `cargo test` lists and runs them one by one.
///
/// It takes an expression that makes a [`Factory`](crate::testkit::Factory); it is evaluated once
/// for each test (for the model test once for each of its cases). The tests bring their own tokio
/// runtime. To run the suite over several factories, call it in a module of its own for each:
///
/// ```
/// # use kvjob::kv::Memory;
/// # struct InMemory;
/// # impl kvjob::testkit::Factory for InMemory {
/// #     type Store = Memory;
/// #     async fn open(&self) -> Memory {
/// #         Memory::new()
/// #     }
/// # }
/// mod immediate {
///     use super::*;
///     kvjob::testkit::conformance!(InMemory);
/// }
/// mod relaxed {
///     use super::*;
///     kvjob::testkit::conformance!(InMemory);
/// }
/// # fn main() {}
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __kvjob_conformance {
    (@cases $factory:expr; $($runtime:ident $theme:ident { $($case:ident,)* })*) => {
        $(
            mod $theme {
                #[allow(unused_imports)]
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        $crate::testkit::conformance::$runtime(
                            &|| $factory,
                            &async |factory| {
                                $crate::testkit::conformance::$theme::$case(factory).await;
                            },
                        );
                    }
                )*
            }
        )*
    };
    ($factory:expr $(,)?) => {
        mod model {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn random_operations_answer_as_a_map_does() {
                $crate::testkit::model::check(
                    env!("CARGO_MANIFEST_DIR"),
                    module_path!(),
                    || $factory,
                );
            }
        }

        $crate::__kvjob_conformance! { @cases $factory;
            plain basics {
                what_was_set_is_got,
                an_absent_key_is_none,
                a_second_set_overwrites_or_adds,
                setting_what_is_there_changes_nothing,
                remove_takes_out_one_object,
                remove_with_another_value,
                removing_what_is_absent_is_ok,
                a_removed_key_can_be_set_again,
                delete_removes_exactly_the_prefix,
                delete_of_the_empty_prefix_removes_everything,
                deleting_what_is_absent_is_ok,
                delete_removes_many_keys,
                an_empty_value_is_a_value,
                the_empty_key_is_refused,
                bad_input_leaves_the_store_usable,
            }
            plain limits {
                the_limits_leave_room,
                a_key_at_the_limit_is_taken,
                a_key_over_the_limit_is_refused,
                a_value_at_the_limit_is_taken,
                a_value_over_the_limit_is_refused,
                a_commit_at_the_limit_of_changes_is_applied,
                a_commit_over_the_limit_of_changes_is_refused,
                a_commit_at_the_limit_of_bytes_is_applied,
                a_commit_over_the_limit_of_bytes_is_refused,
            }
            plain binary_keys {
                binary_keys_are_told_apart,
                a_prefix_has_exactly_its_keys,
                delete_of_a_binary_prefix_is_exact,
                pages_of_one_walk_binary_prefixes,
            }
            plain scans {
                a_scan_is_in_byte_order,
                a_scan_of_nothing_is_empty,
                a_limit_is_exact,
                a_limit_of_zero_gives_an_empty_page,
                a_cursor_is_there_exactly_when_more_follows,
                a_cursor_is_exclusive,
                a_cursor_may_stand_between_keys,
                a_cursor_may_stand_on_a_removed_key,
                a_cursor_outside_the_prefix_stays_inside,
                a_cursor_outlives_changes,
                a_byte_budget_cuts_exactly,
                a_page_holds_at_least_one_object,
                keys_only_leaves_values_out,
                keys_only_spends_the_budget_on_keys,
                a_scan_sees_what_was_acknowledged,
                every_value_of_a_key_is_walked,
            }
            plain paging {
                a_walk_sees_each_key_once,
                a_walk_may_delete_behind_itself,
                get_many_agrees_with_get,
                get_many_takes_none_and_many,
                scan_many_agrees_with_scan,
            }
            plain conditions {
                a_capability_neither_comes_nor_goes,
                any_holds_always,
                absent_holds_only_where_nothing_is,
                value_holds_only_for_these_bytes,
                conditions_see_plain_writes,
                all_failed_positions_are_told,
                a_failed_condition_applies_nothing,
                a_check_that_holds_changes_nothing,
                a_check_that_fails_is_told,
                a_check_of_absence_is_refused,
                value_replaces_only_its_pair,
            }
            plain commits {
                an_empty_commit_is_ok,
                a_key_that_stands_twice_is_refused,
                the_empty_key_is_refused_in_a_commit,
                a_commit_mixes_changes_of_every_kind,
                commit_all_answers_each_at_its_place,
                commit_all_applies_in_order,
                commit_all_of_none_answers_none,
                commit_all_takes_many_commits,
            }
            concurrent concurrency {
                counters_lose_no_increment,
                crossed_checks_never_both_pass,
                one_creation_of_a_key_wins,
                an_object_is_taken_once,
                concurrent_sets_all_stay,
                concurrent_commit_all_keeps_answers_apart,
            }
            concurrent isolation {
                a_page_never_shows_half_a_commit,
                a_page_shows_a_moved_key_once,
                transfers_keep_the_sum,
                a_failed_commit_is_never_seen,
                an_acknowledged_write_is_seen_by_all,
                a_walk_during_writes_misses_nothing,
            }
            plain durability {
                plain_writes_outlive_the_store,
                commits_outlive_the_store,
                commit_all_outlives_the_store,
                deletes_outlive_the_store,
                an_empty_store_opens_again,
                a_store_opens_again_and_again,
                much_data_outlives_the_store,
            }
            plain lifecycle {
                a_store_has_a_name,
                starting_twice_changes_nothing,
                stopping_twice_changes_nothing,
                a_stopped_store_says_closed,
                health_answers,
                what_a_store_is_stays_the_same,
            }
            concurrent watching {
                a_set_is_heard,
                a_commit_is_heard,
                the_empty_prefix_hears_everything,
                other_prefixes_do_not_hide_it,
                every_watcher_hears,
                a_slow_watcher_lags_and_hears_on,
                subscribe_then_scan_misses_nothing,
                a_watcher_ends_with_its_store,
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_on_the_list() {
        let list = include_str!("mod.rs");
        let themes = [
            include_str!("basics.rs"),
            include_str!("limits.rs"),
            include_str!("binary_keys.rs"),
            include_str!("scans.rs"),
            include_str!("paging.rs"),
            include_str!("conditions.rs"),
            include_str!("commits.rs"),
            include_str!("concurrency.rs"),
            include_str!("isolation.rs"),
            include_str!("durability.rs"),
            include_str!("lifecycle.rs"),
            include_str!("watching.rs"),
        ];
        let mut cases = 0;
        for line in themes.iter().flat_map(|theme| theme.lines()) {
            let Some(rest) = line.strip_prefix("pub async fn ") else {
                continue;
            };
            let (case, _) = rest.split_once('<').unwrap();
            assert!(
                list.contains(&format!("    {case},\n")),
                "{case} is not on the list"
            );
            cases += 1;
        }
        assert!(cases > 0);
    }
}
