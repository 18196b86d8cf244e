//! The list of all cases, and how each is run. What they promise lives in the files of their
//! themes.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::testkit::{Place, model};

/// The longest a case may take altogether: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// One case. They are listed, and so compiled, here and not where the tests are written out.
struct Case {
    theme: &'static str,
    name: &'static str,
    workers: Workers,
    run: for<'a> fn(&'a Place) -> LocalBoxFuture<'a, ()>,
}

/// The runtime of a case.
#[allow(non_camel_case_types, reason = "the words of the list")]
enum Workers {
    /// The thread of the test.
    single,
    /// Two workers.
    concurrent,
}

static CASES: &[Case] = crate::__kvjob_conformance!(@list table);

/// Runs one case.
///
/// # Panics
/// If the store breaks the promise.
#[doc(hidden)]
pub fn run(theme: &str, name: &str, place: &Place) {
    let case = CASES
        .iter()
        .find(|case| case.theme == theme && case.name == name)
        .expect("a case of the list");
    let mut builder = match case.workers {
        Workers::single => tokio::runtime::Builder::new_current_thread(),
        Workers::concurrent => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a tokio runtime").block_on(async {
        let done = tokio::time::timeout(PATIENCE, (case.run)(place)).await;
        assert!(done.is_ok(), "the case hangs: not done after {PATIENCE:?}");
    });
}

/// Runs the model test.
///
/// # Panics
/// If a store answers otherwise than the map.
#[doc(hidden)]
pub fn model(directory: &str, name: &str, make: &dyn Fn() -> Place) {
    let cases = make().size(model::CASES, model::CASES / 4);
    model::check_some(cases, directory, name, make);
}

/// Writes out the [`conformance`](super) suite: three modules, `plain`, `prefixed` and
/// `journaled`, each with a module for each theme and in it a `#[test]` for each case, so that
/// `cargo test` lists and runs them one by one.
///
/// It takes an expression that makes a [`Factory`](crate::testkit::Factory); it is evaluated once
/// for each test (for the model test once for each of its sequences). The tests bring their own
/// tokio runtime. To run the suite over several factories, call it in a module of its own for
/// each:
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
    (@tests [$wrapping:ident $factory:expr]
        $($workers:ident $theme:ident { $($case:ident,)* })*) => {
        mod model {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn random_operations_answer_as_a_map_does() {
                $crate::testkit::conformance::model(
                    env!("CARGO_MANIFEST_DIR"),
                    module_path!(),
                    &|| $crate::testkit::wrapped::$wrapping($factory),
                );
            }
        }
        $(
            mod $theme {
                #[allow(unused_imports)]
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        $crate::testkit::conformance::run(
                            stringify!($theme),
                            stringify!($case),
                            &$crate::testkit::wrapped::$wrapping($factory),
                        );
                    }
                )*
            }
        )*
    };
    (@table [] $($workers:ident $theme:ident { $($case:ident,)* })*) => {
        &[$($(
            Case {
                theme: stringify!($theme),
                name: stringify!($case),
                workers: Workers::$workers,
                run: |place| Box::pin(super::$theme::$case(place)),
            },
        )*)*]
    };
    (@list $use:ident $($with:tt)*) => {
        $crate::__kvjob_conformance! { @$use [$($with)*]
            single basics {
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
            single bags {
                get_gives_the_smallest_value,
                removing_a_pair_leaves_the_others,
                delete_removes_every_value,
                a_cursor_may_stand_within_a_key,
                a_cursor_of_a_key_passes_all_its_values,
                a_page_may_end_within_a_key,
                many_values_are_told_apart,
                absent_fails_whatever_the_value,
                value_fails_where_only_others_are,
                a_pair_is_replaced_by_one_that_is_there,
                any_adds_one_and_removes_all,
                pairs_of_a_key_are_replaced_apart,
            }
            single limits {
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
            single binary_keys {
                binary_keys_are_told_apart,
                a_prefix_has_exactly_its_keys,
                delete_of_a_binary_prefix_is_exact,
                pages_of_one_walk_binary_prefixes,
            }
            single scans {
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
            single paging {
                a_walk_sees_each_key_once,
                a_walk_may_delete_behind_itself,
                get_many_agrees_with_get,
                get_many_takes_none_and_many,
                scan_many_agrees_with_scan,
            }
            single conditions {
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
            single commits {
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
                concurrent_values_all_stay,
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
            single durability {
                plain_writes_outlive_the_store,
                every_value_outlives_the_store,
                commits_outlive_the_store,
                commit_all_outlives_the_store,
                deletes_outlive_the_store,
                an_empty_store_opens_again,
                a_store_opens_again_and_again,
                much_data_outlives_the_store,
            }
            single lifecycle {
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
    ($factory:expr $(,)?) => {
        mod plain {
            #[allow(unused_imports)]
            use super::*;

            $crate::__kvjob_conformance! { @list tests plain $factory }
        }
        mod prefixed {
            #[allow(unused_imports)]
            use super::*;

            $crate::__kvjob_conformance! { @list tests prefixed $factory }
        }
        mod journaled {
            #[allow(unused_imports)]
            use super::*;

            $crate::__kvjob_conformance! { @list tests journaled $factory }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::CASES;

    #[test]
    fn every_case_is_on_the_list() {
        let themes = [
            ("bags", include_str!("bags.rs")),
            ("basics", include_str!("basics.rs")),
            ("binary_keys", include_str!("binary_keys.rs")),
            ("commits", include_str!("commits.rs")),
            ("concurrency", include_str!("concurrency.rs")),
            ("conditions", include_str!("conditions.rs")),
            ("durability", include_str!("durability.rs")),
            ("isolation", include_str!("isolation.rs")),
            ("lifecycle", include_str!("lifecycle.rs")),
            ("limits", include_str!("limits.rs")),
            ("paging", include_str!("paging.rs")),
            ("scans", include_str!("scans.rs")),
            ("watching", include_str!("watching.rs")),
        ];
        let written = themes.iter().flat_map(|(theme, file)| {
            let cases = file.lines().filter_map(|line| {
                let (name, _) = line.strip_prefix("pub async fn ")?.split_once('(')?;
                Some((*theme, name))
            });
            cases.collect::<Vec<_>>()
        });
        let mut written: Vec<_> = written.collect();
        let mut listed: Vec<_> = CASES.iter().map(|case| (case.theme, case.name)).collect();
        written.sort_unstable();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }
}
