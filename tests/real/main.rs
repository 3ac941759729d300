//! Real servers and a real browser. What cannot run on this machine is reported as ignored, with the reason; where `CI` is set
//! a server that CI must have is a failure.
//!
//! The harness is `libtest-mimic`, as a test of the standard one can only be ignored by its source. It takes the same options.
#![expect(unreachable_pub, reason = "a test binary exports nothing: `pub` says that other files use it")]
#![expect(clippy::print_stderr, reason = "engines that are left out of a stack must be seen")]

use std::process::ExitCode;

use harness::TEST_STORE;
use libtest_mimic::Trial;
use runner::trial;
use services::installed;

/// The tests of a file. One that is not named here is dead code, which clippy refuses.
macro_rules! trials {
    [$($(#[$condition:meta])* $name:ident),* $(,)?] => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            Vec::from([$($(#[$condition])* crate::runner::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*])
        }
    };
}

mod agents;
mod app_services;
mod applications;
mod backup_chapters;
mod browser_https;
#[path = "../it/case_init.rs"]
mod case_init;
#[path = "../it/case_real.rs"]
mod case_real;
mod client_versions;
mod compose_meaning;
mod compose_provider;
mod compose_tool;
mod data;
mod demo;
mod dumps;
mod export_compose;
mod export_kubernetes;
mod export_systemd;
mod export_systemd_stacks;
mod export_systemd_system;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the harness serves the other test binary too")]
mod harness;
mod installs;
#[path = "../it/key_secrets.rs"]
mod key_secrets;
mod keys;
mod kubernetes_server;
mod logins;
mod lost_data;
#[path = "../it/mcp_client.rs"]
mod mcp_client;
mod more_services;
#[path = "../it/passwords.rs"]
mod passwords;
mod postgres;
mod redis;
#[path = "../it/rotation.rs"]
mod rotation;
#[path = "../it/runner.rs"]
#[expect(dead_code, reason = "the tests are listed by their files here")]
mod runner;
mod second_up;
mod services;
mod shared_server;
mod stack;
mod stacks;
mod stream_services;
mod systemd_manager;
mod telemetry;
#[path = "../it/test_ports.rs"]
mod test_ports;
#[path = "../it/test_programs.rs"]
mod test_programs;
mod tool_services;
mod viewers;
#[path = "../it/waits.rs"]
#[expect(dead_code, reason = "it serves the other test binary too")]
mod waits;
mod walkthrough;

fn main() -> ExitCode {
    fetch_missing_servers();
    let files = [
        agents::trials(),
        applications::trials(),
        backup_chapters::trials(),
        browser_https::trials(),
        client_versions::trials(),
        case_init::trials(),
        case_real::trials(),
        compose_provider::trials(),
        data::trials(),
        demo::trials(),
        dumps::trials(),
        installs::trials(),
        export_compose::trials(),
        export_kubernetes::trials(),
        export_systemd::trials(),
        export_systemd_stacks::trials(),
        export_systemd_system::trials(),
        key_secrets::trials(),
        keys::trials(),
        logins::trials(),
        lost_data::trials(),
        more_services::trials(),
        passwords::trials(),
        postgres::trials(),
        redis::trials(),
        #[cfg(all(feature = "postgres", feature = "redis"))]
        rotation::trials(),
        second_up::trials(),
        services::trials(),
        shared_server::trials(),
        stacks::trials(),
        stream_services::trials(),
        app_services::trials(),
        telemetry::trials(),
        tool_services::trials(),
        viewers::trials(),
        walkthrough::trials(),
        parts_of_tests(),
    ];
    runner::run(files.into_iter().flatten().collect(), 2 * runner::cores())
}

/// Postgres and Redis, which most tests start, come into the store of this checkout where the machine has none.
fn fetch_missing_servers() {
    let missing =
        || [("initdb", "postgres@16"), ("redis-server", "redis")].into_iter().filter(|(program, _)| !installed(program));
    if std::env::args().any(|word| word == "--list") || missing().next().is_none() {
        return;
    }
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var(TEST_STORE, services::store()) };
    for (_, recipe) in missing() {
        // Each test that wants it reports why it is not here.
        let _absent = services::fetched(recipe);
    }
}

/// What tests start in a process of its own.
fn parts_of_tests() -> Vec<Trial> {
    let asked = |variable: &str| std::env::var_os(variable).is_some();
    let mut parts = Vec::new();
    if asked("DEVRUN_TEST_OTHER_USER") {
        let name = "real::postgres::as_another_user_in_a_process_of_its_own";
        parts.push(trial(name, postgres::as_another_user_in_a_process_of_its_own));
    }
    if asked("DEVRUN_TEST_ROOT") {
        parts.push(trial("real::postgres::first_boot_in_a_process_of_its_own", postgres::first_boot_in_a_process_of_its_own));
    }
    parts
}
