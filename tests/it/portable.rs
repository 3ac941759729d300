//! What cannot be tested on the portable drivers (the feature `portable`): these tests need something that only Linux has. The runner
//! reports them as ignored, with the reason.

use libtest_mimic::Trial;

use crate::runner;

const HIDES: &str =
    "what gives up session, descriptors and environment within milliseconds is known where orphans come to the keeper";

const CODES: &str = "how the services of a killed keeper exit is known to a subreaper alone";
const ACCEPTED: &str = "which process has accepted a connection is known on Linux alone";
const IDLE: &str = "when a port was last used is known on Linux alone";
const LOOKS_AT_LOGS: &str = "without inotify output is looked for several times a second";
const NOTICES: &str = "without inotify a deleted file is noticed within 5 s";

/// The beginning of a test's name, and what it needs.
const NEEDS: &[(&str, &str)] = &[
    ("process::root_runs_a_service_as_an_ordinary_user_of_its_own_namespace", "user namespaces are Linux's"),
    ("case_orphans::an_abandoned_cgroup_is_taken_away_and_one_in_use_is_not", "cgroups are Linux's"),
    ("case_orphans::o07_an_escapee_with_nothing_left_of_a_lost_keeper_does_not_outlive_a_down", HIDES),
    ("case_orphans::o10_without_its_keeper_logs_go_on_codes_are_right_and_a_new_one_comes", CODES),
    (
        "case_root::q05_as_the_first_process_of_a_container",
        "namespaces of process numbers are Linux's, as is a first process in one",
    ),
    ("dashboard::nothing_wakes_it_while_nothing_changes", LOOKS_AT_LOGS),
    ("emergency::o08_emergency_ends_a_daemon_that_only_its_keeper_knows", HIDES),
    ("emergency::o08_emergency_ends_a_stack_within_a_service", HIDES),
    ("fetch::kills::a_client_does_not_outlive_the_process_that_waits_for_it", "a child is killed with its parent on Linux alone"),
    ("listen::a_restart_under_load_refuses_and_breaks_nothing", ACCEPTED),
    ("listen::it_is_ready_when_it_accepts_a_connection", ACCEPTED),
    ("on_demand::a_connection_that_is_open_keeps_it_up", IDLE),
    ("on_demand::the_first_connection_starts_it_and_time_without_one_stops_it", IDLE),
    ("ownership::the_stack_of_another_user_is_named_with_its_owner", "the locks of other users are listed by Linux alone"),
    ("performance::a_hundred_services_without_probes_wake_nobody", "the keeper looks at all processes once a second"),
    ("process::a_stray_that_fits_nobody_is_ended_by_finish", HIDES),
    ("spawn_paths::", "clone3, close_range and children in the keeper's memory are Linux's"),
    ("recipes::every_recipe_as_text", "root runs servers of its recipes in a user namespace, which is Linux's"),
    ("start_first::a_version_that_does_not_come_up_leaves_the_present_one", ACCEPTED),
    ("start_first::the_present_process_serves_until_the_next_one_is_ready", ACCEPTED),
    ("stopping::o10_a_killed_keeper_is_replaced_and_the_services_do_not_notice", CODES),
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
