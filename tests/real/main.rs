//! Real servers and a real browser. What cannot run on this machine is reported as ignored, with the reason; where `CI` is set
//! a server that CI must have is a failure.
//!
//! The harness is `libtest-mimic`, as a test of the standard one can only be ignored by its source. It takes the same options.
#![expect(clippy::print_stderr, reason = "engines that are left out of a stack must be seen")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// The tests of a file. One that is not named here is dead code, which clippy refuses.
macro_rules! trials {
    [$($(#[$condition:meta])* $name:ident),* $(,)?] => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            Vec::from([$($(#[$condition])* crate::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*])
        }
    };
}

#[path = "../it/case_init.rs"]
mod case_init;
#[path = "../it/case_real.rs"]
mod case_real;
mod demo;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the harness serves the other test binary too")]
mod harness;
mod installs;
#[path = "../it/key_secrets.rs"]
mod key_secrets;
mod keys;
#[path = "../it/passwords.rs"]
mod passwords;
mod postgres;
mod redis;
#[path = "../it/rotation.rs"]
mod rotation;
mod services;
mod stack;
mod stacks;

fn main() -> ExitCode {
    let (words, filters) = split_filters(std::env::args().collect());
    let arguments = Arguments::from_iter(words);
    let files = [
        case_init::trials(),
        case_real::trials(),
        demo::trials(),
        installs::trials(),
        key_secrets::trials(),
        keys::trials(),
        passwords::trials(),
        postgres::trials(),
        redis::trials(),
        #[cfg(all(feature = "postgres", feature = "redis"))]
        rotation::trials(),
        services::trials(),
        stacks::trials(),
        parts_of_tests(),
    ];
    let wanted = |trial: &Trial| {
        filters.is_empty()
            || filters.iter().any(|filter| if arguments.exact { trial.name() == filter } else { trial.name().contains(filter) })
    };
    libtest_mimic::run(&arguments, files.into_iter().flatten().filter(wanted).collect()).exit_code()
}

/// The standard harness takes any number of filters, this one a single one: the words without them, and the filters.
fn split_filters(words: Vec<String>) -> (Vec<String>, Vec<String>) {
    const WITH_VALUE: [&str; 5] = ["--skip", "--test-threads", "--color", "--format", "--logfile"];
    let (mut kept, mut filters) = (Vec::new(), Vec::new());
    for (at, word) in words.iter().enumerate() {
        let is_value =
            at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|one| WITH_VALUE.contains(&one.as_str()));
        if at == 0 || word.starts_with('-') || is_value { kept.push(word.clone()) } else { filters.push(word.clone()) }
    }
    (kept, filters)
}

/// What tests start in a process of its own.
fn parts_of_tests() -> Vec<Trial> {
    let asked = |variable: &str| std::env::var_os(variable).is_some();
    let mut parts = Vec::new();
    if asked("DEVRUN_TEST_OTHER_USER") {
        let name = "postgres::as_another_user_in_a_process_of_its_own";
        parts.push(trial(name, postgres::as_another_user_in_a_process_of_its_own));
    }
    if asked("DEVRUN_TEST_ROOT") {
        parts.push(trial("postgres::first_boot_in_a_process_of_its_own", postgres::first_boot_in_a_process_of_its_own));
    }
    parts
}

/// One test; `harness::skipped` says on its thread that it cannot run here.
fn trial(path: &str, run: fn()) -> Trial {
    let name = path.strip_prefix("real::").unwrap_or(path);
    Trial::ignorable_test(name, move || {
        run();
        Ok(harness::SKIPPED.take().map_or(Completion::Completed, Completion::ignored_with))
    })
}
