//! What cannot be tested on the portable drivers (the feature `portable`): these tests need something that only Linux has. The runner
//! reports them as ignored, with the reason.

use libtest_mimic::Trial;

use crate::runner;

/// The beginning of a test's name, and what it needs.
const NEEDS: &[(&str, &str)] = &[
    ("process::root_runs_a_service_as_an_ordinary_user_of_its_own_namespace", "user namespaces are Linux's"),
    ("spawn_paths::", "clone3, close_range and children in the keeper's memory are Linux's"),
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
