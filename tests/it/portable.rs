//! What cannot be tested on the portable drivers (the feature `portable`): these tests need something that only Linux has. The runner
//! reports them as ignored, with the reason.

use libtest_mimic::Trial;

use crate::runner;

const HIDES: &str =
    "what gives up session, descriptors and environment within milliseconds is known where orphans come to the keeper";

const CODES: &str = "how the services of a killed keeper exit is known to a subreaper alone";
const NOTICES: &str = "without inotify a deleted file is noticed within 5 s";

/// The beginning of a test's name, and what it needs.
const NEEDS: &[(&str, &str)] = &[
    ("process::root_runs_a_service_as_an_ordinary_user_of_its_own_namespace", "user namespaces are Linux's"),
    ("case_orphans::o07_an_escapee_with_nothing_left_of_a_lost_keeper_does_not_outlive_a_down", HIDES),
    ("case_orphans::o10_without_its_keeper_logs_go_on_codes_are_right_and_a_new_one_comes", CODES),
    ("emergency::o08_emergency_ends_a_daemon_that_only_its_keeper_knows", HIDES),
    ("emergency::o08_emergency_ends_a_stack_within_a_service", HIDES),
    ("ownership::the_stack_of_another_user_is_named_with_its_owner", "the locks of other users are listed by Linux alone"),
    ("process::a_hundred_spawns_are_pipelined", "each stop is a look at all processes, so a hundred take longer than its limit"),
    ("process::a_stray_that_fits_nobody_is_ended_by_finish", HIDES),
    ("spawn_paths::", "clone3, close_range and children in the keeper's memory are Linux's"),
    ("state_deleted::a_deleted_state_directory_makes_no_second_stack", NOTICES),
    ("state_deleted::a_stack_without_state_and_runtime_directory_is_stopped_in_order", NOTICES),
];

/// The tests, those that cannot be run on the drivers of this build replaced.
pub fn without_lacking(tests: Vec<Trial>) -> Vec<Trial> {
    let why = |test: &Trial| NEEDS.iter().find(|(name, _)| test.name().starts_with(name)).map(|(_, why)| *why);
    let replaced = |test: Trial| match why(&test).filter(|_| cfg!(feature = "portable")) {
        Some(why) => runner::impossible(test.name(), why),
        None => test,
    };
    tests.into_iter().map(replaced).collect()
}

#[test]
fn each_entry_is_a_test() {
    let tests = runner::tests();
    let stale: Vec<&str> =
        NEEDS.iter().map(|(entry, _)| *entry).filter(|entry| !tests.iter().any(|test| test.name().starts_with(entry))).collect();
    assert!(stale.is_empty(), "no test of that name: {stale:?}");
}
