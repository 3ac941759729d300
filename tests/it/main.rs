//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.
//! Its `#[test]` is that of `tests/attribute`, and its runner `runner.rs`: what cannot run here is reported as ignored, with the reason.

#[macro_use]
extern crate devrun_test_attribute;

mod backups;
mod blocked_output;
mod case_beyond;
mod case_concurrent;
mod case_config;
mod case_logs;
mod case_orphans;
mod case_planted;
mod case_restart;
mod case_root;
mod case_scale;
mod case_security;
mod case_signals;
mod case_time;
mod cases;
mod ci_output;
mod client_env;
mod compose_habits;
mod config;
mod contract;
mod control;
mod convert;
mod debug_trace;
mod editor_schema;
mod edits;
mod emergency;
mod escapes;
mod failing;
mod fetch;
mod first_contact;
mod from_inside;
mod gateway;
mod generated;
mod git_exposure;
mod harness;
mod harness_test;
mod import_circles;
mod init;
mod invalid;
mod key_commands;
mod key_logs;
mod key_policies;
mod key_probes;
mod key_procfile;
mod key_project;
mod key_restart;
mod key_rows;
mod key_tty;
mod key_watch;
mod layers;
mod left_running;
mod lifecycle;
mod listen;
mod load;
mod log_file_lost;
mod log_lines;
mod log_windows;
mod logs;
mod masking;
mod not_utf8;
mod outside;
mod ownership;
mod performance;
mod port_conflicts;
mod privileges;
mod probes;
mod process;
mod progress;
mod recipes;
mod resilience;
mod run_command;
mod runner;
mod secrets;
mod shutdown;
mod side_by_side;
mod snapshots;
mod source_tree;
mod spawn_paths;
mod stack_rows;
mod start_proof;
mod stdin;
mod stopping;
mod task_inputs;
mod test_hygiene;
mod tool_dirs;
mod type_names;
mod variables;
mod verb_options;
mod verbs_disk;
mod verbs_look;
mod verbs_reference;
mod verbs_run;
#[expect(dead_code, reason = "it serves the other test binary too")]
mod waits;
mod work;

fn main() -> std::process::ExitCode {
    runner::run(runner::tests())
}
